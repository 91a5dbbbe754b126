"""The CPU kernels of automata against their reference, and what only they have: lanes, guards, blocks, threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.automata.machine import Layer, Machine, Observation
from emnesy_gpu.automata.tables import make_tables
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cpu.automaton import few_states, few_tables, graph, launch, linear, log_space, wide
from emnesy_gpu.kernels.cpu.automaton.probabilities import plan_of, run
from emnesy_gpu.kernels.cpu.common import parallel
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import automaton as reference

CPU = torch.device("cpu")
NEG_INF = float("-inf")


def sum_modulo(states: int, values: int, n: int) -> list[Tensor]:
    rule = em.Automaton(lambda s, v: (s + v) % states, 0, lambda s: s, n, values, labels=range(states))
    return list(rule.tables(CPU))


def random_machine(states: int, values: int, n: int, kind: str, seed: int = 0) -> list[Tensor]:
    """deterministic: a table; partial: with gaps; weighted and nondeterministic: random edges; layered: many tables."""
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(n if kind == "layered" else 1):
        if kind in ("deterministic", "partial", "layered"):
            successor = rng.integers(0, states, (states, values))
            if kind == "partial":
                successor[rng.random(successor.shape) < 0.6] = -1
            layers.append(Layer.from_successors(successor, states))
            continue
        edges = np.unique(rng.integers(0, (states, values, states), (3 * states, 3)), axis=0).astype(np.int32)
        weight = rng.uniform(0.01, 3.0, len(edges)) if kind == "weighted" else np.ones(len(edges))
        layers.append(Layer(*np.ascontiguousarray(edges.T), weight, states, states))
    seen = Observation(tuple(range(3)), rng.random((3, states)) * (rng.random((3, states)) < 0.7))
    start = (rng.random(states) < 0.5).astype(float)
    start[0] = 2.0
    layer_of = tuple(range(n)) if kind == "layered" else (0,) * n
    machine = Machine(tuple(layers), layer_of, values, start, {n // 2: seen, n - 1: seen})
    return list(make_tables(machine, [{0: 0, 1: 1, 2: 2}] * 2))


def draw(tables: list[Tensor], batch: int, sd: float = 3.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and rows of the emissions, 0 (not given) among them."""
    t = AutomatonTables(*tables)
    generator = torch.Generator().manual_seed(seed)
    logits = sd * torch.randn(batch, len(t.layer), t.classes.shape[1], generator=generator)
    shape = batch, len(t.emissions)
    return logits, torch.randint(0, t.emissions.shape[1], shape, generator=generator, dtype=torch.int32)


def assert_right(logits: Tensor, rows: Tensor, tables: list[Tensor], tolerance: float = 2e-6) -> Tensor:
    """Posterior and gradient against the reference; returns the status."""
    marginals, log_evidence, status = launch.posterior(logits, rows, tables)
    expected, expected_evidence, expected_status = reference.posterior(logits.double(), rows, tables)
    assert torch.equal(status, expected_status)
    assert marginals.dtype == log_evidence.dtype == torch.promote_types(logits.dtype, torch.float32)
    torch.testing.assert_close(marginals.double(), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_evidence.double(), expected_evidence, rtol=tolerance, atol=30 * tolerance)
    gradient, gradient_evidence, _ = launch.em_gradient(logits, rows, tables, 0.3)
    expected, _, _ = reference.em_gradient(logits.double(), rows, tables, 0.3)
    torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(gradient_evidence, log_evidence)
    assert (gradient[status != POSSIBLE] == 0.0).all()
    return status


@pytest.mark.parametrize("kind", ["deterministic", "partial", "weighted", "nondeterministic", "layered"])
@pytest.mark.parametrize(
    ("states", "values", "n"), [(1, 3, 4), (2, 2, 9), (3, 6, 9), (4, 11, 7), (5, 10, 6), (17, 7, 8), (300, 4, 6)]
)
def test_random_automata_agree_with_the_reference(kind, states, values, n):
    tables = random_machine(states, values, n, kind)
    logits, rows = draw(tables, 33)
    logits[torch.rand(logits.shape, generator=torch.Generator().manual_seed(1)) < 0.1] = NEG_INF
    assert_right(logits, rows, tables)


