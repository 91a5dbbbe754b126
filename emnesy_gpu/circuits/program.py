"""From a program that reads symbols to its circuit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from math import log2, prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emnesy_gpu.automata.compile import compile_step_at, compile_tables
from emnesy_gpu.automata.explore import unroll_arrays
from emnesy_gpu.automata.labels import Observer
from emnesy_gpu.automata.machine import Machine
from emnesy_gpu.automata.minimise import grouped_rows
from emnesy_gpu.circuits.checks import check_deterministic
from emnesy_gpu.circuits.diagram import machine_graph
from emnesy_gpu.circuits.graph import Graph

MOST_ASSIGNMENTS = 1 << 20
"""Assignments of which a predicate is asked at most."""

MOST_PAIRS = 1 << 22
"""Pairs of edges that are looked at for one position, to see whether some symbols have several labels."""


class Program(NamedTuple):
    """What the user gives: step(state, value, position), the first state, and finish(last state) -> label.

    given: positions of symbols that belong to the label. labels: those that exist even where no state has them. arrays:
    step and finish work on integer arrays. trusted: step is our own, and is not tested.
    """

    step: Callable[..., Any]
    start: Hashable
    finish: Callable[[Any], Any] | None
    given: tuple[int, ...] = ()
    labels: tuple[Hashable, ...] = ()
    arrays: bool = False
    trusted: bool = False


class Labelled(NamedTuple):
    """A circuit, and the labels of the values of each entry of its label."""

    graph: Graph
    labels: list[tuple[Hashable, ...]]


def compile_program(
    program: Program, cardinalities: Sequence[int], order: Sequence[int] | None, max_states: int
) -> Labelled:
    """The decision diagram of a program; order: the symbol that each hidden position reads.

    Raises what ``compile_step_at`` raises, and ValueError for positions in ``given`` that do not exist, or whose values
    are not a function of the other symbols.
    """
    _check_given(program.given, len(cardinalities))
    machine = _machine(program, cardinalities, max_states)
    known = {position: cardinalities[position] for position in program.given}
    entries: list[tuple[Hashable, ...]] = [tuple(range(size)) for size in known.values()]
    if program.given:
        machine = replace(machine, observed={})  # every last state is accepted, and no label is seen
    seen = [observation.labels for observation in machine.observed.values()]
    graph = machine_graph(machine, known, order)
    if program.given:
        _check_label_is_function(machine, graph, program.given)
    return Labelled(graph, seen + entries)


def _check_label_is_function(machine: Machine, graph: Graph, given: Sequence[int]) -> None:
    """Raise ValueError where the machine accepts the same symbols with several labels.

    Exact by pairs of states up to ``MOST_PAIRS``; with more of them by assignments of the circuit, as ``check`` does.
    """
    several = has_several_labels(machine, set(given))
    if several is None:
        check_deterministic(graph)
    elif several:
        raise ValueError(
            "the label must be a function of the symbols, got a program that accepts some symbols with several values "
            f"at the positions given={list(given)}"
        )


def has_several_labels(machine: Machine, given: AbstractSet[int]) -> bool | None:
    """Whether two accepted paths differ in values at ``given`` positions alone; None where the search gives up.

    Pairs of states are followed that two such paths reach. All states of the machine lead to its end, so that two
    paths which meet again are accepted.
    """
    pairs = np.zeros((0, 2), np.int64)
    first, second = np.triu_indices(machine.n_values, 1)
    for position, index in enumerate(machine.layer_of):
        successors = machine.layers[index].successors(machine.n_values)
        left, right = successors[pairs[:, 0]], successors[pairs[:, 1]]
        if position in given:
            splits = successors[(successors >= 0).sum(1) > 1]
            if (len(pairs) * machine.n_values + len(splits)) * machine.n_values > MOST_PAIRS:
                return None
            left, right = np.broadcast_arrays(left[:, :, None], right[:, None, :])
            left = np.concatenate([left.reshape(-1), splits[:, first].reshape(-1)])
            right = np.concatenate([right.reshape(-1), splits[:, second].reshape(-1)])
        alive = (left >= 0) & (right >= 0)
        reached = np.stack([left[alive], right[alive]], 1)
        if (reached[:, 0] == reached[:, 1]).any():
            return True
        pairs = np.unique(np.sort(reached, 1), axis=0)
    return len(pairs) > 0


def compile_predicate(
    holds: Callable[[Tensor], Tensor], latent_shape: tuple[int, ...], cardinality: int, max_states: int
) -> Labelled:
    """The decision diagram of a function that is asked for all assignments.

    Raises ValueError for too many assignments or states, and for results of a wrong dtype, shape or value.
    """
    n = prod(latent_shape)
    if n * log2(cardinality) > log2(MOST_ASSIGNMENTS):
        raise ValueError(f"cardinality^symbols = {cardinality}^{n} assignments are more than {MOST_ASSIGNMENTS}")
    labels = _labels_of_all(holds, latent_shape, cardinality)
    known, numbers = np.unique(labels, return_inverse=True)
    tables, states = [], [len(known)]
    for _ in range(n):
        rows = numbers.reshape(-1, cardinality)
        numbers, first = grouped_rows(rows)
        tables.append(rows[first])
        states.append(len(tables[-1]))
    if max(states) > max_states:
        raise ValueError(f"the diagram has {max(states)} states, more than max_states={max_states}")
    machine = compile_tables(tables[::-1], states[::-1], known.tolist(), Observer(None, None))
    return Labelled(machine_graph(machine), [seen.labels for seen in machine.observed.values()])


def _labels_of_all(
    holds: Callable[[Tensor], Tensor], latent_shape: tuple[int, ...], cardinality: int
) -> NDArray[np.int64] | NDArray[np.bool_]:
    """The labels of all assignments in lexicographic order."""
    n = prod(latent_shape)
    numbers = torch.arange(cardinality**n, device="cpu")
    powers = torch.tensor([cardinality**i for i in reversed(range(n))], device="cpu")
    found = holds((numbers[:, None] // powers % cardinality).view(-1, *latent_shape))
    integers = isinstance(found, Tensor) and not found.is_floating_point() and not found.is_complex()
    if not integers or found.shape != numbers.shape:
        got = f"{found.dtype} of shape {list(found.shape)}" if isinstance(found, Tensor) else repr(found)
        raise ValueError(f"holds(z) must return bools or integers of shape [{len(numbers)}], got {got}")
    if found.dtype != torch.bool and bool((found < 0).any()):
        raise ValueError(f"holds(z) must return integers >= 0, got {int(found.min())}")
    labels: NDArray[np.int64] = found.cpu().numpy()
    return labels


def _machine(program: Program, cardinalities: Sequence[int], max_states: int) -> Machine:
    observer = Observer(_finish(program), None, program.labels)
    if program.arrays:
        step, start = program.step, program.start
        tables, states = unroll_arrays(step, start, cardinalities, max_states, trusted=program.trusted)
        return compile_tables(tables, [len(at) for at in states], _array_labels(program, states[-1]), observer)
    return compile_step_at(program.step, program.start, cardinalities, observer, max_states)


def _finish(program: Program) -> Callable[[Any], Any]:
    finish = program.finish
    if finish is None:
        return lambda state: True
    return (lambda state: True if finish(state) else None) if program.given else finish


def _array_labels(program: Program, states: NDArray[np.int64]) -> list[Any]:
    """The label of each last state, None for none, from a finish that takes and returns arrays."""
    if program.finish is None:
        return [True] * len(states)
    found = np.asarray(program.finish(states))
    if found.dtype.kind not in "biu" or found.shape not in ((), states.shape):
        raise ValueError(
            f"finish must return integers or bools of shape {list(states.shape)}, got {found.dtype} "
            f"of shape {list(found.shape)}"
        )
    found = np.broadcast_to(found, states.shape)
    if program.given:
        accepted = found if found.dtype.kind == "b" else found >= 0
        return [True if yes else None for yes in accepted.tolist()]
    return found.tolist() if found.dtype.kind == "b" else [None if label < 0 else label for label in found.tolist()]


def _check_given(given: Sequence[int], n_positions: int) -> None:
    if len(set(given)) != len(given) or not all(0 <= position < n_positions for position in given):
        raise ValueError(f"given must hold different positions in 0..{n_positions - 1}, got {list(given)}")
    if len(given) == n_positions:
        raise ValueError("given holds every position: nothing is hidden")
