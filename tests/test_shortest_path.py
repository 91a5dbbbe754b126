"""Shortest paths on every back end: other implementations, enumeration of small maps, brute force, then properties."""

from __future__ import annotations

from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from emnesy_gpu.kernels.cpu import grid_paths as cpu
from hypothesis import HealthCheck, given, settings
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.importance import thresholds
from emnesy_gpu.ops import grid_paths as ops
from emnesy_gpu.reference import grid_paths as reference

GRASS, EARTH, FOREST, WATER, ROCK = range(5)
TABLES = {
    "terrain": (0.8, 1.2, 5.3, 7.7, 9.2),
    "many ties": (0.1, 0.2),
    "cells for nothing": (0.0, 0.0, 0.1, 2.0),
    "large": (0.1, 3000.0),
}


def random_maps(problem: em.ShortestPath, batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, problem.cardinality, (batch, *problem.latent_shape), generator=generator)


def soft_logits(z: Tensor, cardinality: int, gain: float = 2.0, seed: int = 0) -> Tensor:
    noise = torch.randn(*z.shape, cardinality, generator=torch.Generator().manual_seed(seed))
    return noise + gain * torch.nn.functional.one_hot(z, cardinality)


def some_cells(problem: em.ShortestPath, batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(0, side, (batch,), generator=generator) for side in problem.latent_shape], -1)


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


def test_pieces_of_a_label_are_labels(backend) -> None:
    """A window with a piece of a path in it, and the piece's ends as start and goal."""
    problem, window = em.ShortestPath(9), em.ShortestPath(5)
    z = random_maps(problem, 1, seed=5)
    (label,) = problem.label(z)
    cells = [cell for cell in label.nonzero().tolist() if max(cell) < 5]
    last = max(cells, key=lambda cell: int(problem.label(z, (0, 0), tuple(cell)).bool().sum()))
    piece = problem.label(z, (0, 0), tuple(last))[0]
    inside = window.with_ends((piece & 1)[:5, :5].contiguous(), (0, 0), tuple(last))
    assert int(window.path_cost(inside, z[0, :5, :5])) == int(problem.path_cost(piece, z[0]))
    logits = soft_logits(z[:, :5, :5], 5)
    post = backend.run(em.posterior, window, logits, inside[None], em.ABC(samples=8))
    assert post.possible.all()


