"""Automata: the fused E-step against a loop in torch, BP-std, JAX, a bare softmax and a copy of the same bytes.

The sum of the symbols modulo the number of states, s' = (s + v) mod S: every state is reached from min(K, S) others.
JAX takes part on CPUs where it is installed, with as many threads as XLA_FLAGS gives it.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import automaton_jax, automaton_torch
from emnesy_gpu.benchmarks import exact_e_steps
from emnesy_gpu.benchmarks.exact_e_steps import TensorMethods, half_trained_logits
from emnesy_gpu.benchmarks.suite import Calls, Suite

METHODS = {"JAX": "posterior by forward-backward messages in JAX (CPU, where installed)", **exact_e_steps.METHODS}

STATES = (2, 4, 16, 64, 256)
BATCHES = (64, 256, 1024)
SYMBOLS = 100
VALUES = 10
TENSORS = TensorMethods(
    posterior=lambda *row: automaton_torch.posterior(*row)[0],
    loss=lambda *row: -automaton_torch.log_evidence(*row).sum(),
)


def inputs(
    states: int, batch: int, device: torch.device, symbols: int = SYMBOLS
) -> tuple[em.Automaton, Tensor, Tensor]:
    """The problem, with logits of a half-trained net and their label."""
    values = min(VALUES, states)
    problem = em.Automaton(lambda s, v: (s + v) % states, 0, lambda s: s, symbols, values)
    generator = torch.Generator().manual_seed(states)
    z = torch.randint(0, values, (batch, symbols), generator=generator)
    logits = half_trained_logits(z, values, generator)
    return problem, logits.to(device), problem.label(z).to(device)


@cache
def jax_posterior(states: int, values: int) -> automaton_jax.Run:
    return automaton_jax.posterior((np.arange(states)[:, None] + np.arange(values)) % states)


def calls(problem: em.Automaton, logits: Tensor, label: Tensor) -> Calls:
    found = exact_e_steps.calls(TENSORS, problem, logits, label)
    if logits.device.type == "cpu" and find_spec("jax"):
        run = jax_posterior(problem.n_states, problem.cardinality)
        found["JAX"] = lambda: run(logits, label)[0]
    return found


def errors(problem: em.Automaton, logits: Tensor, label: Tensor) -> dict[str, float]:
    found = exact_e_steps.errors(TENSORS, problem, logits, label)
    call = calls(problem, logits, label).get("JAX")
    if call is not None:
        found["JAX"] = float((call() - em.posterior(problem, logits, label).marginals).abs().max())
    return found


SUITE = Suite(
    name="automaton",
    title="Automata",
    size_name="states",
    sizes=STATES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=calls,
    errors=errors,
    unit="edge",
    work=lambda states: SYMBOLS * states * min(VALUES, states),
    rivals=("JAX",),
)
