"""The published recipe of EXAL on maps: what its examples name, and how its net learns from them."""

from __future__ import annotations

import torch

from profiling import exal_maps


def test_examples_of_independent_classes_name_the_true_ones() -> None:
    """Few maps say least about the class in the middle."""
    found = exal_maps.run("noise", 1000, 0)
    assert [found["taught"][cost] for cost in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert found["perfect_reader"] > 0.4
    assert found["cell_accuracy"] > 0.4
    assert 0.95 < found["examples"] / 300_000 < 1.05


def test_a_step_climbs_the_probabilities_of_its_examples() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels, kept = 1e3 * torch.randn(30, exal_maps.PIXELS, generator=generator), torch.zeros(30, 5, dtype=torch.uint8)
    kept[:, 1] = torch.tensor([3, 0, 2] * 10)  # at most EXAMPLES in all: a single step
    weights = torch.zeros(exal_maps.PIXELS, 5, requires_grad=True)
    probability = ((pixels @ weights).softmax(-1)[:, 1] * kept[:, 1]).sum()
    (gradient,) = torch.autograd.grad(probability, weights)
    others = 1e3 * torch.randn(500, exal_maps.PIXELS, generator=generator)
    expected = (others @ gradient).argmax(-1)
    found = exal_maps.learn(pixels, kept, generator)(others)
    assert (found == expected).double().mean() > 0.99
    assert 0.1 < (found == 1).double().mean() < 0.9


def test_tiles_are_those_of_their_cells() -> None:
    for tiles in exal_maps.COSTS:
        classes, corner = exal_maps.make_maps(tiles, 3, 0, 0, exal_maps.WINDOW)
        _, whole = exal_maps.make_maps(tiles, 3, 0, 0, exal_maps.SIZE)
        assert classes.shape == (3, 12, 12)
        assert len(corner) == 75
        assert len(whole) == 432
        if tiles == "textures":
            cells = whole.view(3, 12, 12, -1)[:, :5, :5].flatten(0, 2)
            torch.testing.assert_close(corner, cells, atol=0, rtol=0)


def test_right_cells_are_cheapest_paths() -> None:
    problem = exal_maps.em.ShortestPath(12, costs=exal_maps.COSTS["textures"])
    classes, _ = exal_maps.make_maps("textures", 20, 0, 1, 12)
    assert set(exal_maps.judge(problem, classes, classes).values()) == {1.0}
    assert exal_maps.judge(problem, classes, torch.zeros_like(classes))["cost_accuracy"] < 0.5
