"""What the all-different kernels are given: the factors, the rows of the batch, and a layout of their numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import types

from emnesy_gpu.kernels.cpu.all_different.blocks import LOW
from emnesy_gpu.kernels.cpu.common.layout import consecutive_rows
from emnesy_gpu.kernels.cpu.common.records import Record, record_of, record_reader

NEGLIGIBLE = -17.0
"""Rows with label 0 and a log probability of validity below this are done: float32 cannot tell 1 - Z from 1."""


class Graph(NamedTuple):
    """Edge g * width + slot joins factor g and the variable in that slot."""

    groups: np.ndarray  # int64 [n_groups, width]: variables, -1 behind the last
    sizes: np.ndarray  # int64 [n_groups]
    first_edge: np.ndarray  # int64 [n_variables + 1]: of every variable in ``edges``
    edges: np.ndarray  # int64: edges sorted by variable
    phases: np.ndarray  # int64 [n_phases + 1]: first group of every phase
    overlapping: np.ndarray  # bool [n_phases]: groups of the phase share variables
    disjoint: np.ndarray  # bool [n_groups]: groups of the first phase, less those that overlap earlier ones


class Rows(NamedTuple):
    """Input and results of a batch."""

    chosen: np.ndarray  # int64: the rows to work on
    logits: np.ndarray  # [batch, n_variables * n_values]
    label: np.ndarray
    marginals: np.ndarray  # [batch, n_variables * n_values]
    log_evidence: np.ndarray
    status: np.ndarray
    sweeps: np.ndarray
    change: np.ndarray


class Layout(NamedTuple):
    """Sizes of the problem, and the first rows of what a scratch array holds."""

    n_variables: int
    n_values: int
    side: int  # of the square matrix of a factor, padded with members that take any value
    width: int
    subsets: int  # of values, half of all
    shared: int  # rows from the matrix to the permanent
    matrix: int  # [side, side]: messages to one factor
    minors: int  # [side, side]
    permanent: int
    priors: int  # [n_variables, n_values], the largest of a variable 1; later marginals
    prior_sums: int  # [n_variables]
    messages: int  # [n_edges, n_values]: from factors
    fresh: int  # [width * largest overlapping phase, n_values]: messages of the phase under way
    valid: int  # 1 where the logits are, else 0
    wanted: int  # 1 where the result is a posterior, 0 where it is the prior
    active: int  # 1 while the sweeps of a row go on
    good: int  # 1 while no number of a row has come close to underflow
    change: int  # of the last sweep
    changing: int  # of the sweep under way
    sweeps: int
    bound: int  # of log p(all different)
    total: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What kernels are told about the factors of a problem; made once: that takes as long as a sweep of one row."""

    graph: Graph
    at: Layout
    phases: tuple[int, ...]  # how many factors each has
    log_free: float  # log of the number of ways in which the members that pad the factors can be placed
    graph_record: Record
    layout_record: Record


graph_at = record_reader(
    Graph,
    groups=(types.int64, 2),
    sizes=(types.int64, 1),
    first_edge=(types.int64, 1),
    edges=(types.int64, 1),
    phases=(types.int64, 1),
    overlapping=(types.uint8, 1),
    disjoint=(types.uint8, 1),
)
layout_at = record_reader(Layout)
"""In kernels: (address of the record, any number) -> the named tuple."""


def plan_of(groups: np.ndarray, phases: Sequence[int], n_variables: int, n_values: int) -> Plan:
    """groups: int32 [n_groups, width], -1 behind the last member; phases: how many groups each has."""
    return _plan_of(groups.tobytes(), groups.shape[1], tuple(phases), n_variables, n_values)


@lru_cache(maxsize=16)
def _plan_of(members: bytes, width: int, phases: tuple[int, ...], n_variables: int, n_values: int) -> Plan:
    graph = _graph_of(np.frombuffer(members, np.int32).reshape(-1, width), phases, n_variables)
    at = _layout_of(graph, n_variables, n_values)
    log_free = sum((math.lgamma(at.side - size + 1) for size in graph.sizes.tolist()), start=0.0)
    return Plan(graph, at, phases, log_free, record_of(graph), record_of(at))


def _graph_of(groups: np.ndarray, phases: tuple[int, ...], n_variables: int) -> Graph:
    variables = groups.ravel()
    edges = np.flatnonzero(variables >= 0)
    edges = edges[np.argsort(variables[edges], kind="stable")]
    first_edge = np.searchsorted(variables[edges], np.arange(n_variables + 1))
    bounds = np.cumsum([0, *phases])
    counts = [np.bincount(part[part >= 0], minlength=1) for part in np.split(groups, bounds[1:-1])]
    overlapping = np.array([count.max() > 1 for count in counts[: len(phases)]], dtype=bool)
    disjoint, seen = np.zeros(len(groups), bool), np.zeros(n_variables, bool)
    for g in range(phases[0] if phases else 0):
        inside = groups[g, groups[g] >= 0]
        disjoint[g] = not seen[inside].any()
        seen[inside] |= disjoint[g]
    bounds, sizes = bounds.astype(np.int64), (groups >= 0).sum(1).astype(np.int64)
    return Graph(groups.astype(np.int64), sizes, first_edge, edges, bounds, overlapping, disjoint)


def _layout_of(graph: Graph, n_variables: int, n_values: int) -> Layout:
    """Rows of the scratch array for one number, table or matrix after the other."""
    (n_groups, width), side = graph.groups.shape, max(n_values, LOW)
    largest_phase = int(np.diff(graph.phases)[graph.overlapping].max(initial=0))
    sizes = {
        "matrix": side * side,
        "minors": side * side,
        "priors": n_variables * n_values,
        "prior_sums": n_variables,
        "messages": n_groups * width * n_values,
        "fresh": max(1, width * largest_phase) * n_values,
    }
    rows = consecutive_rows({name: sizes.get(name, 1) for name in Layout._fields[6:-1]})
    return Layout(n_variables, n_values, side, width, 1 << (side - 1), rows["permanent"] + 1, **rows)


def vectors_of(phases: Sequence[int], lanes: int) -> int:
    """How many vectors of so many lanes the factors of all phases fill."""
    return sum(-(-factors // lanes) for factors in phases)
