"""How sampled posteriors approach the exact one as their number grows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.palette import series
from emnesy_gpu.tasks.files.extras import require

NUMBERS = (16, 64, 256, 1024, 4096, 16384)
ROWS = 64


def _exact_samples(problem: em.Problem, logits: Tensor, label: Tensor, n: int) -> Tensor:
    z = em.sample_posterior(problem, logits, label, n_samples=n, seed=0)
    values = [(z == value).double().mean(0) for value in range(problem.cardinality)]
    return torch.stack(values, -1)


def _abc(problem: em.Problem, logits: Tensor, label: Tensor, n: int) -> Tensor:
    return em.posterior(problem, logits, label, em.ABC(samples=n, sharpness=20.0)).marginals


def _rejection(problem: em.Problem, logits: Tensor, label: Tensor, n: int) -> Tensor:
    return em.posterior(problem, logits, label, em.Rejection(samples=n)).marginals


METHODS: dict[str, Callable[[em.Problem, Tensor, Tensor, int], Tensor]] = {
    "em.sample_posterior": _exact_samples,
    "em.ABC": _abc,
    "em.Rejection": _rejection,
}


def samples() -> Any:
    """Draw the error of sampled marginals of 64 sums over the number of samples, with the exact ones as the truth."""
    problem = em.Addition(n_digits=2)
    torch.manual_seed(0)
    logits, z = 1.5 * torch.randn(ROWS, 2, 2, 10), torch.randint(0, 10, (ROWS, 2, 2))
    label = problem.label(z)
    exact = em.posterior(problem, logits.double(), label).marginals
    figure = require("matplotlib.figure").Figure(figsize=(6.6, 4.6), layout="constrained")
    ax = figure.subplots()
    for number, (name, method) in enumerate(METHODS.items()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", em.InferenceWarning)  # few samples are the subject of the picture
            distance = [0.5 * (method(problem, logits, label, n) - exact).abs().sum(-1).mean() for n in NUMBERS]
        ax.plot(NUMBERS, [float(value) for value in distance], label=name, **series(number))
    ax.plot(NUMBERS, [2.0 / n**0.5 for n in NUMBERS], ":", color="gray", label="2 / sqrt(samples), a guide")
    ax.set(xscale="log", yscale="log", xlabel="samples a row", ylabel="total variation from the exact marginal")
    ax.set_title(f"Sampled posteriors of two-digit sums, mean of {ROWS} rows")
    ax.set_xticks(NUMBERS, [f"{n:,}" for n in NUMBERS])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend()
    return figure
