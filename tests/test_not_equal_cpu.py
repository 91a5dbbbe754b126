"""Belief propagation with not-equal factors on the CPU, in floats and in log space, against the specification."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common import parallel, row_driver
from emnesy_gpu.kernels.cpu.common.belief_propagation import new_options
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, PropagationResults
from emnesy_gpu.kernels.cpu.not_equal import launch as not_equal
from emnesy_gpu.kernels.cpu.not_equal import probabilities
from emnesy_gpu.kernels.cpu.not_equal.graph import build_graph
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import enumeration
from emnesy_gpu.reference import not_equal as reference
from tests.graphs import adjacency, greedy_phases, sudoku_pairs
from tests.lists_of_assignments import every

NEG_INF = float("-inf")
PAIRS = {
    "4 x 4": (sudoku_pairs(4), 16, 4),
    "9 x 9": (sudoku_pairs(9), 81, 9),
    "tree": ([(0, 1), (1, 2), (1, 3), (3, 4), (3, 5)], 7, 3),
    "triangle": ([(0, 1), (1, 2), (0, 2)], 3, 5),
    "two values": ([(0, 1), (1, 2), (2, 3)], 4, 2),
}


def graph(name: str, serial: bool = True) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    pairs, n, _ = PAIRS[name]
    neighbours, reverse = adjacency(pairs, n)
    if serial:
        return neighbours, reverse, *greedy_phases(neighbours)
    return neighbours, reverse, torch.arange(n, dtype=torch.int32), [n]


def draw(name: str, batch: int, sd: float = 1.5, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    _, n, k = PAIRS[name]
    logits = sd * torch.randn(batch, n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))
    return logits.to(dtype), torch.arange(batch) % 2


def require_close(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], atol: float) -> None:
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs.double(), rtol=atol, atol=atol)


def require_equal(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> None:
    for mine, theirs in zip(left, right, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def recomputed_rows(logits: Tensor, name: str, iterations: int) -> int:
    """How many rows the float32 kernel hands back."""
    batch = len(logits)
    others = (np.empty(batch, dtype) for dtype in ("f4", "u1", "i4", "f4"))
    results = PropagationResults(torch.empty_like(logits).numpy(), *others)
    tables = build_graph(*(table.numpy() for table in graph(name)[:3]), graph(name)[3])
    label = np.ones(batch, np.int64)
    probabilities.run(tables, new_options(iterations, 0.0, 0.0, False), logits.numpy(), label, results)
    return int((results.status == RECOMPUTE).sum())


# Messages change by a factor of a few in each of the sweeps, and rounding with them.
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12), (torch.bfloat16, 1e-5)])
@pytest.mark.parametrize("maximise", [False, True])
@pytest.mark.parametrize("serial", [True, False])
@pytest.mark.parametrize("name", PAIRS)
def test_agrees_with_the_specification(name, serial, maximise, dtype, atol):
    logits, label = draw(name, 5, dtype=dtype)
    options = *graph(name, serial), 4, 0.25, 0.0, maximise
    actual = not_equal.belief_propagation(logits, label, *options)
    assert actual[0].dtype == actual[1].dtype == actual[4].dtype == torch.promote_types(dtype, torch.float32)
    require_close(actual, reference.belief_propagation(logits.double(), label, *options), atol)


def test_converges_at_the_same_sweep():
    logits, label = draw("4 x 4", 40, dtype=torch.float64)
    options = *graph("4 x 4"), 50, 0.2, 1e-6, False
    actual = not_equal.belief_propagation(logits, label, *options)
    expected = reference.belief_propagation(logits, label, *options)
    require_close(actual, expected, 1e-10)
    assert len(actual[3].unique()) > 3
    assert ((actual[4] < 1e-6) | (actual[3] == 50)).all()


def test_tree_is_exact():
    pairs, n, k = PAIRS["tree"]
    logits, label = draw("tree", 30)
    z = every(n, k)
    valid = z[torch.stack([z[:, i] != z[:, j] for i, j in pairs]).all(0)]
    exact = enumeration.posterior(logits.double(), label, valid)
    marginals, log_evidence, *_ = not_equal.belief_propagation(logits, label, *graph("tree"), 5, 0.0, 0.0, False)
    require_close((marginals, log_evidence), exact[:2], 2e-6)


@pytest.mark.parametrize("sd", [100.0, 1e3, 1e4])
@pytest.mark.parametrize(("maximise", "damping"), [(False, 0.0), (True, 0.0), (False, 0.3)])
def test_extreme_logits_are_recomputed_in_log_space(sd, maximise, damping):
    logits, label = draw("4 x 4", 40, sd=sd)
    assert recomputed_rows(logits, "4 x 4", 3) == 40
    options = *graph("4 x 4"), 3, damping, 0.0, maximise
    actual = not_equal.belief_propagation(logits, label, *options)
    expected = reference.belief_propagation(logits.double(), label, *options)
    require_close(actual, expected, 2e-6)
    assert not any(result.isnan().any() for result in actual)


@pytest.mark.parametrize("sd", [5.0, 10.0, 20.0, 40.0])
def test_what_the_guard_lets_pass_is_right(sd):
    logits, label = draw("4 x 4", 200, sd=sd)
    actual = not_equal.belief_propagation(logits, label, *graph("4 x 4"), 4, 0.0, 0.0, False)
    expected = reference.belief_propagation(logits.double(), label, *graph("4 x 4"), 4, 0.0, 0.0, False)
    # Rounding of a logit of 100 is 4e-6, and contradictions multiply it.
    require_close(actual, expected, 1e-4)


def test_soft_boards_stay_in_float32():
    assert recomputed_rows(draw("9 x 9", 32, sd=2.0)[0], "9 x 9", 5) == 0


def test_statuses_and_hard_zeros():
    logits, label = draw("4 x 4", 8)
    label[:] = 1
    logits[1, :2, 1:] = NEG_INF
    logits[2, 5, 2] = float("nan")
    logits[3, 5, 2] = float("inf")
    logits[4, 5] = NEG_INF
    logits[5, 3, :3] = NEG_INF
    label[6], label[7] = -1, 2
    logits[7, 0, 0] = float("nan")
    options = *graph("4 x 4"), 3, 0.0, 0.0, False
    marginals, log_evidence, status, sweeps, _ = not_equal.belief_propagation(logits, label, *options)
    expected = [POSSIBLE, IMPOSSIBLE, *[INVALID_LOGITS] * 3, POSSIBLE, *[INVALID_LABEL] * 2]
    assert status.tolist() == expected
    assert sweeps.tolist() == [3 * (code == POSSIBLE) for code in expected]
    assert log_evidence.isfinite().tolist() == [code == POSSIBLE for code in expected]
    for row in (1, 6):
        torch.testing.assert_close(marginals[row], torch.softmax(logits[row], -1))
    specified = reference.belief_propagation(logits[[0, 5]].double(), label[[0, 5]], *options)
    require_close((marginals[[0, 5]], log_evidence[[0, 5]]), specified[:2], 1e-5)
    assert (marginals[5, 3] == torch.tensor([0.0, 0.0, 0.0, 1.0])).all()


@pytest.mark.parametrize("batch", [1, FLOAT32_LANES - 1, 2 * FLOAT32_LANES + 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sd", [2.0, 40.0])
def test_row_has_the_same_bits_in_any_batch(batch, dtype, sd):
    logits, label = draw("4 x 4", batch, sd=sd, dtype=dtype)
    options = *graph("4 x 4"), 6, 0.1, 1e-2, False
    together = not_equal.belief_propagation(logits, label, *options)
    for row in range(0, batch, 7):
        some = slice(row, row + 1)
        alone = not_equal.belief_propagation(logits[some].clone(), label[some].clone(), *options)
        require_equal(alone, tuple(result[some] for result in together))


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr(row_driver, "MOST_ON_ONE_THREAD", 5000)
    logits, label = draw("4 x 4", 150, sd=20.0, dtype=torch.bfloat16)
    options = *graph("4 x 4"), 4, 0.0, 0.0, False
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = not_equal.belief_propagation(logits, label, *options)
    torch.set_num_threads(3)
    monkeypatch.setattr(parallel, "SMALLEST_RANGE", 1)
    try:
        require_equal(not_equal.belief_propagation(logits, label, *options), alone)
    finally:
        torch.set_num_threads(before)


def test_empty_batch_and_no_sweeps():
    logits, label = draw("4 x 4", 0)
    options = *graph("4 x 4"), 3, 0.0, 0.0, False
    assert [len(result) for result in not_equal.belief_propagation(logits, label, *options)] == [0] * 5
    logits, label = draw("4 x 4", 3)
    options = *graph("4 x 4"), 0, 0.0, 0.0, False
    actual = not_equal.belief_propagation(logits, label, *options)
    require_close(actual, reference.belief_propagation(logits.double(), label, *options), 2e-6)
    assert not actual[3].any()


def test_no_pairs_leave_the_prior():
    logits, label = draw("tree", 3)
    none = torch.empty(7, 0, dtype=torch.int32)
    for launch in (not_equal.belief_propagation, reference.belief_propagation):
        options = none, none, torch.arange(7, dtype=torch.int32), [7], 2, 0.0, 0.0, False
        marginals, log_evidence, status, _, change = launch(logits, label, *options)
        torch.testing.assert_close(marginals, torch.softmax(logits, -1), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(log_evidence, torch.zeros(3), rtol=0, atol=2e-6)
        assert not torch.stack([status, change]).any()


def test_only_phases_of_neighbours_are_staged():
    serial, flooding = (
        build_graph(*(table.numpy() for table in graph("4 x 4", order)[:3]), graph("4 x 4", order)[3])
        for order in (True, False)
    )
    assert not serial.staged.any()
    assert flooding.staged.all()
