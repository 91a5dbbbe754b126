"""From a program that reads symbols to its circuit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu.automata.compile import compile_step_at, compile_tables
from emnesy_gpu.automata.explore import unroll_arrays
from emnesy_gpu.automata.labels import Observer
from emnesy_gpu.automata.machine import Machine
from emnesy_gpu.circuits.diagram import machine_graph
from emnesy_gpu.circuits.graph import Graph


class Program(NamedTuple):
    """What the user gives: step(state, value, position), the first state, and finish(last state) -> label.

    given: positions of symbols that belong to the label. labels: those that exist even where no state has them. arrays:
    step and finish work on integer arrays.
    """

    step: Callable[..., Any]
    start: Hashable
    finish: Callable[[Any], Any] | None
    given: tuple[int, ...] = ()
    labels: tuple[Hashable, ...] = ()
    arrays: bool = False


class Labelled(NamedTuple):
    """A circuit, and the labels of the values of each entry of its label."""

    graph: Graph
    labels: list[tuple[Hashable, ...]]


def compile_program(
    program: Program, cardinalities: Sequence[int], order: Sequence[int] | None, max_states: int
) -> Labelled:
    """The decision diagram of a program; order: the symbol that each hidden position reads.

    Raises what ``compile_step_at`` raises, and ValueError for positions in ``given`` that do not exist.
    """
    _check_given(program.given, len(cardinalities))
    machine = _machine(program, cardinalities, max_states)
    entries: list[tuple[Hashable, ...]] = [tuple(range(cardinalities[position])) for position in program.given]
    if program.given:
        machine = replace(machine, observed={})  # every last state is accepted, and no label is seen
    seen = [observation.labels for observation in machine.observed.values()]
    return Labelled(machine_graph(machine, program.given, order), seen + entries)


def _machine(program: Program, cardinalities: Sequence[int], max_states: int) -> Machine:
    observer = Observer(_finish(program), None, program.labels)
    if program.arrays:
        tables, states = unroll_arrays(program.step, program.start, cardinalities, max_states)
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
