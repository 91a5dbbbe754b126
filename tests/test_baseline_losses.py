"""The losses of other systems: identities with the exact evidence, and enumeration."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import exal_maps, masked_diffusion
from emnesy_gpu.baselines.imle import NOISES
from tests.maps import random_maps


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def all_assignments(problem: em.Problem) -> Tensor:
    """Every assignment, int64 [assignments, *latent_shape]."""
    values = range(problem.cardinality)
    return torch.tensor(list(itertools.product(values, repeat=math.prod(problem.latent_shape)))).view(
        -1, *problem.latent_shape
    )


def sums(problem: em.Addition, batch: int, seed: int = 1) -> Tensor:
    z = torch.randint(problem.base, (batch, *problem.latent_shape), generator=torch.Generator().manual_seed(seed))
    return problem.label(z)


def assert_same_loss(found: Tensor, expected: Tensor, logits: Tensor) -> None:
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_the_categorical_semantic_loss_is_exact_evidence() -> None:
    problem, logits, label = em.Sudoku(4), random_logits(6, 4, 4, 4), torch.tensor([1, 0, 1, 1, 0, 1])
    found = em.baselines.semantic_loss(problem, logits, label, "none", boolean=False)
    assert_same_loss(found, em.fused_em_loss(problem, logits, label, "none"), logits)


@pytest.mark.parametrize("logic", [False, True])
def test_the_boolean_semantic_loss_sums_over_all_bits(logic: bool) -> None:
    if logic:
        symbols = em.logic.symbols(3, 3)
        problem: em.Problem = em.Circuit(em.logic.all_different(symbols))
    else:
        problem = em.AllDifferent([(0, 1, 2)], n_variables=3, cardinality=3)
    logits = random_logits(2, 3, 3)
    p, total = logits.softmax(-1), 0.0
    for bits in itertools.product((0, 1), repeat=9):
        on = torch.tensor(bits).view(3, 3)
        if bool((on.sum(1) == 1).all() and (on.sum(0) == 1).all()):
            total = total + torch.where(on == 1, p, 1 - p).flatten(1).prod(1)
    assert isinstance(total, Tensor)
    expected = torch.stack([-total[0].log(), -(1 - total[1]).log()])
    found = em.baselines.semantic_loss(problem, logits, torch.tensor([1, 0]), "none")
    assert_same_loss(found, expected, logits)


def test_the_pairwise_loss_is_the_product_over_pairs() -> None:
    problem = em.AllDifferent([(0, 1), (1, 2)], n_variables=3, cardinality=3)
    logits = random_logits(2, 3, 3)
    p = logits.softmax(-1)
    together = math.prod(1 - (p[:, i] * p[:, i + 1]).sum(-1) for i in range(2))
    expected = torch.stack([-together[0].log(), -(1 - together[1]).log()])
    assert_same_loss(em.baselines.pairwise_loss(problem, logits, torch.tensor([1, 0]), "none"), expected, logits)


def test_exal_with_all_explanations_is_exact_evidence() -> None:
    """Explanations of other labels do not count, and copies count once."""
    problem = em.Addition(2, base=3)
    logits, label = random_logits(5, 2, 2, 3), sums(problem, 5)
    every = all_assignments(problem)[:, None].expand(-1, 5, -1, -1)
    found = em.baselines.exal_loss(problem, logits, label, torch.cat([every, every[:40]]), "none")
    assert_same_loss(found, em.fused_em_loss(problem, logits, label, "none"), logits)


def test_exal_with_some_explanations_is_an_upper_bound() -> None:
    problem = em.Addition(3)
    logits, label = random_logits(20, 2, 3, 10), sums(problem, 20)
    draw = em.baselines.AdditionExplanations(problem, generator=torch.Generator().manual_seed(0))
    z = draw(logits, label, samples=50)
    right = (problem.label(z) == label).all(-1)
    assert right.float().mean() > 0.9
    found = em.baselines.exal_loss(problem, logits, label, z, "none")
    assert (found >= em.fused_em_loss(problem, logits, label, "none")).all()


def test_exal_draws_every_explanation_and_counts_values() -> None:
    problem, label = em.Addition(1), torch.tensor([[1, 4]])
    draw = em.baselines.AdditionExplanations(problem, generator=torch.Generator().manual_seed(0))
    z = draw(torch.zeros(1, 2, 1, 10), label, samples=400)
    assert sorted({tuple(pair) for pair in z.flatten(1).tolist()}) == [(5, 9), (6, 8), (7, 7), (8, 6), (9, 5)]
    assert draw.counts.sum() == 400 + 10
    with pytest.raises(ValueError, match="must add two numbers"):
        em.baselines.AdditionExplanations(em.Addition(1, n_addends=3))


def test_rows_without_explanations_have_a_floor_and_no_gradient() -> None:
    problem, logits = em.Addition(1), random_logits(1, 2, 1, 10)
    loss = em.baselines.exal_loss(problem, logits, torch.tensor([[0, 0]]), torch.ones(3, 1, 2, 1, dtype=torch.long))
    assert loss.item() == pytest.approx(-math.log(1e-8))
    assert torch.autograd.grad(loss, logits)[0].eq(0).all()


@pytest.mark.parametrize("n_digits", [1, 2])
def test_all_exclusive_proofs_are_exact_evidence(n_digits: int) -> None:
    problem = em.Addition(n_digits, base=3)
    logits, label = random_logits(6, 2, n_digits, 3), sums(problem, 6)
    found = em.baselines.top_k_proofs_loss(problem, logits, label, "none", 9, exclusive=True)
    assert_same_loss(found, em.fused_em_loss(problem, logits, label, "none"), logits)


def test_all_boards_as_exclusive_proofs_are_exact_evidence() -> None:
    problem, logits = em.Sudoku(4), random_logits(2, 4, 4, 4)
    label = torch.ones(2, dtype=torch.long)
    found = em.baselines.top_k_proofs_loss(problem, logits, label, "none", 288, exclusive=True)
    assert_same_loss(found, em.fused_em_loss(problem, logits, label, "none"), logits)
    with pytest.raises(ValueError, match="label must be 1 on every row"):
        em.baselines.top_k_proofs_loss(problem, logits, 0 * label)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_proofs_of_independent_facts_are_the_best_and_count_by_enumeration(k: int) -> None:
    problem = em.Addition(1, base=3)
    logits, label = random_logits(3, 2, 1, 3), torch.tensor([[0, 2]] * 3)
    p = logits.detach().softmax(-1).squeeze(2)
    pairs = [(0, 2), (1, 1), (2, 0)]
    for row in range(3):
        best = sorted(pairs, key=lambda pair, row=row: -float(p[row, 0, pair[0]] * p[row, 1, pair[1]]))[:k]
        total = 0.0
        for bits in itertools.product((0, 1), repeat=6):
            on = torch.tensor(bits).view(2, 3)
            if any(on[0, a] and on[1, b] for a, b in best):
                total = total + torch.where(on == 1, p[row], 1 - p[row]).prod()
        found = em.baselines.top_k_proofs_loss(problem, logits[row : row + 1], label[:1], k=k)
        torch.testing.assert_close(found, -torch.as_tensor(total).log())


def test_the_best_proof_of_a_long_sum_is_the_most_probable_assignment() -> None:
    problem = em.Addition(100)
    logits, label = random_logits(4, 2, 100, 10), sums(problem, 4)
    found = em.baselines.top_k_proofs_loss(problem, logits, label, "none", 1)
    best = em.posterior(problem, logits, label, em.MAP()).marginals.argmax(-1)
    expected = -logits.log_softmax(-1).gather(-1, best[..., None]).flatten(1).sum(1)
    torch.testing.assert_close(found, expected)


def test_impossible_labels_have_an_infinite_loss_and_no_gradient() -> None:
    logits = random_logits(1, 2, 1, 10)
    loss = em.baselines.top_k_proofs_loss(em.Addition(1), logits, torch.tensor([[1, 9]]))
    assert loss.item() == float("inf")
    assert torch.autograd.grad(loss, logits)[0].eq(0).all()


@pytest.mark.parametrize("loss", [em.baselines.rloo_loss, em.baselines.indecater_loss])
def test_sampled_gradients_are_unbiased(loss) -> None:
    """The mean over 4,000 rows of the share and of its gradient is within five standard errors of p(y | x)."""
    problem = em.Addition(1, base=3)
    beliefs = random_logits(1, 2, 1, 3)
    exact = torch.exp(-em.fused_em_loss(problem, beliefs, torch.tensor([[0, 2]])))
    (expected,) = torch.autograd.grad(exact, beliefs)
    rows = beliefs.detach().expand(4000, -1, -1, -1).clone().requires_grad_()
    generator = torch.Generator().manual_seed(2)
    share = loss(problem, rows, torch.tensor([[0, 2]]).expand(4000, -1), "none", 4, generator).neg().exp()
    (gradients,) = torch.autograd.grad(share.sum(), rows)
    for found, truth in ((gradients, expected[0]), (share.detach(), exact.detach())):
        errors = (found.mean(0) - truth).abs() / (found.std(0) / math.sqrt(4000))
        assert errors.max() < 5


@pytest.mark.parametrize("with_ends", [False, True])
def test_the_sampled_gradient_of_paths_is_unbiased(with_ends: bool) -> None:
    """The same of the expected distance of paths, against all 729 maps."""
    problem, beliefs = em.ShortestPath(3, 2, costs=(1.0, 2.0, 9.0)), random_logits(1, 3, 2, 3)
    z = torch.cartesian_prod(*[torch.arange(3)] * 6).view(729, 3, 2)
    ends = ((0, 1), (2, 0)) if with_ends else (None, None)
    label = problem.label(torch.tensor([[[0, 0], [2, 0], [0, 0]]]), *ends)
    differ = ((problem.label(z, *ends) & 1) != (label & 1)).flatten(1).sum(1).double()
    log_p = beliefs.log_softmax(-1)[0].gather(-1, z.permute(1, 2, 0)).sum((0, 1))
    exact = (log_p.exp() * differ).sum()
    (expected,) = torch.autograd.grad(exact, beliefs)
    rows = beliefs.detach().expand(4000, -1, -1, -1).clone().requires_grad_()
    generator = torch.Generator().manual_seed(2)
    loss = em.baselines.path_rloo_loss(problem, rows, label.expand(4000, -1, -1), "none", 4, generator)
    (gradients,) = torch.autograd.grad(loss.sum(), rows)
    for found, truth in ((gradients, expected[0]), (loss.detach(), exact.detach())):
        errors = (found.mean(0) - truth).abs() / (found.std(0) / math.sqrt(4000))
        assert errors.max() < 5


@pytest.mark.parametrize("with_ends", [False, True])
def test_kept_moves_are_those_of_maps_with_the_label(with_ends: bool) -> None:
    """In its limit the chain has each of these maps alike, and keeps a move if the map after it has the label too."""
    problem = em.ShortestPath(3, 2, costs=(1.0, 2.0, 9.0))
    z = torch.cartesian_prod(*[torch.arange(3)] * 6).view(729, 3, 2)
    ends = ((0, 1), (2, 0)) if with_ends else (None, None)
    label = problem.label(torch.tensor([[[0, 0], [2, 0], [0, 0]]]), *ends)
    has_label = ((problem.label(z, *ends) & 1) == (label & 1)).flatten(1).all(1).view(3, 3, 3, 3, 3, 3).double()
    expected = torch.stack(
        [
            (has_label * has_label.sum(cell, keepdim=True)).sum([other for other in range(6) if other != cell])
            for cell in range(6)
        ]
    )
    rows, generator = 4000, torch.Generator().manual_seed(2)
    kept = exal_maps.kept_moves(problem, label.expand(rows, -1, -1), 20, 60, generator).flatten(1, 2).double()
    shares = kept / kept.sum((1, 2)).mean()
    errors = (shares.mean(0) - expected / expected.sum()).abs() / (shares.std(0) / math.sqrt(rows)).clamp(min=1e-9)
    assert errors.max() < 5
    logits = random_logits(1, 3, 2, 3)
    loss = em.baselines.path_exal_loss(problem, logits, label, "sum", 20, 60, torch.Generator().manual_seed(1))
    once = exal_maps.kept_moves(problem, label, 20, 60, torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss, -(once * logits.log_softmax(-1)).sum() / once.sum())


def test_the_diffusion_loss_is_that_of_outputs_given_what_is_not_masked() -> None:
    """With 20,000 draws, against all assignments, in a loss divided by a time of one half on average."""
    problem, beliefs = em.Addition(1, base=3), random_logits(6, 2, 1, 3)
    label = torch.tensor([[0, 2], [1, 0], [0, 0], [1, 1], [0, 1], [0, 2]])
    found = em.baselines.nesydm_loss(problem, beliefs, label, "none", 20000, generator=torch.Generator().manual_seed(3))
    generator, log_p = torch.Generator().manual_seed(3), beliefs.log_softmax(-1)
    z = masked_diffusion._explanation(problem, log_p, label, 20000, 20.0, generator)
    assert torch.equal(problem.label(z), label)
    time = 1 - torch.rand(6, generator=generator)
    masked = torch.rand(z.shape, generator=generator) < time.view(-1, 1, 1)
    worlds = all_assignments(problem)[:, None]
    fits = (masked | (worlds == z)).all(-1).all(-1)
    log_joint = (log_p * torch.nn.functional.one_hot(worlds, 3)).sum(-1).where(masked, 0).sum((-1, -2))
    right = (problem.label(worlds) == problem.label(z)).double() * fits[..., None]
    share = (log_joint.exp()[..., None] * right).sum(0)
    of_z = log_p.gather(-1, z[..., None]).squeeze(-1).where(masked, 0).sum((-1, -2)) / 2
    entropy = -(log_p.exp() * log_p).sum(-1).mean((-1, -2))
    expected = (-share.log().mean(1) - 2e-5 * of_z) / time - 0.01 * entropy
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.01)
    gradients = [torch.autograd.grad((loss * time).sum(), beliefs, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0.03, atol=0.02)


def test_without_sharpness_explanations_come_from_the_beliefs() -> None:
    """Of 4,000 rows; five standard errors are at most 0.04."""
    problem, beliefs = em.Addition(1, base=3), random_logits(1, 2, 1, 3).detach()
    rows, label = beliefs.expand(4000, -1, -1, -1), torch.zeros(4000, 2, dtype=torch.int64)
    generator = torch.Generator().manual_seed(5)
    z = masked_diffusion._explanation(problem, rows.log_softmax(-1), label, 2, 0.0, generator)
    shares = torch.nn.functional.one_hot(z, 3).double().mean(0)
    torch.testing.assert_close(shares, beliefs[0].softmax(-1), rtol=0, atol=0.04)


@pytest.mark.parametrize("loss", [em.baselines.rloo_loss, em.baselines.indecater_loss])
def test_rows_whose_samples_miss_the_label_have_no_gradient(loss) -> None:
    logits = random_logits(1, 4, 4, 4)
    value = loss(em.Sudoku(4), logits, torch.tensor([1]))
    assert value.item() == pytest.approx(-math.log(1e-8))
    assert torch.autograd.grad(value, logits)[0].eq(0).all()


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("knows_costs", [False, True])
def test_imle_takes_the_noise_from_the_costs(noise: str, knows_costs: bool) -> None:
    """Perturb and MAP adds it to the log weights, which are minus the costs."""
    problem = em.ShortestPath(5)
    label = problem.label(random_maps(problem, 4, seed=32))
    costs, truth = torch.rand(2, 4, 5, 5, generator=torch.Generator().manual_seed(33)) + 2.0
    costs.requires_grad_()
    loss = em.imle_loss(
        problem, costs, label, "none", generator=torch.Generator().manual_seed(7), noise=noise, interpolation=0.5,
        temperature=0.3, true_costs=truth if knows_costs else None,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(loss.sum(), costs)
    drawn = 0.3 * NOISES[noise](torch.Size([1, 4, 5, 5]), torch.device("cpu"), torch.Generator().manual_seed(7))[0]
    mask = label.float()
    target = truth if knows_costs else costs.detach() + 0.5 * (1 - 2 * mask)
    before = problem.cheapest_path(costs.detach() - drawn).float()
    after = problem.cheapest_path(target - drawn).float()
    torch.testing.assert_close(loss, (before - mask).abs().flatten(1).sum(1))
    torch.testing.assert_close(gradient, (after - before) / 0.5)


def test_sums_of_gamma_noise_over_a_path_are_gumbel() -> None:
    """Mean and variance of a standard Gumbel are 0.577 and pi^2 / 6; within five standard errors and the 10 terms."""
    drawn = NOISES["sum_of_gamma"](torch.Size([20000, 10, 1]), torch.device("cpu"), torch.Generator().manual_seed(0))
    cells = 13 * drawn.mean((1, 2))  # of a path of 13 cells: the mean of 10 cells has the same mean
    assert abs(float(cells.mean()) - 0.5772) < 0.06
    assert abs(float(drawn.var()) * 13 - math.pi**2 / 6 / 1) < 0.15


@pytest.mark.parametrize(
    "name", ["semantic_loss", "pairwise_loss", "top_k_proofs_loss", "rloo_loss", "indecater_loss", "nesydm_loss"]
)
def test_hard_zeros_and_certain_beliefs_have_finite_gradients(name: str) -> None:
    problem, logits = em.Sudoku(4), torch.zeros(2, 4, 4, 4)
    logits[0, 0, 0, 1:] = float("-inf")
    logits[1, 0, 0, 0] = 1e4
    logits.requires_grad_()
    loss = getattr(em.baselines, name)(problem, logits, torch.ones(2, dtype=torch.long))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, logits)[0].isfinite().all()


def test_problems_and_sizes_that_do_not_fit_are_refused() -> None:
    logits, label = torch.zeros(1, 9, 9, 9), torch.tensor([1])
    with pytest.raises(em.UnsupportedEngineError, match=r"take a smaller problem, or em\.baselines"):
        em.baselines.semantic_loss(em.Sudoku(9), logits, label)
    with pytest.raises(TypeError, match="must have the labels 1"):
        em.baselines.semantic_loss(em.Addition(1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 1]]))
    with pytest.raises(TypeError, match="must be an AllDifferent"):
        em.baselines.pairwise_loss(em.Addition(1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 1]]))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an Addition of two numbers"):
        em.baselines.top_k_proofs_loss(em.Sudoku(9), logits, label)
    with pytest.raises(ValueError, match="k must be"):
        em.baselines.top_k_proofs_loss(em.Sudoku(4), torch.zeros(1, 4, 4, 4), label, k=9)
    with pytest.raises(ValueError, match="explanations must have shape"):
        em.baselines.exal_loss(em.Addition(1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 1]]), torch.zeros(3, 1, 2))
    with pytest.raises(ValueError, match="noise must be one of gumbel, sum_of_gamma"):
        em.imle_loss(em.ShortestPath(3), torch.ones(1, 3, 3), torch.eye(3, dtype=torch.uint8)[None], noise="normal")


def trained(loss: em.baselines.ANeSI, steps: int) -> None:
    """Let the predictor learn from random beliefs and their labels."""
    problem = loss.problem
    for _ in range(steps):
        logits = 2 * torch.randn(32, *problem.latent_shape, problem.cardinality)
        z = torch.randint(problem.cardinality, (32, *problem.latent_shape))
        loss(logits, problem.label(z))


WIDE = em.baselines.PriorSettings(concentration=1.0, steps=1, penalty=0.0, memory=100)


def test_the_predictor_of_sums_tends_to_the_evidence() -> None:
    """A constant prediction is off by 0.17 on average."""
    torch.manual_seed(0)
    problem = em.Addition(1, base=3)
    loss = em.baselines.ANeSI(problem, em.baselines.SumPredictor(problem, 64, 2), samples=200, prior=WIDE)
    trained(loss, 300)
    logits, label = 2 * torch.randn(500, 2, 1, 3), sums(problem, 500)
    with torch.no_grad():
        found = loss.predictor.log_prob(logits.flatten(1, -2).softmax(-1), label).exp()
    assert (found - em.posterior(problem, logits, label).log_evidence.exp()).abs().mean() < 0.07


def test_the_net_learns_nothing_in_the_first_calls() -> None:
    problem, label = em.Sudoku(4), torch.tensor([1, 0])
    loss = em.baselines.ANeSI(problem, em.baselines.PairPredictor(problem, 8, 1), samples=5, first_calls=2)
    before = copy.deepcopy(loss.predictor.state_dict())
    gradients = []
    for _ in range(3):
        logits = random_logits(2, 4, 4, 4).detach().float().requires_grad_()
        gradients.append(torch.autograd.grad(loss(logits, label), logits)[0])
    assert [bool(gradient.any()) for gradient in gradients] == [False, False, True]
    assert any(not torch.equal(before[name], value) for name, value in loss.predictor.state_dict().items())


@pytest.mark.parametrize(("problem", "values"), [(em.Addition(2), 2), (em.Addition(1, n_addends=3), 3)])
def test_the_predictor_of_sums_knows_the_values_of_the_leading_digit(problem: em.Addition, values: int) -> None:
    predictor = em.baselines.SumPredictor(problem, 8, 1)
    assert [net[-1].out_features for net in predictor.nets] == [values] + [10] * problem.n_digits
    beliefs = torch.full((2, math.prod(problem.latent_shape), 10), 0.1)
    label = torch.tensor([[values - 1] + [0] * problem.n_digits, [9] * (problem.n_digits + 1)])
    possible, impossible = predictor.log_prob(beliefs, label).tolist()
    assert possible > -100 > impossible > float("-inf")


def test_the_predictor_of_pairs_tends_to_the_pairwise_loss() -> None:
    """A constant prediction is off by 0.15 on average."""
    torch.manual_seed(0)
    problem = em.AllDifferent([(0, 1)], n_variables=2, cardinality=4)
    loss = em.baselines.ANeSI(problem, em.baselines.PairPredictor(problem, 32), samples=200, lr=1e-2, prior=WIDE)
    trained(loss, 300)
    logits, label = 2 * torch.randn(500, 2, 4), torch.ones(500, dtype=torch.long)
    with torch.no_grad():
        found = loss.predictor.log_prob(logits.softmax(-1), label).exp()
    expected = em.baselines.pairwise_loss(problem, logits, label, "none").neg().exp()
    assert (found - expected).abs().mean() < 0.07


@pytest.mark.parametrize("label", ["digits", "number"])
def test_a_predictor_reads_sums_of_certain_digits(label: str) -> None:
    torch.manual_seed(0)
    problem = em.Addition(1, base=3, label=label)
    loss = em.baselines.ANeSI(problem, em.baselines.SumPredictor(problem, 64, 2), samples=200, prior=WIDE)
    trained(loss, 300)
    z = torch.cartesian_prod(torch.arange(3), torch.arange(3)).view(9, 2, 1)
    logits = 20.0 * torch.nn.functional.one_hot(z, 3).double()
    assert torch.equal(loss.predict(logits), problem.label(z))
    with pytest.raises(ValueError, match=r"logits must have shape \[batch, 2, 1, 3\], got \[9, 2, 3\]"):
        loss.predict(logits[:, :, 0])


def test_a_predictor_reads_boards() -> None:
    torch.manual_seed(0)
    problem = em.AllDifferent([(0, 1)], n_variables=2, cardinality=4)
    loss = em.baselines.ANeSI(problem, em.baselines.PairPredictor(problem, 32), samples=200, lr=1e-2, prior=WIDE)
    trained(loss, 600)
    z = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    assert torch.equal(loss.predict(4.0 * torch.nn.functional.one_hot(z, 4)), problem.label(z))


def test_a_predictor_goes_on_from_its_state_to_the_bit() -> None:
    problem, logits = em.Addition(1, base=3), torch.randn(8, 2, 1, 3)
    label = sums(problem, 8)
    first, second = (em.baselines.ANeSI(problem, em.baselines.SumPredictor(problem, 16, 1), 20) for _ in range(2))
    trained(first, 3)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    losses = []
    for loss in (first, second):
        torch.manual_seed(5)
        losses.append([loss(logits, label).item() for _ in range(3)])
    assert losses[0] == losses[1]
    with pytest.raises(TypeError, match="must be an Addition, AllDifferent or Sudoku"):
        em.baselines.ANeSI(em.ShortestPath(3))
