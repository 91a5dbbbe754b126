"""The CUDA C kernel whose edges are written out, in the simulator: values, status codes, and what an edge costs."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs triton")

import emnesy_gpu as em
from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.gpu.automaton import launch as automaton
from emnesy_gpu.kernels.gpu.automaton import unrolled
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import automaton as reference
from profiling.gpu_simulator import LaunchRecord
from tests import automaton_instructions
from tests.automaton_instructions import cost_of_a_position, draw
from tests.cuda_c import needs_nvrtc, simulate_launches
from tests.kernel_registry.automaton import different_values, hidden_markov_chain, sum_modulo, two_classes, weighted
from tests.test_automaton_gpu import INSTRUCTIONS, forbid_long_blocks, layers, require_agreement, simulated

pytestmark = needs_nvrtc


@pytest.fixture
def cuda_c(monkeypatch: pytest.MonkeyPatch) -> list[LaunchRecord]:
    """The launch functions take the kernel, and that runs in the simulator; the launches so far. No row is repeated."""
    monkeypatch.setattr(unrolled, "fits", lambda logits, tables: unrolled.is_served(tables, logits.shape[2]))
    monkeypatch.setattr(automaton, "launch_triton", lambda *_: None)
    return simulate_launches(monkeypatch)


@cache
def with_dead_ends() -> AutomatonTables:
    """Values that are forbidden in some states, an odd number of values, and positions that no load takes together."""
    rule = em.Automaton(lambda s, v: None if s == v else (s + v) % 4, 0, lambda s: s > 1, 5, 3)
    return rule.tables(torch.device("cpu"))


CASES = {
    "2 states, 2 values": partial(different_values, 2, 2, 24),
    "7 states": partial(sum_modulo, 7, 4, 5),
    "dead ends": with_dead_ends,
    "an entry at every position": two_classes,
    "layers": partial(layers, 7),
    "hidden Markov chain": hidden_markov_chain,
}


@pytest.mark.parametrize("case", CASES)
def test_posterior_is_that_of_the_reference(case: str, cuda_c: list[LaunchRecord]) -> None:
    require_agreement("posterior", *draw(CASES[case](), 5))
    assert len(cuda_c) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_states", "n_values", "n"),
    [(3, 3, 8), (5, 5, 6), (8, 32, 4), (16, 10, 5), (31, 10, 5), (2, 15, 4), (2, 1, 3), (1, 2, 4)],
)
def test_posterior_of_other_sizes(n_states: int, n_values: int, n: int, cuda_c: list[LaunchRecord]) -> None:
    require_agreement("posterior", *draw(different_values(n_states, n_values, n), 37))
    require_agreement("em_gradient", *draw(different_values(n_states, n_values, n), 3), 0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_states", "n_values", "dense"), [(2, 2, True), (9, 10, True), (16, 10, False), (5, 3, True)]
)
def test_weighted_edges_of_other_sizes(n_states: int, n_values: int, dense: bool, cuda_c: list[LaunchRecord]) -> None:
    require_agreement("posterior", *draw(weighted(n_states, n_values, dense, 6), 37))
    require_agreement("em_gradient", *draw(weighted(n_states, n_values, dense, 5), 3), 0.3)


def test_gradient_in_the_order_of_the_symbols(cuda_c: list[LaunchRecord]) -> None:
    require_agreement("em_gradient", *draw(layers(7), 3), 0.3, torch.tensor([5, 0, 4, 1, 3, 2]))


def test_a_row_has_the_same_bits_in_any_batch_and_blocks(
    cuda_c: list[LaunchRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_config, "RESIDENT_PROGRAMS", 1)
    logits, rows, tables = draw(sum_modulo(5, 2, 10), 37)
    whole = simulated("posterior", logits, rows, tables)
    forbid_long_blocks(monkeypatch)
    part = simulated("posterior", logits[34:36], rows[34:36], tables)
    assert all(torch.equal(all_rows[34:36], some) for all_rows, some in zip(whole, part, strict=True))


def test_status_codes_and_rows_that_are_repeated(cuda_c: list[LaunchRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    repeated: list[Tensor] = []
    monkeypatch.setattr(automaton, "launch_triton", lambda *of: repeated.append(of[4][3].clone()))
    logits, rows, tables = draw(sum_modulo(7, 4, 4), 8)
    rows.fill_(1)
    logits[1, 2, 3] = float("nan")
    logits[2, 0] = float("-inf")
    rows[3] = -1
    logits[4, :, 1:] = float("-inf")  # value 0 everywhere: label 1 cannot be reached
    logits[5, :, 1:] = -200.0
    logits[6, 1, 0] = float("inf")
    logits[7] += 3e7
    marginals, evidence, status = simulated("posterior", logits, rows, tables)
    impossible = torch.tensor([False, False, False, False, True, False, False, False])
    expected = reference.posterior(logits, rows, tables)
    assert expected[2].eq(IMPOSSIBLE).tolist() == impossible.tolist()
    assert status.tolist() == [
        POSSIBLE, INVALID_LOGITS, INVALID_LOGITS, INVALID_LABEL, IMPOSSIBLE, IMPOSSIBLE, INVALID_LOGITS, IMPOSSIBLE
    ]  # fmt: skip
    assert repeated[0].tolist() == [0, 0, 0, 0, 1, 1, 0, 1]
    assert evidence[1:].tolist() == [float("-inf")] * 7
    torch.testing.assert_close(marginals[[0, 1, 2, 3, 4, 6]], expected[0][[0, 1, 2, 3, 4, 6]], atol=2e-6, rtol=0)


def test_what_the_kernel_serves() -> None:
    tables = sum_modulo(7, 4, 5)
    assert unrolled.is_served(tables, 4)
    assert not unrolled.is_served(tables, 33)
    assert unrolled.is_served(sum_modulo(32, 4, 5), 4)
    assert not unrolled.is_served(sum_modulo(33, 4, 5), 4)
    assert unrolled.is_served(weighted(16, 4, False, 5), 4)
    assert not unrolled.is_served(weighted(17, 4, False, 5), 4)
    assert not unrolled.is_served(tables._replace(out_target=torch.zeros(1025, dtype=torch.int32)), 4)


@pytest.mark.parametrize(
    ("n", "n_values", "alone", "expected"),
    [
        (6, 10, False, (2, 4)), (5, 10, False, (1, 2)), (6, 10, True, (1, 2)), (8, 2, False, (8, 4)),
        (6, 2, False, (2, 4)), (4, 3, False, (4, 4)), (6, 3, False, (2, 2)), (5, 3, False, (1, 1)),
        (3, 8, True, (1, 4)), (4, 31, False, (2, 2)),
    ],
)  # fmt: skip
def test_positions_that_are_loaded_together(n: int, n_values: int, alone: bool, expected: tuple[int, int]) -> None:
    assert unrolled.positions_together(n, n_values, alone) == expected


@pytest.mark.parametrize(
    ("positions", "expected"),
    [([0, 0, 0], (0, 3)), ([1, 0, 0, 2, 0], (1, 3)), ([0, 1, 0, 0], (2, 4)), ([1, 1], (0, 0))],
)
def test_longest_run_of_a_layer(positions: list[int], expected: tuple[int, int]) -> None:
    assert unrolled.longest_run(positions, 0) == expected


@pytest.mark.parametrize(
    ("n_states", "n_values", "most"),
    [
        (2, 10, INSTRUCTIONS),
        (4, 10, INSTRUCTIONS),
        (8, 2, INSTRUCTIONS),
        (2, 2, 7.8),  # above the limit: 19 of 31 are not for edges
        pytest.param(3, 10, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(6, 10, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(8, 10, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(16, 10, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(31, 10, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(3, 2, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(4, 2, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(6, 2, INSTRUCTIONS, marks=pytest.mark.slow),
        pytest.param(9, 4, INSTRUCTIONS, marks=pytest.mark.slow),
    ],
)
def test_instructions_of_a_state_and_value(n_states: int, n_values: int, most: float) -> None:
    tables = partial(different_values, n_states, n_values)
    assert cost_of_a_position(tables, in_cuda_c=True)[0] <= most * n_states * n_values


@pytest.mark.parametrize(
    ("n_states", "most"),
    [
        (8, INSTRUCTIONS),
        pytest.param(2, 10.4, marks=pytest.mark.slow),
        pytest.param(4, 7.9, marks=pytest.mark.slow),
        pytest.param(31, INSTRUCTIONS, marks=pytest.mark.slow),
    ],
)
def test_instructions_where_alpha_is_computed_twice(
    n_states: int, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_long_blocks(monkeypatch)
    monkeypatch.setattr(automaton_instructions, "SHORT", 36)
    monkeypatch.setattr(automaton_instructions, "LONG", 64)
    assert cost_of_a_position(partial(different_values, n_states, 10), in_cuda_c=True)[0] <= most * n_states * 10


@pytest.mark.parametrize(
    ("n_states", "n_values", "dense"),
    [
        (9, 10, False),
        pytest.param(16, 10, False, marks=pytest.mark.slow),
        pytest.param(4, 4, True, marks=pytest.mark.slow),
        pytest.param(9, 10, True, marks=pytest.mark.slow),
    ],
)
def test_instructions_of_a_weighted_edge(n_states: int, n_values: int, dense: bool) -> None:
    tables = partial(weighted, n_states, n_values, dense)
    assert cost_of_a_position(tables, in_cuda_c=True)[0] <= INSTRUCTIONS * len(tables(16).out_target)
