"""``em.Circuit`` against brute force, automata, counting identities and problems that are known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.circuits import program as program_module
from tests.backends import Backend
from tests.rule_checks import check_gradient, check_label, check_posterior
from tests.rules import RULES, Rule, assert_close

CIRCUITS = [
    replace(rule, problem=em.Circuit.from_automaton(rule.problem)) for rule in RULES if rule.name != "noisy labels"
]


def sudoku_4() -> em.Circuit:
    """Boards of four values; the state holds the values of the row, the columns and the boxes that are not done."""
    groups = [
        {i for i in range(16) if place(i // 4, i % 4) == g}
        for place in (lambda r, c: r, lambda r, c: c, lambda r, c: r // 2 * 2 + c // 2)
        for g in range(4)
    ]

    def step(used: Any, value: int, cell: int) -> Any:
        if used is False:
            return False
        after = list(used)
        for number, group in enumerate(groups):
            if cell in group:
                if used[number] >> value & 1:
                    return False
                after[number] = 0 if cell == max(group) else used[number] | 1 << value
        return tuple(after)

    return em.Circuit.from_program(
        step, 16, 4, lambda used: int(used is not False), start=(0,) * 12, latent_shape=(4, 4)
    )


@pytest.mark.parametrize("rule", CIRCUITS, ids=str)
def test_label_is_the_meaning(rule: Rule) -> None:
    check_label(rule)


@pytest.mark.parametrize("rule", CIRCUITS, ids=str)
def test_posterior_is_that_of_brute_force(backend: Backend, rule: Rule) -> None:
    check_posterior(backend, rule)


@pytest.mark.parametrize("rule", CIRCUITS, ids=str)
def test_map_and_samples_have_the_label(backend: Backend, rule: Rule) -> None:
    logits, label = rule.draw(seed=1)
    log_joint, likelihood = rule.log_joint(logits, label), rule.likelihood(label)
    post = backend.run(em.posterior, rule.problem, logits, label, em.MAP())
    assert_close(post.log_evidence, log_joint.amax(1))
    best = index_of(post.info["assignment"], rule)
    assert_close(log_joint.gather(1, best[:, None])[:, 0], log_joint.amax(1))
    for sample in backend.run(em.sample_posterior, rule.problem, logits, label, 4, seed=3):
        assert (likelihood.gather(1, index_of(sample, rule)[:, None]) > 0).all()


def index_of(z: Tensor, rule: Rule) -> Tensor:
    return (z.flatten(1)[:, None] == rule.assignments).all(-1).long().argmax(1)


@pytest.mark.parametrize("rule", CIRCUITS[::4], ids=str)
def test_gradient_is_that_of_the_evidence(backend: Backend, rule: Rule) -> None:
    check_gradient(backend, rule)


@pytest.mark.parametrize("rule", CIRCUITS, ids=str)
def test_predictions_are_the_evidence_of_every_label(rule: Rule) -> None:
    logits, _ = rule.draw()
    predicted = rule.problem.predict(logits)
    entries = [predicted[:, m] for m in range(predicted.shape[1])] if rule.problem.label_shape else [predicted]
    for m, entry in enumerate(entries):
        names = rule.problem.labels[m] if rule.problem.label_shape else rule.problem.labels
        for code, name in enumerate(names):
            label = torch.full((len(logits), *rule.problem.label_shape), -1)
            label[..., m if rule.problem.label_shape else ...] = code
            expected = -torch.inf if name is None else em.posterior(rule.problem, logits, label).log_evidence
            assert_close(entry[:, code], torch.as_tensor(expected).expand(len(logits)))


@pytest.mark.parametrize(
    ("circuit", "label", "count"),
    [
        pytest.param(lambda: permutations(7), True, math.factorial(7), id="permutations"),
        pytest.param(lambda: em.Circuit.from_automaton(em.rules.parity(30)), 1, 2**29, id="parity"),
        pytest.param(lambda: em.Circuit.from_automaton(em.rules.count(40, 2, [1])), 17, math.comb(40, 17), id="count"),
        pytest.param(sudoku_4, 1, 288, id="sudoku"),
        pytest.param(sudoku_4, 0, 4**16 - 288, id="not a sudoku"),
        pytest.param(lambda: em.SimplePaths(4, 4), 1, 184, id="paths 4"),
        pytest.param(lambda: em.SimplePaths(7, 7), 1, 575780564, id="paths 7"),
        pytest.param(lambda: em.SimplePaths(9, 9), 1, 3266598486981642, id="paths 9"),
    ],
)
def test_uniform_symbols_count_assignments(circuit: Any, label: Any, count: int) -> None:
    problem = circuit()
    assert problem.model_count(label) == count
    logits = torch.zeros(1, *problem.latent_shape, problem.cardinality, dtype=torch.float64)
    log_evidence = em.posterior(problem, logits, problem.encode([label])).log_evidence.item()
    n = math.prod(problem.latent_shape)
    assert log_evidence == pytest.approx(math.log(count) - n * math.log(problem.cardinality), abs=1e-9)


def permutations(n: int) -> em.Circuit:
    def step(used: Any, value: Any, position: int) -> Any:
        return np.where(used >> value & 1, -1, used | 1 << value)

    return em.Circuit.from_program(step, n, n, arrays=True)


@pytest.mark.parametrize("unit", [1, 10**12])
def test_states_of_any_size_give_the_same_circuit(unit: int) -> None:
    def at_most(total: Any, value: Any, position: int) -> Any:
        return np.where(total + unit * value > 7 * unit, -1, total + unit * value)

    circuit = em.Circuit.from_program(at_most, 4, 4, finish=lambda total: total // unit, arrays=True)
    sums = [sum(z) for z in itertools.product(range(4), repeat=4)]
    assert [circuit.model_count(total) for total in range(8)] == [sums.count(total) for total in range(8)]
    assert (
        circuit.n_edges
        == em.Circuit.from_program(lambda s, v, i: s + v if s + v <= 7 else None, 4, 4, finish=lambda s: s).n_edges
    )


@pytest.mark.parametrize("n", [1, 2, 4])
def test_sums_whose_digits_are_read_in_between_are_addition(backend: Backend, n: int) -> None:
    """The program reads the two digits of a place and then that of the sum, the least significant place first."""

    def step(state: int, value: int, position: int) -> int | None:
        if position == 3 * n:
            return 0 if value == state else None
        if position % 3 < 2:
            return state + value
        return state // 10 if state % 10 == value else None

    given = [*range(2, 3 * n, 3), 3 * n]
    order = [j * n + i for i in reversed(range(n)) for j in range(2)]  # the addends, most significant digit first
    circuit = em.Circuit.from_program(step, 3 * n + 1, 10, lambda state: True, given=given, order=order)
    addition = em.Addition(n_digits=n)
    generator = torch.Generator().manual_seed(n)
    logits = 2.0 * torch.randn(9, 2, n, 10, generator=generator)
    label = addition.label(torch.randint(0, 10, (9, 2, n), generator=generator))
    expected = em.posterior(addition, logits, label)
    found = backend.run(em.posterior, circuit, logits.flatten(1, 2), label.flip(1))
    assert_close(found.marginals, expected.marginals.flatten(1, 2))
    assert_close(found.log_evidence, expected.log_evidence)


@pytest.mark.parametrize("most_pairs", [1 << 22, 0])
@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=100)
def test_values_that_a_label_gives_are_a_function_of_the_symbols(most_pairs: int, random: Random) -> None:
    """Others would count an assignment once for each of its labels, where an entry is not given."""
    n, k, n_states = random.randint(2, 4), random.randint(1, 3), random.randint(1, 3)
    after = {
        key: random.choice([None, *range(n_states)]) for key in itertools.product(range(n), range(n_states), range(k))
    }
    known = sorted(random.sample(range(n), random.randint(1, n - 1)))
    labels: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for z in itertools.product(range(k), repeat=n):
        state: int | None = 0
        for position, value in enumerate(z):
            state = None if state is None else after[position, state, value]
        if state is not None:
            hidden = tuple(z[i] for i in range(n) if i not in known)
            labels.setdefault(hidden, []).append(tuple(z[i] for i in known))
    assume(labels)

    def make() -> em.Circuit:
        return em.Circuit.from_program(lambda s, v, i: after[i, s, v], n, k, given=known)

    with patch.object(program_module, "MOST_PAIRS", most_pairs):
        if max(map(len, labels.values())) > 1:
            with pytest.raises(ValueError, match=r"must be a function of the symbols|not deterministic"):
                make()
        else:
            assert make().label(torch.tensor(list(labels))).tolist() == [list(found[0]) for found in labels.values()]


def test_label_0_of_a_sudoku_is_right_for_a_certain_net() -> None:
    """1 - p(valid) would be 0 in float32; the part of label 0 is not."""
    board = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])
    problem = sudoku_4()
    for gap in (30.0, 100.0, 1e4):
        logits = gap * torch.nn.functional.one_hot(board, 4).float()[None]
        post = em.posterior(problem, logits, torch.tensor([0]))
        exact = math.log(16 * 3) - gap  # one cell is wrong, each of 16 by each of 3 values
        assert post.possible.all()
        assert post.log_evidence.item() == pytest.approx(exact, rel=1e-6, abs=1e-5)
        assert_close(post.marginals[0, 0, 0], torch.tensor([15 / 16, 1 / 48, 1 / 48, 1 / 48]))


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[np.ndarray], list[int], np.ndarray]:
    n = draw(st.integers(1, 5))
    sizes = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    states = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    tables = [rng.integers(-1 if draw(st.booleans()) else 0, states, (states, size)) for size in sizes]
    return tables, sizes, rng.integers(-1, 3, states)


@given(programs())
@settings(max_examples=60, deadline=None)
def test_random_programs_are_their_automata(program: tuple[list[np.ndarray], list[int], np.ndarray]) -> None:
    tables, sizes, labels = program

    def step(state: Any, value: Any, position: int) -> Any:
        return tables[position][state, value]

    def scalar(state: int, value: int, position: int) -> int | None:
        target = int(tables[position][state, value])
        return None if target < 0 else target

    def label(state: int) -> int | None:
        return None if labels[state] < 0 else int(labels[state])

    arguments = {"step_at": scalar, "label": label, "cardinalities": sizes}
    try:
        automaton = em.Automaton(**arguments)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            em.Circuit.from_program(step, cardinalities=sizes, finish=lambda s: labels[s], arrays=True)
        return
    circuits = [
        em.Circuit.from_program(step, cardinalities=sizes, finish=lambda s: labels[s], arrays=True),
        em.Circuit.from_program(scalar, cardinalities=sizes, finish=label),
        em.Circuit.from_automaton(automaton),
    ]
    codes = torch.tensor([*[code for code, name in enumerate(automaton.labels) if name is not None], -1])
    logits = torch.randn(len(codes), len(sizes), max(sizes), dtype=torch.float64)
    expected = em.posterior(automaton, logits, codes)
    every = torch.tensor(list(itertools.product(range(max(sizes)), repeat=len(sizes))))
    for circuit in circuits:
        found = em.posterior(circuit, logits, codes)
        torch.testing.assert_close(found.marginals, expected.marginals, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=1e-11, atol=1e-12)
        assert torch.equal(circuit.label(every), automaton.label(every))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: program(given=[3]), ValueError, r"given\[0\] must be an integer in 0..1, got 3"),
        (lambda: program(given=[0, 1]), ValueError, "given holds every position: nothing is hidden"),
        (lambda: program(step=lambda s, v, i: s + 0.5 * v), TypeError, "step must return integers, got float64"),
        (lambda: program(step=lambda s, v, i: np.zeros((7, 7), int)), ValueError, r"states of shape \[1, 2\]"),
        (lambda: program(step=lambda s, v, i: s + v + {}), ValueError, "step raised TypeError at position 0"),
        (lambda: program(step=lambda s, v, i: s - 1 + 0 * v), ValueError, "the rule forbids every assignment"),
        (lambda: program(start=-1), TypeError, "start must be an integer >= 0 for a step on arrays, got -1"),
        (lambda: program(max_states=1), ValueError, "step reaches 2 states after position 0, more than max_states=1"),
        (lambda: program(finish=lambda s: s * 0.5), ValueError, "finish must return integers or bools"),
        (lambda: program(n_symbols=None), TypeError, "needs n_symbols, latent_shape or cardinalities"),
        (lambda: program(order=[0, 0]), ValueError, "order must name every symbol 0..1 once"),
        (lambda: noisy(), ValueError, "a circuit cannot have noisy labels: use em.Automaton"),
        (lambda: em.SimplePaths(3, 3, over="faces"), ValueError, "over must be one of edges, cells, got 'faces'"),
        (lambda: em.SimplePaths(3, 30), ValueError, "width must be an integer in 1..19, got 30"),
        (lambda: em.SimplePaths(3, 3, neighbours=8), ValueError, 'neighbours must be 4, or 8 with over="cells", got 8'),
        (lambda: em.SimplePaths(3, 3, source=(2, 2)), ValueError, "source and target must differ"),
        (lambda: em.SimplePaths(3, 3, source=(3, 0)), ValueError, r"source\[0\] must be an integer in 0..2, got 3"),
    ],
)
def test_wrong_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def program(**changes: Any) -> em.Circuit:
    arguments = {"step": lambda s, v, i: s + v, "n_symbols": 2, "cardinality": 2, "finish": lambda s: s, "arrays": True}
    return em.Circuit.from_program(**{**arguments, **changes})


def noisy() -> em.Circuit:
    return em.Circuit.from_automaton(next(rule.problem for rule in RULES if rule.name == "noisy labels"))


def test_the_engine_that_suits_a_rule() -> None:
    def rule(**options: Any) -> em.Problem:
        sizes = {"n_symbols": 8, "cardinality": 6}
        return em.compile_rule(step_at=lambda s, v, i: s + (i + 3) * v, **sizes, **options)

    sums, noisy = rule(label=lambda s: s), rule(label=lambda s: {s: 0.5, s + 1: 0.5})
    assert isinstance(sums, em.Circuit)
    assert isinstance(noisy, em.Automaton)
    assert isinstance(em.compile_rule(lambda s, v: s ^ v, 0, lambda s: s, 50, 2), em.Automaton)
    automaton = em.Automaton(step_at=lambda s, v, i: s + (i + 3) * v, label=lambda s: s, n_symbols=8, cardinality=6)
    logits, label = torch.randn(4, 8, 6), automaton.label(torch.randint(0, 6, (4, 8)))
    assert_close(em.posterior(sums, logits, label).marginals, em.posterior(automaton, logits, label).marginals)


def test_weighted_automata_are_no_circuits() -> None:
    weights = torch.ones(2, 2, 2)
    with pytest.raises(ValueError, match=r"a circuit cannot have weighted edges: use em\.Automaton"):
        em.Circuit.from_automaton(em.Automaton.from_tables(weights, n_symbols=2))


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (2, 3), (3, 3), (3, 4), (4, 3)])
@pytest.mark.parametrize(("over", "neighbours"), [("edges", 4), ("cells", 4), ("cells", 8)])
def test_paths_are_those_of_a_search(shape: tuple[int, int], over: str, neighbours: int) -> None:
    cells = list(itertools.product(range(shape[0]), range(shape[1])))
    for source, target in itertools.islice(itertools.permutations(cells, 2), 0, None, 5):
        found = paths_by_search(shape, source, target, over, neighbours)
        if not found:
            continue
        problem = em.SimplePaths(*shape, source=source, target=target, over=over, neighbours=neighbours)
        assert problem.model_count(1) == len(found)
        z = torch.tensor(sorted(found)).view(-1, *problem.latent_shape)
        assert (problem.label(z) == 1).all()


def paths_by_search(
    shape: tuple[int, int], source: tuple[int, int], target: tuple[int, int], over: str, neighbours: int
) -> set[tuple[int, ...]]:
    """All paths as assignments, by walking."""
    height, width = shape
    edges = em.SimplePaths(height, width).edges
    if neighbours == 8:
        squares = [r * width + c for r in range(height - 1) for c in range(width - 1)]
        edges = [*edges, *((v, v + width + 1) for v in squares), *((v + 1, v + width) for v in squares)]
    start, end = source[0] * width + source[1], target[0] * width + target[1]
    near = {v: [b if a == v else a for a, b in edges if v in (a, b)] for v in range(height * width)}
    found = set()

    def walk(path: list[int]) -> None:
        if path[-1] == end:
            pairs = {frozenset(pair) for pair in itertools.pairwise(path)}
            if over == "edges":
                found.add(tuple(int(frozenset(edge) in pairs) for edge in edges))
            elif sum(a in path and b in path for a, b in edges) == len(pairs):
                found.add(tuple(int(v in path) for v in range(height * width)))
            return
        for after in near[path[-1]]:
            if after not in path:
                walk([*path, after])

    walk([start])
    return found


@pytest.mark.parametrize("engine", [em.ABC(samples=4000, target_ess=100.0), em.Gibbs(sweeps=200), em.Rejection(4000)])
def test_samples_come_close(engine: em.Engine) -> None:
    rule = next(rule for rule in CIRCUITS if rule.name == "at_least")
    logits, label = rule.draw(seed=5)
    post = em.posterior(rule.problem, logits, label, engine)
    assert (post.marginals - rule.marginals(logits, label)[0]).abs().max() < 0.1


def test_an_automaton_of_variable_length_keeps_its_padding() -> None:
    automaton = em.rules.lexicon(["ab", "abc", "cab", "a"], "abc")
    circuit = em.Circuit.from_automaton(automaton)
    logits = automaton.padded(torch.randn(3, 3, 3), torch.tensor([1, 2, 3]))
    label = torch.tensor([1, 1, 1])
    assert_close(em.posterior(circuit, logits, label).marginals, em.posterior(automaton, logits, label).marginals)


def test_posteriors_and_losses_compile_without_a_graph_break() -> None:
    problem = em.Circuit.from_automaton(em.rules.exactly(4, 3, [0, 2], 2))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        post = em.posterior(problem, logits, label)
        return post.marginals, em.fused_em_loss(problem, logits, label), problem.predict(logits)

    logits, label = torch.randn(5, 4, 3, requires_grad=True), torch.tensor([0, 1, -1, 1, 0])
    marginals, loss, predicted = step(logits, label)
    loss.backward()
    expected = em.posterior(problem, logits, label)
    assert_close(marginals, expected.marginals)
    assert_close(loss, -expected.log_evidence.mean())
    assert_close(logits.grad, (torch.softmax(logits, -1) - expected.marginals) / 5)
    assert_close(predicted, problem.predict(logits))


@pytest.mark.parametrize("rule", [rule for rule in CIRCUITS[::3] if "formula" not in rule.name], ids=str)
def test_circuits_in_files_are_the_same(rule: Rule, tmp_path: Any) -> None:
    rule.problem.save(tmp_path / "circuit.npz")
    loaded = em.Circuit.load(tmp_path / "circuit.npz")
    logits, label = rule.draw()
    assert loaded.labels == rule.problem.labels
    found, expected = (em.posterior(problem, logits, label) for problem in (loaded, rule.problem))
    assert torch.equal(found.marginals, expected.marginals)


def test_a_circuit_whose_label_gives_fewer_values_than_symbols_have_is_kept_in_a_file(tmp_path: Any) -> None:
    def step(state: int, value: int, position: int) -> int | None:
        return value if position == 0 else (0 if value == state % 2 else None)

    parity = em.Circuit.from_program(step, cardinalities=[3, 2], given=[1])
    parity.save(tmp_path / "circuit.npz")
    loaded = em.Circuit.load(tmp_path / "circuit.npz")
    assert loaded.labels == parity.labels == ([0, 1],)
    assert loaded.label(torch.tensor([[0], [1], [2]])).tolist() == [[0], [1], [0]]


def test_labels_that_a_file_cannot_hold(tmp_path: Any) -> None:
    fractions = next(rule.problem for rule in CIRCUITS if rule.name == "formula of 3")
    with pytest.raises(TypeError, match="labels in files must be integers, bools, text, None or tuples of these"):
        fractions.save(tmp_path / "circuit.npz")
