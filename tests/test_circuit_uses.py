"""What docs/circuits.md and the programs beside it promise: sizes, counts, two semantic losses, layers of rules."""

from __future__ import annotations

from math import comb, factorial

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu import logic
from profiling import multi_label
from tests import circuit_table
from tests.circuit_oracles import satisfied

KNOWN_MODELS = {
    1: 288,
    2: 10**8,
    3: factorial(10),
    4: factorial(12),
    5: comb(100, 10),
    6: 8512,
    7: 575780564,
    9: (1 + (1 + 2**4) ** 4) ** 5,
}
"""8 is checked in smaller sizes below, and 10 against a count without a circuit."""


@pytest.fixture(scope="module")
def page() -> circuit_table.Page:
    pytest.importorskip("pysdd")
    torch.manual_seed(0)
    return circuit_table.run_page()


def test_circuits_of_the_page_have_these_edges_and_models(page: circuit_table.Page) -> None:
    rows = circuit_table.ROW.findall(circuit_table.PAGE.read_text())
    promised = {int(number): (int(edges), int(models)) for number, _name, edges, models in rows}
    found = {number: (circuit.n_edges, circuit_table.models(circuit)) for number, circuit in page.circuits.items()}
    assert promised == found
    assert {number: found[number][1] for number in KNOWN_MODELS} == KNOWN_MODELS
    assert len(found) == 10


@pytest.mark.parametrize("number", [1, 6, 9, 10])
def test_circuits_of_the_page_are_sound(page: circuit_table.Page, number: int) -> None:
    page.circuits[number].check()


def test_generated_rules_have_their_models(page: circuit_table.Page) -> None:
    """Counted by a search that extends assignments group by group, without a circuit."""
    clauses = multi_label.generated_rules()
    partial = np.zeros((1, 0), np.int64)
    for variable in range(1, multi_label.N_ATTRIBUTES + 1):
        ways = np.repeat(partial, 2, axis=0)
        partial = np.concatenate([ways, np.tile([[0], [1]], (len(partial), 1))], 1)
        decided = [clause for clause in clauses if max(map(abs, clause)) == variable]
        partial = partial[satisfied(decided, partial)] if decided else partial
    assert len(clauses) == multi_label.N_CLAUSES
    assert len(partial) == page.circuits[10].model_count(1)


@pytest.mark.parametrize(("neighbours", "counts"), [(4, [2, 6, 20, 92, 832, 20164]), (8, [1, 3, 15, 103, 1221, 43271])])
def test_paths_without_chords_have_the_counts_of_a_search(neighbours: int, counts: list[int]) -> None:
    sizes = range(2, 8)
    found = [em.SimplePaths(n, n, over="cells", neighbours=neighbours).model_count(1) for n in sizes]
    assert found == counts


def test_paths_refuse_label_0() -> None:
    with pytest.raises(ValueError, match="must be the code of a label"):
        em.posterior(em.SimplePaths(2, 2), torch.zeros(1, 4, 2), torch.tensor([0]))


def boards() -> torch.Tensor:
    """The 288 boards [288, 4, 4], by trying rows."""
    rows = torch.cartesian_prod(*[torch.arange(4)] * 4)
    rows = rows[(rows.sort(1).values == torch.arange(4)).all(1)]
    every = rows[torch.cartesian_prod(*[torch.arange(24)] * 4)]
    boxes = every.view(-1, 2, 2, 2, 2).transpose(2, 3).reshape(-1, 4, 4)
    valid = [(part.sort(-1).values == torch.arange(4)).all((1, 2)) for part in (every.mT, boxes)]
    return every[valid[0] & valid[1]]


def test_both_semantic_losses_are_those_of_enumeration(page: circuit_table.Page) -> None:
    logits = torch.randn(64, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    z = torch.nn.functional.one_hot(boards(), 4).double()
    assert len(z) == 288
    p = logits.softmax(-1)
    on, off = p.log(), torch.log1p(-p)
    by_value = torch.einsum("zrcv,brcv->bz", z, on).logsumexp(1)
    by_bit = (torch.einsum("zrcv,brcv->bz", z, on) + torch.einsum("zrcv,brcv->bz", 1 - z, off)).logsumexp(1)
    expected = -by_value.mean(), -by_bit.mean()
    for index in range(2):
        found = page.names["semantic_losses"](logits)[index]
        torch.testing.assert_close(found, expected[index], rtol=1e-9, atol=0)
        gradients = [
            torch.autograd.grad(loss, logits, retain_graph=loss is not found)[0] for loss in (expected[index], found)
        ]
        torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-9)
    assert 11 < float((expected[1] - expected[0]).detach()) < 14


def test_semantic_losses_of_a_certain_net_have_gradients(page: circuit_table.Page) -> None:
    logits = (100 * torch.nn.functional.one_hot(boards()[:2], 4).float()).requires_grad_()
    assert max(loss.item() for loss in page.names["semantic_losses"](logits)) < 1e-3
    assert all(torch.autograd.grad(loss, logits)[0].isfinite().all() for loss in page.names["semantic_losses"](logits))


def test_rules_in_training_give_more_rows_that_are_right(page: circuit_table.Page, monkeypatch) -> None:
    monkeypatch.setattr(multi_label, "EPOCHS", 10)
    figures = list(multi_label.run(page.circuits[10], seed=0).values())
    exact, _hamming, consistent = zip(*figures, strict=True)
    assert consistent[1] == consistent[3] == 100.0
    assert exact[3] > exact[1] > exact[0]


def arena() -> dict[str, tuple[list[frozenset], dict]]:
    """Programs of nesyarena as their proofs, sets of facts, with the probabilities of the facts."""
    generators = pytest.importorskip("nesyarena.generators")
    rng = np.random.default_rng(0)
    overlaps = [(1, 3, 0), (2, 1, 0), (3, 3, 1), (5, 3, 2), (6, 4, 1), (4, 5, 1)]
    found = {f"overlap {size}": generators.overlap_family(*size, 0.6, rng, het=True) for size in overlaps}
    found |= {f"chain {n}": generators.chain_family(n) for n in (2, 5)} | {"cycle": generators.cyclic_family()}
    programs = {name: (instance.proofs, instance.probs) for name, instance in found.items()}
    return programs | {"scores": generators.surrogate_scores(8, 0.6, 0.2)}


def test_programs_of_nesyarena_have_no_error() -> None:
    """Value and gradient of p(query) against its own exact answers."""
    programs, oracle = arena(), pytest.importorskip("nesyarena.oracle")
    for name, (proofs, probabilities) in programs.items():
        facts = sorted(set().union(*proofs), key=repr)
        bits = logic.symbols(len(facts))
        theory = logic.any_of(logic.all_of(bits[facts.index(fact)] for fact in proof) for proof in proofs)
        p = torch.tensor([probabilities[fact] for fact in facts], dtype=torch.float64)
        query = em.Circuit(theory)
        post = em.posterior(query, torch.stack([(1 - p).log(), p.log()], -1)[None], query.encode([1]))
        value, gradient = oracle.wmc_with_grad(proofs, probabilities)
        z = float(post.log_evidence.exp())
        assert z == pytest.approx(value, abs=1e-14), name
        found = (post.marginals[0, :, 1] - p) * z / (p * (1 - p))
        assert found.tolist() == pytest.approx([gradient[fact] for fact in facts], abs=1e-12), name
