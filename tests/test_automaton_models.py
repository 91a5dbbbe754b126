"""Automata that are known problems: addition, permutations, hidden Markov models, tables of weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.automata.machine import MOST_IN_PAIRS, Layer, is_ambiguous
from emnesy_gpu.engines import WrappedEngine
from emnesy_gpu.problems import UnsupportedInference
from tests.backends import Backend
from tests.rules import Rule, assert_close


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


def test_a_hidden_markov_model_is_that_of_hmmlearn(backend: Backend) -> None:
    """Weights seven times as large make a conditional random field with the same posterior."""
    hmm = pytest.importorskip("hmmlearn.hmm")
    generator = np.random.default_rng(1)
    n, k = 40, 5
    theirs = hmm.CategoricalHMM(n_components=k)
    theirs.startprob_, theirs.transmat_ = generator.dirichlet(np.ones(k)), generator.dirichlet(np.ones(k), k)
    theirs.emissionprob_ = generator.dirichlet(np.ones(6), k)
    p_next, p_first = torch.from_numpy(theirs.transmat_), torch.from_numpy(theirs.startprob_)
    for seed, scale in ((0, 1.0), (1, 7.0)):
        seen, _ = theirs.sample(n, random_state=seed)
        emission = torch.from_numpy(theirs.emissionprob_)[:, seen[:, 0]].T
        rule = hidden_markov_model(scale * p_next, scale * p_first, n)
        post = backend.run(em.posterior, rule, emission.log()[None], torch.tensor([0]))
        best = backend.run(em.posterior, rule, emission.log()[None], torch.tensor([0]), em.MAP())
        log_evidence, smoothed_states = theirs.score_samples(seen)
        log_best, path = theirs.decode(seen, algorithm="viterbi")
        offset = emission.sum(1).log().sum().item() - n * np.log(scale)
        torch.testing.assert_close(post.marginals[0], torch.from_numpy(smoothed_states), rtol=1e-10, atol=1e-12)
        assert post.log_evidence.item() + offset == pytest.approx(log_evidence, rel=1e-12)
        assert best.log_evidence.item() + offset == pytest.approx(log_best, rel=1e-12)
        assert best.info["assignment"][0].tolist() == path.tolist()


def test_weighted_rules_have_no_label() -> None:
    rule = hidden_markov_model(torch.eye(2).double() / 2, torch.ones(2).double(), 3)
    with pytest.raises(UnsupportedInference, match="weighted edges: its label is no function of the symbols"):
        rule.label(torch.zeros(3, dtype=torch.int64))
    for engine in (em.ABC(samples=10), em.Gibbs(chains=1)):
        with pytest.raises(UnsupportedInference, match="weighted edges"):
            em.posterior(rule, torch.zeros(1, 3, 2), torch.tensor([0]), engine)


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


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), density=st.sampled_from([0.3, 0.5, 0.7]), n=st.integers(1, 4))
def test_map_asks_for_one_path_of_each_assignment(seed: int, density: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    n_states = int(rng.integers(1, 4))
    weights = rng.random((n_states, 2, n_states)) * (rng.random((n_states, 2, n_states)) < density)
    start = np.where(rng.random(n_states) < 0.5, 1.0, 0.0)
    start[0] = max(start[0], float(not start.any()))
    z = np.array(list(itertools.product(range(2), repeat=n)))
    paths, total = np.tile(start, (len(z), 1)), np.tile(start, (len(z), 1))
    for value in z.T:
        paths = np.einsum("zs,zst->zt", paths, weights[:, value].swapaxes(0, 1) > 0)
        total = np.einsum("zs,zst->zt", total, weights[:, value].swapaxes(0, 1))
    ends = np.where(rng.random(n_states) < 0.8, 0.5, 0.0)
    paths, total = paths * (ends > 0), total * ends
    if not paths.any():
        return
    rule = em.Automaton.from_tables(weights, n, start, label_weights=ends[None])
    assert rule.map_tractable == (paths.sum(1).max() <= 1)
    logits, label = torch.from_numpy(rng.standard_normal((1, n, 2))), torch.tensor([0])
    if not rule.map_tractable:
        for engine in (em.MAP(), WrappedEngine(em.MAP())):
            with pytest.raises(em.UnsupportedEngineError, match="several paths, whose weights add up"):
                em.posterior(rule, logits, label, engine)
        return
    log_joint = torch.log_softmax(logits, -1)[0, torch.arange(n), torch.from_numpy(z)].sum(-1)
    log_joint += torch.from_numpy(total.sum(1)).log()
    best = em.posterior(rule, logits, label, em.MAP())
    assert best.info["assignment"][0].tolist() == z[int(log_joint.argmax())].tolist()
    assert_close(best.log_evidence, log_joint.max()[None])


def test_pairs_of_too_many_states_are_not_followed() -> None:
    """Two ways from the first state, to states of which one leads nowhere: one path, which is not looked for."""
    for size in (64, MOST_IN_PAIRS + 1):
        source, target = np.array([0, 0, 1], np.int32), np.array([1, 2, 3], np.int32)
        first = Layer(source[:2], np.zeros(2, np.int32), target[:2], np.ones(2), size, size)
        second = Layer(source[2:], np.zeros(1, np.int32), target[2:], np.ones(1), size, size)
        found = is_ambiguous([first, second], np.arange(size) == 0, np.ones(size, bool))
        assert found == (size > MOST_IN_PAIRS)
