"""Automata against brute force by the meaning of each rule, on every back end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.problems import UnsupportedInference
from tests.backends import Backend
from tests.rule_checks import check_gradient, check_label, check_posterior, loss_and_gradient
from tests.rules import HELPERS, MODES, RULES, Rule, assert_close


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_label_is_the_meaning(rule: Rule) -> None:
    z = rule.assignments.view(-1, *rule.problem.latent_shape)
    if rule.name == "noisy labels":
        with pytest.raises(UnsupportedInference, match="noisy labels: they are no function of the symbols"):
            rule.problem.label(z)
        return
    check_label(rule)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_posterior_is_that_of_brute_force(backend: Backend, rule: Rule) -> None:
    check_posterior(backend, rule)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_map_is_the_best_of_all_assignments(backend: Backend, rule: Rule) -> None:
    logits, label = rule.draw(seed=1)
    post = backend.run(em.posterior, rule.problem, logits, label, em.MAP())
    log_joint = rule.log_joint(logits, label)
    assert_close(post.log_evidence, log_joint.amax(1))
    found = post.info["assignment"].flatten(1)
    index = (found[:, None] == rule.assignments).all(-1).long().argmax(1)
    assert_close(log_joint.gather(1, index[:, None])[:, 0], log_joint.amax(1))


TIED = [
    em.rules.weighted_sum([1] * 5, 4),
    em.rules.modulo(5, 3),
    em.rules.at_most(6, 3, [0, 2], 3),
    em.Automaton(lambda s, v: (s + v) % 4, 0, lambda s: s, 5, 4),
]


@pytest.mark.parametrize("problem", TIED, ids=repr)
def test_of_equal_assignments_the_map_is_the_first(backend: Backend, problem: em.Automaton) -> None:
    """All symbols have the same logits, so that every permutation is as probable, up to no rounding at all."""
    n, k = problem.latent_shape[0], problem.cardinality
    z = Rule("tied", problem, lambda z: None).assignments
    one_symbol = torch.randn(8, k, generator=torch.Generator().manual_seed(3)) * torch.tensor([[0.0]] + [[3.1]] * 7)
    score = torch.stack([row[z].double().sort(-1).values.sum(-1) for row in one_symbol])
    codes = problem.label(z)
    label = torch.arange(8) % (codes.max() + 1)
    logits = one_symbol[:, None].expand(-1, n, -1)
    found = backend.run(em.posterior, problem, logits, label, em.MAP()).info["assignment"]
    for row in range(8):
        of_label = torch.where(codes == label[row], score[row], -torch.inf)
        assert found[row].tolist() == z[of_label == of_label.max()][0].tolist()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_sample_has_its_label(backend: Backend, rule: Rule) -> None:
    logits, label = rule.draw(seed=2)
    z = backend.run(em.sample_posterior, rule.problem, logits, label, 8, seed=3)
    assert z.shape == (8, len(logits), *rule.problem.latent_shape)
    likelihood = rule.likelihood(label)
    for sample in z.flatten(2):
        index = (sample[:, None] == rule.assignments).all(-1).long().argmax(1)
        assert (likelihood.gather(1, index[:, None]) > 0).all()


def test_samples_have_the_frequencies_of_the_posterior() -> None:
    rule = next(rule for rule in MODES if rule.name == "noisy labels")
    logits, label = rule.draw(batch=2)
    z = em.sample_posterior(rule.problem, logits, label, 1000, seed=0)
    expected = rule.marginals(logits, label)[0][..., 1]
    assert ((z.double().mean(0) - expected).abs() < 5 * (expected * (1 - expected) / 1000).sqrt() + 1e-9).all()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_gradient_is_that_of_the_evidence(backend: Backend, rule: Rule) -> None:
    check_gradient(backend, rule)


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.problem.label_shape], ids=str)
def test_labels_share_what_the_rule_allows(rule: Rule) -> None:
    """sum_y p(y) is p(allowed), 1 for rules that forbid nothing; so p(y) + p(not y) = 1 for rules of two labels."""
    codes = [code for code, name in enumerate(rule.problem.labels) if name is not None]
    logits = rule.draw(batch=1)[0].expand(len(codes) + 1, *[-1] * (len(rule.problem.latent_shape) + 1))
    evidence = em.posterior(rule.problem, logits, torch.tensor([*codes, -1])).log_evidence.exp()
    assert evidence[:-1].sum().item() == pytest.approx(evidence[-1].item(), rel=1e-5)
    if not any(meaning is None for meaning in rule.meanings):
        assert evidence[-1].item() == pytest.approx(1.0, abs=1e-5)


def test_entries_that_are_not_given_are_summed_out(backend: Backend) -> None:
    rule = next(rule for rule in MODES if rule.name == "output")
    logits, label = rule.draw(batch=3)
    label[0, 1], label[1, 2], label[2] = -1, -1, torch.tensor([-1, 0, -1])
    post = backend.run(em.posterior, rule.problem, logits, label)
    marginals, log_evidence = rule.marginals(logits, label)
    assert_close(post.marginals, marginals)
    assert_close(post.log_evidence, log_evidence)


def test_impossible_labels_leave_the_prior(backend: Backend) -> None:
    rule = next(rule for rule in RULES if rule.name == "labels that nobody has")
    logits = torch.randn(2, 2, 2)
    label = torch.tensor([5, 1])
    post = backend.run(em.posterior, rule.problem, logits, label)
    assert post.possible.tolist() == [False, True]
    assert_close(post.marginals[0], logits[0].softmax(-1))
    assert post.log_evidence[0] == -torch.inf
    assert not backend.run(loss_and_gradient, rule.problem, logits, label)[1][0].any()


@pytest.mark.parametrize("sd", [30.0, 1e3, 1e4])
def test_certain_logits_lose_nothing(backend: Backend, sd: float) -> None:
    rule = HELPERS[1]
    logits, label = rule.draw(batch=8, seed=5)
    logits = logits * sd
    logits[:, 0, 0] = -torch.inf
    post = backend.run(em.posterior, rule.problem, logits, label)
    marginals, log_evidence = rule.marginals(logits, label)
    assert_close(post.marginals, marginals)
    torch.testing.assert_close(post.log_evidence.double(), log_evidence, rtol=1e-5, atol=1e-5)


SAMPLERS = [em.ABC(samples=20_000, sharpness=20.0), em.Rejection(samples=20_000), em.Gibbs(chains=512, penalty=6.0)]


@pytest.mark.parametrize("engine", SAMPLERS, ids=str)
def test_samples_come_close(engine: em.Engine) -> None:
    problem = em.rules.at_most(4, 3, [0, 2], 2)
    logits, label = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 1])
    post = em.posterior(problem, logits, label, engine)
    expected = em.posterior(problem, logits, label)
    assert (post.marginals - expected.marginals).abs().max() < 0.05


def test_samples_score_entries_of_the_label() -> None:
    rule = next(rule for rule in MODES if rule.name == "output")
    logits, label = rule.draw(batch=3)
    post = em.posterior(rule.problem, logits, label, em.Rejection(samples=20_000))
    assert (post.marginals - rule.marginals(logits, label)[0]).abs().max() < 0.05


@pytest.mark.parametrize("name", ["compare", "output", "variable length"])
def test_posteriors_and_losses_compile_without_a_graph_break(name: str) -> None:
    rule = next(rule for rule in RULES if rule.name == name)
    logits, label = rule.draw()
    torch._dynamo.reset()

    def both(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        post = em.posterior(rule.problem, logits, label)
        return post.marginals, em.fused_em_loss(rule.problem, logits, label)

    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    for found, expected in zip(compiled(logits, label), both(logits, label), strict=True):
        torch.testing.assert_close(found, expected)


def test_an_empty_batch(backend: Backend) -> None:
    for rule in (HELPERS[0], next(rule for rule in MODES if rule.name == "output")):
        problem = rule.problem
        logits = torch.zeros(0, *problem.latent_shape, problem.cardinality)
        label = torch.zeros(0, *problem.label_shape, dtype=torch.int64)
        assert backend.run(em.posterior, problem, logits, label).marginals.shape == logits.shape
        assert backend.run(em.posterior, problem, logits, label, em.MAP()).marginals.shape == logits.shape
        assert backend.run(em.sample_posterior, problem, logits, label, 2, seed=0).shape == (
            2,
            0,
            *problem.latent_shape,
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_of_logits(backend: Backend, dtype: torch.dtype) -> None:
    rule = HELPERS[1]
    logits, label = rule.draw()
    logits = logits.to(dtype)
    post = backend.run(em.posterior, rule.problem, logits, label)
    assert post.marginals.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_close(post.marginals, rule.marginals(logits, label)[0])


def test_strides_do_not_matter(backend: Backend) -> None:
    rule = next(rule for rule in MODES if rule.name == "output")
    logits, label = rule.draw()
    strided = logits.transpose(0, 2).contiguous().transpose(0, 2)
    post = backend.run(em.posterior, rule.problem, strided, label.t().contiguous().t())
    assert_close(post.marginals, backend.run(em.posterior, rule.problem, logits, label).marginals)