def enumerated(
    problem: em.ShortestPath, logits: Tensor, label: Tensor, kernel: str, sharpness: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals, log of the mean weight, and for one sample the variance of marginals estimated by weighted samples."""
    n, k = problem.height * problem.width, problem.cardinality
    index = torch.arange(k**n)
    z = torch.stack([index // k ** (n - 1 - i) % k for i in range(n)], -1)
    with em.backend("cpu"):
        path = problem.label(z.view(-1, *problem.latent_shape))
    mask = label & 1
    both, either = (path & mask).flatten(1).sum(1), (path | mask).flatten(1).sum(1)
    if problem.score == "cost":
        maps = z.view(-1, *problem.latent_shape)
        best, own = problem.path_cost(path, maps), problem.path_cost(mask.expand_as(path), maps)
        weight = torch.exp(-sharpness * (own - best).clamp_min(0) / 10) if kernel == "exponential" else best / own
    elif kernel == "exact":
        weight = (both == either).double()
    else:
        weight = torch.exp(-sharpness * (either - both)) if kernel == "exponential" else (both / either) ** sharpness
    log_prior = torch.log_softmax(logits.double().view(n, k), -1)
    prior = sum(log_prior[i, z[:, i]] for i in range(n)).exp()
    joint, square = prior * weight, prior * weight**2
    evidence = joint.sum()
    marginals, variance = torch.zeros(n, k, dtype=torch.float64), torch.zeros(n, k, dtype=torch.float64)
    for i, v in product(range(n), range(k)):
        holds = z[:, i] == v
        marginals[i, v] = joint[holds].sum() / evidence
        # Of the ratio of two means (delta method).
        deviation = torch.where(holds, 1 - marginals[i, v], marginals[i, v]) ** 2
        variance[i, v] = (square * deviation).sum() / evidence**2
    return marginals.view(logits.shape), evidence.log(), variance.view(logits.shape)


SAMPLERS = {
    "exponential": (em.ABC(samples=20000, sharpness=0.7, seed=1), "exponential", 0.7, "cells"),
    "fraction": (em.ABC(samples=20000, kernel="fraction", sharpness=3.0, seed=2), "fraction", 3.0, "cells"),
    "rejection": (em.Rejection(samples=20000, seed=3), "exact", 1.0, "cells"),
    "cost": (em.ABC(samples=20000, sharpness=0.5, seed=4), "exponential", 0.5, "cost"),
    "cost fraction": (em.ABC(samples=20000, kernel="fraction", seed=5), "fraction", 1.0, "cost"),
    "changes": (em.ABC(samples=20000, sharpness=0.7, seed=6, rao_blackwell=True), "exponential", 0.7, "cells"),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("shape", [(2, 3), pytest.param((3, 3), marks=pytest.mark.slow)])
def test_samples_agree_with_enumeration(sampler: str, shape: tuple[int, int]) -> None:
    """Within five standard errors of 20,000 samples; those of samples that vote for every change are smaller."""
    engine, kernel, sharpness, score = SAMPLERS[sampler]
    problem = em.ShortestPath(*shape, score=score)
    z = random_maps(problem, 1, seed=6)
    logits, label = soft_logits(z, 5, gain=1.0, seed=7), problem.label(z)
    marginals, log_evidence, variance = enumerated(problem, logits[0], label[0], kernel, sharpness)
    post = em.posterior(problem, logits, label, engine)
    error = (variance / engine.samples).sqrt()
    # Fractions of cells and costs are rounded to 1 / 16384.
    assert ((post.marginals[0] - marginals).abs() <= 5 * error + 2e-4).all()
    assert post.log_evidence.item() == pytest.approx(log_evidence.item(), abs=0.1)


def test_three_by_three_maps_of_five_classes_by_enumeration() -> None:
    """All 5^9 maps, with the default engine's kernel."""
    problem = em.ShortestPath(3)
    z = torch.tensor([[[GRASS, ROCK, WATER], [EARTH, FOREST, GRASS], [GRASS, EARTH, GRASS]]])
    logits, label = soft_logits(z, 5, gain=1.5, seed=8), problem.label(z)
    marginals, log_evidence, variance = enumerated(problem, logits[0], label[0], "exponential", 1.0)
    post = em.posterior(problem, logits, label, em.ABC(samples=100_000, seed=9))
    assert ((post.marginals[0] - marginals).abs() <= 5 * (variance / 100_000).sqrt() + 1e-5).all()
    assert post.log_evidence.item() == pytest.approx(log_evidence.item(), abs=0.05)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 6), (6, 6), (2, 5)])
@pytest.mark.parametrize("costs", [(8, 12, 53, 77, 92), (1, 2), (1, 64, 192), (1, 1)])
def test_changes_of_single_cells_equal_brute_force(height: int, width: int, costs: tuple[int, ...]) -> None:
    """Every cell and value of every sampled map, ties included, against Dijkstra on the changed map."""
    generator = torch.Generator().manual_seed(height * width)
    batch, n = 3, height * width
    limits = thresholds(torch.randn(batch, n, len(costs), generator=generator))
    start, goal = torch.randint(0, n, (2, batch), generator=generator, dtype=torch.int32)
    start[0], goal[0] = 0, n - 1
    mask = (torch.rand(batch, height, width, generator=generator) < 0.4).to(torch.uint8)
    weights = torch.rand(batch, 2 * n + 1, generator=generator, dtype=torch.float64)
    arguments = limits, torch.tensor(costs, dtype=torch.int32), mask, start, goal, weights, 6, 1, 2, 3
    # Sums of up to 6 numbers, added in another order.
    torch.testing.assert_close(
        cpu.histogram_of_changes(*arguments), reference.histogram_of_changes(*arguments), atol=1e-13, rtol=0
    )


def test_changes_on_a_large_map_of_ties_equal_measuring_again() -> None:
    """12 x 12, one sample: every changed map measured by itself."""
    problem = em.ShortestPath(12, costs=(0.1, 0.2, 0.4))
    logits = torch.randn(1, 144, 3, generator=torch.Generator().manual_seed(10))
    limits, table = thresholds(logits), torch.tensor([1, 2, 4], dtype=torch.int32)
    corners = torch.zeros(1, dtype=torch.int32), torch.full((1,), 143, dtype=torch.int32)
    label = problem.label(random_maps(problem, 1, seed=11))
    weights = torch.rand(1, 289, generator=torch.Generator().manual_seed(12), dtype=torch.float64)
    found = cpu.histogram_of_changes(limits, table, label, *corners, weights, 1, 0, 0, 0)[0]
    (z,) = torch.ops.emnesy_gpu.abc_sampling_draw(logits, 1, 0, 0, 0)
    changed = z.expand(144, 3, 144).clone()
    changed[torch.arange(144), :, torch.arange(144)] = torch.arange(3)
    paths = problem.label(changed.view(-1, 12, 12)).view(144, 3, 144)
    expected = weights[0, (paths ^ label.view(144)).sum(-1).long()]
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)


