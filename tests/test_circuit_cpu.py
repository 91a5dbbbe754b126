"""The CPU kernels of circuits against their reference, and what only they have: lanes, guards, tables, threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.tables import Compiled, make_tables
from emnesy_gpu.kernels.cpu.circuit import launch, linear, program, wide
from emnesy_gpu.kernels.cpu.common import lanes, parallel, row_driver
from emnesy_gpu.kernels.cpu.common.lane_scratch import scratch
from emnesy_gpu.kernels.cpu.common.lanes import exp_for_single, load, store
from emnesy_gpu.kernels.cpu.common.log_lanes import logarithm
from emnesy_gpu.kernels.cpu.common.transpose import read_columns, write_columns
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import circuit as reference
from tests.circuits import (
    enumerated,
    exactly_graph,
    from_steps,
    parity_graph,
    permutation_graph,
    random_example,
    random_graph,
    two_entries,
    unmentioned,
)

NEG_INF = float("-inf")


def many_labels() -> Graph:
    """The sum of 6 symbols of 4 values modulo 7."""
    return from_steps(6, 4, lambda i, s, v: (s + v) % 7, lambda s: s, 7)


GRAPHS = {
    "parity": parity_graph(40),
    "permutation": permutation_graph(5, 6),
    "exactly": exactly_graph(3, 20),
    "two entries": two_entries().graph,
    "unmentioned": unmentioned().graph,
    "many labels": many_labels(),
    "random": random_graph(9, 5, 6, 3, 1)[0],
}


def draw(graph: Graph, batch: int, sd: float = 3.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = sd * torch.randn(batch, graph.n_symbols, graph.n_values, generator=generator)
    columns = [torch.randint(0, size + 1, (batch,), generator=generator) for size in graph.given]
    rows = torch.stack(columns, 1) if columns else torch.zeros(batch, 0)
    return logits, rows.to(torch.int32)


def posterior(logits: Tensor, rows: Tensor, c: Compiled, wide: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    return launch.posterior(logits, rows, list(c.tables), c.tape_rows, wide)


def assert_right(logits: Tensor, rows: Tensor, c: Compiled, wide: bool = False) -> Tensor:
    """Posterior and gradient against the reference; returns the status."""
    tolerance = 1e-11 if logits.dtype == torch.float64 else 1e-6
    marginals, log_evidence, status = posterior(logits, rows, c, wide)
    expected, expected_evidence, expected_status = reference.posterior(
        logits.double(), rows, c.tables, c.tape_rows, wide
    )
    assert torch.equal(status, expected_status)
    assert marginals.dtype == log_evidence.dtype == torch.promote_types(logits.dtype, torch.float32)
    torch.testing.assert_close(marginals.double(), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_evidence.double(), expected_evidence, rtol=tolerance, atol=tolerance)
    gradient, gradient_evidence, _ = launch.em_gradient(logits, rows, list(c.tables), c.tape_rows, wide, 0.3)
    expected, _, _ = reference.em_gradient(logits.double(), rows, c.tables, c.tape_rows, wide, 0.3)
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(gradient_evidence, log_evidence)
    assert (gradient[status != POSSIBLE] == 0.0).all()
    return status


def assert_right_prediction(logits: Tensor, graph: Graph, wide: bool = False) -> None:
    c = make_tables(graph, prediction=True)
    log_p, status = launch.predict(logits, list(c.tables), c.tape_rows, wide)
    expected, expected_status = reference.predict(logits.double(), c.tables, c.tape_rows, wide)
    assert torch.equal(status, expected_status)
    torch.testing.assert_close(log_p.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("batch", [0, 1, 31, 32, 33, 100])
def test_every_batch(name: str, batch: int) -> None:
    c = make_tables(GRAPHS[name])
    logits, rows = draw(GRAPHS[name], batch)
    assert [len(result) for result in posterior(logits, rows, c)] == [batch] * 3
    if batch:
        assert_right(logits, rows, c)
        assert_right_prediction(logits, GRAPHS[name])


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype(dtype: torch.dtype, wide: bool, monkeypatch) -> None:
    monkeypatch.setattr(row_driver, "MOST_ON_ONE_THREAD", 500)
    for graph in (GRAPHS["random"], GRAPHS["parity"]):
        logits, rows = draw(graph, 70)
        assert_right(logits.to(dtype), rows, make_tables(graph), wide)
        assert_right_prediction(logits.to(dtype), graph, wide)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sd", [1.0, 30.0, 1e3, 1e4])
def test_logits_of_any_size(sd: float, dtype: torch.dtype) -> None:
    for name, graph in GRAPHS.items():
        logits, rows = draw(graph, 33, sd)
        logits[torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.1] = NEG_INF
        assert_right(logits.to(dtype), rows, make_tables(graph), name == "random")
        assert_right_prediction(logits.to(dtype), graph)


def gap(size: float, graph: Graph) -> Tensor:
    """Every symbol prefers 0 by so many nats."""
    logits = torch.full((1, graph.n_symbols, graph.n_values), -size)
    logits[..., 0] = 0.0
    return logits


@pytest.mark.parametrize(
    ("size", "logits_in_wide", "expected"),
    [
        (1.0, False, ["float32"]),
        (30.0, False, ["float32", "float64"]),
        (400.0, False, ["float32", "float64", "wide"]),
        (1e4, False, ["float32", "float64", "wide"]),
        (30.0, True, ["float64"]),
        (1e4, True, ["float64", "wide"]),
    ],
)
def test_contradicted_logits_go_to_wider_arithmetic(monkeypatch, size, logits_in_wide, expected) -> None:
    """Three ones cost three gaps: float32 is trusted down to about e^-60, float64 to e^-650."""
    graph, calls = exactly_graph(3, 4), []
    run, run_wide = linear.run, wide.run
    monkeypatch.setattr(linear, "run", lambda p, dtype, *rest: calls.append(dtype.__name__) or run(p, dtype, *rest))
    monkeypatch.setattr(wide, "run", lambda *rest: calls.append("wide") or run_wide(*rest))
    rows = torch.zeros(1, 0, dtype=torch.int32)
    c = make_tables(graph)
    marginals, log_evidence, _ = posterior(gap(size, graph), rows, c, logits_in_wide)
    assert calls == expected
    monkeypatch.undo()
    torch.testing.assert_close(marginals, torch.tensor([0.25, 0.75]).expand(1, 4, 2))
    assert float(log_evidence) == pytest.approx(np.log(4) - 3 * size - 4 * np.log1p(np.exp(-size)), rel=1e-6)
    assert_right(gap(size, graph), rows, c, logits_in_wide)


def test_predictions_of_unlikely_labels_are_not_lost() -> None:
    for size in (1.0, 60.0, 1e3, 1e4):
        assert_right_prediction(gap(size, GRAPHS["many labels"]), GRAPHS["many labels"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_subnormal_numbers_count_as_zeros_and_stay_as_they_are_elsewhere(dtype: torch.dtype) -> None:
    """Both bits are 1 with probability 1e-40 or 1e-320, less than the smallest normal number."""
    compiled, logits = make_tables(parity_graph(2)), torch.zeros(1, 2, 2, dtype=dtype)
    logits[..., 1] = -20.0 * math.log(10) if dtype is torch.float32 else -160.0 * math.log(10)
    even = torch.ones(1, 1, dtype=torch.int32)
    marginals, log_evidence, status = launch.posterior(logits, even, *compiled, False)
    assert float(marginals[..., 1].max()) < torch.finfo(dtype).tiny
    assert marginals[..., 0].tolist() == [[1.0, 1.0]]
    assert status.tolist() == [POSSIBLE]
    assert abs(float(log_evidence)) < 1e-12
    assert float(torch.tensor(torch.finfo(dtype).tiny, dtype=dtype) / 2) > 0


def test_labels_that_nothing_has_cost_no_second_pass(monkeypatch) -> None:
    """One bit adds up to 0 or 1, never to 2."""
    c = make_tables(from_steps(1, 2, lambda i, s, v: v, lambda s: s, 3), prediction=True)
    monkeypatch.setattr(wide, "run_prediction", lambda *arguments: pytest.fail("computed again"))
    log_p, _ = launch.predict(torch.zeros(1, 1, 2), list(c.tables), c.tape_rows, False)
    assert log_p[0, 2] == NEG_INF
    torch.testing.assert_close(log_p[0, :2].exp(), torch.tensor([0.5, 0.5]))


def test_impossible_rows_are_decided_exactly() -> None:
    graph = permutation_graph(4, 4)
    logits, rows = draw(graph, 40)
    rows[:] = 2
    logits[3, :2, 1:] = NEG_INF  # the first two symbols are the same
    logits[5] = gap(1e4, graph)[0]  # so are all, unless it costs 20000 nats or more
    status = assert_right(logits, rows, make_tables(graph))
    assert status.nonzero().tolist() == [[3]]
    assert status[3] == IMPOSSIBLE


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda logits, rows: logits[7, 2].fill_(float("nan")), INVALID_LOGITS),
        (lambda logits, rows: logits[7, 2, 0].fill_(float("nan")), INVALID_LOGITS),
        (lambda logits, rows: logits[7, 2, 1].fill_(float("nan")), INVALID_LOGITS),
        (lambda logits, rows: logits[7, 2, 1].fill_(float("inf")), INVALID_LOGITS),
        (lambda logits, rows: logits[7, 2, 0].fill_(float("inf")), INVALID_LOGITS),
        (lambda logits, rows: logits[7, 2].fill_(NEG_INF), INVALID_LOGITS),
        (lambda logits, rows: rows[7].fill_(-1), INVALID_LABEL),
    ],
)
@pytest.mark.parametrize("name", ["parity", "permutation"])
def test_invalid_rows_leave_their_neighbours_alone(name, spoil: Callable[[Tensor, Tensor], Tensor], code) -> None:
    graph = GRAPHS[name]
    c = make_tables(graph)
    logits, rows = draw(graph, 40)
    before = everything(logits, rows, graph)
    spoil(logits, rows)
    after = everything(logits, rows, graph)
    for index in (2, 5, 8, 10):
        assert after[index].nonzero().tolist() == [[7]]
        assert after[index][7] == code
    assert_right(logits, rows, c)
    assert torch.equal(after[6], reference.map_assignment(logits, rows, c.tables)[0])
    others = torch.arange(40) != 7
    for old, new in zip(before, after, strict=True):
        assert torch.equal(of_batch(old)[others], of_batch(new)[others])


def everything(logits: Tensor, rows: Tensor, graph: Graph, wide: bool = False, first_row: int = 11) -> list[Tensor]:
    c, labels = make_tables(graph), make_tables(graph, prediction=True)
    return [
        *posterior(logits, rows, c, wide),
        *launch.em_gradient(logits, rows, list(c.tables), c.tape_rows, wide, 0.3),
        *launch.map_assignment(logits, rows, list(c.tables)),
        *launch.sample(logits, rows, list(c.tables), 2, 5, first_row),
        *launch.predict(logits, list(labels.tables), labels.tape_rows, wide),
    ]


def of_batch(result: Tensor) -> Tensor:
    """Samples int64 [n_samples, batch, n] with the batch first."""
    return result.transpose(0, 1) if result.dim() == 3 and result.dtype == torch.int64 else result


@pytest.mark.parametrize("name", ["parity", "random"])
@pytest.mark.parametrize("wide", [False, True])
def test_threads_and_batches_change_no_bit(monkeypatch, name: str, wide: bool) -> None:
    graph = GRAPHS[name]
    logits, rows = draw(graph, 100, 20.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = everything(logits, rows, graph, wide)
    monkeypatch.setattr(parallel, "SMALLEST_RANGE", 1)
    torch.set_num_threads(3)
    assert all(map(torch.equal, alone, everything(logits, rows, graph, wide)))
    torch.set_num_threads(before)
    for row in (0, 37, 99):
        single = everything(logits[row : row + 1].clone(), rows[row : row + 1].clone(), graph, wide, 11 + row)
        for one, many in zip(single, alone, strict=True):
            assert torch.equal(of_batch(one), of_batch(many)[row : row + 1])


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("sd", [3.0, 1e3])
def test_map_and_samples_are_those_of_the_reference(name: str, sd: float) -> None:
    c = make_tables(GRAPHS[name])
    logits, rows = draw(GRAPHS[name], 20, sd)
    logits[4] = 0.0
    z, log_joint, status = launch.map_assignment(logits, rows, list(c.tables))
    expected, expected_joint, expected_status = reference.map_assignment(logits, rows, c.tables)
    assert torch.equal(status, expected_status)
    assert torch.equal(z, expected)
    torch.testing.assert_close(log_joint, expected_joint)
    drawn, status = launch.sample(logits, rows, list(c.tables), 5, 2**63 - 1, 2**33)
    expected, expected_status = reference.sample(logits, rows, c.tables, 5, 2**63 - 1, 2**33)
    assert torch.equal(status, expected_status)
    # A uniform within rounding of a boundary may fall on its other side.
    assert (drawn != expected).any(-1).sum() <= 1


@pytest.mark.parametrize("name", GRAPHS)
def test_map_in_float32_takes_ties_as_float64_does(name: str) -> None:
    c = make_tables(GRAPHS[name])
    logits, rows = draw(GRAPHS[name], 100, 2.0)
    logits[::2] = logits[::2].round()
    z, log_joint, status = launch.map_assignment(logits, rows, list(c.tables))
    expected, expected_joint, expected_status = launch.map_assignment(logits.double(), rows, list(c.tables))
    assert torch.equal(status, expected_status)
    assert torch.equal(z, expected)
    torch.testing.assert_close(log_joint.double(), expected_joint, rtol=2e-7, atol=0.0)
    some = slice(0, 10)
    right = reference.map_assignment(logits[some].double(), rows[some], c.tables)
    assert torch.equal(expected[some], right[0])
    torch.testing.assert_close(expected_joint[some], right[1], rtol=1e-14, atol=1e-15)


def test_map_in_float32_leaves_what_it_cannot_tell_to_float64() -> None:
    """The two best permutations are as near as float32 logits can be. Alone: neighbours in doubt would help."""
    c, batch = make_tables(permutation_graph(6, 6, labelled=False)), 400
    logits, every = 10.0 * draw(permutation_graph(6, 6), batch, 1.0)[0], torch.tensor(list(permutations(range(6))))
    scores = logits.double()[:, torch.arange(6), every].sum(-1)
    (best, second), (first, other) = (found.T for found in scores.topk(2))
    symbol, each = (every[first] != every[other]).int().argmax(1), torch.arange(batch)
    logits[each, symbol, every[other][each, symbol]] += (best - second).float()
    for row in logits.split(1):
        none = torch.zeros(1, 0, dtype=torch.int32)
        z, _, _ = launch.map_assignment(row, none, list(c.tables))
        assert torch.equal(z, launch.map_assignment(row.double(), none, list(c.tables))[0])


@njit
def logarithms(rows):
    for row in range(len(rows)):
        store(rows, row, logarithm(rows, load(rows, row)))


def test_logarithms_of_lanes() -> None:
    rng, rows = np.random.default_rng(0), scratch(3000, np.float64)
    rows[:1000] = np.exp(rng.uniform(-700.0, 700.0, rows[:1000].shape))
    rows[1000:2000] = rng.uniform(0.5, 2.0, rows[:1000].shape)
    rows[2000:] = 1.0 + 1e-9 * rng.standard_normal(rows[:1000].shape)
    rows.flat[:3] = 1.0, 2.0**-1022, 2.0**1022
    expected = np.log(rows)
    logarithms(rows)
    np.testing.assert_allclose(rows, expected, rtol=6e-16, atol=0.0)


@njit
def short_exponentials(rows):
    for row in range(len(rows)):
        store(rows, row, exp_for_single(load(rows, row)))


def test_short_exponentials_are_good_for_float32() -> None:
    rows = scratch(1000, np.float64)
    rows[:] = -np.random.default_rng(0).uniform(0.0, 700.0, rows.shape)
    rows.flat[:2] = 0.0, -np.inf
    expected = np.exp(rows)
    short_exponentials(rows)
    np.testing.assert_allclose(rows, expected, rtol=2.0**-28, atol=1e-307)


def test_samples_have_the_frequencies_of_the_posterior() -> None:
    example = random_example(4, 3, 3, 2, 3)
    assert example is not None
    logits, rows = example.draw(4, 1.0)
    expected = enumerated(example, logits, rows)
    n_samples = 4000
    z, status = launch.sample(logits, rows, list(example.compiled().tables), n_samples, 1, 0)
    found = torch.nn.functional.one_hot(z, 3).double().mean(0)
    possible = status == POSSIBLE
    deviation = (expected.marginals * (1 - expected.marginals) / n_samples).sqrt()
    assert ((found - expected.marginals).abs() <= 5 * deviation + 1e-9)[possible].all()


@pytest.mark.parametrize("name", GRAPHS)
def test_no_row_is_read_before_it_is_written(monkeypatch, name: str) -> None:
    """Scratch full of NaN gives the same bits."""
    graph = GRAPHS[name]
    logits, rows = draw(graph, 33, 300.0)
    before = everything(logits, rows, graph)

    def filled(n_rows: int, dtype: type[np.floating], batch: int) -> np.ndarray:
        columns = lanes.FLOAT32_LANES if dtype is np.float32 else lanes.FLOAT64_LANES
        return np.full((n_rows, columns), np.nan, dtype)

    monkeypatch.setattr(linear, "table", filled)
    assert all(map(torch.equal, before, everything(logits, rows, graph)))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_order_inside_a_level_changes_no_bit(name: str) -> None:
    graph = GRAPHS[name]
    c = make_tables(graph)
    logits, rows = draw(graph, 33, 30.0)
    shuffled = c._replace(tables=shuffle_runs(c))
    assert all(map(torch.equal, posterior(logits, rows, c), posterior(logits, rows, shuffled)))


def shuffle_runs(c: Compiled):
    """The instructions of every run in another order."""
    t, rng = c.tables, np.random.default_rng(0)
    out, left, right = t.out.clone(), t.tape_left.clone(), t.tape_right.clone()
    for first, count, term, size in t.runs.tolist():
        order = torch.from_numpy(rng.permutation(count))
        out[first : first + count] = t.out[first : first + count][order]
        terms = (term + order[:, None] * size + torch.arange(size)).flatten()
        left[term : term + count * size], right[term : term + count * size] = t.tape_left[terms], t.tape_right[terms]
    return t._replace(given=t.given.clone(), out=out, tape_left=left, tape_right=right)


def test_programs_are_made_once() -> None:
    c = make_tables(GRAPHS["parity"])
    assert program.tape(list(c.tables), c.tape_rows) is program.tape(list(c.tables), c.tape_rows)
    assert program.nodes(list(c.tables)) is program.nodes(list(c.tables))
    assert program.nodes(list(c.tables)) is not program.tape(list(c.tables), c.tape_rows)


def test_large_tables_are_left_to_one_thread(monkeypatch) -> None:
    c = make_tables(GRAPHS["permutation"])
    logits, rows = draw(GRAPHS["permutation"], 5000)
    costs = []
    for_rows = parallel.for_rows
    monkeypatch.setattr(row_driver, "for_rows", lambda *call: costs.append(call[3]) or for_rows(*call))
    posterior(logits, rows, c)
    monkeypatch.setattr(launch, "MOST_BYTES", 1 << 10)
    posterior(logits, rows, c)
    assert costs[0] > 0.0
    assert costs[1] == 0.0


@njit
def there_and_back(matrix, columns, work, target):
    last = len(matrix) - 1
    read_columns(matrix, 3, last, 2, columns, work, 1)
    write_columns(target, 3, last, 2, columns, work, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lane_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 7, 8, 9, 16, 37])
@pytest.mark.parametrize("rows", [18, 32])
def test_columns_of_any_float_type_become_lanes(dtype, lane_dtype, columns: int, rows: int) -> None:
    if dtype is np.float64 and lane_dtype is np.float32:
        return
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3 + rows, 40)).astype(dtype)
    work = scratch(64, lane_dtype)
    size = work.shape[1]
    target = np.zeros_like(matrix)
    there_and_back(matrix, columns, work, target)
    wanted = matrix[np.minimum(3 + np.arange(size), 2 + rows), 2 : 2 + columns]
    np.testing.assert_array_equal(work[1 : 1 + columns], wanted.T)
    written = min(size, rows)
    np.testing.assert_array_equal(target[3 : 3 + written, 2 : 2 + columns], wanted[:written])
    assert (target[:3] == 0).all()
    assert (target[:, :2] == 0).all()
    assert (target[:, 2 + columns :] == 0).all()
