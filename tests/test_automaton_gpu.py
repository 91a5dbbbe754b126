"""The CUDA C kernel of automata with many states, in the simulator: values, status codes, blocks, what an edge costs.

tests/kernel_registry/automaton.py has the cases that the Triton kernels are compared on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs triton")

import emnesy_gpu as em
from emnesy_gpu.automata.machine import Layer, Machine, Observation
from emnesy_gpu.automata.tables import make_tables
from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.gpu.automaton import cuda
from emnesy_gpu.kernels.gpu.automaton import launch as automaton
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import automaton as reference
from profiling.gpu_simulator import LaunchRecord, Options, simulated_triton
from tests.automaton_instructions import draw, instructions
from tests.cuda_c import needs_nvrtc, simulate_launches
from tests.kernel_registry.automaton import sum_modulo, two_classes, weighted, with_a_sink

INSTRUCTIONS = 7.5
"""Of an edge and row: 2.5 times the three multiply-adds that it needs without a weight."""

pytestmark = needs_nvrtc


@pytest.fixture
def cuda_c(monkeypatch: pytest.MonkeyPatch) -> list[LaunchRecord]:
    """The launch functions take the CUDA C kernel, and that runs in the simulator; the launches so far.

    Nothing repeats rows without digits, of which these cases have none that are possible.
    """
    monkeypatch.setattr(cuda, "fits", lambda *_: True)
    monkeypatch.setattr(automaton, "launch_triton", lambda *_: None)
    return simulate_launches(monkeypatch)


def simulated(function: str, *arguments: Any) -> tuple[Tensor, ...]:
    with simulated_triton(80, Options(counters=False)):
        return getattr(automaton, function)(*arguments)


def require_agreement(function: str, *arguments: Any) -> None:
    expected = getattr(reference, function)(*arguments)
    for mine, theirs in zip(simulated(function, *arguments), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


def layers(n_states: int) -> AutomatonTables:
    """Layers of other sizes, values that act alike or are forbidden, and a label after every second position."""

    def step(state: int, value: int, i: int) -> int | None:
        return None if value == 5 else (state * (i + 1) + value // 2) % n_states

    def output(state: int, i: int) -> int | None:
        return state % 3 if i % 2 else None

    return em.Automaton(step_at=step, output=output, n_symbols=6, cardinality=7).tables(torch.device("cpu"))


@cache
def weighted_layers(n_states: int) -> AutomatonTables:
    """Two tables of random edges, most into one state, by values of which two act alike and one is forbidden."""
    generator = np.random.default_rng(0)
    tables = []
    for _ in range(2):
        weight = generator.random((n_states, 5, n_states)) * (generator.random((n_states, 5, n_states)) > 0.8)
        weight[:, :, 3] = generator.random((n_states, 5))
        weight[:, 2], weight[:, 4] = weight[:, 1], 0
        source, value, target = (part.astype(np.int32) for part in np.nonzero(weight))
        tables.append(Layer(source, value, target, weight[weight > 0], n_states, n_states))
    seen = {position: Observation((0, 1), generator.random((2, n_states))) for position in (1, 3)}
    machine = Machine(tuple(tables), (0, 1, 1, 0), 5, generator.random(n_states), seen)
    return make_tables(machine, [{0: 0, 1: 1}] * 2)


CASES = {
    "31 states": partial(sum_modulo, 31, 10, 6),
    "a sink": with_a_sink,
    "two classes": two_classes,
    "layers": partial(layers, 19),
    "weights": partial(weighted, 31, 4, False, 4),
    "layers with weights": partial(weighted_layers, 17),
    "hidden Markov chain": partial(weighted, 17, 3, True, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_posterior_is_that_of_the_reference(case: str, cuda_c: list[LaunchRecord]) -> None:
    require_agreement("posterior", *draw(CASES[case](), 5))
    assert len(cuda_c) == 1


@pytest.mark.slow
@pytest.mark.parametrize("n_states", [9, 33, 64, 255, 1000])
def test_posterior_of_many_states(n_states: int, cuda_c: list[LaunchRecord]) -> None:
    require_agreement("posterior", *draw(sum_modulo(n_states, 10, 6), 5))


def test_gradient_in_the_order_of_the_symbols(cuda_c: list[LaunchRecord]) -> None:
    arguments = draw(layers(19), 3)
    require_agreement("em_gradient", *arguments, 0.3, torch.tensor([5, 0, 4, 1, 3, 2]))


@pytest.mark.slow
@pytest.mark.parametrize(("n_states", "n_values", "dense"), [(9, 32, True), (33, 3, True), (64, 10, False)])
def test_weighted_edges_of_other_sizes(n_states: int, n_values: int, dense: bool, cuda_c: list[LaunchRecord]) -> None:
    require_agreement("posterior", *draw(weighted(n_states, n_values, dense, 4), 33))
    require_agreement("em_gradient", *draw(weighted_layers(n_states), 3), 0.3, torch.tensor([2, 0, 3, 1]))


def test_more_rows_than_a_block_and_programs(cuda_c: list[LaunchRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch_config, "RESIDENT_PROGRAMS", 1)
    logits, rows, tables = draw(sum_modulo(11, 3, 4), 37)
    require_agreement("posterior", logits, rows, tables)
    together = simulated("posterior", logits, rows, tables)
    alone = simulated("posterior", logits[35:36], rows[35:36], tables)
    assert all(torch.equal(whole[35:36], single) for whole, single in zip(together, alone, strict=True))


def forbid_long_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("AUTOMATON_BYTES", "SCRATCH_BYTES"):
        monkeypatch.setattr(launch_config, limit, 0)


def test_small_batches_keep_the_states_of_all_positions() -> None:
    assert launch_config.automaton_positions(100, 128 << 10) == 100
    assert launch_config.automaton_positions(100, 129 << 10) == 10
    assert launch_config.automaton_positions(100, 129 << 10, programs=400) == 100
    assert launch_config.automaton_positions(100, 129 << 10, programs=600) == 10


def test_blocks_of_positions_change_no_bit(cuda_c: list[LaunchRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = draw(sum_modulo(11, 3, 7), 3)
    whole = simulated("posterior", *arguments)
    forbid_long_blocks(monkeypatch)
    assert launch_config.automaton_positions(7, 1) == 3
    blocks = simulated("posterior", *arguments)
    for a, b in zip(whole, blocks, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_status_codes_and_rows_that_lose_digits(cuda_c: list[LaunchRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    repeated: list[Tensor] = []
    monkeypatch.setattr(automaton, "launch_triton", lambda *of: repeated.append(of[4][3].clone()))
    logits, rows, tables = draw(sum_modulo(11, 4, 4), 6)
    rows.fill_(1)
    logits[1, 2, 3] = float("nan")
    logits[2, 0] = float("-inf")
    rows[3] = -1
    logits[4, :, 1:] = float("-inf")  # value 0 everywhere: label 1 may not be reached
    logits[5, :, 1:] = -200.0
    _, evidence, status = simulated("posterior", logits, rows, tables)
    reached = int(reference.posterior(logits, rows, tables)[2][4]) == POSSIBLE
    assert status.tolist()[:4] == [POSSIBLE, INVALID_LOGITS, INVALID_LOGITS, INVALID_LABEL]
    assert not reached
    assert status.tolist()[4:] == [IMPOSSIBLE, IMPOSSIBLE]
    assert repeated[0].tolist() == [0, 0, 0, 0, 1, 1]
    assert evidence[1:].tolist() == [float("-inf")] * 5


def test_what_the_kernel_serves() -> None:
    tables = sum_modulo(31, 10, 6)
    assert cuda.is_served(tables, 10, 48 << 10)
    assert not cuda.is_served(tables, 33, 48 << 10)
    assert not cuda.is_served(sum_modulo(7, 4, 5), 4, 48 << 10)
    assert not cuda.is_served(tables, 10, 16 << 10)
    assert cuda.is_served(weighted(17, 4, False, 5), 4, 48 << 10)


def executed(run: Callable[[], Any], records: list[LaunchRecord]) -> int:
    run()
    return instructions(records[-1].counters)


def cost_of_a_position(n_states: int, n_classes: int, tables: Callable[[int], AutomatonTables], patch: Any) -> float:
    """Instructions of one position more, for each row of a full block."""
    patch.setattr(launch_config, "AUTOMATON_BYTES", 1 << 20)
    records = simulate_launches(patch, Options(checks=False))
    batch = launch_config.automaton_block(n_states, n_classes).rows
    short, long = (executed(lambda n=n: simulated("posterior", *draw(tables(n), batch)), records) for n in (5, 8))
    return (long - short) / (3 * batch)


@pytest.mark.parametrize(
    "n_states", [31, pytest.param(64, marks=pytest.mark.slow), pytest.param(255, marks=pytest.mark.slow)]
)
def test_instructions_of_an_edge(n_states: int, cuda_c: list[LaunchRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    cost = cost_of_a_position(n_states, 10, partial(sum_modulo, n_states, 10), monkeypatch)
    assert cost <= INSTRUCTIONS * n_states * 10


@pytest.mark.parametrize(
    ("n_states", "n_values", "dense", "multiply_adds"),
    [
        (31, 10, False, 5),
        pytest.param(64, 10, False, 5, marks=pytest.mark.slow),
        pytest.param(255, 10, False, 5, marks=pytest.mark.slow),
        pytest.param(31, 2, True, 2, marks=pytest.mark.slow),
    ],
)
def test_instructions_of_a_weighted_edge(
    n_states: int, n_values: int, dense: bool, multiply_adds: int, cuda_c: list[LaunchRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tables = partial(weighted, n_states, n_values, dense)
    cost = cost_of_a_position(n_states, n_values, tables, monkeypatch)
    assert cost <= 2.5 * multiply_adds * len(tables(8).out_target)