ENGINES = {
    "fixed": em.ABC(samples=40, sharpness=0.4, seed=3),
    "target": em.ABC(samples=40, target_ess=6, seed=4),
    "fraction": em.ABC(samples=40, kernel="fraction", sharpness=2.0),
    "rejection": em.Rejection(samples=40, seed=5),
    "changes": em.ABC(samples=10, sharpness=0.5, seed=6, rao_blackwell=True),
}


@pytest.mark.parametrize("name", ENGINES)
def test_posteriors_equal_the_reference(backend, name: str) -> None:
    if backend.name == "interpreter" and name == "changes":
        pytest.skip("they are found on the CPU")
    problem = em.ShortestPath(3, 4)
    z = random_maps(problem, 3, seed=13)
    logits = soft_logits(z, 5, gain=1.0, seed=14)
    label = problem.label(z, torch.tensor([[0, 0], [2, 1], [1, 3]]), torch.tensor([[2, 3], [0, 3], [1, 3]]))
    post = backend.run(em.posterior, problem, logits, label, ENGINES[name])
    with em.backend("reference"):
        expected = em.posterior(problem, logits, label, ENGINES[name])
    # Samples, scores and weights are the same integers; sums over changes are floats.
    torch.testing.assert_close(post.marginals, expected.marginals, atol=1e-6 if name == "changes" else 0, rtol=0)
    assert torch.equal(post.log_evidence, expected.log_evidence)
    assert torch.equal(post.possible, expected.possible)
    for key, value in expected.info.items():
        assert torch.equal(post.info[key], value)


@pytest.mark.parametrize("name", ENGINES)
def test_rows_do_not_depend_on_their_batch(backend, name: str) -> None:
    if backend.name == "interpreter" and name != "target":
        pytest.skip("the same kernels")
    problem = em.ShortestPath(3, 3)
    z = random_maps(problem, 5, seed=15)
    logits, label = soft_logits(z, 5, seed=16), problem.label(z)
    batch = backend.run(em.posterior, problem, logits, label, ENGINES[name])
    for row in (0, 4):
        engine = type(ENGINES[name])(**{**vars(ENGINES[name]), "first_row": row})
        one = backend.run(em.posterior, problem, logits[row : row + 1], label[row : row + 1], engine)
        assert torch.equal(one.marginals[0], batch.marginals[row])
        assert torch.equal(one.log_evidence[0], batch.log_evidence[row])


@pytest.mark.parametrize("name", ENGINES)
def test_results_do_not_depend_on_how_much_is_held_at_a_time(monkeypatch, name: str) -> None:
    problem = em.ShortestPath(4)
    z = random_maps(problem, 5, seed=17)
    logits, label = soft_logits(z, 5, seed=18), problem.label(z)
    whole = em.posterior(problem, logits, label, ENGINES[name])
    monkeypatch.setattr(ops, "CHUNK", 20)
    monkeypatch.setattr(ops, "HISTOGRAM", 70)
    parts = em.posterior(problem, logits, label, ENGINES[name])
    assert torch.equal(parts.marginals, whole.marginals)
    assert torch.equal(parts.log_evidence, whole.log_evidence)
    assert torch.equal(parts.info["acceptance"], whole.info["acceptance"])


def test_the_target_is_met() -> None:
    problem = em.ShortestPath(8)
    z = random_maps(problem, 6, seed=19)
    post = em.posterior(problem, soft_logits(z, 5, gain=4.0), problem.label(z), em.ABC(samples=256, target_ess=8))
    assert (post.info["ess"] >= 8 - 1e-6).all()
    assert (post.info["sharpness"] > 0).all()


def test_changes_have_less_variance_than_samples() -> None:
    problem = em.ShortestPath(4)
    z = random_maps(problem, 1, seed=20)
    logits, label = soft_logits(z, 5, gain=1.0, seed=21), problem.label(z)
    rows = logits.expand(200, -1, -1, -1, -1).flatten(0, 1), label.expand(200, -1, -1)
    plain, changes = (
        em.posterior(problem, *rows, em.ABC(samples=32, sharpness=0.5, rao_blackwell=blackwell)).marginals.var(0)
        for blackwell in (False, True)
    )
    assert changes.mean() < 0.5 * plain.mean()


