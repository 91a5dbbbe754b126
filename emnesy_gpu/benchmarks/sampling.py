"""The benchmark of sampling on 9x9 Sudoku: fused samples and Gibbs chains against samples in torch, and a copy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import abc_sampling_torch
from emnesy_gpu.benchmarks.suite import Suite, largest_error

SAMPLES = (256, 1024)
BATCHES = (4, 32)
CHECKED = 130
"""Samples of one board that are compared with the slow reference."""

SHARPNESS = 1.0
METHODS = {
    "fused": "weighted samples, 27 groups: draw, score, weigh, histogram; no sample in memory",
    "fused pairs": "the same, scored by 810 pairs",
    "fused local": "the same, every cell weighted by its own three groups",
    "fused ESS": "27 groups, the sharpness of every board set by its effective sample size: two passes",
    "torch one-hot": "samples by multinomial, values as one-hot vectors",
    "torch bits": "samples by cumulative sums, values as bits, scatter",
    "Gibbs 1x20": "one annealed chain of 20 sweeps a board, whatever the number of samples",
    "Gibbs 8x20": "eight of them",
    "copy": "a copy of the logits",
}


def inputs(samples: int, batch: int, device: torch.device) -> tuple[em.Sudoku, Tensor, Tensor, int]:
    """The problem, with a net that reads about 90 % of the cells right (true symbol favoured by 3, unit noise)."""
    cells = [(row // 3 + 3 * row + column) % 9 for row in range(9) for column in range(9)]
    board = torch.tensor(cells).view(9, 9)
    noise = torch.randn(batch, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    logits = noise + 3.0 * torch.nn.functional.one_hot(board, 9)
    return em.Sudoku(9), logits.to(device), torch.ones(batch, dtype=torch.int64, device=device), samples


def engines(samples: int) -> dict[str, tuple[str, em.Engine]]:
    """The kind of constraint and the engine of every method of the package."""
    weighting = "exponential"
    return {
        "fused": ("groups", em.ABC(samples, weighting, SHARPNESS)),
        "fused pairs": ("pairs", em.ABC(samples, weighting, SHARPNESS)),
        "fused local": ("groups", em.ABC(samples, weighting, SHARPNESS, scope="local")),
        "fused ESS": ("groups", em.ABC(samples, weighting, target_ess=samples / 8)),
        "Gibbs 1x20": ("groups", em.Gibbs(chains=1, sweeps=20)),
        "Gibbs 8x20": ("groups", em.Gibbs(chains=8, sweeps=20)),
    }


def methods(problem: em.Sudoku, logits: Tensor, label: Tensor, samples: int) -> dict[str, Callable[[], Tensor]]:
    """Each method as a call without arguments; all but the copy return marginals."""
    problems = {"groups": problem, "pairs": em.Sudoku(9, constraints="pairs")}
    groups = problem.tables(logits.device).groups.long()
    table = torch.exp(SHARPNESS * torch.arange(-27.0, 1.0, device=logits.device))
    flat, target = logits.flatten(1, 2), torch.empty_like(logits)

    def posterior(name: str) -> Callable[[], Tensor]:
        constraints, engine = engines(samples)[name]
        return lambda: em.posterior(problems[constraints], logits, label, engine).marginals

    calls = {name: posterior(name) for name in engines(samples)} | {
        "torch one-hot": lambda: abc_sampling_torch.one_hot_marginals(flat, groups, table, samples),
        "torch bits": lambda: abc_sampling_torch.bit_mask_marginals(flat, groups, table, samples),
        "copy": lambda: target.copy_(logits),
    }
    return {name: calls[name] for name in METHODS}


def errors(problem: em.Sudoku, logits: Tensor, label: Tensor, samples: int) -> dict[str, float]:
    """The largest error against the reference on the same samples of one board; the baselines draw other samples."""
    found = {}
    for name, (constraints, engine) in engines(CHECKED).items():
        case = em.Sudoku(9, constraints=constraints), logits[:1], label[:1], engine
        found[name] = largest_error(em.posterior(*case).marginals, *case)
    return found


SUITE = Suite(
    name="sampling",
    title="Sampling of 9x9 Sudoku",
    size_name="samples",
    sizes=SAMPLES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=methods,
    errors=errors,
    unit="sample",
    work=lambda samples: samples,
    baseline="torch one-hot",
    plain_torch=("torch one-hot", "torch bits", "copy"),
)
