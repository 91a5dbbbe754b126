"""Shortest paths on every back end: other implementations, the tie rule, labels, operators and errors."""

from __future__ import annotations

from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.ops.grid_paths import grid_paths_shortest_path
from tests.maps import EARTH, GRASS, ROCK, TABLES, random_maps, soft_logits, some_cells


def neighbours(height: int, width: int) -> list[tuple[int, int]]:
    """Pairs of neighbouring cells, both ways."""
    return [
        (r * width + q, other_r * width + other_q)
        for r, q in product(range(height), range(width))
        for other_r in range(max(r - 1, 0), min(r + 2, height))
        for other_q in range(max(q - 1, 0), min(q + 2, width))
        if (other_r, other_q) != (r, q)
    ]


def scipy_distance(costs: np.ndarray, start: int, goal: int) -> float:
    """Cost of the cheapest path over a map of costs on the cells, by the arcs that enter them."""
    sparse = pytest.importorskip("scipy.sparse")
    from scipy.sparse.csgraph import dijkstra

    tails, heads = np.array(neighbours(*costs.shape)).T
    cells = costs.ravel().astype(float)
    # An explicit zero is no arc to scipy.
    arcs = sparse.csr_matrix((cells[heads] + 1e-9, (tails, heads)), shape=(cells.size, cells.size))
    return cells[start] + dijkstra(arcs, indices=start)[goal]


def is_a_path(mask: Tensor, start: tuple[int, int], goal: tuple[int, int]) -> bool:
    """Whether the cells form a chain of neighbours between the ends, without shortcuts."""
    cells = {tuple(cell) for cell in mask.nonzero().tolist()}
    if start not in cells or goal not in cells:
        return False
    ends = 1 if start != goal else 0
    degrees = {c: sum((c[0] + dr, c[1] + dq) in cells for dr, dq in product((-1, 0, 1), repeat=2)) - 1 for c in cells}
    return all(degree == (ends if cell in (start, goal) else 2) for cell, degree in degrees.items())


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(height=st.integers(2, 40), width=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_paths_are_as_cheap_as_those_of_scipy(table: str, height: int, width: int, seed: int) -> None:
    costs = TABLES[table] if height * width < 700 else tuple(min(cost, 60.0) for cost in TABLES[table])
    problem = em.ShortestPath(height, width, costs)
    z = random_maps(problem, 2, seed)
    start, goal = some_cells(problem, 2, seed + 1), some_cells(problem, 2, seed + 2)
    label = problem.label(z, start, goal)
    found = problem.path_cost(label, z)
    for row, (first, last) in enumerate(zip(start.tolist(), goal.tolist(), strict=True)):
        tenths = np.round(10 * np.array(costs))[z[row].numpy()]
        expected = scipy_distance(tenths, first[0] * width + first[1], last[0] * width + last[1])
        assert int(found[row]) == round(expected)
        assert is_a_path(label[row] & 1, tuple(first), tuple(last))


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (6, 5)])
def test_costs_of_31_bits_do_not_wrap_around(batch: int, height: int, width: int) -> None:
    largest = (2**31 - 1) // (height * width)
    expensive = torch.rand(batch, height, width, generator=torch.Generator().manual_seed(0)) < 0.7
    maps = torch.where(expensive, largest, 1).to(torch.int32)
    maps[-1] = largest
    start, goal = torch.zeros(batch, dtype=torch.int32), torch.full((batch,), height * width - 1, dtype=torch.int32)
    with em.backend("reference"):
        expected = grid_paths_shortest_path(maps, start, goal)
    found = grid_paths_shortest_path(maps, start, goal)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_paths_are_as_cheap_as_those_of_networkx() -> None:
    networkx = pytest.importorskip("networkx")
    problem = em.ShortestPath(7, 9)
    z = random_maps(problem, 3, seed=1)
    costs = np.round(10 * np.array(problem.costs)).astype(int)[z.numpy()].reshape(3, -1)
    for row in range(3):
        graph = networkx.DiGraph()
        graph.add_weighted_edges_from((tail, head, int(costs[row, head])) for tail, head in neighbours(7, 9))
        expected = costs[row, 0] + networkx.dijkstra_path_length(graph, 0, 62)
        assert int(problem.path_cost(problem.label(z)[row], z[row])) == expected


@pytest.mark.parametrize("table", TABLES)
def test_paths_equal_the_reference(backend, table: str) -> None:
    problem = em.ShortestPath(5, 4, TABLES[table])
    z = random_maps(problem, 40, seed=2)
    start, goal = some_cells(problem, 40, seed=3), some_cells(problem, 40, seed=4)
    with em.backend("reference"):
        expected = problem.label(z, start, goal)
    assert torch.equal(backend.run(problem.label, z, start, goal), expected)


