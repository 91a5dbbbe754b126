"""The specifications of loopy belief propagation against brute force: messages, trees, evidence, conventions."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import all_different, enumeration, not_equal
from tests.graphs import adjacency, sudoku_groups
from tests.lists_of_assignments import every, grids

NEG_INF = float("-inf")
# Two groups of the tree share one symbol at most, and there is no cycle.
TREE_OF_GROUPS = torch.tensor([[0, 1, 2], [2, 3, -1], [3, 4, 5], [5, 6, -1]], dtype=torch.int32)
TREE_OF_PAIRS = [(0, 1), (1, 2), (1, 3), (3, 4), (3, 5)]
SERIAL, SUDOKU = [4, 4, 4], sudoku_groups(4)


def logits_of(batch: int, n: int, k: int, sd: float = 1.5) -> tuple[Tensor, Tensor]:
    logits = sd * torch.randn(batch, n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(n * k))
    return logits, torch.ones(batch, dtype=torch.int64)


def brute_force_minors(n: Tensor, maximise: bool) -> tuple[Tensor, Tensor]:
    """The permanent [...] of n [..., w, K] over distinct values, and those of all minors [..., w, K]."""
    size, k = n.shape[-2:]
    reduce = "amax" if maximise else "sum"
    values = torch.tensor(list(itertools.permutations(range(k), size)))
    taken = n[..., torch.arange(size), values]
    minors = torch.zeros_like(n)
    for i in range(size):
        rest = torch.cat([taken[..., :i], taken[..., i + 1 :]], -1).prod(-1)
        minors[..., i, :].scatter_reduce_(-1, values[:, i].expand_as(rest), rest, reduce)
    products = taken.prod(-1)
    return products.amax(-1) if maximise else products.sum(-1), minors


@pytest.mark.parametrize("maximise", [False, True])
@pytest.mark.parametrize("k", range(2, 8))
def test_messages_are_permanents_of_minors(k, maximise):
    for size in {1, k // 2, k - 1, k}:
        n = torch.rand(3, size, k, dtype=torch.float64, generator=torch.Generator().manual_seed(k))
        n[1, 0, 1:] = 0.0
        permanent, minors = brute_force_minors(n, maximise)
        log_permanent, log_minors = all_different.permanents(n.log(), maximise)
        torch.testing.assert_close(log_permanent.exp(), permanent, rtol=1e-12, atol=0)
        torch.testing.assert_close(log_minors.exp(), minors, rtol=1e-12, atol=0)


def test_group_without_room_has_permanent_zero():
    n = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]], dtype=torch.float64)
    log_permanent, _ = all_different.permanents(n.log(), False)
    assert log_permanent == NEG_INF


def valid_in_groups(groups: Tensor, n: int, k: int) -> Tensor:
    z = every(n, k)
    members = [[i for i in group if i >= 0] for group in groups.tolist()]
    return z[[all(len({row[i] for i in group}) == len(group) for group in members) for row in z.tolist()]]


def valid_in_pairs(pairs: list[tuple[int, int]], n: int, k: int) -> Tensor:
    z = every(n, k)
    return z[torch.stack([z[:, i] != z[:, j] for i, j in pairs]).all(0)]


@pytest.mark.parametrize(("phases", "damping"), [([1, 1, 1, 1], 0.0), ([2, 2], 0.0), ([4], 0.3)])
def test_beliefs_on_a_tree_of_groups_are_exact(phases, damping):
    logits, label = logits_of(6, 8, 3)
    exact = enumeration.posterior(logits, label, valid_in_groups(TREE_OF_GROUPS, 8, 3))
    marginals, log_evidence, status, _, change = all_different.belief_propagation(
        logits, label, TREE_OF_GROUPS, phases, 80, damping, 0.0, False
    )
    torch.testing.assert_close(marginals, exact[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(log_evidence, exact[1], rtol=0, atol=1e-12)
    assert (status == POSSIBLE).all()
    assert change.max() < 1e-12
    torch.testing.assert_close(marginals[:, 7], torch.softmax(logits[:, 7], -1), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("order", "phases", "damping"), [(range(6), [6], 0.0), ([0, 2, 3, 1, 4, 5], [3, 3], 0.0), (range(6), [6], 0.3)]
)
def test_beliefs_on_a_tree_of_pairs_are_exact(order, phases, damping):
    logits, label = logits_of(6, 6, 3)
    exact = enumeration.posterior(logits, label, valid_in_pairs(TREE_OF_PAIRS, 6, 3))
    graph = (*adjacency(TREE_OF_PAIRS, 6), torch.tensor([*order], dtype=torch.int32), phases)
    marginals, log_evidence, _, _, change = not_equal.belief_propagation(logits, label, *graph, 80, damping, 0.0, False)
    torch.testing.assert_close(marginals, exact[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(log_evidence, exact[1], rtol=0, atol=1e-12)
    assert change.max() < 1e-12


def test_max_product_on_trees_finds_the_best_assignment():
    logits, label = logits_of(20, 7, 3)
    best, _, _ = enumeration.map_assignment(logits, label, valid_in_groups(TREE_OF_GROUPS, 7, 3))
    beliefs, log_evidence, *_ = all_different.belief_propagation(
        logits, label, TREE_OF_GROUPS, [1, 1, 1, 1], 6, 0.0, 0.0, True
    )
    assert torch.equal(beliefs.argmax(-1), best)
    assert (log_evidence == 0).all()
    torch.testing.assert_close(beliefs.sum(-1), torch.ones(20, 7, dtype=torch.float64))
    best, _, _ = enumeration.map_assignment(logits[:, :6], label, valid_in_pairs(TREE_OF_PAIRS, 6, 3))
    graph = (*adjacency(TREE_OF_PAIRS, 6), torch.arange(6, dtype=torch.int32), [6])
    beliefs, *_ = not_equal.belief_propagation(logits[:, :6], label, *graph, 6, 0.0, 0.0, True)
    assert torch.equal(beliefs.argmax(-1), best)


def test_two_groups_of_two_are_the_pairwise_factors():
    logits, label = logits_of(5, 4, 4)
    pairs = [(0, 1), (1, 2), (2, 3), (3, 0)]
    graph = (*adjacency(pairs, 4), torch.arange(4, dtype=torch.int32), [4])
    groups = torch.tensor(pairs, dtype=torch.int32)
    factors = all_different.belief_propagation(logits, label, groups, [4], 7, 0.2, 0.0, False)
    pairwise = not_equal.belief_propagation(logits, label, *graph, 7, 0.2, 0.0, False)
    for mine, theirs in zip(factors, pairwise, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_loopy_beliefs_on_confident_boards_are_close_to_the_posterior():
    logits, label = logits_of(64, 16, 4, sd=1.0)
    truth = grids()[torch.arange(64) * 4].long()
    logits.scatter_add_(2, truth[..., None], torch.full_like(logits, 2.0))
    exact, log_evidence, _ = enumeration.posterior(logits, label, grids())
    beliefs, bethe, *_ = all_different.belief_propagation(logits, label, SUDOKU, SERIAL, 5, 0.0, 0.0, False)
    distance = 0.5 * (beliefs - exact).abs().sum(-1).mean()
    # Mean total variation about 0.012, and evidence within a few hundredths, at this confidence.
    assert distance < 0.03
    assert (bethe - log_evidence).abs().mean() < 0.3


def test_rows_freeze_at_their_own_pace():
    logits, label = logits_of(8, 16, 4)
    logits *= torch.linspace(0.1, 4.0, 8)[:, None, None]
    run = all_different.belief_propagation(logits, label, SUDOKU, SERIAL, 60, 0.1, 1e-3, False)
    assert len(run[3].unique()) > 1
    for row in range(8):
        sweeps = int(run[3][row])
        alone = all_different.belief_propagation(
            logits[row : row + 1], label[:1], SUDOKU, SERIAL, sweeps, 0.1, 0.0, False
        )
        torch.testing.assert_close(run[0][row], alone[0][0], rtol=0, atol=1e-13)
        assert (run[4][row] < 1e-3) == (sweeps < 60)


@pytest.mark.parametrize("maximise", [False, True])
def test_no_sweeps_leave_the_prior(maximise):
    logits, label = logits_of(3, 16, 4)
    marginals, log_evidence, status, sweeps, change = all_different.belief_propagation(
        logits, label, SUDOKU, SERIAL, 0, 0.0, 0.0, maximise
    )
    torch.testing.assert_close(marginals, torch.softmax(logits, -1), rtol=0, atol=1e-14)
    assert not torch.stack([sweeps, change, status]).any()
    prior = torch.softmax(logits, -1)[:, SUDOKU.long()]
    # At uniform messages the terms of symbols and of links cancel, up to the factor 1/4 of each message.
    expected = torch.zeros(3, dtype=torch.float64) if maximise else brute_force_minors(prior, False)[0].log().sum(1)
    torch.testing.assert_close(log_evidence, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("phases", [SERIAL, [12]])
def test_negligible_rows_of_label_zero_are_left_at_the_prior(phases):
    """Two rows of the first boards agree on one value so confidently that p(they differ) is about e^-30."""
    logits = torch.zeros(5, 16, 4, dtype=torch.float64)
    logits[:3, :8, 0] = 6.0
    logits[3, ::4, 0] = 20.0
    logits[4, :4, 1:] = NEG_INF
    label = torch.tensor([0, 1, 0, 0, 0])
    logits[2] *= 0.1
    marginals, log_evidence, status, sweeps, change = all_different.belief_propagation(
        logits, label, SUDOKU, phases, 3, 0.1, 0.0, False
    )
    assert status.tolist() == [POSSIBLE, POSSIBLE, POSSIBLE, POSSIBLE, IMPOSSIBLE]
    # The bound is that of the rows: the fourth board violates a column, which it does not see.
    assert sweeps.tolist() == [0, 3, 3, 3, 0]
    assert log_evidence.isfinite().tolist() == [False, True, True, True, False]
    assert log_evidence[1] < all_different.NEGLIGIBLE
    assert change[0] == 0
    torch.testing.assert_close(marginals[[0, 4]], torch.softmax(logits[[0, 4]], -1))


def test_max_product_never_stops_early():
    logits, label = torch.zeros(1, 16, 4), torch.tensor([0])
    logits[:, :8, 0] = 9.0
    for iterations, maximise, sweeps in [(3, True, 3), (0, False, 0)]:
        run = all_different.belief_propagation(logits, label, SUDOKU, SERIAL, iterations, 0.0, 0.0, maximise)
        assert run[3].tolist() == [sweeps]
        assert run[1].isfinite().all()


def statuses(logits: Tensor, label: Tensor) -> list[tuple[Tensor, ...]]:
    pairs = [(i, j) for group in SUDOKU.tolist() for i, j in itertools.combinations(group, 2)]
    graph = (*adjacency(sorted(set(pairs)), 16), torch.arange(16, dtype=torch.int32), [16])
    return [
        all_different.belief_propagation(logits, label, SUDOKU, SERIAL, 3, 0.0, 0.0, False),
        not_equal.belief_propagation(logits, label, *graph, 3, 0.0, 0.0, False),
    ]


def test_statuses():
    logits, label = logits_of(6, 16, 4)
    logits[1, :2, 1:] = NEG_INF
    logits[2, 5, 2] = float("nan")
    logits[3, 5, 2] = float("inf")
    logits[4, 5] = NEG_INF
    label[5] = 7
    for marginals, log_evidence, status, sweeps, change in statuses(logits, label):
        expected = [POSSIBLE, IMPOSSIBLE, INVALID_LOGITS, INVALID_LOGITS, INVALID_LOGITS, INVALID_LABEL]
        assert status.tolist() == expected
        assert sweeps.tolist() == [3, 0, 0, 0, 0, 0]
        assert (log_evidence[1:] == NEG_INF).all()
        assert not change[1:].any()
        for row in (1, 5):
            torch.testing.assert_close(marginals[row], torch.softmax(logits[row], -1))


def test_empty_batch():
    logits, label = logits_of(0, 16, 4)
    for results in statuses(logits, label):
        assert [len(result) for result in results] == [0] * 5


@pytest.mark.parametrize("sd", [1e3, 1e4])
def test_extreme_logits_and_shifts(sd):
    logits, label = logits_of(4, 16, 4, sd=sd)
    shifted = logits + 4096.0 * torch.arange(16)[:, None]
    for plain, moved in zip(statuses(logits, label), statuses(shifted, label), strict=True):
        for mine, theirs in zip(plain, moved, strict=True):
            assert not mine.isnan().any()
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-6)
