"""The benchmark of Sudoku: fused belief propagation against unfused torch, BP-std, pairwise factors and a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import all_different_autograd
from emnesy_gpu.benchmarks.suite import Suite, largest_error

SIZES = (4, 9)
BATCHES = (64, 256, 1024)
SWEEPS = 5
CHECKED_SCALE = {4: 0.1, 9: 0.25}
"""Size -> factor of the logits in checks; without it beliefs are nearly 0 or 1, which hides errors of messages."""
METHODS = {
    "exact": "posterior over all valid boards (size 4)",
    "fused loss": "fused_em_loss and its gradient through autograd, as a training step takes it (size 4)",
    "fused": f"{SWEEPS} serial sweeps with all-different factors, softmax and Bethe evidence, one fused kernel",
    "pairwise": f"{SWEEPS} serial sweeps with not-equal factors, one fused kernel",
    "torch EM": "the messages of all-different factors in torch, no autograd",
    "BP-std": "gradient by autograd through every one of those messages",
    "copy": "a copy of the logits",
}


def inputs(size: int, batch: int, device: torch.device) -> tuple[em.Sudoku, Tensor, Tensor]:
    """The problem, with a half-trained net (right in about 7 of 10 cells of 9x9) on boards with relabelled symbols."""
    problem, side = em.Sudoku(size), int(size**0.5)
    generator = torch.Generator().manual_seed(size)
    cells = torch.arange(size)
    board = (side * cells[:, None] + cells[:, None] // side + cells) % size
    relabelled = torch.rand(batch, size, generator=generator).argsort(1)
    z = relabelled[:, board]
    logits = torch.randn(batch, size, size, size, generator=generator)
    logits.scatter_add_(-1, z[..., None], torch.full((*z.shape, 1), 2.0))
    return problem, logits.to(device), problem.label(z).to(device)


def methods(problem: em.Sudoku, logits: Tensor, label: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each method as a call without arguments; all but the copy return marginals or the gradient of the logits."""
    leaf, target = logits.clone().requires_grad_(), torch.empty_like(logits)
    symbols, factors = logits.flatten(1, -2), all_different_autograd.serial_factors_of(problem, logits.device)
    fused, pairwise = em.BeliefPropagation(SWEEPS), em.BeliefPropagation(SWEEPS, factors="pairwise")

    def torch_em() -> Tensor:
        with torch.no_grad():
            return all_different_autograd.belief_propagation(symbols, factors, SWEEPS)[1].view(logits.shape)

    def bp_std() -> Tensor:
        (gradient,) = torch.autograd.grad(em.bp_std_loss(problem, leaf, label, "sum", iterations=SWEEPS), leaf)
        return gradient

    def fused_loss() -> Tensor:
        (gradient,) = torch.autograd.grad(em.fused_em_loss(problem, leaf, label, "sum"), leaf)
        return gradient

    calls = {
        "exact": lambda: em.posterior(problem, logits, label, em.Exact()).marginals,
        "fused loss": fused_loss,
        "fused": lambda: em.posterior(problem, logits, label, fused).marginals,
        "pairwise": lambda: em.posterior(problem, logits, label, pairwise).marginals,
        "torch EM": torch_em,
        "BP-std": bp_std,
        "copy": lambda: target.copy_(logits),
    }
    if not problem.tractable:
        del calls["exact"], calls["fused loss"]
    return calls


def errors(problem: em.Sudoku, logits: Tensor, label: Tensor, rows: int = 4) -> dict[str, float]:
    """The largest error of each method over the first rows against the float64 reference of its engine."""
    case = problem, CHECKED_SCALE[problem.size] * logits[:rows], label[:rows]
    calls = methods(*case)
    engines: dict[str, em.Engine] = {
        "exact": em.Exact(),
        "fused": em.BeliefPropagation(SWEEPS),
        "pairwise": em.BeliefPropagation(SWEEPS, factors="pairwise"),
        "torch EM": em.BeliefPropagation(SWEEPS),
    }
    found = {name: largest_error(calls[name](), *case, engine) for name, engine in engines.items() if name in calls}
    if "fused loss" in calls:
        marginals = torch.softmax(case[1], -1) - calls["fused loss"]()
        found["fused loss"] = largest_error(marginals, *case, em.Exact())
    return found


SUITE = Suite(
    name="sudoku",
    title="Sudoku",
    size_name="size",
    sizes=SIZES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=methods,
    errors=errors,
    unit="board and sweep",
    work=lambda size: SWEEPS,
)