def test_ties_take_the_first_cell_in_reading_order_seen_from_the_goal(backend) -> None:
    plain = torch.zeros(1, 2, 4, dtype=torch.int64)
    assert backend.run(em.ShortestPath(2, 4).label, plain).tolist() == [[[1, 1, 1, 0], [0, 0, 0, 1]]]
    walls = torch.tensor([[[GRASS, GRASS, GRASS], [GRASS, ROCK, GRASS], [GRASS, GRASS, GRASS]]])
    assert backend.run(em.ShortestPath(3).label, walls).tolist() == [[[1, 1, 0], [0, 0, 1], [0, 0, 1]]]


def test_three_cells_of_grass_cost_as_much_as_two_of_earth() -> None:
    """0.8 + 0.8 + 0.8 = 1.2 + 1.2, which floats do not see."""
    problem = em.ShortestPath(2, 2)
    path = torch.ones(3, 2, 2, dtype=torch.uint8)
    path[:, 1, 1] = torch.tensor([0, 1, 1])
    z = torch.tensor([[GRASS] * 4, [GRASS] * 4, [EARTH] * 4]).view(3, 2, 2)
    assert problem.path_cost(path, z).tolist() == [24, 32, 48]


def test_cells_for_nothing_are_taken_sparingly(backend) -> None:
    problem = em.ShortestPath(3, 3, costs=(0.0, 1.0))
    assert int(backend.run(problem.label, torch.zeros(1, 3, 3).long()).sum()) == 3


@pytest.mark.parametrize("table", ["terrain", "many ties"])
def test_pieces_of_a_label_are_labels(table: str) -> None:
    """From the start to any cell on the path, also in a window that holds no more than that."""
    problem = em.ShortestPath(9, costs=TABLES[table])
    for z in random_maps(problem, 5, seed=5):
        label = problem.label(z)
        for row, column in label.nonzero().tolist():
            piece = problem.label(z, goal=(row, column))
            assert ((piece & 1) <= label).all()
            window = em.ShortestPath(max(row + 1, 2), max(column + 1, 2), TABLES[table])
            part = z[: window.height, : window.width]
            cells = (piece & 1)[: window.height, : window.width]
            if int(cells.sum()) == int((piece & 1).sum()):
                assert torch.equal(window.label(part, goal=(row, column)), window.with_ends(cells, goal=(row, column)))


def test_operators() -> None:
    problem = em.ShortestPath(3)
    z = random_maps(problem, 2, seed=26)
    costs, cells = torch.tensor([8, 12, 53, 77, 92], dtype=torch.int32), torch.tensor([0, 3], dtype=torch.int32)
    operators = torch.ops.emnesy_gpu
    torch.library.opcheck(operators.grid_paths_shortest_path.default, (costs[z], cells, 8 - cells))
    for blackwell in (False, True):
        numbers = 1, "cells", "exponential", 1.0, 4.0, 32, 0, 0, blackwell, True
        arguments = soft_logits(z, 5), problem.label(z).long(), costs, *numbers
        torch.library.opcheck(operators.grid_paths_posterior.default, arguments)


def test_training_steps_compile_without_a_graph_break() -> None:
    problem = em.ShortestPath(3)
    z = random_maps(problem, 2, seed=27)
    logits, label = soft_logits(z, 5).requires_grad_(), problem.label(z)

    def loss_of(logits: Tensor, label: Tensor) -> Tensor:
        return em.em_loss(logits, em.posterior(problem, logits, label, em.ABC(samples=64, target_ess=8)))

    torch._dynamo.reset()
    loss = torch.compile(loss_of, fullgraph=True, backend="aot_eager")(logits, label)
    torch.testing.assert_close(loss, loss_of(logits, label))


