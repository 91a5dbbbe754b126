"""Automata against brute force by the meaning of each rule, counting identities, and problems that are known."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.problems import UnsupportedInference
from tests.backends import Backend
from tests.rules import HELPERS, MODES, RULES, Rule, matches

ROMAN = "M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})"
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), **TOLERANCE)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_label_is_the_meaning(rule: Rule) -> None:
    z = rule.assignments.view(-1, *rule.problem.latent_shape)
    if rule.name == "noisy labels":
        with pytest.raises(UnsupportedInference, match="noisy labels: they are no function of the symbols"):
            rule.problem.label(z)
        return
    nothing = [None] * len(rule.problem.labels) if rule.problem.label_shape else None
    expected = rule.problem.encode([nothing if meaning is None else meaning for meaning in rule.meanings])
    assert torch.equal(rule.problem.label(z), expected)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_posterior_is_that_of_brute_force(backend: Backend, rule: Rule) -> None:
    logits, label = rule.draw()
    post = backend.run(em.posterior, rule.problem, logits, label)
    marginals, log_evidence = rule.marginals(logits, label)
    assert_close(post.marginals, marginals)
    assert_close(post.log_evidence, log_evidence)
    assert post.possible.all()


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_map_is_the_best_of_all_assignments(backend: Backend, rule: Rule) -> None:
    logits, label = rule.draw(seed=1)
    post = backend.run(em.posterior, rule.problem, logits, label, em.MAP())
    log_joint = rule.log_joint(logits, label)
    assert_close(post.log_evidence, log_joint.amax(1))
    found = post.info["assignment"].flatten(1)
    index = (found[:, None] == rule.assignments).all(-1).long().argmax(1)
    assert_close(log_joint.gather(1, index[:, None])[:, 0], log_joint.amax(1))


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


# Counting: under uniform priors log evidence + n log K is the log of the number of assignments.


def log_count(problem: em.Automaton, code: int) -> float:
    logits = torch.zeros(1, *problem.latent_shape, problem.cardinality, dtype=torch.float64)
    n = math.prod(problem.latent_shape)
    with em.backend("reference"):
        return em.posterior(problem, logits, torch.tensor([code])).log_evidence.item() + n * math.log(
            problem.cardinality
        )


def dice(n: int, sides: int, total: int) -> int:
    coefficients = [1]
    for _ in range(n):
        coefficients = np.convolve(coefficients, [1] * sides).tolist()
    return coefficients[total]


def fibonacci(n: int) -> int:
    a, b = 1, 1
    for _ in range(n):
        a, b = b, a + b
    return a


COUNTS = {
    "parity": (em.rules.parity(20), 1, 2**19),
    "exactly": (em.rules.exactly(30, 2, [1], 7), 1, math.comb(30, 7)),
    "at most": (em.rules.at_most(10, 2, [1], 2), 1, 1 + 10 + 45),
    "brackets": (em.rules.balanced_brackets(16), 1, math.comb(16, 8) // 9),
    "two kinds of brackets": (em.rules.balanced_brackets(8, kinds=2), 1, math.comb(8, 4) // 5 * 2**4),
    "dice": (em.rules.weighted_sum([1] * 12, 6), 20, dice(12, 6, 20)),
    "permutations": (em.rules.all_different(7, 7), 1, math.factorial(7)),
    "combinations": (em.rules.sorted_order(4, 9, strict=True), 1, math.comb(9, 4)),
    "multisets": (em.rules.sorted_order(4, 9), 1, math.comb(12, 4)),
    "no two ones": (em.Automaton(lambda s, v: None if s and v else v, 0, lambda s: 0, 25, 2), 0, fibonacci(26)),
    "smaller numbers": (em.rules.compare(5), 0, 10**5 * (10**5 - 1) // 2),
    "multiples of 97": (em.rules.modulo(6, 97), 0, (10**6 - 1) // 97 + 1),
}


@pytest.mark.parametrize("name", COUNTS)
def test_uniform_priors_count_assignments(name: str) -> None:
    problem, code, expected = COUNTS[name]
    assert log_count(problem, code) == pytest.approx(math.log(expected), abs=1e-9)


def days(month: int, year: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else 28 if month == 2 else 30 if month in (4, 6, 9, 11) else 31


def dates() -> em.Automaton:
    """DDMMYYYY, written naively: the state is the day, the month, and the year modulo 400."""

    def step(state: tuple[int, int, int], digit: int, i: int) -> tuple[int, int, int] | None:
        day, month, year = state
        if i < 2:
            day = 10 * day + digit
            return None if day > 31 or (i == 1 and day == 0) else (day, month, year)
        if i < 4:
            month = 10 * month + digit
            return None if month > 12 or (i == 3 and month == 0) else (day, month, year)
        return day, month, (10 * year + digit) % 400

    def label(state: tuple[int, int, int]) -> bool | None:
        return state[0] <= days(*state[1:]) or None

    return em.Automaton(step_at=step, start=(0, 0, 0), label=label, n_symbols=8, cardinality=10, max_states=1 << 18)


def test_dates_written_naively_have_six_states_and_the_right_number() -> None:
    rule = dates()
    assert rule.n_states == 6
    assert log_count(rule, 1) == pytest.approx(math.log(25 * 146_097), abs=1e-9)
    valid, invalid = [2, 9, 0, 2, 2, 0, 2, 4], [2, 9, 0, 2, 2, 0, 2, 3]
    assert rule.label(torch.tensor([valid, invalid])).tolist() == [1, -1]


def test_expected_number_of_ones_is_k() -> None:
    post = em.posterior(em.rules.exactly(9, 2, [1], 4), torch.randn(3, 9, 2), torch.ones(3, dtype=torch.int64))
    assert_close(post.marginals[..., 1].sum(1), torch.full((3,), 4.0))


# Problems that are known.


def addition(n: int, base: int) -> em.Automaton:
    """Two numbers of n digits: entries of the label from the least significant digit, the last one with its carry."""

    def step(state: tuple[int, ...], digit: int, i: int) -> tuple[int, ...]:
        carry = state[0]
        if i % 2 == 0:
            return carry, digit
        total = carry + state[1] + digit
        return total // base, total % base

    def output(state: tuple[int, ...], i: int) -> int | None:
        if i % 2 == 0:
            return None
        return state[0] * base + state[1] if i == 2 * n - 1 else state[1]

    order = [row * n + place for place in reversed(range(n)) for row in range(2)]
    return em.Automaton(step_at=step, start=(0, 0), output=output, cardinality=base, latent_shape=(2, n), order=order)


def entries_of_sum(digits: Tensor, base: int) -> Tensor:
    """From the digits of a sum, most significant first, to the entries of the automaton."""
    return torch.cat([digits[:, 2:].flip(1), digits[:, :1] * base + digits[:, 1:2]], 1)


@pytest.mark.parametrize(("n", "base"), [(1, 3), (3, 10), (6, 4)])
def test_carries_as_an_automaton_are_addition(backend: Backend, n: int, base: int) -> None:
    rule, expected = addition(n, base), em.Addition(n, base)
    logits = torch.randn(4, 2, n, base)
    z = torch.randint(0, base, (4, 2, n))
    label = expected.label(z)
    assert torch.equal(rule.label(z), entries_of_sum(label, base))
    for engine in (em.Exact(), em.MAP()):
        found = backend.run(em.posterior, rule, logits, entries_of_sum(label, base), engine)
        with em.backend("reference"):
            known = em.posterior(expected, logits, label, engine)
        assert_close(found.marginals, known.marginals)
        assert_close(found.log_evidence, known.log_evidence)


def test_one_group_is_the_exact_permutation(backend: Backend) -> None:
    rule, expected = em.rules.all_different(4, 4), em.AllDifferent([(0, 1, 2, 3)], 4, 4)
    logits, label = torch.randn(6, 4, 4), torch.tensor([1, 0, 1, 1, 0, 1])
    found = backend.run(em.posterior, rule, logits, label)
    with em.backend("reference"):
        known = em.posterior(expected, logits, label, em.Exact())
    assert_close(found.marginals, known.marginals)
    assert_close(found.log_evidence, known.log_evidence)


def hidden_markov_model(p_next: Tensor, p_first: Tensor, n: int) -> em.Automaton:
    """State v: the last symbol was v. State K: the start."""
    k = len(p_first)
    weights = torch.zeros(k + 1, k, k + 1, dtype=torch.float64)
    for v in range(k):
        weights[:k, v, v], weights[k, v, v] = p_next[:, v], p_first[v]
    return em.Automaton.from_tables(weights, n_symbols=n, start=k)


def smoothed(p_next: Tensor, p_first: Tensor, emission: Tensor) -> tuple[Tensor, Tensor]:
    """Forward-backward by hand: marginals [n, K] and log p(observations), of p(observation | state) [n, K]."""
    forward, log_evidence = [], 0.0
    alpha = p_first * emission[0]
    for i in range(len(emission)):
        alpha = alpha if i == 0 else (forward[-1] @ p_next) * emission[i]
        log_evidence += alpha.sum().log()
        forward.append(alpha / alpha.sum())
    beta = torch.ones_like(p_first)
    marginals = [forward[-1]]
    for i in reversed(range(len(emission) - 1)):
        beta = p_next @ (emission[i + 1] * beta)
        beta = beta / beta.sum()
        marginals.append(forward[i] * beta / (forward[i] * beta).sum())
    return torch.stack(marginals[::-1]), log_evidence


def test_a_hidden_markov_model_is_smoothed(backend: Backend) -> None:
    generator = torch.Generator().manual_seed(0)
    p_next, p_first = torch.rand(4, 4, generator=generator).double(), torch.rand(4, generator=generator).double()
    p_next, p_first = p_next / p_next.sum(1, keepdim=True), p_first / p_first.sum()
    emission = torch.rand(3, 30, 4, generator=generator).double()
    rule = hidden_markov_model(p_next, p_first, 30)
    post = backend.run(em.posterior, rule, emission.log(), torch.zeros(3, dtype=torch.int64))
    for row in range(3):
        marginals, log_evidence = smoothed(p_next, p_first, emission[row])
        assert_close(post.marginals[row], marginals)
        scale = emission[row].sum(1).log().sum()
        assert (post.log_evidence[row] + scale).item() == pytest.approx(log_evidence.item(), rel=1e-5)


def test_weighted_rules_have_no_label() -> None:
    rule = hidden_markov_model(torch.eye(2).double() / 2, torch.ones(2).double(), 3)
    with pytest.raises(UnsupportedInference, match="weighted edges: its label is no function of the symbols"):
        rule.label(torch.zeros(3, dtype=torch.int64))
    for engine in (em.ABC(samples=10), em.Gibbs(chains=1)):
        with pytest.raises(UnsupportedInference, match="weighted edges"):
            em.posterior(rule, torch.zeros(1, 3, 2), torch.tensor([0]), engine)


# Tables.


def brute_force_of_tables(
    tables: list[Tensor], start: Tensor, label_weights: Tensor, logits: Tensor, code: int
) -> tuple[Tensor, Tensor]:
    """Marginals [n, K] and evidence of one row by all assignments."""
    prior = logits.double().softmax(-1)
    marginals = torch.zeros_like(prior)
    seen = torch.ones(label_weights.shape[1]).double() if code < 0 else label_weights[code]
    for z in itertools.product(range(prior.shape[1]), repeat=len(prior)):
        states = start
        for table, v, p in zip(tables, z, prior, strict=True):
            states = states @ table[:, v] * p[v]
        for i, v in enumerate(z):
            marginals[i, v] += (states * seen).sum()
    return marginals / marginals[0].sum(), marginals[0].sum()


@st.composite
def random_tables(draw: st.DrawFn) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Weights a position, with zeros; start weights; label weights; logits of one row."""
    n, k, y = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 4), min_size=n + 1, max_size=n + 1))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def weights(*shape: int) -> Tensor:
        values = torch.rand(*shape, generator=generator).double() * draw(st.sampled_from([1e-6, 1.0, 1e6]))
        return values * (torch.rand(*shape, generator=generator) < draw(st.sampled_from([0.4, 1.0])))

    tables = [weights(before, k, after) for before, after in itertools.pairwise(sizes)]
    start = weights(sizes[0])
    start[0] += 0.5
    return tables, start, weights(y, sizes[-1]), torch.randn(1, n, k, generator=generator) * 2


