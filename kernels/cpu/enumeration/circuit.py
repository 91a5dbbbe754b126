"""The posterior over a list of assignments, by a circuit that shares what the assignments have in common.

Halving the symbols again and again, most parts of assignments occur in many of them: the 288 grids of a 4 x 4 Sudoku
have 96 different upper halves, and these 24 different rows. Each different part is one product of two smaller ones;
leaves are the probabilities p_i(v), and the sum of the M whole products is the evidence. Its derivatives with respect
to all parts, from the whole to the leaves, give the marginals p_i(v) * derivative / evidence. For 4 x 4 Sudoku that
takes 2,000 operations in place of 14,000.

Samples lie in float64 lanes. Rows of logits are scaled to a largest probability of 1; where the evidence is so small
that products may have underflown, the row is left to log space (``log_space``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import KeptTables
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT64_LANES, filled, lane_rows, load, multiply_add, store
from emnesy_gpu.kernels.cpu.common.row_driver import Combination, Results
from emnesy_gpu.kernels.cpu.common.symbol_rows import exponentials, read_row, row_status
from emnesy_gpu.kernels.cpu.enumeration.log_space import posterior_row
from emnesy_gpu.kernels.status import POSSIBLE

LOG_2 = math.log(2.0)

ASSIGNMENT_COST = 0.5
"""Rough nanoseconds of a symbol of an assignment."""


class Circuit(NamedTuple):
    """Rows of values: n_leaves probabilities, a constant 1, and the products that are parts of larger ones.

    Row n_leaves + 1 + e is the product of rows inner[e], which come before it; whole[m] are the halves of assignment
    m. Row r is a factor of the terms uses[r] .. uses[r + 1] - 1: products with sibling[t], named parent[t] (the
    constant for those that are whole).
    """

    n_leaves: int
    inner: np.ndarray  # int64 [n_inner, 2]
    whole: np.ndarray  # int64 [M, 2]
    uses: np.ndarray  # int64 [rows + 1]
    parent: np.ndarray  # int64 [2 (n_inner + M)]
    sibling: np.ndarray  # int64 [2 (n_inner + M)]
    smallest_evidence: float


_circuits = KeptTables(watched=())


def kept_circuit(assignments: Tensor, n_values: int, form: Any, make: Callable[[Circuit], Any]) -> Any:
    """What make() returns for the circuit of a list uint8 [M, N], in one of several forms.

    Kept as long as the list, which must not be written to.
    """
    return _circuits.get(
        (assignments,), (form, n_values), lambda: make(circuit_of(assignments.numpy().astype(np.int64), n_values))
    )


def listed(assignments: Tensor, n_values: int) -> tuple[np.ndarray, Circuit]:
    """A list uint8 [M, N] as an array, and its circuit."""
    kept: tuple[np.ndarray, Circuit] = kept_circuit(
        assignments, n_values, Circuit, lambda circuit: (assignments.numpy(), circuit)
    )
    return kept


def circuit_of(assignments: np.ndarray, n_values: int) -> Circuit:
    """The circuit of a list of assignments int64 [M, N]."""
    n_assignments, n = assignments.shape
    if assignments.max() >= n_values:
        raise ValueError(f"assignments must hold values below {n_values}, got {assignments.max()}")
    one = n * n_values
    products: list[np.ndarray] = []

    def parts(first: int, last: int) -> np.ndarray:
        """The rows that stand for symbols first .. last - 1 of every assignment."""
        if last - first == 1:
            return first * n_values + assignments[:, first]
        different, part = np.unique(halves(first, last), axis=0, return_inverse=True)
        start = one + 1 + sum(map(len, products))
        products.append(different)
        return start + part.reshape(-1)

    def halves(first: int, last: int) -> np.ndarray:
        middle = (first + last + 1) // 2
        right = parts(middle, last) if middle < last else np.full(n_assignments, one)
        return np.stack([parts(first, middle), right], 1)

    whole = halves(0, n)
    inner = np.concatenate([np.empty((0, 2), np.int64), *products])
    uses, parent, sibling = _uses(one, inner, whole)
    # Each of the products of n factors at most 1 may have lost less than n times the smallest normal number.
    smallest = n_assignments * n * 2.0**-1022 * 2.0**60
    return Circuit(one, inner, whole, uses, parent, sibling, smallest)


def _uses(one: int, inner: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each row is a factor, in the order of the rows: offsets, and the product and the other factor of each."""
    factors = np.concatenate([inner, whole])
    names = np.concatenate([one + 1 + np.arange(len(inner)), np.full(len(whole), one)])
    factor, other = np.concatenate([factors[:, 0], factors[:, 1]]), np.concatenate([factors[:, 1], factors[:, 0]])
    order = np.argsort(factor, kind="stable")
    uses = np.searchsorted(factor[order], np.arange(one + 2 + len(inner)))
    return uses, np.concatenate([names, names])[order], other[order]


