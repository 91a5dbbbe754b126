"""What is called: one case for each op, with the same computation in plain C++ and in JAX where there is one.

JAX takes part where it is installed, and C++ where there is a compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import automaton_jax, cpp, e_steps_jax
from emnesy_gpu.benchmarks import automaton, circuit
from emnesy_gpu.benchmarks.suite import Calls

METHODS = {
    "call": "the call as users make it",
    "no check": "the same with check=False",
    "posterior": "em.posterior of the same rows, beside a loss with its gradient",
    "C++": "the same in plain C++, row after row, by the compiler of this machine",
    "JAX": "the same in JAX, compiled for this batch, where it is installed",
}
CPU = torch.device("cpu")
SWEEPS = 5
FAVOUR = 4.0
"""Of a net that reads about four of five cells, so that samples satisfy some groups."""

STATES, SYMBOLS = 4, 20
"""Of the automaton: the sum of the symbols modulo 4."""

CIRCUIT = "permutation-of-8"


def _logits(problem: em.Problem, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, *problem.latent_shape, problem.cardinality, generator=generator)


def _sums(n_digits: int, batch: int) -> tuple[em.Addition, Tensor, Tensor]:
    problem = em.Addition(n_digits)
    z = torch.randint(0, 10, (batch, 2, n_digits), generator=torch.Generator().manual_seed(batch))
    return problem, _logits(problem, batch), problem.label(z)


def _posterior(row: tuple[Any, Tensor, Tensor], engine: Any = None) -> Calls:
    return {
        "call": lambda: em.posterior(*row, engine).marginals,
        "no check": lambda: em.posterior(*row, engine, check=False).marginals,
    }


def _rivals(**calls: Callable[[], Tensor]) -> Calls:
    """Those that can run here; ``cpp`` and ``jax`` by name."""
    names = {"cpp": "C++", "jax": "JAX"}
    present = {"cpp": cpp.compiler() is not None, "jax": find_spec("jax") is not None}
    return {names[name]: call for name, call in calls.items() if present[name]}


jax_addition = cache(e_steps_jax.addition)


@cache
def jax_automaton() -> automaton_jax.Run:
    return automaton_jax.posterior(_next_state().numpy())


@cache
def jax_sudoku() -> e_steps_jax.Run:
    return e_steps_jax.enumeration(sudoku(4).tables(CPU).assignments)  # type: ignore[arg-type]


@cache
def sudoku(size: int) -> em.Sudoku:
    return em.Sudoku(size)


@cache
def _next_state() -> Tensor:
    return ((torch.arange(STATES)[:, None] + torch.arange(STATES)) % STATES).int()


def addition(n_digits: int, batch: int) -> Calls:
    row = _sums(n_digits, batch)
    return _posterior(row) | _rivals(cpp=lambda: cpp.addition(*row[1:])[0], jax=lambda: jax_addition()(*row[1:])[0])


def _boards(size: int, batch: int) -> tuple[em.Sudoku, Tensor, Tensor]:
    """Logits that favour the values of a valid board, and label 1."""
    problem, box = sudoku(size), int(size**0.5)
    row, column = torch.arange(size)[:, None], torch.arange(size)
    board = (box * (row % box) + row // box + column) % size
    favoured = FAVOUR * torch.nn.functional.one_hot(board, size)
    return problem, _logits(problem, batch) + favoured, torch.ones(batch, dtype=torch.int64)


def exact_sudoku(batch: int) -> Calls:
    row = problem, logits, _ = _boards(4, batch)
    flat, listed = logits.flatten(1, 2), problem.tables(CPU).assignments
    return _posterior(row) | _rivals(
        cpp=lambda: cpp.enumeration(flat, listed)[0].view_as(logits),  # type: ignore[arg-type]
        jax=lambda: jax_sudoku()(flat)[0].view_as(logits),
    )


def loopy_sudoku(batch: int) -> Calls:
    row = problem, logits, _ = _boards(9, batch)
    flat, groups = logits.flatten(1, 2), problem.tables(CPU).groups
    engine = em.BeliefPropagation(iterations=SWEEPS, damping=0.0, tolerance=0.0)

    def plain() -> Tensor:
        return cpp.belief_propagation(flat, groups, problem.serial_phases, SWEEPS).view_as(logits)

    return _posterior(row, engine) | _rivals(cpp=plain)


def sampled_sudoku(samples: int, batch: int) -> Calls:
    row = problem, logits, _ = _boards(9, batch)
    flat, groups = logits.flatten(1, 2), problem.tables(CPU).groups
    calls = _posterior(row, em.ABC(samples, weighting="fraction"))
    return calls | _rivals(cpp=lambda: cpp.abc(flat, groups, samples, 0).view_as(logits))


def gibbs_sudoku(batch: int) -> Calls:
    return _posterior(_boards(9, batch), em.Gibbs(chains=8, sweeps=20))


def paths(size: int, batch: int) -> Calls:
    """The path of a map of classes."""
    problem = em.ShortestPath(size)
    z = torch.randint(0, 5, (batch, size, size), generator=torch.Generator().manual_seed(batch))
    tenths = torch.tensor([round(10 * cost) for cost in problem.costs], dtype=torch.int32)
    return {"call": lambda: problem.label(z)} | _rivals(cpp=lambda: cpp.shortest_path(tenths[z]))


def paths_of_costs(size: int, batch: int) -> Calls:
    """The path of a map of float costs; the rival is given integers."""
    problem = em.ShortestPath(size)
    costs = torch.rand(batch, size, size, generator=torch.Generator().manual_seed(batch)) + 0.1
    numbers = (costs * 2**20).int()
    return {"call": lambda: problem.cheapest_path(costs)} | _rivals(cpp=lambda: cpp.shortest_path(numbers))


def small_automaton(batch: int) -> Calls:
    row = automaton.inputs(STATES, batch, CPU, SYMBOLS)
    return _posterior(row) | _rivals(
        cpp=lambda: cpp.automaton(*row[1:], _next_state())[0], jax=lambda: jax_automaton()(*row[1:])[0]
    )


def small_circuit(batch: int) -> Calls:
    problem, logits, label, _ = circuit.inputs(CIRCUIT, batch, CPU)
    return _posterior((problem, logits, label))


def loss(rows: Callable[[int], tuple[Any, Tensor, Tensor]], batch: int) -> Calls:
    """``em.fused_em_loss`` and its gradient through autograd, beside the posterior."""
    problem, logits, label = rows(batch)
    leaf = logits.clone().requires_grad_()

    def step() -> Tensor:
        return torch.autograd.grad(em.fused_em_loss(problem, leaf, label), leaf)[0]

    return {"call": step, "posterior": lambda: em.posterior(problem, logits, label).marginals}


CASES: dict[str, Callable[[int], Calls]] = {
    "addition-4": partial(addition, 4),
    "addition-100": partial(addition, 100),
    "sudoku-4": exact_sudoku,
    "sudoku-9-bp": loopy_sudoku,
    "sudoku-9-abc-32": partial(sampled_sudoku, 32),
    "sudoku-9-abc-1024": partial(sampled_sudoku, 1024),
    "sudoku-9-gibbs": gibbs_sudoku,
    "path-12": partial(paths, 12),
    "path-30": partial(paths, 30),
    "path-30-costs": partial(paths_of_costs, 30),
    "automaton": small_automaton,
    "circuit": small_circuit,
    "addition-4-loss": partial(loss, partial(_sums, 4)),
    "sudoku-4-loss": partial(loss, partial(_boards, 4)),
    "automaton-loss": partial(loss, lambda batch: automaton.inputs(STATES, batch, CPU, SYMBOLS)),
    "circuit-loss": partial(loss, lambda batch: circuit.inputs(CIRCUIT, batch, CPU)[:3]),
}
"""Name -> the methods as calls without arguments, for a batch; all but those of losses return the same as ``call``."""
