"""Automata: the fused E-step against a loop in torch, BP-std, a bare softmax and a copy of the same bytes.

The sum of the symbols modulo the number of states, s' = (s + v) mod S: every state is reached from min(K, S) others.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import automaton_torch
from emnesy_gpu.benchmarks import exact_e_steps
from emnesy_gpu.benchmarks.exact_e_steps import METHODS, TensorMethods, half_trained_logits
from emnesy_gpu.benchmarks.suite import Suite

STATES = (2, 4, 16, 64, 256)
BATCHES = (64, 256, 1024)
SYMBOLS = 100
VALUES = 10
TENSORS = TensorMethods(
    posterior=lambda *row: automaton_torch.posterior(*row)[0],
    loss=lambda *row: -automaton_torch.log_evidence(*row).sum(),
)


def inputs(states: int, batch: int, device: torch.device) -> tuple[em.Automaton, Tensor, Tensor]:
    """The problem, with logits of a half-trained net and their label."""
    values = min(VALUES, states)
    problem = em.Automaton(lambda s, v: (s + v) % states, 0, lambda s: s, SYMBOLS, values)
    generator = torch.Generator().manual_seed(states)
    z = torch.randint(0, values, (batch, SYMBOLS), generator=generator)
    logits = half_trained_logits(z, values, generator)
    return problem, logits.to(device), problem.label(z).to(device)


SUITE = Suite(
    name="automaton",
    title="Automata",
    size_name="states",
    sizes=STATES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=partial(exact_e_steps.calls, TENSORS),
    errors=partial(exact_e_steps.errors, TENSORS),
    unit="edge",
    work=lambda states: SYMBOLS * states * min(VALUES, states),
)