P = em.ShortestPath(3, 4)
MAPS, LABEL = torch.zeros(2, 3, 4, dtype=torch.int64), torch.ones(2, 3, 4, dtype=torch.uint8)
MISTAKES = [
    (lambda: em.ShortestPath(1, 4), ValueError, "height must be an integer in 2..40, got 1"),
    (lambda: em.ShortestPath(4, 41), ValueError, "width must be an integer in 2..40, got 41"),
    (lambda: em.ShortestPath(4.0), TypeError, "height must be an integer in 2..40, got 4.0"),
    (lambda: em.ShortestPath(4, score="gap"), ValueError, "score must be one of cells, cost, got 'gap'"),
    (lambda: em.ShortestPath(4, costs=(0.8, 0.85)), ValueError, r"costs\[1\] must be a multiple of 0.1 .* got 0.85"),
    (lambda: em.ShortestPath(4, costs=(0.8, -1)), ValueError, r"costs\[1\] must be a finite number >= 0, got -1"),
    (lambda: em.ShortestPath(4, costs=(0.8, float("nan"))), ValueError, r"costs\[1\] must be .* got nan"),
    (lambda: em.ShortestPath(4, costs=(0.8,)), ValueError, "costs must have 2..32 entries, got 1"),
    (
        lambda: em.ShortestPath(40, costs=(0.1, 1e6)),
        ValueError,
        "costs must be at most 134217.7 on a map of 1600",
    ),
    (lambda: P.label(MAPS + 5), ValueError, "z must hold values in 0..4, got 5..5"),
    (lambda: P.label(MAPS.float()), TypeError, "z must have one of the dtypes"),
    (lambda: P.label(MAPS[:, :2]), ValueError, r"z must have shape \[..., 3, 4\], got \[2, 2, 4\]"),
    (lambda: P.label(MAPS, start=(0, 4)), ValueError, "start must be a cell of a 3 x 4 map"),
    (lambda: P.label(MAPS, goal=(0, 0, 0)), ValueError, r"goal must have shape \[2\] or \[2, 2\], got \[3\]"),
    (lambda: P.with_ends(LABEL * 2), ValueError, "mask must hold values in 0..1, got 2..2"),
    (
        lambda: em.posterior(P, torch.zeros(2, 3, 4, 5), LABEL, em.Exact()),
        em.UnsupportedEngineError,
        r"em.Exact\(\) does not work for ShortestPath\(height=3, width=4\); engines that do: em.ABC\(\)",
    ),
    (
        lambda: em.posterior(P, torch.zeros(2, 3, 4, 5), LABEL, em.ABC(scope="local")),
        ValueError,
        'scope "global" only',
    ),
    (
        lambda: em.posterior(P, torch.zeros(2, 3, 4, 5), LABEL, em.ABC(weighting="fraction", rao_blackwell=True)),
        em.UnsupportedEngineError,
        'rao_blackwell works for em.ShortestPath with weighting "exponential"',
    ),
    (
        lambda: em.posterior(em.Sudoku(4), torch.zeros(1, 4, 4, 4), torch.ones(1).long(), em.ABC(rao_blackwell=True)),
        em.UnsupportedEngineError,
        "rao_blackwell works for em.ShortestPath",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_mistakes_are_named(call, error, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


VALUES = [
    ("nan", r"logits\[1, 2, 3, 1\] must be finite or -inf, got nan"),
    ("inf", r"logits\[1, 2, 3, 1\] must be finite or -inf, got inf"),
    ("empty", r"logits\[1, 2, 3\] must have at least one finite value"),
    ("two starts", r"label\[1\] must be a mask of 0 and 1, with either no ends marked or one start"),
    ("no goal", r"label\[1\] must be a mask of 0 and 1.*got values \[1, 3\]"),
    ("nine", r"label\[1\] must be a mask of 0 and 1.*got values \[1, 9\]"),
]


@pytest.mark.parametrize(("kind", "message"), VALUES)
def test_wrong_values(backend, kind: str, message: str) -> None:
    if backend.name == "interpreter" and kind not in ("nan", "two starts"):
        pytest.skip("the same checks")
    logits, label = torch.zeros(3, 3, 4, 5), torch.ones(3, 3, 4, dtype=torch.uint8)
    if kind in ("nan", "inf"):
        logits[1, 2, 3, 1] = float(kind)
    elif kind == "empty":
        logits[1, 2, 3] = -float("inf")
    else:
        label[1, 0, : 2 if kind == "two starts" else 1] = 9 if kind == "nine" else 3
    engine = em.ABC(samples=4)
    with pytest.raises(ValueError, match=message):
        backend.run(em.posterior, P, logits, label, engine)
    post = backend.run(em.posterior, P, logits, label, engine, check=False)
    expected = backend.run(em.posterior, P, logits[:1], label[:1], engine)
    assert torch.equal(post.marginals[0], expected.marginals[0])
    assert not post.possible[1]
    assert post.possible[2]


@pytest.mark.parametrize("cost", ["nan", "inf"])
def test_costs_that_are_not_finite_are_named(backend, cost: str) -> None:
    problem, costs = em.ShortestPath(4, 5), torch.ones(2, 3, 4, 5, dtype=torch.float64)
    expected = backend.run(problem.cheapest_path, costs)
    costs[1, 2, 3, 0] = float(cost)
    with pytest.raises(ValueError, match=rf"costs\[1, 2, 3, 0\] must be finite, got {cost}"):
        backend.run(problem.cheapest_path, costs)
    assert torch.equal(backend.run(problem.cheapest_path, costs, check=False)[0], expected[0])


def test_costs_are_not_looked_at_by_transforms_and_compiled_graphs() -> None:
    problem, costs = em.ShortestPath(4, 5), torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(2))
    expected = problem.cheapest_path(costs)
    assert torch.equal(torch.func.vmap(problem.cheapest_path)(costs), expected)
    assert torch.equal(torch.compile(problem.cheapest_path, fullgraph=True, backend="eager")(costs), expected)


def test_cheapest_paths_of_real_costs(backend) -> None:
    problem = em.ShortestPath(4, 5)
    z = random_maps(problem, 9, seed=29)
    costs = torch.tensor(problem.costs, dtype=torch.float64)[z]
    start, goal = some_cells(problem, 9, seed=30), some_cells(problem, 9, seed=31)
    found = backend.run(problem.cheapest_path, costs, start, goal)
    assert torch.equal(problem.path_cost(found, z), problem.path_cost(problem.label(z, start, goal), z))