@pytest.mark.parametrize("batch", [0, 1, 5, 33, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_batch_and_dtype(batch, dtype):
    tables = sum_modulo(7, 10, 12)
    logits, rows = draw(tables, batch)
    logits = logits.to(dtype)
    assert_right(logits, rows, tables, 1e-12 if dtype == torch.float64 else 2e-6) if batch else None
    assert [len(result) for result in launch.posterior(logits, rows, tables)] == [batch] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sd", [30.0, 1e3, 1e4])
def test_logits_of_any_size(sd, dtype):
    for tables in (sum_modulo(16, 10, 20), random_machine(9, 5, 20, "partial"), random_machine(9, 5, 20, "weighted")):
        logits, rows = draw(tables, 33, sd)
        assert_right(logits.to(dtype), rows, tables)


@pytest.mark.parametrize(("states", "n"), [(7, 3000), (64, 700), (256, 300)])
def test_many_positions(states, n):
    tables = sum_modulo(states, 3, n)
    logits, rows = draw(tables, 5)
    assert_right(logits, rows, tables, 5e-6)


@pytest.mark.parametrize("states", [4, 6])
def test_blocks_of_positions_change_nothing(monkeypatch, states):
    tables = sum_modulo(states, 4, 100)
    logits, rows = draw(tables, 40)
    whole = launch.posterior(logits, rows, tables)
    monkeypatch.setattr(linear, "WHOLE_ROWS", 320)
    monkeypatch.setattr(linear, "SCRATCH_ROWS", 320)
    layout = few_states.layout if states <= few_tables.MOST_STATES else linear.layout
    layout.cache_clear()
    anew = sum_modulo(states, 4, 100)
    assert layout_of(anew).block < 100
    in_blocks = launch.posterior(logits, rows, anew)
    layout.cache_clear()
    assert torch.equal(whole[0], in_blocks[0])
    torch.testing.assert_close(whole[1], in_blocks[1], rtol=1e-6, atol=1e-6)


def layout_of(tables: list[Tensor]) -> Any:
    return plan_of(tables, graph.FLOAT32).layout.fields


@pytest.mark.parametrize("kind", ["deterministic", "partial", "layered"])
@pytest.mark.parametrize(("states", "values"), [(1, 4), (2, 2), (2, 7), (3, 3), (4, 4), (4, 9)])
def test_few_states_and_many_have_the_same_posterior(kind, states, values):
    """By the kernel whose messages stay in registers, and by that for any number of states."""
    tables = random_machine(states, values, 70, kind, states)
    g = graph.graph(tables, graph.FLOAT32)
    assert g.few == (2 if states <= 2 else 4)
    logits, rows = draw(tables, 40, 2.0)
    found = [(np.empty(logits.shape, np.float32), np.empty(40, np.float32), np.empty(40, np.uint8)) for _ in range(2)]
    for results, plan in zip(found, (few_states.plan(g), linear.plan(g, True)), strict=True):
        run(logits.numpy(), rows.numpy(), results, plan, 0.5, -0.3)
    (marginals, log_evidence, status), (expected, expected_evidence, expected_status) = found
    computed = status == POSSIBLE
    np.testing.assert_array_equal(status, expected_status)
    assert kind == "partial" or computed.any()
    np.testing.assert_allclose(marginals[computed], expected[computed], rtol=0, atol=1e-6)
    np.testing.assert_allclose(log_evidence[computed], expected_evidence[computed], rtol=1e-6, atol=1e-5)


def test_scratch_grows_like_the_square_root_of_the_positions():
    assert linear.layout(100_000, 10, 10, 64, True).total * 128 < 16 << 20


def test_impossible_labels_are_not_computed(monkeypatch):
    """Eight bits add up to 8 at most, and not to 20 modulo 64."""
    tables = sum_modulo(64, 2, 8)
    logits, rows = draw(tables, 100)
    monkeypatch.setattr(launch, "run", lambda *arguments: pytest.fail("computed"))
    rows[:] = 1 + 20
    marginals, log_evidence, status = launch.posterior(logits, rows, tables)
    assert (status == IMPOSSIBLE).all()
    assert (log_evidence == NEG_INF).all()
    torch.testing.assert_close(marginals, torch.softmax(logits, -1))


def test_hard_zeros_decide_what_is_possible():
    tables = sum_modulo(10, 10, 3)
    logits, rows = draw(tables, 70)
    logits[3, :, 1:] = NEG_INF
    rows[3] = 1 + 5
    status = assert_right(logits, rows, tables)
    assert status.nonzero().tolist() == [[3]]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda logits, rows: logits[7, 2].fill_(float("nan")), INVALID_LOGITS),
        (lambda logits, rows: logits[7, 2, 1].fill_(float("inf")), INVALID_LOGITS),
        (lambda logits, rows: logits[7, 2].fill_(NEG_INF), INVALID_LOGITS),
        (lambda logits, rows: rows[7].fill_(-1), INVALID_LABEL),
    ],
)
def test_invalid_rows_leave_their_neighbours_alone(spoil: Callable[[Tensor, Tensor], Tensor], code):
    tables = sum_modulo(5, 4, 6)
    logits, rows = draw(tables, 40)
    before = everything(logits, rows, tables)
    spoil(logits, rows)
    after = everything(logits, rows, tables)
    assert after[2].nonzero().tolist() == [[7]]
    assert after[2][7] == code
    assert_right(logits, rows, tables)
    others = torch.arange(40) != 7
    for old, new in zip(before, after, strict=True):
        batch_first = (new if len(new) == 40 else new.transpose(0, 1))[others]
        assert torch.equal((old if len(old) == 40 else old.transpose(0, 1))[others], batch_first)


