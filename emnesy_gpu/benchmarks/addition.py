"""The benchmark of addition: the fused E-step against unfused torch, BP-std, a softmax and a copy."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines.carry_chain_torch import bp_em_posterior
from emnesy_gpu.benchmarks import exact_e_steps
from emnesy_gpu.benchmarks.exact_e_steps import TensorMethods, half_trained_logits
from emnesy_gpu.benchmarks.suite import Suite

DIGITS = (1, 4, 15, 100, 1000)
BATCHES = (64, 256, 1024)
METHODS = {**exact_e_steps.METHODS, "BP-std": "gradient by autograd through the log-space forward recursion"}
TENSORS = TensorMethods(
    posterior=lambda *row: bp_em_posterior(*row)[0],
    loss=lambda problem, logits, label: em.bp_std_loss(problem, logits, label, "sum"),
)


def inputs(n_digits: int, batch: int, device: torch.device) -> tuple[em.Addition, Tensor, Tensor]:
    """The problem, with logits of a half-trained net and their label."""
    problem = em.Addition(n_digits)
    generator = torch.Generator().manual_seed(n_digits)
    z = torch.randint(0, 10, (batch, 2, n_digits), generator=generator)
    logits = half_trained_logits(z, 10, generator)
    return problem, logits.to(device), problem.label(z).to(device)


SUITE = Suite(
    name="addition",
    title="Addition",
    size_name="digits",
    sizes=DIGITS,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=partial(exact_e_steps.calls, TENSORS),
    errors=partial(exact_e_steps.errors, TENSORS),
    unit="position",
    work=lambda n_digits: n_digits,
)
