"""A few rows take a shorter way through the CPU kernels: it has the bits of a large batch, or leaves the rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.backends import load_kernels
from emnesy_gpu.inference.results import Marginals
from emnesy_gpu.kernels.logits import LARGEST_LOGIT
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.label_rows import label_rows
from emnesy_gpu.ops.registry import bounded
from emnesy_gpu.problems.few_rows import by_few_rows

FEW = (1, 2, 3, 4, 5, 16, 17)
ROWS = 70
"""More than two blocks of lanes."""


def factor_graph(*factors: tuple[em.factors.Factor, list[tuple[int, ...]]]) -> em.FactorGraph:
    graph = em.FactorGraph(7, 3)
    for factor, scopes in factors:
        graph.add(factor, scopes)
    return graph


COUPLING = em.factors.pairwise([[2.0, 1.0, 0.5], [0.7, 3.0, 1.0], [1.0, 0.2, 1.5]])

PROBLEMS = {
    "addition": em.Addition(4),
    "addition-of-numbers": em.Addition(4, label="number"),
    "short-addition": em.Addition(1, base=2),
    "long-addition": em.Addition(40, base=32),
    "three-addends": em.Addition(3, n_addends=3),
    "sudoku": em.Sudoku(4),
    "automaton": em.rules.modulo(6, 3),
    "automaton-in-another-order": em.Automaton(
        lambda s, v: (2 * s + v) % 5, 0, lambda s: s, latent_shape=(2, 3), cardinality=3, order=[5, 0, 3, 1, 2, 4]
    ),
    "automaton-without-a-label": em.Automaton(lambda s, v: max(s, v), 0, lambda s: s > 1, 12, 3),
    "circuit": em.Circuit.from_program(
        lambda total, value, i: (total + value) % 3, n_symbols=5, cardinality=4, start=0
    ),
    "all-different": em.AllDifferent([(0, 1, 2), (1, 2, 3)], 4, 5),
    "tree-of-pairs": factor_graph((COUPLING, [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)])),
    "tree-of-chains": factor_graph((COUPLING, [(0, 1), (3, 5)]), (em.factors.order(), [(1, 2, 3), (4, 5, 6)])),
}


LABEL_IS_1 = em.AllDifferent, em.FactorGraph


def rows_of(name: str) -> tuple[em.Problem, Tensor, Tensor]:
    """Logits of every scale, some of them hard zeros, with labels that are possible."""
    problem, generator = PROBLEMS[name], torch.Generator().manual_seed(0)
    shape = ROWS, *problem.latent_shape
    logits = torch.randn(*shape, problem.cardinality, generator=generator)
    logits *= torch.logspace(-3, 1, ROWS).view(-1, *[1] * (logits.dim() - 1))
    z = torch.randint(0, problem.cardinality, shape, generator=generator)
    hard = torch.rand(logits.shape, generator=generator) < 0.05
    logits = logits.masked_fill(hard & ~torch.nn.functional.one_hot(z, problem.cardinality).bool(), -torch.inf)
    label = torch.ones(ROWS, dtype=torch.int64) if isinstance(problem, LABEL_IS_1) else problem.label(z)
    return problem, logits, label


def results(problem: em.Problem, logits: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    post = em.posterior(problem, logits, label)
    gradient = torch.autograd.functional.vjp(
        lambda x: em.fused_em_loss(problem, x, label, reduction="none"), logits, torch.ones(len(logits))
    )[1]
    return post.marginals, post.log_evidence, post.possible, gradient


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_few_rows_have_the_bits_of_a_large_batch(name: str) -> None:
    problem, logits, label = rows_of(name)
    whole = results(problem, logits, label)
    for size in FEW:
        for first in (0, ROWS - size):
            rows = slice(first, first + size)
            for few, many in zip(results(problem, logits[rows], label[rows]), whole, strict=True):
                assert torch.equal(few, many[rows])


METHODS: dict[str, tuple[float, ...]] = {
    "exact_marginals": (0.0, 1.0),
    "em_gradient": (1.0, -0.5),
    "map_assignment": (),
}
DIRECT = [name for name, problem in PROBLEMS.items() if not isinstance(problem, em.FactorGraph)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DIRECT)
def test_the_short_way_of_a_method_has_its_bits(name: str, method: str) -> None:
    problem, hard, label = rows_of(name)
    call, scale = getattr(problem, method), [0.5] if method == "em_gradient" else []
    for size in (1, 4, 17):
        for logits in (torch.randn_like(hard[:size]), hard[:size]):
            found = by_few_rows(call, logits, label[:size], *METHODS[method])
            assert found is not None or logits.isinf().any() or size > 4  # long rows are left to threads
            for few, many in zip(found or (), call(logits, label[:size], *scale, True), strict=False):
                assert torch.equal(few, many)


def assert_large_logits_are_left_or_bounded(way: Callable[[Tensor], tuple[Tensor, ...] | None], logits: Tensor) -> None:
    found = way(logits)
    if found is not None:
        for part, other in zip(found, way(bounded(logits)) or (), strict=True):
            assert torch.equal(part, other)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", DIRECT)
def test_the_short_way_of_a_method_takes_ordinary_rows_alone(name: str, method: str) -> None:
    problem, logits, label = rows_of(name)
    call, numbers = getattr(problem, method), METHODS[method]
    logits, label = torch.randn_like(logits[:2]), label[:2]
    for value in (2 * LARGEST_LOGIT, torch.nan, torch.inf):
        wrong = logits.clone()
        wrong[(1, *[0] * (logits.dim() - 1))] = value
        if value == 2 * LARGEST_LOGIT:
            assert_large_logits_are_left_or_bounded(lambda some: by_few_rows(call, some, label, *numbers), wrong)
        else:
            assert by_few_rows(call, wrong, label, *numbers) is None
    empty = logits.clone()
    empty[(1, *[0] * (logits.dim() - 2))] = -torch.inf
    assert by_few_rows(call, empty, label, *numbers) is None
    for value in (-2, 2**40):
        assert by_few_rows(call, logits, torch.full_like(label, value), *numbers) is None
    assert by_few_rows(call, logits.double(), label, *numbers) is None
    assert by_few_rows(call, logits.clone().requires_grad_(), label, *numbers) is None
    zeros = torch.full_like(logits, -torch.inf)
    zeros[..., 0] = 0.0
    theirs = problem.label(torch.zeros(logits.shape[:-1], dtype=torch.int64))
    for other in rows_of(name)[2]:
        possible = torch.equal(other, theirs[0])
        assert possible or by_few_rows(call, zeros, other.expand_as(theirs), *numbers) is None
    with em.backend("reference"):
        assert by_few_rows(call, logits, label, *numbers) is None


def test_a_method_of_a_subclass_is_not_left_out() -> None:
    class Doubled(em.Addition):
        def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
            return super().exact_marginals(2 * logits, label, check)

    _, logits, label = rows_of("addition")
    found = em.posterior(Doubled(4), logits[:2], label[:2])
    assert torch.equal(found.marginals, em.posterior(em.Addition(4), 2 * logits[:2], label[:2]).marginals)


def short_way(name: str, logits: Tensor, label: Tensor) -> tuple[Tensor, ...] | None:
    problem, cpu, weights = PROBLEMS[name], torch.device("cpu"), (0.0, 1.0)
    if name in ("addition-of-numbers", "automaton-in-another-order"):
        return by_few_rows(problem.exact_marginals, logits, label, *weights)  # type: ignore[attr-defined]
    if isinstance(problem, em.Addition):
        return load_kernels("cpu", "carry_chain").few_rows(logits, label, *weights)
    if isinstance(problem, em.AllDifferent):
        assignments = problem.tables(cpu).assignments
        return load_kernels("cpu", "enumeration").few_rows(logits, label, assignments, *weights)
    symbols, codes = logits.flatten(1, -2), label.reshape(len(label), -1)
    if isinstance(problem, em.FactorGraph):
        settings = 1, 0.0, "serial", 0.0, False
        return load_kernels("cpu", "factor_graph").few_rows(logits, label, problem.tables(cpu).to_list(), *settings)
    if isinstance(problem, em.Automaton):
        return load_kernels("cpu", "automaton").few_rows(symbols, codes, list(problem.tables(cpu)), *weights)
    tables, tape_rows = problem.compiled(cpu)[:2]
    return load_kernels("cpu", "circuit").few_rows(symbols, codes, list(tables), tape_rows, False, *weights)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("size", [1, 4])
def test_the_short_way_takes_ordinary_rows_alone(name: str, size: int) -> None:
    _, logits, label = rows_of(name)
    logits, label = torch.randn_like(logits[:size]), label[:size]
    assert short_way(name, logits, label) is not None
    last = (size - 1, *[0] * (logits.dim() - 2))
    for value in (2 * LARGEST_LOGIT, -2 * LARGEST_LOGIT, torch.nan, torch.inf):
        wrong = logits.clone()
        wrong[(*last, 0)] = value
        if abs(value) == 2 * LARGEST_LOGIT:
            assert_large_logits_are_left_or_bounded(lambda some: short_way(name, some, label), wrong)
        else:
            assert short_way(name, wrong, label) is None
    empty = logits.clone()
    empty[last] = -torch.inf
    assert short_way(name, empty, label) is None
    for value in (-2, 2**40):
        assert short_way(name, logits, torch.full_like(label, value)) is None
    assert short_way(name, logits.double(), label) is None
    many = logits[:1].expand(1 << 17, *logits.shape[1:])
    assert short_way(name, many, label[:1].expand(1 << 17, *label.shape[1:])) is None


@pytest.mark.parametrize("threads", [1, 2])
def test_more_rows_of_automata_are_few_where_there_is_one_thread(threads: int) -> None:
    problem = PROBLEMS["automaton-without-a-label"]
    tables = list(problem.tables(torch.device("cpu")))  # type: ignore[attr-defined]
    kernels = load_kernels("cpu", "automaton")
    call = load_kernels("cpu", "automaton.addressed").call_of(tables)
    logits = torch.randn(call.most_rows + 1, 12, 3, generator=torch.Generator().manual_seed(0))
    label, before = torch.ones(len(logits), 1, dtype=torch.int64), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = kernels.few_rows(logits, label, tables, 0.0, 1.0)
        assert (found is not None) == (threads == 1)
        for few, many in zip(found or (), em.posterior(problem, logits.double(), label[:, 0]), strict=False):
            torch.testing.assert_close(few, many.to(few.dtype), atol=2e-6, rtol=1e-5)
        logits[-1, 5] = torch.nan
        assert kernels.few_rows(logits, label, tables, 0.0, 1.0) is None
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [1, 15, ROWS])
def test_the_most_probable_symbols_have_the_bits_of_the_long_way(size: int) -> None:
    problem = em.Circuit.from_program(lambda total, value, i: (total + value) % 3, 5, 4, lambda total: total)
    symbols, codes = rows_of("circuit")[1][:size], torch.arange(size) % 3
    tables = problem.compiled(torch.device("cpu")).tables
    kernels, rows = load_kernels("cpu", "circuit"), label_rows(codes[:, None], tables.codes)
    z, log_joint, status = kernels.map_assignment(symbols, rows, tables)
    assert (status == POSSIBLE).all()
    found = kernels.map_few_rows(symbols, codes, list(tables))
    assert found is not None
    for few, many in zip(found, (z, log_joint, status == POSSIBLE), strict=True):
        assert torch.equal(few, many)
    post = em.posterior(problem, symbols, codes, em.MAP())
    assert torch.equal(post.marginals, torch.nn.functional.one_hot(z, problem.cardinality).float())
    for wrong in (2 * LARGEST_LOGIT, torch.nan, torch.inf):
        assert kernels.map_few_rows(symbols.clone().fill_(wrong), codes, list(tables)) is None
    assert kernels.map_few_rows(symbols, torch.full_like(codes, 2**40), list(tables)) is None
    assert kernels.map_few_rows(symbols.double(), codes, list(tables)) is None
    # The sum of zeros is 0 alone.
    zeros = torch.full_like(symbols, -torch.inf)
    zeros[..., 0] = 0.0
    assert kernels.map_few_rows(zeros, torch.ones_like(codes), list(tables)) is None


def test_one_long_row_takes_the_short_way() -> None:
    problem = em.Addition(20_000)
    logits = torch.randn(4, *problem.latent_shape, 10, generator=torch.Generator().manual_seed(0))
    label = problem.label(logits.argmax(-1))
    few = load_kernels("cpu", "carry_chain").few_rows(logits[:1], label[:1], 0.0, 1.0)
    assert few is not None
    post = em.posterior(problem, logits, label)
    assert torch.equal(few[0][0], post.marginals[0])
    assert torch.equal(few[1][0], post.log_evidence[0])


@pytest.mark.parametrize("name", ["addition", "sudoku"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("batch", [3, 4])
def test_the_plain_loss_is_that_of_the_rows(name: str, dtype: torch.dtype, reduction: str, batch: int) -> None:
    problem, logits, label = rows_of(name)
    logits = logits[:batch].to(dtype).requires_grad_()
    whole = em.fused_em_loss(problem, logits, label[:batch], reduction)
    rows = em.fused_em_loss(problem, logits, label[:batch], reduction="none")
    reduced = getattr(rows, reduction)()
    torch.testing.assert_close(whole, reduced, rtol=1e-6, atol=0.0)
    expected = torch.autograd.grad(reduced, logits, torch.tensor(5.0))[0]
    for keep in (True, True, False):
        found = torch.autograd.grad(whole, logits, torch.tensor(5.0), retain_graph=keep)[0]
        assert found.dtype == dtype
        assert torch.equal(found, expected)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(whole, logits)


def test_the_gradient_of_the_plain_loss_is_a_constant() -> None:
    problem, logits, label = rows_of("addition")
    logits = logits[:2].requires_grad_()
    loss, weight = em.fused_em_loss(problem, logits, label[:2]), torch.ones((), requires_grad=True)
    gradient = torch.autograd.grad(loss * weight, logits, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
    loss = em.fused_em_loss(problem, logits, label[:2])
    many = torch.autograd.grad(loss, logits, torch.tensor([1.0, 3.0]), is_grads_batched=True)[0]
    torch.testing.assert_close(many, torch.stack([gradient, 3.0 * gradient]).detach())
