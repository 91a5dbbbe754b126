"""The CPU kernels of belief propagation with all-different factors, against enumeration of the assignments."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.kernels.cpu.all_different import belief_propagation, probabilities
from emnesy_gpu.kernels.cpu.all_different.graph import NEGLIGIBLE, plan_of
from emnesy_gpu.kernels.cpu.common import parallel
from emnesy_gpu.kernels.cpu.common.belief_propagation import new_options
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.propagation_calls import on_arrays
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, PropagationResults
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE

NEG_INF = float("-inf")


def permanent(log_n: np.ndarray, add: Callable) -> float:
    """log of the sum, or of the largest, over distinct values of the rows."""
    rows = np.arange(len(log_n))
    return add([log_n[rows, list(z)].sum() for z in permutations(range(log_n.shape[1]), len(log_n))])


def minors(log_n: np.ndarray, add: Callable) -> np.ndarray:
    """permanent without one row and one column, for all of them."""
    result = np.empty_like(log_n)
    for i, v in np.ndindex(*log_n.shape):
        result[i, v] = permanent(np.delete(np.delete(log_n, i, 0), v, 1), add)
    return result


def normalise(log_p: np.ndarray) -> np.ndarray:
    return log_p - np.logaddexp.reduce(log_p, -1, keepdims=True)


def enumerate_one(logits: np.ndarray, groups, phases, iterations, damping, maximise=False):
    """Marginals, Bethe log evidence (None for max-product) and last change of one row, in logs."""
    add = np.maximum.reduce if maximise else np.logaddexp.reduce
    members = [[i for i in group if i >= 0] for group in groups.tolist()]
    prior = normalise(logits.astype(np.float64))
    k = prior.shape[1]
    messages = {(f, i): np.full(k, -np.log(k)) for f, group in enumerate(members) for i in group}

    def product(i: int, without: int = -1) -> np.ndarray:
        return prior[i] + sum((m for (f, j), m in messages.items() if j == i and f != without), np.zeros(k))

    def to_factor(f: int) -> np.ndarray:
        return normalise(np.stack([product(i, f) for i in members[f]]))

    change = 0.0
    for _ in range(iterations):
        change = 0.0
        for first, last in pairwise(np.cumsum([0, *phases])):
            new = {}
            for f in range(first, last):
                for i, row in zip(members[f], normalise(minors(to_factor(f), add)), strict=True):
                    mixed = (1.0 - damping) * np.exp(row) + damping * np.exp(messages[f, i])
                    # The log of a mixture, except where there is none: the row may be far below exp's range.
                    new[f, i] = np.log(mixed) if damping else row
                    change = max(change, np.abs(mixed - np.exp(messages[f, i])).max())
            messages.update(new)
    beliefs = np.stack([product(i) for i in range(len(prior))])
    evidence = np.logaddexp.reduce(beliefs, -1).sum()
    for f, group in enumerate(members):
        n = to_factor(f)
        evidence += permanent(n, np.logaddexp.reduce)
        evidence -= sum(np.logaddexp.reduce(row + messages[f, i]) for i, row in zip(group, n, strict=True))
    return np.exp(normalise(beliefs)), None if maximise else evidence, change


def latin_square(side: int) -> tuple[int, Tensor, list[int]]:
    rows = [[i * side + j for j in range(side)] for i in range(side)]
    columns = [[i * side + j for i in range(side)] for j in range(side)]
    return side * side, torch.tensor(rows + columns, dtype=torch.int32), [side, side]


def irregular() -> tuple[int, Tensor, list[int]]:
    """Groups of different sizes, padding, several groups of one variable, and one without any."""
    groups = [[0, 1, 2], [3, 4, -1], [0, 3, 5], [5, 6, -1], [6, -1, -1], [0, 6, 4]]
    return 8, torch.tensor(groups, dtype=torch.int32), [2, 3, 1]


def draw(graph: tuple, k: int, batch: int = 3, sd: float = 2.0, seed: int = 0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, graph[0], k, generator=generator, dtype=torch.float64) * sd
    return logits.to(dtype), torch.ones(batch, dtype=torch.int64)


def assert_enumerated(logits, label, graph, phases, iterations, damping, maximise=False, tolerance=2e-5) -> None:
    marginals, log_evidence, status, sweeps, change = belief_propagation(
        logits, label, graph[1], phases, iterations, damping, 0.0, maximise
    )
    assert (status == POSSIBLE).all()
    assert (sweeps == iterations).all()
    for row in range(len(logits)):
        expected, evidence, last_change = enumerate_one(
            logits[row].double().numpy(), graph[1], phases, iterations, damping, maximise
        )
        np.testing.assert_allclose(marginals[row].double().numpy(), expected, rtol=0, atol=tolerance)
        evidence = 0.0 if evidence is None else evidence
        np.testing.assert_allclose(log_evidence[row].item(), evidence, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(change[row].item(), last_change, rtol=0, atol=tolerance)


def equal(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def flooding(graph: tuple) -> list[int]:
    return [len(graph[1])]


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("maximise", [False, True])
@pytest.mark.parametrize("schedule", ["serial", "flooding"])
def test_latin_squares(k, maximise, schedule):
    graph = latin_square(k)
    phases = graph[2] if schedule == "serial" else flooding(graph)
    for iterations, damping in ((0, 0.0), (1, 0.0), (3, 0.5)):
        logits, label = draw(graph, k, seed=k, batch=2)
        assert_enumerated(logits, label, graph, phases, iterations, damping, maximise)


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("maximise", [False, True])
def test_groups_smaller_than_the_number_of_values(k, dtype, maximise):
    graph = irregular()
    logits, label = draw(graph, k, dtype=dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for phases in (graph[2], flooding(graph)):
        assert_enumerated(logits, label, graph, phases, 3, 0.25, maximise, tolerance)


@pytest.mark.parametrize("sd", [30.0, 1e2, 1e3, 1e4])
@pytest.mark.parametrize("maximise", [False, True])
def test_logits_beyond_the_range_of_floats(sd, maximise):
    graph = irregular()
    logits, label = draw(graph, 4, batch=12, sd=sd)
    assert_enumerated(logits, label, graph, graph[2], 3, 0.0, maximise)
    assert_enumerated(logits.double(), label, graph, graph[2], 3, 0.0, maximise, 1e-9)


def test_trees_are_exact():
    """Groups 0, 1, 2 and 2, 3, 4: marginals and evidence are those of the joint distribution."""
    groups = torch.tensor([[0, 1, 2], [2, 3, 4]], dtype=torch.int32)
    logits = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prior = logits[0].softmax(-1).numpy()
    joint = np.einsum("a,b,c,d,e->abcde", *prior)
    for z in np.ndindex(*joint.shape):
        if len(set(z[:3])) < 3 or len(set(z[2:])) < 3:
            joint[z] = 0.0
    label = torch.ones(1, dtype=torch.int64)
    marginals, log_evidence, *_ = belief_propagation(logits, label, groups, [2], 3, 0.0, 0.0, False)
    for i in range(5):
        expected = joint.sum(tuple({0, 1, 2, 3, 4} - {i})) / joint.sum()
        np.testing.assert_allclose(marginals[0, i].numpy(), expected, atol=1e-14)
    assert log_evidence.item() == pytest.approx(np.log(joint.sum()), abs=1e-13)


@pytest.mark.parametrize(("k", "width"), [(1, 1), (2, 1), (3, 3), (4, 2), (9, 9), (16, 5), (16, 16)])
def test_uniform_priors_count_the_assignments(k, width):
    groups = torch.arange(width, dtype=torch.int32).view(1, width)
    label = torch.ones(2, dtype=torch.int64)
    marginals, log_evidence, status, *_ = belief_propagation(
        torch.zeros(2, width + 1, k), label, groups, [1], 1, 0.0, 0.0, False
    )
    assert (status == POSSIBLE).all()
    torch.testing.assert_close(marginals, torch.full((2, width + 1, k), 1.0 / k))
    expected = math.lgamma(k + 1) - math.lgamma(k - width + 1) - width * math.log(k)
    torch.testing.assert_close(log_evidence, torch.full((2,), expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_float32(dtype, monkeypatch):
    monkeypatch.setattr("emnesy_gpu.kernels.cpu.common.row_driver.MOST_ON_ONE_THREAD", 100)
    graph = latin_square(4)
    logits, label = draw(graph, 4, batch=9, dtype=dtype)
    options = graph[1], graph[2], 2, 0.0, 0.0, False
    results = belief_propagation(logits, label, *options)
    assert results[0].dtype == results[1].dtype == results[4].dtype == torch.float32
    assert results[3].dtype == torch.int32
    assert equal(results, belief_propagation(logits.float(), label, *options))


def mixed_rows() -> tuple[Tensor, Tensor, tuple]:
    """Rows of all kinds side by side, more than one block of them."""
    graph = latin_square(4)
    batch = 2 * FLOAT32_LANES + 5
    logits, _ = draw(graph, 4, batch=batch, sd=1.0)
    logits *= torch.tensor([0.1, 1.0, 3.0, 40.0, 3000.0]).repeat(batch)[:batch, None, None]
    label = torch.arange(batch) % 3 % 2
    logits[3, 2] = NEG_INF
    logits[8, 5, 1] = float("nan")
    logits[9, 5, 1] = float("inf")
    label[11], label[12] = 2, -1
    logits[14, :2, 1:] = NEG_INF
    return logits, label, graph


@pytest.mark.parametrize("maximise", [False, True])
@pytest.mark.parametrize("tolerance", [0.0, 1e-2])
def test_row_has_the_same_bits_in_any_batch(maximise, tolerance):
    logits, label, graph = mixed_rows()
    options = graph[1], graph[2], 6, 0.2, tolerance, maximise
    together = belief_propagation(logits, label, *options)
    for row in sorted({*range(0, len(logits), 5), 11, 12, 14}):
        some = slice(row, row + 1)
        alone = belief_propagation(logits[some].clone(), label[some].clone(), *options)
        assert equal(alone, tuple(result[some] for result in together)), row


def test_map_of_a_large_board_has_the_same_bits_in_any_batch() -> None:
    """Nor do the steps of torch around the search depend on the batch."""
    logits = torch.randn(17, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    label = torch.arange(17) % 3 % 2
    together = em.posterior(em.Sudoku(9), logits, label, em.MAP())
    for some in (slice(0, 1), slice(1, 2), slice(4, 11)):
        part = em.posterior(em.Sudoku(9), logits[some].clone(), label[some], em.MAP())
        assert torch.equal(part.marginals, together.marginals[some])
        assert torch.equal(part.log_evidence, together.log_evidence[some])
        assert torch.equal(part.info["assignment"], together.info["assignment"][some])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("serial", [False, True])
def test_row_has_the_same_bits_whether_rows_or_factors_lie_in_lanes(dtype, serial):
    """27 factors: less than half the lanes in a serial phase, and more than half or all of them in one of flooding."""
    problem = em.Sudoku(9)
    groups, phases = problem.tables(torch.device("cpu")).groups, problem.serial_phases if serial else [27]
    logits, label = draw((81,), 9, batch=5, sd=1.5, dtype=dtype)
    options = groups, phases, 3, 0.1, 0.0, False
    assert not probabilities.row_after_row(phases, len(logits), 16)
    together = belief_propagation(logits, label, *options)
    for some in (slice(0, 1), slice(1, 3)):
        part = belief_propagation(logits[some].clone(), label[some].clone(), *options)
        assert equal(part, tuple(result[some] for result in together))


def test_threads_change_nothing(monkeypatch):
    logits, label, graph = mixed_rows()
    usable = torch.tensor([row for row in range(len(logits)) if row not in (3, 8, 9)])
    options = graph[1], graph[2], 4, 0.0, 1e-3, False
    before = torch.get_num_threads()
    results = []
    monkeypatch.setattr(parallel, "SMALLEST_RANGE", 1)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(belief_propagation(logits[usable], label[usable], *options))
    finally:
        torch.set_num_threads(before)
    assert equal(*results)


def test_status_of_every_kind_of_row():
    logits, label, graph = mixed_rows()
    marginals, log_evidence, status, sweeps, change = belief_propagation(
        logits, label, graph[1], graph[2], 3, 0.0, 0.0, False
    )
    expected = torch.zeros(len(logits), dtype=torch.uint8)
    expected[[3, 8, 9]] = INVALID_LOGITS
    expected[[11, 12]] = INVALID_LABEL
    expected[14] = IMPOSSIBLE
    assert torch.equal(status, expected)
    useful = status != INVALID_LOGITS
    assert not marginals[useful].isnan().any()
    torch.testing.assert_close(marginals[useful].sum(-1), torch.ones(int(useful.sum()), graph[0]))
    prior = logits.softmax(-1)
    for row in (11, 12, 14):
        torch.testing.assert_close(marginals[row], prior[row])
        assert log_evidence[row] == NEG_INF
        assert sweeps[row] == change[row] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hard_zeros_that_leave_an_assignment(dtype):
    """The digits of a Latin square as certain, all but one row of it."""
    graph = latin_square(5)
    square = (torch.arange(5)[:, None] + torch.arange(5)).flatten() % 5
    logits = torch.full((1, 25, 5), NEG_INF, dtype=dtype)
    logits[0, torch.arange(25), square] = 3.0
    logits[0, :5] = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    marginals, log_evidence, status, *_ = belief_propagation(
        logits, torch.ones(1, dtype=torch.int64), graph[1], graph[2], 3, 0.0, 0.0, False
    )
    assert status.item() == POSSIBLE
    torch.testing.assert_close(marginals[0], torch.nn.functional.one_hot(square, 5).to(dtype))
    expected = logits[0, :5].log_softmax(-1)[torch.arange(5), square[:5]].sum()
    torch.testing.assert_close(log_evidence[0], expected)


def test_contradiction_that_only_shows_after_a_sweep():
    """Three variables that share two values in pairs: each pair has an assignment, the three of them none."""
    groups = torch.tensor([[0, 1], [1, 2], [0, 2]], dtype=torch.int32)
    logits = torch.tensor([[[0.0, 0.0, NEG_INF], [0.0, NEG_INF, NEG_INF], [NEG_INF, 0.0, NEG_INF]]])
    marginals, log_evidence, status, sweeps, _ = belief_propagation(
        logits, torch.ones(1, dtype=torch.int64), groups, [1, 1, 1], 5, 0.0, 0.0, False
    )
    assert status.item() == IMPOSSIBLE
    assert log_evidence.item() == NEG_INF
    assert sweeps.item() == 0
    torch.testing.assert_close(marginals, logits.softmax(-1))


def left_to_recompute(logits: Tensor, graph: tuple) -> int:
    """Rows that arithmetic in the dtype of the logits hands back."""
    batch, n, n_values = logits.shape
    array = logits.numpy()
    status, sweeps = np.empty(batch, np.uint8), np.empty(batch, np.int32)
    evidence, change = np.empty(batch, array.dtype), np.empty(batch, array.dtype)
    results = PropagationResults(np.empty_like(array), evidence, status, sweeps, change)
    plan, options = plan_of(graph[1].numpy(), graph[2], n, n_values), new_options(3, 0.0, 0.0, False)
    call = probabilities.call_of(plan, array.dtype.type, options.maximise, batch)
    on_arrays(call, options, array, np.ones(batch, np.int64), results)
    return int((status == RECOMPUTE).sum())


def test_guard_lets_ordinary_rows_pass_and_stops_underflow():
    graph = latin_square(5)
    ordinary, _ = draw(graph, 5, batch=40, sd=3.0)
    extreme, _ = draw(graph, 5, batch=40, sd=2000.0)
    assert left_to_recompute(ordinary, graph) == 0
    assert left_to_recompute(ordinary * 10.0, graph) > 0
    assert left_to_recompute(ordinary.double() * 10.0, graph) == 0
    assert left_to_recompute(extreme, graph) == 40
    assert left_to_recompute(extreme.double(), graph) > 0


def test_constant_added_to_a_variable_changes_nothing():
    graph = latin_square(4)
    logits, label = draw(graph, 4, batch=5)
    logits = (logits * 8.0).round() / 8.0
    shift = torch.arange(16).view(16, 1) * 32.0 - 256.0
    options = graph[1], graph[2], 3, 0.0, 0.0, False
    assert equal(belief_propagation(logits + shift, label, *options), belief_propagation(logits, label, *options))


def test_tolerance_freezes_rows_that_have_converged():
    graph = latin_square(4)
    logits, label = draw(graph, 4, batch=FLOAT32_LANES)
    logits[::2] *= 10.0
    marginals, log_evidence, _, sweeps, change = belief_propagation(
        logits, label, graph[1], graph[2], 50, 0.0, 1e-3, False
    )
    assert len(sweeps.unique()) > 1
    assert ((change < 1e-3) | (sweeps == 50)).all()
    for row in range(0, len(logits), 5):
        some = slice(row, row + 1)
        options = graph[1], graph[2], int(sweeps[row]), 0.0, 0.0, False
        again = belief_propagation(logits[some], label[some], *options)
        assert equal(again[:2], (marginals[some], log_evidence[some]))


def test_label_0_stops_early_only_where_validity_is_negligible():
    graph = latin_square(5)
    logits, _ = draw(graph, 5, batch=8, sd=0.5)
    # Rows of the square that all prefer the same value: p(valid) of disjoint groups is below exp(-17).
    logits[:4, :, 0] += 6.0
    invalid, valid = torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    options = graph[1], graph[2], 2, 0.0, 0.0, False
    results, expected = belief_propagation(logits, invalid, *options), belief_propagation(logits, valid, *options)
    assert equal(tuple(r[4:] for r in results), tuple(r[4:] for r in expected))
    marginals, log_evidence, status, sweeps, change = (result[:4] for result in results)
    torch.testing.assert_close(marginals, logits[:4].softmax(-1))
    assert (expected[1][:4] < NEGLIGIBLE).all()
    assert (log_evidence == NEG_INF).all()
    assert status.sum() == sweeps.sum() == change.sum() == 0


def test_no_groups_at_all():
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    groups, label = torch.empty(0, 3, dtype=torch.int32), torch.ones(3, dtype=torch.int64)
    marginals, log_evidence, status, *_ = belief_propagation(logits, label, groups, [], 3, 0.0, 0.0, False)
    assert (status == POSSIBLE).all()
    torch.testing.assert_close(marginals, logits.softmax(-1))
    torch.testing.assert_close(log_evidence, torch.zeros(3), rtol=0, atol=1e-6)


def test_empty_batch_and_too_many_values():
    graph = latin_square(4)
    logits, label = draw(graph, 4, batch=0)
    marginals, *rows = belief_propagation(logits, label, graph[1], graph[2], 3, 0.0, 0.0, False)
    assert marginals.shape == (0, 16, 4)
    assert all(len(row) == 0 for row in rows)
    with pytest.raises(ValueError, match=r"at most 16 values.*pairwise"):
        belief_propagation(torch.zeros(1, 16, 17), torch.ones(1), graph[1], graph[2], 3, 0.0, 0.0, False)
