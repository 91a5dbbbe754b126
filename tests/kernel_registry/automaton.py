"""Exact inference on automata of 2 to 1,000 states: sums, a hidden Markov chain, layers, a sink, long chains."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import torch

import emnesy_gpu as em
from emnesy_gpu.automata.machine import Layer, Machine, Observation
from emnesy_gpu.automata.tables import make_tables
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from tests.kernel_registry.entry import Entry

_MORE: dict[str, tuple[Any, ...]] = {"posterior": (), "em_gradient": (0.3,), "map_assignment": (), "sample": (3, 7, 2)}
_NAMES = {torch.float32: "", torch.float64: " float64", torch.bfloat16: " bfloat16"}


@cache
def sum_modulo(n_states: int, n_values: int, n: int) -> AutomatonTables:
    """3 s + v modulo the number of states: every state is reached, and every value acts in its own way."""
    rule = em.Automaton(lambda s, v: (3 * s + v) % n_states, 1, lambda s: s, n, n_values)
    return rule.tables(torch.device("cpu"))


@cache
def different_values(n_states: int, n_values: int, n: int) -> AutomatonTables:
    """Every value acts in its own way as far as there are enough ways, and the states of all positions are the same."""
    generator = np.random.default_rng(n_states)
    state = np.arange(n_states)
    columns = [state, (state + 1) % n_states]
    while len(columns) < min(n_values, n_states**n_states):
        column = generator.integers(0, n_states, n_states)
        columns += [] if any((column == other).all() for other in columns) else [column]
    table = [column.tolist() for column in columns]
    rule = em.Automaton(lambda s, v: table[v % len(table)][s], 0, lambda s: s, n, n_values)
    return rule.tables(torch.device("cpu"))


@cache
def with_a_sink() -> AutomatonTables:
    """Twelve states that nearly all values leave for the first: it has more edges than a column of incoming holds."""
    rule = em.Automaton(lambda s, v: s + 1 if v == s % 5 and s < 11 else 0, 0, lambda s: s, 14, 5)
    return rule.tables(torch.device("cpu"))


@cache
def two_classes() -> AutomatonTables:
    """How often the value 2 came, up to eleven times: of each position, and of every start of a longer chain."""
    rule = em.Automaton(lambda s, v: min(s + (v == 2), 11), 0, output=lambda s: s, n_symbols=12, cardinality=4)
    return rule.tables(torch.device("cpu"))


@cache
def _layered() -> AutomatonTables:
    """Another table at every position, values that act alike or are forbidden, and an entry of the label after most."""

    def step(state: int, value: int, position: int) -> int | None:
        return None if value == 4 else (state + (value // 2) * (position + 1)) % 5

    def output(state: int, position: int) -> int | None:
        return None if position == 2 else state // 2

    return em.Automaton(step_at=step, output=output, n_symbols=5, cardinality=5).tables(torch.device("cpu"))


@cache
def hidden_markov_chain() -> AutomatonTables:
    """Six states with several weighted edges for a state and a value, several starts, and noisy labels."""
    generator = np.random.default_rng(0)
    weight = generator.random((6, 4, 6)) * (generator.random((6, 4, 6)) > 0.5)
    edges = [part.astype(np.int32) for part in np.nonzero(weight)]
    seen = {position: Observation((0, 1), generator.random((2, 6))) for position in (1, 4)}
    machine = Machine((Layer(*edges, weight[weight > 0], 6, 6),), (0,) * 5, 4, generator.random(6), seen)
    return make_tables(machine, [{0: 0, 1: 1}] * 2)


@cache
def weighted(n_states: int, n_values: int, dense: bool, n: int) -> AutomatonTables:
    """Random weights from every state by every value to every state, as in a hidden Markov chain, or to one of them."""
    generator = np.random.default_rng(0)
    weight = 0.1 + 0.9 * generator.random((n_states, n_values, n_states))
    if not dense:
        source, value, target = np.indices(weight.shape)
        weight *= target == (3 * source + value) % n_states
    edges = [part.astype(np.int32) for part in np.nonzero(weight)]
    layer = Layer(*edges, weight[weight > 0], n_states, n_states)
    seen = {n - 1: Observation((0, 1), generator.random((2, n_states)))}
    machine = Machine((layer,), (0,) * n, n_values, generator.random(n_states), seen)
    return make_tables(machine, [{0: 0, 1: 1}])


def _draw(
    function: str, tables: partial[AutomatonTables], batch: int, sd: float, dtype: torch.dtype, backwards: bool
) -> tuple[Any, ...]:
    """The last rows have hard zeros, an invalid label and invalid logits. Launches keep what they make of tables."""
    t = tables()
    generator = torch.Generator().manual_seed(0)
    n, n_values = len(t.layer), t.classes.shape[1]
    logits = sd * torch.randn(batch, n, n_values, generator=generator)
    logits[-3, 0, 1:] = float("-inf")
    rows = torch.randint(0, t.emissions.shape[1], (batch, len(t.emissions)), generator=generator, dtype=torch.int32)
    rows[-2, 0] = -1
    logits[-1, 1, 0] = float("nan")
    symbols = [torch.arange(n).flip(0)] if backwards else []
    return logits.to(dtype), rows, [table.clone() for table in t], *_MORE[function], *symbols


def _entry(
    function: str, name: str, tables: partial[AutomatonTables], batch: int = 6, sd: float = 2.0,
    dtype: torch.dtype = torch.float32, backwards: bool = False, **options: Any,
) -> Entry:  # fmt: skip
    tolerance = {"atol": 1e-12, "rtol": 1e-12} if dtype == torch.float64 else {}
    draw = partial(_draw, function, tables, batch, sd, dtype, backwards)
    return Entry("automaton", function, f"{name}{_NAMES[dtype]}", draw, **{**tolerance, **options})


_SEVEN = partial(sum_modulo, 7, 4, 5)
_CHAIN = partial(hidden_markov_chain)

ENTRIES = [
    _entry("posterior", "7 states", _SEVEN, variants=True),
    _entry("em_gradient", "7 states", _SEVEN),
    _entry("map_assignment", "7 states", _SEVEN, variants=True),
    _entry("sample", "7 states", _SEVEN, variants=True),
    _entry("posterior", "7 states backwards", _SEVEN, backwards=True),
    _entry("em_gradient", "layers backwards", partial(_layered), backwards=True, slow=True),
    _entry("posterior", "31 states", partial(sum_modulo, 31, 10, 6), interpreted=False),
    _entry("posterior", "a sink", partial(with_a_sink), interpreted=False),
    _entry("posterior", "layers", partial(_layered)),
    _entry("posterior", "hidden Markov chain", _CHAIN),
    _entry("map_assignment", "hidden Markov chain", _CHAIN, interpreted=False),
    _entry("sample", "hidden Markov chain", _CHAIN, interpreted=False),
    _entry("posterior", "7 states extreme", _SEVEN, sd=3000.0, slow=True),
    _entry("posterior", "7 states", _SEVEN, dtype=torch.float64, slow=True),
    _entry("posterior", "7 states", _SEVEN, dtype=torch.bfloat16, slow=True),
    _entry("posterior", "2 states", partial(sum_modulo, 2, 2, 9), slow=True),
    _entry("posterior", "64 states", partial(sum_modulo, 64, 10, 6), slow=True, interpreted=False),
    _entry("posterior", "255 states", partial(sum_modulo, 255, 10, 8), slow=True, interpreted=False),
    _entry("posterior", "1,000 states", partial(sum_modulo, 1000, 10, 12), slow=True, interpreted=False),
    _entry("posterior", "7 states in blocks", partial(sum_modulo, 7, 4, 70), slow=True, interpreted=False),
]
