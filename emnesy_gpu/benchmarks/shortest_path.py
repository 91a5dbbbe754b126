"""The benchmark of shortest paths: fused samples of maps against batched torch and SciPy, and a copy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import grid_paths_torch
from emnesy_gpu.benchmarks.suite import Suite, largest_error

SIZES = (12, 30)
BATCHES = (1, 4, 16)
SAMPLES = 256
CHECKED = 8
"""Samples of one map that are compared with the slow reference."""

MOST_CELLS = 12 * 12
"""Of maps on which chains are checked: the reference takes 13 s for a sweep over 900 cells."""

METHODS = {
    "fused": f"{SAMPLES} samples: draw, path, cells in common with the label, histogram; no sample in memory",
    "fused ESS 8": "the same, the sharpness of every map set by its effective sample size",
    "changes": f"{SAMPLES // 8} samples that count for every value of every cell (rao_blackwell)",
    "Gibbs 1x4": "an annealed chain of 4 sweeps, all classes of a cell tried at once, whatever the number of samples",
    "torch ABC": f"{SAMPLES} samples: multinomial, distances by max-pooling, costs as score (no paths), scatter",
    "paths": f"the cheapest paths of {SAMPLES} given maps per row, and their costs",
    "torch min-plus": "their costs alone, by max-pooling until nothing changes",
    "scipy": "their costs alone, by scipy.sparse.csgraph.dijkstra, map by map",
    "copy": "a copy of the logits",
}


def inputs(size: int, batch: int, device: torch.device) -> tuple[em.ShortestPath, Tensor, Tensor]:
    """The problem, with a net that gives the class of every cell 80 %, on maps of patches of 3 x 3 cells."""
    problem = em.ShortestPath(size)
    generator = torch.Generator().manual_seed(size)
    side = -(-size // 3)
    z = torch.randint(0, 5, (batch, side, side), generator=generator)
    z = z.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, :size, :size]
    prior = torch.full((batch, size, size, 5), 0.05).scatter_(-1, z[..., None], 0.8)
    return problem, prior.log().to(device), problem.label(z).to(device)


def sampled_maps(problem: em.ShortestPath, logits: Tensor) -> Tensor:
    """Classes [SAMPLES * batch, height, width] drawn from the prior."""
    z = torch.ops.emnesy_gpu.abc_sampling_draw(logits, SAMPLES, 0, 0, 0)
    return z.view(-1, *problem.latent_shape)


def methods(problem: em.ShortestPath, logits: Tensor, label: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each method as a call without arguments; the first five return marginals."""
    target, costs = torch.empty_like(logits), torch.tensor(problem.costs, device=logits.device)
    maps = costs[sampled_maps(problem, logits)]
    tenths = (10 * maps).round().to(torch.int32)
    corners = torch.zeros_like(tenths[:, 0, 0]), torch.full_like(tenths[:, 0, 0], problem.height * problem.width - 1)
    engines: dict[str, em.Engine] = {
        "fused": em.ABC(SAMPLES, sharpness=0.25),
        "fused ESS 8": em.ABC(SAMPLES, target_ess=8),
        "changes": em.ABC(SAMPLES // 8, target_ess=4, rao_blackwell=True),
        "Gibbs 1x4": em.Gibbs(chains=1, sweeps=4, penalty=1.0),
    }

    def posterior(engine: em.Engine) -> Callable[[], Tensor]:
        return lambda: em.posterior(problem, logits, label, engine).marginals

    calls = {name: posterior(engine) for name, engine in engines.items()}
    calls |= {
        "torch ABC": lambda: grid_paths_torch.weighted_marginals(logits, label, costs, SAMPLES, 1.0),
        "paths": lambda: torch.ops.emnesy_gpu.grid_paths_shortest_path(tenths, *corners)[1],
        "torch min-plus": lambda: grid_paths_torch.distances(maps)[:, -1, -1],
        "scipy": lambda: scipy_distances(maps),
        "copy": lambda: target.copy_(logits),
    }
    if importlib.util.find_spec("scipy") is None or logits.is_cuda:
        del calls["scipy"]
    return calls


def scipy_distances(costs: Tensor) -> Tensor:
    """The cost [batch] of the cheapest path from the first to the last cell of each map [batch, height, width]."""
    import numpy as np
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra

    _, height, width = costs.shape
    numbers = np.arange(height * width).reshape(height, width)
    tails, heads = [], []
    for down, right in product((-1, 0, 1), repeat=2):
        if (down, right) != (0, 0):
            here = numbers[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
            tails.append(here.ravel())
            heads.append(here.ravel() + down * width + right)
    arcs = np.concatenate(tails), np.concatenate(heads)
    found = []
    for cells in costs.flatten(1).double().numpy():
        graph = csr_matrix((cells[arcs[1]], arcs), shape=(len(cells), len(cells)))
        found.append(cells[0] + dijkstra(graph, indices=0)[-1])
    return torch.tensor(found)


def errors(problem: em.ShortestPath, logits: Tensor, label: Tensor) -> dict[str, float]:
    """The largest errors: posteriors of the first row against the reference, costs against those of the paths found."""
    case = problem, logits[:1], label[:1]
    engines: dict[str, em.Engine] = {
        "fused": em.ABC(CHECKED, sharpness=0.25),
        "fused ESS 8": em.ABC(CHECKED, target_ess=4),
    }
    if logits[0].shape[:-1].numel() <= MOST_CELLS:
        engines["Gibbs 1x4"] = em.Gibbs(chains=1, sweeps=1)
    found = {
        name: largest_error(em.posterior(*case, engine).marginals, *case, engine) for name, engine in engines.items()
    }
    calls = methods(*case)
    total = calls["paths"]() / 10
    for name in ("torch min-plus", "scipy"):
        if name in calls:
            found[name] = float((calls[name]() - total).abs().max())
    return found


SUITE = Suite(
    name="shortest_path",
    title="Shortest paths",
    size_name="size",
    sizes=SIZES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=methods,
    errors=errors,
    unit="sample",
    work=lambda size: SAMPLES,
    baseline="torch ABC",
    plain_torch=("torch ABC", "torch min-plus", "copy"),
    rivals=("scipy",),
)