def run(
    assignments: np.ndarray,
    circuit: Circuit,
    combination: Combination,
    logits: np.ndarray,
    label: np.ndarray,
    results: Results,
) -> int:
    """The combination of posterior and prior of every row; leaves none.

    Logits and marginals: float32 or float64 [batch, N, K].
    """
    marginals, log_evidence, status = results
    posterior(logits, label, assignments, marginals, log_evidence, status, combination, circuit)
    return 0


@lane_function
def multiply_parts(circuit, values):
    """All products; returns the sum of those that are whole."""
    row = circuit.n_leaves + 1
    store(values, row - 1, 1.0)
    for e in range(len(circuit.inner)):
        store(values, row + e, load(values, circuit.inner[e, 0]) * load(values, circuit.inner[e, 1]))
    total = filled(values, 0.0)
    for m in range(len(circuit.whole)):
        total = multiply_add(load(values, circuit.whole[m, 0]), load(values, circuit.whole[m, 1]), total)
    return total


@lane_function
def differentiate(circuit, values, derivatives):
    """Derivatives of the sum of the whole products with respect to every row of values."""
    store(derivatives, circuit.n_leaves, 1.0)
    for row in range(len(values) - 1, -1, -1):
        if row != circuit.n_leaves:
            total = filled(values, 0.0)
            for t in range(circuit.uses[row], circuit.uses[row + 1]):
                total = multiply_add(load(derivatives, circuit.parent[t]), load(values, circuit.sibling[t]), total)
            store(derivatives, row, total)


@lane_function
def combine(combination, n, k, total, values, derivatives):
    """Write (posterior - prior_share * prior) * factor in place of the values of the leaves."""
    ratio = combination.factor / total
    for i in range(n):
        leaves = range(i * k, (i + 1) * k)
        prior_total = filled(values, 0.0)
        for leaf in leaves:
            prior_total += load(values, leaf)
        prior = (-combination.prior_share * combination.factor) / prior_total
        for leaf in leaves:
            store(values, leaf, load(values, leaf) * multiply_add(load(derivatives, leaf), ratio, prior))


@lane_function
def infer(circuit, combination, logits, start, values, derivatives, evidence):
    """What a lane each of rows from start on needs; lanes to spare repeat the last row.

    Rows of evidence: see ``exponentials``, and the sum of the whole products.
    """
    batch, n, k = logits.shape
    for lane in range(values.shape[1]):
        read_row(logits[min(start + lane, batch - 1)], values, lane)
    exponentials(values, n, k, evidence)
    total = multiply_parts(circuit, values)
    store(evidence, 2, total)
    differentiate(circuit, values, derivatives)
    combine(combination, n, k, total, values, derivatives)


@lane_function
def write_row(values, evidence, lane, marginals):
    """Write the marginals [N, K] from one lane, and return its log evidence."""
    n, k = marginals.shape
    for i in range(n):
        for v in range(k):
            marginals[i, v] = values[i * k + v, lane]
    return math.log(evidence[2, lane] / evidence[0, lane]) - evidence[1, lane] * LOG_2


@kernel
def posterior(logits, label, assignments, marginals, log_evidence, status, combination, circuit):
    """FLOAT64_LANES rows at a time."""
    batch, n, k = logits.shape
    rows = circuit.n_leaves + 1 + len(circuit.inner)
    values = lane_rows(rows, FLOAT64_LANES, np.float64)
    derivatives = lane_rows(rows, FLOAT64_LANES, np.float64)
    evidence = lane_rows(3, FLOAT64_LANES, np.float64)
    tables, weights = np.empty((2, n * k)), np.empty(len(assignments))
    for start in range(0, batch, FLOAT64_LANES):
        infer(circuit, combination, logits, start, values, derivatives, evidence)
        for row in range(start, min(start + FLOAT64_LANES, batch)):
            code = row_status(logits[row], label[row])
            if code == POSSIBLE and evidence[2, row - start] >= circuit.smallest_evidence:
                log_evidence[row] = write_row(values, evidence, row - start, marginals[row])
            else:
                results = posterior_row(logits[row], code, assignments, combination, tables, weights, marginals[row])
                log_evidence[row], code = results
            status[row] = code