def everything(logits: Tensor, rows: Tensor, tables: list[Tensor], first_row: int = 11) -> tuple[Tensor, ...]:
    return (
        *launch.posterior(logits, rows, tables),
        *launch.em_gradient(logits, rows, tables, 0.3),
        *launch.map_assignment(logits, rows, tables),
        *launch.sample(logits, rows, tables, 2, 5, first_row),
    )


@pytest.mark.parametrize(("states", "kind"), [(9, "deterministic"), (9, "weighted"), (2, "partial"), (4, "layered")])
def test_threads_and_batches_change_no_bit(monkeypatch, states, kind):
    tables = random_machine(states, 6, 11, kind)
    logits, rows = draw(tables, 100, 20.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = everything(logits, rows, tables)
    monkeypatch.setattr(parallel, "SMALLEST_RANGE", 1)
    torch.set_num_threads(3)
    assert all(map(torch.equal, alone, everything(logits, rows, tables)))
    torch.set_num_threads(before)
    for row in (0, 37, 99):
        single = everything(logits[row : row + 1].clone(), rows[row : row + 1].clone(), tables, 11 + row)
        assert all(map(torch.equal, single[:-2], [result[row : row + 1] for result in alone[:-2]]))
        assert torch.equal(single[-2], alone[-2][:, row : row + 1])


@pytest.mark.parametrize("kind", ["deterministic", "partial", "weighted", "nondeterministic", "layered"])
def test_map_and_samples_are_those_of_the_reference(kind):
    tables = random_machine(6, 4, 7, kind)
    logits, rows = draw(tables, 20)
    z, log_joint, status = launch.map_assignment(logits, rows, tables)
    expected, expected_joint, expected_status = reference.map_assignment(logits, rows, tables)
    assert torch.equal(status, expected_status)
    assert torch.equal(z, expected)
    torch.testing.assert_close(log_joint, expected_joint)
    drawn, status = launch.sample(logits, rows, tables, 5, 2**63 - 1, 2**33)
    expected, expected_status = reference.sample(logits, rows, tables, 5, 2**63 - 1, 2**33)
    assert torch.equal(status, expected_status)
    # A uniform within rounding of a boundary may fall on its other side.
    assert (drawn != expected).any(-1).sum() <= 1


def test_ties_go_to_the_smallest_values():
    tables = sum_modulo(4, 4, 5)
    logits, rows = torch.zeros(8, 5, 4), torch.arange(8, dtype=torch.int32)[:, None] % 5
    assert torch.equal(
        launch.map_assignment(logits, rows, tables)[0], reference.map_assignment(logits, rows, tables)[0]
    )


def test_filters_in_blocks_change_no_choice():
    """2000 positions of 40 states are more than a block holds."""
    tables = random_machine(40, 3, 2000, "deterministic")
    assert log_space.block_size.py_func(2000, 40) < 2000
    assert log_space.block_size.py_func(100_000, 256) < 1000
    logits, rows = draw(tables, 2)
    z, log_joint, _ = launch.map_assignment(logits, rows, tables)
    expected, expected_joint, _ = reference.map_assignment(logits, rows, tables)
    assert torch.equal(z, expected)
    torch.testing.assert_close(log_joint, expected_joint)


def test_contradicted_logits_go_to_wider_arithmetic(monkeypatch):
    """The label costs 80 nats, less than float32 is trusted with, or 1000, less than float64 holds."""
    tables = sum_modulo(3, 3, 2)
    for gap, left in ((80.0, [1, 0]), (1000.0, [1, 1])):
        logits = torch.full((1, 2, 3), -gap)
        logits[:, :, 0] = 0.0
        rows = torch.tensor([[1 + 2]], dtype=torch.int32)
        calls = []
        run = launch.run
        monkeypatch.setattr(launch, "run", lambda *a, run=run, calls=calls: calls.append(run(*a)) or calls[-1])
        assert_right(logits, rows, tables)
        monkeypatch.undo()
        assert calls == left * 2


def test_weights_of_any_size_are_kept():
    tables = random_machine(4, 3, 6, "weighted")
    t = AutomatonTables(*tables)
    tables = list(t._replace(layer=t.layer.clone(), emissions=t.emissions * 1e-60))
    logits, rows = draw(tables, 33)
    rows[:] = 1
    assert_right(logits, rows, tables)


def test_wide_rows_agree_with_the_reference():
    tables = random_machine(7, 5, 9, "weighted")
    logits, rows = draw(tables, 20, 300.0)
    values, log_evidence, status = np.empty(logits.shape), np.empty(20), np.empty(20, np.uint8)
    g = graph.graph(tables, graph.LOGARITHMS)
    wide.wide_rows(logits.double().numpy(), rows.numpy(), values, log_evidence, status, g, (0.0, 1.0))
    expected, expected_evidence, expected_status = reference.posterior(logits.double(), rows, tables)
    assert (status == expected_status.numpy()).all()
    good = status == POSSIBLE
    np.testing.assert_allclose(values[good], expected.numpy()[good], rtol=0, atol=1e-11)
    np.testing.assert_allclose(log_evidence[good], expected_evidence.numpy()[good], rtol=1e-13)


def test_rows_without_a_posterior_convert_no_unwritten_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hard zeros make the second label impossible, which float32 cannot tell from a small probability."""
    rule = em.rules.maximum(3, 4)
    logits = torch.zeros(2, 3, 4)
    logits[0, 2, 1:] = -torch.inf
    logits[1, 0, :2] = logits[1, 2, 1] = -torch.inf
    label = torch.tensor([2, 1])
    expected = em.posterior(rule, logits, label)
    assert expected.possible.tolist() == [True, False]
    empty = np.empty

    def filled(shape: Any, dtype: Any = float) -> np.ndarray:
        array = empty(shape, dtype)
        if array.dtype == np.float64:
            array.fill(1e300)
        return array

    monkeypatch.setattr(np, "empty", filled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = em.posterior(rule, logits, label)
    assert found.marginals.equal(expected.marginals)
