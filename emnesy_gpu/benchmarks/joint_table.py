"""Black boxes that try all assignments: the E-step against the same in plain torch, a softmax and a copy."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.benchmarks.exact_e_steps import half_trained_logits
from emnesy_gpu.benchmarks.suite import Calls, Suite

CARDINALITY = 10
SIZES = (2, 3, 4)
BATCHES = (64, 1024)
METHODS = {
    "posterior": "posterior and evidence from logits; on a GPU one kernel",
    "torch table": "the same over a tensor with one axis a symbol, in torch and in the type of the logits",
    "softmax": "torch.softmax of the logits alone",
    "copy": "a copy of the logits",
}


def inputs(n_symbols: int, batch: int, device: torch.device) -> tuple[em.BlackBox, Tensor, Tensor]:
    """Digits whose sum is the label."""
    problem = em.BlackBox(label=lambda z: z.sum(-1), latent_shape=(n_symbols,), cardinality=CARDINALITY)
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(0, CARDINALITY, (batch, n_symbols), generator=generator)
    logits = half_trained_logits(z, CARDINALITY, generator)
    return problem, logits.to(device), problem.label(z).to(device)


def torch_table(logits: Tensor, label: Tensor) -> Tensor:
    """p(z_i = v | y) from log p(z) of all z, [batch, K, ..., K]; logits [batch, n, K], label [batch]."""
    n = logits.shape[1]
    log_prior = torch.log_softmax(logits, -1)
    shapes = [[len(logits), *(CARDINALITY if axis == i else 1 for axis in range(n))] for i in range(n)]
    joint = functools.reduce(torch.add, (log_prior[:, i].reshape(shape) for i, shape in enumerate(shapes)))
    digits = torch.arange(CARDINALITY, device=logits.device)
    total = functools.reduce(torch.add, (digits.reshape(shape[1:]) for shape in shapes))
    chosen = torch.where(total == label.reshape(-1, *[1] * n), joint, -torch.inf)
    posterior = torch.softmax(chosen.flatten(1), -1).view(chosen.shape)
    return torch.stack([posterior.sum([axis for axis in range(1, n + 1) if axis != i + 1]) for i in range(n)], 1)


def methods(problem: em.BlackBox, logits: Tensor, label: Tensor) -> Calls:
    """Each method as a call without arguments; the first two return the posterior."""
    target = torch.empty_like(logits)
    return {
        "posterior": lambda: em.posterior(problem, logits, label).marginals,
        "torch table": lambda: torch_table(logits, label),
        "softmax": lambda: torch.softmax(logits, -1),
        "copy": lambda: target.copy_(logits),
    }


def errors(problem: em.BlackBox, logits: Tensor, label: Tensor, rows: int = 16) -> dict[str, float]:
    """The largest error of each posterior over the first rows, against plain torch in float64."""
    some, labels = logits[:rows], label[:rows]
    expected = torch_table(some.double(), labels)
    calls = methods(problem, some, labels)
    return {name: float((calls[name]() - expected).abs().max()) for name in ("posterior", "torch table")}


SUITE = Suite(
    name="joint_table",
    title="Black boxes, all assignments",
    size_name="symbols",
    sizes=SIZES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=methods,
    errors=errors,
    unit="assignment",
    work=lambda n_symbols: float(CARDINALITY**n_symbols),
    baseline="torch table",
    plain_torch=("torch table", "softmax", "copy"),
)
