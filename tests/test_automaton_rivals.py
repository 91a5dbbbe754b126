"""The baselines of automata compute what the reference does: what is slower must not be wrong as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.baselines import automaton_jax
from emnesy_gpu.benchmarks.automaton import calls, errors, inputs
from emnesy_gpu.benchmarks.measure import medians_in_turns
from profiling.automaton_rivals import METHODS

CPU = torch.device("cpu")
# Sums of 100 positions in float32.
TOLERANCE = 1e-5


@pytest.mark.parametrize("states", [2, 16])
def test_every_method_of_the_benchmark_agrees_with_the_reference(states: int) -> None:
    found = errors(*inputs(states, 8, CPU))
    assert max(found.values()) < TOLERANCE


def test_jax_gives_the_log_evidence() -> None:
    pytest.importorskip("jax")
    problem, logits, label = inputs(4, 8, CPU, symbols=6)
    run = automaton_jax.posterior((np.arange(4)[:, None] + np.arange(4)) % 4)
    with em.backend("reference"):
        expected = em.posterior(problem, logits.double(), label).log_evidence
    torch.testing.assert_close(run(logits, label)[1].double(), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_jax_refuses_values_that_do_not_permute_the_states() -> None:
    pytest.importorskip("jax")
    with pytest.raises(ValueError, match="permute"):
        automaton_jax.posterior(np.zeros((2, 1), np.int64))


def test_medians_time_the_methods_that_exist() -> None:
    found = calls(*inputs(2, 2, CPU, symbols=2))
    times = medians_in_turns({"fused": found["fused"]})
    assert set(times) <= set(METHODS)
    assert times["fused"] > 0.0
