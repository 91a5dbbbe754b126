"""Automata that read strings: rows of different length, and regular expressions."""

from __future__ import annotations

import re

import pytest
import torch

import emnesy_gpu as em
from tests.backends import Backend
from tests.rules import Rule, assert_close, matches

ROMAN = "M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})"


def test_padded_rows_are_those_of_their_length(backend: Backend) -> None:
    long = em.Automaton(lambda s, v: (3 * s + v) % 5, 0, lambda s: s, 6, 3, variable_length=True)
    logits, lengths = torch.randn(7, 6, 3), torch.arange(7)
    label = torch.where(lengths == 0, 0, 2)
    post = backend.run(em.posterior, long, long.padded(logits, lengths), label)
    for row, length in enumerate(lengths.tolist()):
        ended = post.marginals[row, length:]
        assert (ended[:, : long.pad] == 0).all()
        assert_close(ended[:, long.pad], torch.ones(6 - length))
        if length:
            short = em.Automaton(lambda s, v: (3 * s + v) % 5, 0, lambda s: s, length, 3, labels=range(5))
            expected = em.posterior(short, logits[row : row + 1, :length], label[row : row + 1])
            assert_close(post.marginals[row, :length, :3], expected.marginals[0])
            assert_close(post.log_evidence[row], expected.log_evidence[0])
    assert post.log_evidence[0] == 0


def test_padded_rows_of_weights_and_of_another_order() -> None:
    weights = torch.rand(3, 2, 3).double()
    long = em.Automaton.from_tables(weights, 4, start=1, latent_shape=(2, 2), order=(3, 1, 0, 2), variable_length=True)
    short = em.Automaton.from_tables(weights, 2, start=1)
    logits = torch.randn(1, 2, 2, 2)
    padded = long.padded(logits, torch.tensor([2]))
    assert padded[0, :, :, 2].tolist() == [[0.0, -torch.inf], [0.0, -torch.inf]]
    post = em.posterior(long, padded, torch.tensor([0]))
    expected = em.posterior(short, logits.view(1, 4, 2)[:, [3, 1]], torch.tensor([0]))
    assert_close(post.marginals.view(4, 3)[[3, 1], :2], expected.marginals[0])
    assert_close(post.log_evidence, expected.log_evidence)


def test_padded_logits_carry_gradients() -> None:
    rule = em.rules.lexicon(["a", "ab"], "ab")
    for loss_of in (em.fused_em_loss, lambda rule, x, y: em.em_loss(x, em.posterior(rule, x, y))):
        leaf = torch.randn(2, 2, 2, requires_grad=True)
        loss_of(rule, rule.padded(leaf, torch.tensor([2, 1])), torch.tensor([1, 1])).backward()
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[1, 1].any()
        assert leaf.grad[0].any()


EXPRESSIONS = [
    ("a(b|c)*a", "abc", 4),
    ("[^a]b?.c+", "abc", 4),
    ("(a|b)*a(a|b){2}", "ab", 5),
    (r"\d+(,\d)?", "01,", 4),
    ("a|bc|", "abc", 2),
]


@pytest.mark.parametrize(("pattern", "alphabet", "n"), EXPRESSIONS)
@pytest.mark.parametrize("variable_length", [False, True])
def test_expressions_are_those_of_re(pattern: str, alphabet: str, n: int, variable_length: bool) -> None:
    pytest.importorskip("interegular")
    problem = em.rules.regex(pattern, alphabet, n, variable_length)
    rule = Rule(pattern, problem, matches(pattern, alphabet))
    assert problem.label(rule.assignments).tolist() == rule.meanings
    logits, label = rule.draw()
    post = em.posterior(problem, logits, label)
    assert_close(post.marginals, rule.marginals(logits, label)[0])


def test_there_are_4000_roman_numerals() -> None:
    pytest.importorskip("interegular")
    rule = em.Automaton.from_regex(ROMAN, "MDCLXVI", n_symbols=15, variable_length=True)
    lengths = torch.arange(16)
    logits = rule.padded(torch.zeros(16, 15, 7, dtype=torch.float64), lengths)
    post = em.posterior(rule, logits, torch.ones_like(lengths))
    assert (post.log_evidence.exp() * 7.0**lengths).sum().item() == pytest.approx(4000)


WRONG_EXPRESSIONS = [
    (("(", "a", 2), ValueError, "pattern must be a regular expression that interegular reads, got '\\('"),
    ((r"(a)\1", "a", 2), ValueError, "Unsupported"),
    (("abx", "ab", 3), ValueError, "names 'x', which is not in the alphabet 'ab'"),
    (("ab", "ab", 3), ValueError, "no string of 3 characters of 'ab' matches 'ab'"),
    (("ab", "aab", 2), ValueError, "alphabet must be a string of different characters"),
    (("ab", "", 2), ValueError, "alphabet must be a string of different characters"),
    (("ab", ["a", "b"], 2), TypeError, "alphabet must be a string of different characters, got list"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG_EXPRESSIONS)
def test_wrong_expressions(arguments, error, message) -> None:
    pytest.importorskip("interegular")
    with pytest.raises(error, match=message):
        em.rules.regex(*arguments)


def test_a_missing_package_names_the_command(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "interegular", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape('pip install "interegular>=0.3.3"')):
        em.rules.regex("a", "a", 1)
