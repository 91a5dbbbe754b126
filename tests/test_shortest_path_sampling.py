"""Weighted samples of maps on every back end: enumeration of small maps, brute force, then properties."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.inference.importance import thresholds
from emnesy_gpu.kernels.cpu.grid_paths import launch as cpu
from emnesy_gpu.ops import grid_paths as ops
from emnesy_gpu.reference import grid_paths as reference
from tests.maps import EARTH, FOREST, GRASS, ROCK, WATER, random_maps, soft_logits


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
    "fraction": (em.ABC(samples=20000, weighting="fraction", sharpness=3.0, seed=2), "fraction", 3.0, "cells"),
    "rejection": (em.Rejection(samples=20000, seed=3), "exact", 1.0, "cells"),
    "cost": (em.ABC(samples=20000, sharpness=0.5, seed=4), "exponential", 0.5, "cost"),
    "cost fraction": (em.ABC(samples=20000, weighting="fraction", seed=5), "fraction", 1.0, "cost"),
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
    "fraction": em.ABC(samples=40, weighting="fraction", sharpness=2.0),
    "rejection": em.Rejection(samples=40, seed=5),
    "changes": em.ABC(samples=10, sharpness=0.5, seed=6, rao_blackwell=True),
}


@pytest.mark.parametrize("name", ENGINES)
def test_posteriors_equal_the_reference(backend, name: str) -> None:
    if backend.name == "interpreter" and name == "changes":
        pytest.skip("they take long: tests/kernel_registry has them for the simulator")
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
    monkeypatch.setattr(ops, "SCORES_AT_A_TIME", 20)
    monkeypatch.setattr(ops, "COUNTS_AT_A_TIME", 70)
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
            torch.testing.assert_close(post.marginals, torch.softmax(logits, -1), rtol=1e-6, atol=1e-7)
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
    changes = em.ABC(samples=4, rao_blackwell=True)
    for engine in (None, em.ABC(target_ess=4), changes):
        post = backend.run(em.posterior, problem, logits, label, engine)
        assert post.marginals.shape == logits.shape
        assert post.log_evidence.shape == post.possible.shape == (0,)


def test_extreme_logits() -> None:
    problem = em.ShortestPath(4)
    z = random_maps(problem, 2, seed=25)
    for gain in (1e2, 1e4):
        post = em.posterior(problem, soft_logits(z, 5, gain), problem.label(z), em.ABC(samples=32))
        torch.testing.assert_close(post.marginals, torch.nn.functional.one_hot(z, 5).float())


def test_the_default_engine_weighs_by_the_cells_that_differ() -> None:
    problem = em.ShortestPath(3)
    z = random_maps(problem, 1, seed=28)
    logits, label = soft_logits(z, 5), problem.label(z)
    default = em.posterior(problem, logits, label)
    expected = em.posterior(problem, logits, label, em.ABC(weighting="exponential", sharpness=1.0))
    assert torch.equal(default.marginals, expected.marginals)


def test_ends_in_the_label_are_those_of_the_samples(backend) -> None:
    problem = em.ShortestPath(4)
    z = random_maps(problem, 3, seed=38)
    label = problem.label(z, torch.tensor([[0, 3], [3, 0], [2, 2]]), torch.tensor([[3, 1], [0, 0], [2, 2]]))
    logits = torch.where(torch.nn.functional.one_hot(z, 5) == 1, 0.0, float("-inf"))
    post = backend.run(em.posterior, problem, logits, label, em.Rejection(samples=2))
    assert post.info["acceptance"].tolist() == [1.0, 1.0, 1.0]
    post = backend.run(em.posterior, problem, logits, label & 1, em.Rejection(samples=2))
    assert post.info["acceptance"].tolist() == [0.0, 0.0, 0.0]
