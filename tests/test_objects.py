"""Posteriors, problems and engines as objects: unpacked, indexed, compared, copied, pickled, and in checkpoints."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

import emnesy_gpu as em


def total(z: torch.Tensor) -> torch.Tensor:
    return z.sum(-1)


def posterior(engine: em.Engine | None = None, rows: int = 5) -> em.Posterior:
    problem, generator = em.Addition(2), torch.Generator().manual_seed(0)
    logits = torch.randn(rows, *problem.latent_shape, 10, generator=generator)
    return em.posterior(problem, logits, problem.label(logits.argmax(-1)), engine)


def through_a_checkpoint(value: Any) -> Any:
    file = io.BytesIO()
    torch.save({"hyper_parameters": {"value": value}}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)["hyper_parameters"]["value"]


def same(a: em.Posterior, b: em.Posterior) -> bool:
    leaves = [pytree.tree_leaves(post) for post in (a, b)]
    return len(leaves[0]) == len(leaves[1]) and all(map(torch.equal, *leaves))


def test_a_posterior_unpacks_and_has_rows() -> None:
    post = posterior(em.ABC(samples=32))
    marginals, log_evidence, possible, info = post
    assert (marginals, log_evidence, possible, info) == (post.marginals, post.log_evidence, post.possible, post.info)
    assert len(post) == 5
    for rows, n in ((slice(1, 3), 2), (torch.tensor([4, 0]), 2), (post.possible, 5), (-1, 1)):
        some = post[rows]
        assert len(some) == len(some.marginals) == len(some.info["ess"]) == n
    assert torch.equal(post[3].marginals, marginals[3:4])
    with pytest.raises(IndexError, match=r"row must lie in -5\.\.4, got 5"):
        post[5]


def test_a_posterior_is_a_pytree() -> None:
    post = posterior(em.ABC(samples=32))
    doubled = pytree.tree_map(lambda tensor: tensor.double(), post)
    assert isinstance(doubled, em.Posterior)
    assert doubled.info["ess"].dtype == torch.float64
    assert torch.func.vmap(lambda post: post.marginals.sum())(post).shape == (5,)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_a_checkpoint, em.Posterior.cpu])
def test_a_posterior_survives(copied) -> None:
    post = posterior(em.ABC(samples=32))
    assert same(copied(post), post)


def test_a_posterior_moves_to_a_device_and_to_no_dtype() -> None:
    assert posterior().to("meta").possible.device.type == "meta"
    with pytest.raises(TypeError, match="takes a device, got a dtype"):
        posterior().to(torch.float64)


def test_entropy_and_mode_and_samples_of_marginals() -> None:
    post = posterior()
    q = post.marginals.double()
    expected = -(q * q.log()).nan_to_num().sum(-1)
    torch.testing.assert_close(post.entropy().double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(post.mode(), q.argmax(-1))
    drawn = post.sample(4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (4000, 5, 2, 2)
    share = torch.nn.functional.one_hot(drawn, 10).double().mean(0)
    assert (share - q).abs().max() < 0.04  # five standard deviations of 4000 draws
    assert post.sample(0).shape == (0, 5, 2, 2)
    assert post[:0].sample(3).shape == (3, 0, 2, 2)


PLAIN = {
    "addition": (lambda: em.Addition(2), lambda: em.Addition(2, base=9)),
    "sums as numbers": (lambda: em.Addition(2, label="number"), lambda: em.Addition(2)),
    "sudoku": (lambda: em.Sudoku(4), lambda: em.Sudoku(4, constraints="pairs")),
    "all_different": (lambda: em.AllDifferent([(0, 1)], 2, 3), lambda: em.AllDifferent([(0, 1)], 2, 4)),
    "path": (lambda: em.ShortestPath(3), lambda: em.ShortestPath(3, score="cost")),
    "simple_paths": (lambda: em.SimplePaths(2, 2), lambda: em.SimplePaths(2, 3)),
}
OTHERS = {
    "automaton": (lambda: em.rules.parity(3), lambda: em.rules.parity(4)),
    "circuit": (lambda: em.Circuit.from_automaton(em.rules.parity(3)), lambda: em.SimplePaths(2, 2)),
    "black_box": (
        lambda: em.BlackBox(label=total, latent_shape=(2,), cardinality=3),
        lambda: em.BlackBox(label=total, latent_shape=(2,), cardinality=(3, 2)),
    ),
}


@pytest.mark.parametrize("name", PLAIN | OTHERS)
def test_problems_are_equal_by_their_settings(name: str) -> None:
    make, make_other = (PLAIN | OTHERS)[name]
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != make_other()
    assert make() != "a problem"


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda problem: pickle.loads(pickle.dumps(problem))])
@pytest.mark.parametrize("name", PLAIN | OTHERS)
def test_copies_of_problems_give_the_same_posterior(name: str, copied) -> None:
    problem = (PLAIN | OTHERS)[name][0]()
    logits = torch.randn(3, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(0))
    label = problem.label(logits.argmax(-1))
    expected = em.posterior(problem, logits, label)
    other = copied(problem)
    assert other == problem
    assert other.handle != problem.handle
    assert same(em.posterior(other, logits, label), expected)


class Named(em.Addition):
    """A problem of a user, with one more argument."""

    def __init__(self, name: str) -> None:
        super().__init__(2)
        self.name = name


def test_a_subclass_with_arguments_of_its_own_is_itself_alone() -> None:
    problem = Named("a")
    assert problem != Named("a")
    assert pickle.loads(pickle.dumps(problem)).name == "a"


@pytest.mark.parametrize("name", PLAIN)
def test_a_checkpoint_holds_a_problem(name: str) -> None:
    problem = PLAIN[name][0]()
    assert through_a_checkpoint(problem) == problem


def nonogram() -> em.FactorGraph:
    graph = em.FactorGraph(n_variables=6, cardinality=2)
    graph.add(em.factors.regular("0*1{2}0+1{1}0*"), range(5))
    graph.add(em.factors.parity(), [3, 4, 5])
    graph.add(em.factors.pairwise([[2.0, 1.0], [1.0, 2.0]]), [(4, 5)])
    return graph


COMPILED = {
    "automaton": lambda: em.rules.compare(2, base=3),
    "automaton in another order": lambda: em.Automaton(max, 0, bool, 3, 2, order=(2, 0, 1)),
    "circuit": lambda: em.Circuit.from_cnf("p cnf 3 2\n1 2 0\n-1 3 0\n"),
    "factor graph": nonogram,
}


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("name", COMPILED)
def test_a_checkpoint_holds_a_compiled_problem_before_and_after_use(name: str) -> None:
    problem = COMPILED[name]()
    logits = torch.randn(3, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(0))
    label = torch.ones(3, *problem.label_shape, dtype=torch.int64)
    fresh = through_a_checkpoint(problem)
    engines = [None, em.ABC(samples=8), em.Gibbs(chains=1, sweeps=2), em.MAP()]
    engines = [engine for engine in engines if name != "factor graph" or engine is None or engine == em.MAP()]
    expected = [em.posterior(problem, logits, label, engine) for engine in engines]
    for restored in (fresh, through_a_checkpoint(problem)):
        found = [em.posterior(restored, logits, label, engine) for engine in engines]
        assert all(map(same, found, expected))


def test_a_checkpoint_with_a_function_of_the_user_names_the_function() -> None:
    problem = em.BlackBox(label=total, latent_shape=(2,), cardinality=3)
    with pytest.raises(pickle.UnpicklingError, match=r"add_safe_globals\(\[tests.test_objects.total\]\)"):
        through_a_checkpoint(problem)
    with torch.serialization.safe_globals([total]):
        assert through_a_checkpoint(problem) == problem


@pytest.mark.parametrize("engine", [em.Exact(), em.BeliefPropagation(3), em.ABC(8, seed=2), em.Gibbs(2), em.MAP()])
def test_a_checkpoint_holds_an_engine(engine: em.Engine) -> None:
    assert repr(through_a_checkpoint(engine)) == repr(engine)
