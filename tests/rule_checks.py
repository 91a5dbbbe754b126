"""Checks of a rule by its meaning, whichever engine it has: labels, posterior and gradient."""

from __future__ import annotations

import torch
from torch import Tensor

import emnesy_gpu as em
from tests.backends import Backend
from tests.rules import Rule, assert_close


def check_label(rule: Rule) -> None:
    z = rule.assignments.view(-1, *rule.problem.latent_shape)
    nothing = [None] * len(rule.problem.labels) if rule.problem.label_shape else None
    expected = rule.problem.encode([nothing if meaning is None else meaning for meaning in rule.meanings])
    assert torch.equal(rule.problem.label(z), expected)


def check_posterior(backend: Backend, rule: Rule) -> None:
    logits, label = rule.draw()
    post = backend.run(em.posterior, rule.problem, logits, label)
    marginals, log_evidence = rule.marginals(logits, label)
    assert_close(post.marginals, marginals)
    assert_close(post.log_evidence, log_evidence)
    assert post.possible.all()


def check_gradient(backend: Backend, rule: Rule) -> None:
    logits, label = rule.draw(seed=4)
    leaf = logits.double().requires_grad_()
    (expected,) = torch.autograd.grad(-rule.log_joint(leaf, label).logsumexp(1).mean(), leaf)
    loss, gradient = backend.run(loss_and_gradient, rule.problem, logits, label)
    assert_close(gradient, expected)
    assert_close(loss, -rule.marginals(logits, label)[1].mean())


def loss_and_gradient(problem: em.Problem, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    loss = em.fused_em_loss(problem, leaf, label)
    loss.backward()
    return loss.detach(), leaf.grad