def test_changes_keep_values_that_no_sample_holds() -> None:
    problem = em.ShortestPath(3)
    logits = torch.zeros(1, 3, 3, 5)
    logits[..., ROCK] = -12.0
    logits[0, 1, 1, GRASS] = float("-inf")
    label = torch.eye(3, dtype=torch.uint8)[None]
    post = em.posterior(problem, logits, label, em.ABC(samples=16, rao_blackwell=True))
    assert (post.marginals[0, 1, 1, 1:] > 0).all()
    assert post.marginals[0, 1, 1, GRASS] == 0
    torch.testing.assert_close(post.marginals.sum(-1), torch.ones(1, 3, 3))


IMPOSSIBLE = {
    "broken": [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]],
    "empty": [[0] * 4] * 4,
    "never the cheapest": [[1, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
@pytest.mark.parametrize("score", ["cells", "cost"])
def test_labels_that_no_map_has(backend, name: str, score: str) -> None:
    if backend.name == "interpreter" and name != "broken":
        pytest.skip("the same kernels")
    problem = em.ShortestPath(4, score=score)
    logits, label = soft_logits(random_maps(problem, 1, 22), 5), torch.tensor([IMPOSSIBLE[name]], dtype=torch.uint8)
    samples = 8 if backend.name in ("reference", "interpreter") else 200
    for engine in (em.ABC(samples=samples), em.ABC(samples=samples, target_ess=4), em.Rejection(samples=samples)):
        post = backend.run(em.posterior, problem, logits, label, engine)
        assert post.marginals.isfinite().all()
        torch.testing.assert_close(post.marginals.sum(-1), torch.ones(1, 4, 4))
        if isinstance(engine, em.Rejection):
            assert not post.possible.any()
            assert torch.equal(post.marginals, torch.softmax(logits, -1))
            assert post.log_evidence[0] == float("-inf")
        else:
            assert post.possible.all()


def test_a_map_known_for_certain(backend) -> None:
    problem = em.ShortestPath(3)
    z = random_maps(problem, 1, seed=23)
    logits = torch.where(torch.nn.functional.one_hot(z, 5) == 1, 0.0, float("-inf"))
    for engine in (em.ABC(samples=8), em.Rejection(samples=8)):
        post = backend.run(em.posterior, problem, logits, problem.label(z), engine)
        assert torch.equal(post.marginals, torch.softmax(logits, -1))
        assert post.log_evidence[0] == 0
        assert post.possible.all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    problem = em.ShortestPath(4)
    z = random_maps(problem, 2, seed=24)
    logits = soft_logits(z, 5).to(dtype)
    for engine in (em.ABC(samples=64), em.ABC(samples=32, rao_blackwell=True)):
        post = em.posterior(problem, logits, problem.label(z), engine)
        expected = em.posterior(problem, logits.double(), problem.label(z), engine)
        double = dtype == torch.float64
        assert post.marginals.dtype == post.log_evidence.dtype == (torch.float64 if double else torch.float32)
        torch.testing.assert_close(post.marginals.double(), expected.marginals, atol=1e-6, rtol=0)


def test_strides_do_not_matter(backend) -> None:
    problem = em.ShortestPath(3)
    z = random_maps(problem, 2, seed=37)
    logits, label = soft_logits(z, 5), problem.label(z)
    post = backend.run(em.posterior, problem, logits, label, em.ABC(samples=8))
    turned = logits.transpose(1, 2).contiguous().transpose(1, 2), label.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(backend.run(em.posterior, problem, *turned, em.ABC(samples=8)).marginals, post.marginals)
    turned_z = z.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(backend.run(problem.label, turned_z), label)


def test_an_empty_batch(backend) -> None:
    problem = em.ShortestPath(3)
    logits, label = torch.zeros(0, 3, 3, 5), torch.zeros(0, 3, 3, dtype=torch.uint8)
    for engine in (None, em.ABC(target_ess=4), em.ABC(samples=4, rao_blackwell=True)):
        post = backend.run(em.posterior, problem, logits, label, engine)
        assert post.marginals.shape == logits.shape
        assert post.log_evidence.shape == post.possible.shape == (0,)


def test_extreme_logits() -> None:
    problem = em.ShortestPath(4)
    z = random_maps(problem, 2, seed=25)
    for gain in (1e2, 1e4):
        post = em.posterior(problem, soft_logits(z, 5, gain), problem.label(z), em.ABC(samples=32))
        torch.testing.assert_close(post.marginals, torch.nn.functional.one_hot(z, 5).float())


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


def test_the_default_engine_weighs_by_the_cells_that_differ() -> None:
    problem = em.ShortestPath(3)
    z = random_maps(problem, 1, seed=28)
    logits, label = soft_logits(z, 5), problem.label(z)
    default = em.posterior(problem, logits, label)
    expected = em.posterior(problem, logits, label, em.ABC(kernel="exponential", sharpness=1.0))
    assert torch.equal(default.marginals, expected.marginals)


P = em.ShortestPath(3, 4)
MAPS, LABEL = torch.zeros(2, 3, 4, dtype=torch.int64), torch.ones(2, 3, 4, dtype=torch.uint8)
MISTAKES = [
    (lambda: em.ShortestPath(1, 4), ValueError, "height must be an integer in 2..40, got 1"),
    (lambda: em.ShortestPath(4, 41), ValueError, "width must be an integer in 2..40, got 41"),
    (lambda: em.ShortestPath(4.0), TypeError, "height must be an integer in 2..40, got 4.0"),
    (lambda: em.ShortestPath(4, score="gap"), ValueError, r"score must be one of \('cells', 'cost'\), got 'gap'"),
    (lambda: em.ShortestPath(4, costs=(0.8, 0.85)), ValueError, r"costs\[1\] must be a multiple of 0.1 .* got 0.85"),
    (lambda: em.ShortestPath(4, costs=(0.8, -1)), ValueError, r"costs\[1\] must be a multiple of 0.1 and at least 0"),
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
        lambda: em.posterior(P, torch.zeros(2, 3, 4, 5), LABEL, em.ABC(kernel="fraction", rao_blackwell=True)),
        em.UnsupportedEngineError,
        'rao_blackwell works for em.ShortestPath with kernel "exponential"',
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


def test_cheapest_paths_of_real_costs(backend) -> None:
    problem = em.ShortestPath(4, 5)
    z = random_maps(problem, 9, seed=29)
    costs = torch.tensor(problem.costs, dtype=torch.float64)[z]
    start, goal = some_cells(problem, 9, seed=30), some_cells(problem, 9, seed=31)
    found = backend.run(problem.cheapest_path, costs, start, goal)
    assert torch.equal(problem.path_cost(found, z), problem.path_cost(problem.label(z, start, goal), z))


def test_blackbox_gradients_are_differences_of_paths() -> None:
    problem = em.ShortestPath(5)
    z = random_maps(problem, 4, seed=32)
    label = problem.label(z, (0, 0), (4, 3))
    costs = (torch.rand(4, 5, 5, generator=torch.Generator().manual_seed(33)) + 0.1).requires_grad_()
    loss = em.blackbox_loss(problem, costs, label, "none", interpolation=0.5)
    (gradient,) = torch.autograd.grad(loss.sum(), costs)
    mask = (label & 1).float()
    before = problem.cheapest_path(costs, goal=(4, 3)).float()
    after = problem.cheapest_path(costs + 0.5 * (1 - 2 * mask), goal=(4, 3)).float()
    assert torch.equal(loss, (before - mask).abs().flatten(1).sum(1))
    torch.testing.assert_close(gradient, (after - before) / 0.5)


@pytest.mark.parametrize("loss", [em.blackbox_loss, em.imle_loss])
def test_costs_learn_from_paths(loss) -> None:
    """Gradient descent on the costs themselves finds ones that have the label's path."""
    problem, generator = em.ShortestPath(6), torch.Generator().manual_seed(34)
    label = problem.label(random_maps(problem, 8, seed=35))
    raw = torch.zeros(8, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.1)
    options = {"samples": 4, "temperature": 0.1, "generator": generator} if loss is em.imle_loss else {}
    for _ in range(60):
        optimizer.zero_grad()
        loss(problem, torch.nn.functional.softplus(raw), label, "sum", **options).backward()
        optimizer.step()
    found = problem.cheapest_path(torch.nn.functional.softplus(raw.detach()))
    assert (found == label).flatten(1).all(1).float().mean() > 0.8


def test_noise_of_a_seed_is_reproducible() -> None:
    problem = em.ShortestPath(4)
    label, costs = problem.label(random_maps(problem, 3, seed=36)), torch.rand(3, 4, 4)
    first, second = (
        em.imle_loss(problem, costs, label, samples=5, generator=torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(first, second)
    with pytest.raises(TypeError, match="problem must be a ShortestPath"):
        em.imle_loss(em.Sudoku(4), costs, label)