@given(random_tables())
@settings(max_examples=60, deadline=None)
def test_random_weights_are_summed(case: tuple[list[Tensor], Tensor, Tensor, Tensor]) -> None:
    tables, start, label_weights, logits = case
    allowed = (
        brute_force_of_tables(tables, start, (label_weights.sum(0, keepdim=True) > 0).double(), logits[0], 0)[1] > 0
    )
    if not allowed:
        with pytest.raises(ValueError, match="forbids every assignment"):
            em.Automaton.from_tables(tables, len(tables), start, label_weights=label_weights)
        return
    rule = em.Automaton.from_tables(tables, len(tables), start, label_weights=label_weights)
    for code in range(len(rule.labels)):
        if rule.labels[code] is None:
            continue
        marginals, evidence = brute_force_of_tables(tables, start, label_weights, logits[0], code)
        post = em.posterior(rule, logits, torch.tensor([code]))
        assert bool(post.possible) == bool(evidence > 0)
        if evidence > 0:
            assert_close(post.marginals[0], marginals)
            assert post.log_evidence.item() == pytest.approx(evidence.log().item(), rel=1e-5, abs=1e-5)


def test_noisy_labels_by_tables_are_those_of_the_step() -> None:
    table = [[min(s + v, 3) for v in range(2)] for s in range(4)]
    p_true = [1.0 - 0.9 * 0.5**s for s in range(4)]
    by_array = em.Automaton.from_tables(table, 3, label_weights=np.array([[1 - p for p in p_true], p_true]))
    by_dict = em.Automaton.from_tables(table, 3, label_weights={"no": [1 - p for p in p_true], "yes": p_true})
    rule = Rule("noisy or", by_array, lambda z: {1: p_true[sum(z)], 0: 1 - p_true[sum(z)]})
    logits, label = rule.draw()
    marginals, log_evidence = rule.marginals(logits, label)
    for problem in (by_array, by_dict):
        post = em.posterior(problem, logits, label)
        assert_close(post.marginals, marginals)
        assert_close(post.log_evidence, log_evidence)
    assert by_dict.labels == ["no", "yes"]


# Rows of different length.


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


# Regular expressions.

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


# Engines and compilation.


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
