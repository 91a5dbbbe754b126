"""Sums of products over the rows of one table, as the kernels of circuits play them.

Instruction i writes row out[i] of the table: the sum over its terms of the product of two rows. Instructions come in
runs of equally many terms, so that the loop over the terms of one has a fixed length: mispredicted branches cost more
than the arithmetic. Two programs are made of a circuit: its tape, for evidence and derivatives, and its nodes alone,
each in a row of its own, for passes that walk back from the root.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from emnesy_gpu.kernels.circuit_tables import CircuitTables
from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.flat_tables import KeptTables, item, joined
from emnesy_gpu.kernels.cpu.common.lanes import store
from emnesy_gpu.kernels.cpu.common.transpose import TILE

LANES_COST = 0.5, 0.06
MAP_COST = 0.4, 0.075
"""Rough nanoseconds of a logit and of a product, for one row: in float32 lanes, and of maxima."""

ROW_BYTES = 128
MOST_BYTES = 1 << 30
"""Tables that take more than this in all threads together are left to one thread."""

NODES = 0
"""The kind of program that has a row for every node; a tape is named by the rows of its table, which are more."""


class Program(NamedTuple):
    """Rows of the table: leaves of the symbols, leaves of the label, the constant, others. The rest is in ``numbers``.

    Fields of one number are sizes and rows of the table, the others are where tables begin in ``numbers`` (int32).
    """

    n: int
    n_values: int
    n_entries: int
    one: int  # row of the constant
    root: int  # row of the value of the root
    zero: int  # row of zeros, which stands for derivatives that do not exist
    checks: int  # row that is not a number where the logits of a symbol are no prior
    spare: int
    rows: int  # of the table
    operations: int  # products of the tape, and leaves
    n_runs: int
    depth: int  # levels of the circuit
    given: int  # [n_entries + 1]: the first leaf of each entry of the label
    mentioned: int  # [n]
    derivatives: int  # [leaves]: rows of the derivatives, or zero
    runs: int  # [n_runs, 2]: instructions, terms of each
    out: int
    first: int  # [nodes + 1]: the first term of each node
    draws: int  # [nodes]
    numbers: np.ndarray
    terms: np.ndarray  # int64: left row + 2^32 times right row


def row_cost(p: Program, costs: tuple[float, float]) -> float:
    """Rough nanoseconds per row."""
    return costs[0] * p.n * p.n_values + costs[1] * p.operations


kept_circuits = KeptTables(watched=(-1, -3))
"""What was made of tables that live as long as their circuit; they must not be written to."""


def tape(tables: Sequence[Tensor], tape_rows: int) -> Program:
    """The tape of a circuit."""
    found: Program = kept_circuits.get(tables, tape_rows, lambda: _tape(CircuitTables(*tables), tape_rows))
    return found


def nodes(tables: Sequence[Tensor]) -> Program:
    """The nodes of a circuit."""
    found: Program = kept_circuits.get(tables, NODES, lambda: _nodes(CircuitTables(*tables)))
    return found


def _tape(t: CircuitTables, tape_rows: int) -> Program:
    derivatives = t.derivatives.numpy()
    parts = {
        "derivatives": np.where(derivatives < 0, tape_rows, derivatives),
        "runs": t.runs.numpy()[:, [1, 3]],
        "out": t.out.numpy(),
    }
    return _program(t, parts, _terms(t.tape_left, t.tape_right), rows=tape_rows, root=int(t.given[-1]) + 1)


def _nodes(t: CircuitTables) -> Program:
    sizes, fixed = np.diff(t.first.numpy()), int(t.given[-1]) + 1
    begin = np.concatenate([[0], np.flatnonzero(np.diff(sizes)) + 1, [len(sizes)]])
    parts = {
        "derivatives": np.zeros(0, np.int32),
        "runs": np.stack([np.diff(begin), sizes[begin[:-1]]], 1),
        "out": fixed + np.arange(len(sizes)),
    }
    rows = fixed + len(sizes)
    return _program(t, parts, _terms(t.left, t.right), rows=rows, root=rows - 1)


def _program(t: CircuitTables, parts: dict[str, np.ndarray], terms: np.ndarray, rows: int, root: int) -> Program:
    kept = {name: getattr(t, name).numpy() for name in ("given", "mentioned", "first", "draws")}
    numbers, where = joined(kept | parts, np.int32)
    n, n_hidden, one = len(t.mentioned), int(t.given[0]), int(t.given[-1])
    # Whole tiles of leaves are read at a time, and may reach beyond all other rows.
    checks = max(rows + 1, -(-n_hidden // TILE) * TILE)
    return Program(
        n=n,
        n_values=n_hidden // max(n, 1),
        n_entries=len(t.given) - 1,
        one=one,
        root=root,
        zero=rows,
        checks=checks,
        spare=checks + 1,
        rows=checks + 2,
        operations=len(terms) + n_hidden,
        n_runs=len(parts["runs"]),
        depth=len(t.node_levels),
        **where,
        numbers=numbers,
        terms=terms,
    )


def _terms(left: Tensor, right: Tensor) -> np.ndarray:
    return left.numpy().astype(np.int64) | right.numpy().astype(np.int64) << 32


@intrinsic
def term_at(typingctx, terms, index):
    """The two rows of a term, by one load: the loads are what bounds the kernels."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        both = builder.load(cgutils.gep_inbounds(builder, data, args[1]))
        word = ir.IntType(64)
        left = builder.and_(both, ir.Constant(word, 0xFFFFFFFF))
        right = builder.lshr(both, ir.Constant(word, 32))
        return context.make_tuple(builder, signature.return_type, [left, right])

    return types.UniTuple(types.intp, 2)(terms, types.intp), codegen


def player(begin: Callable[..., Any], add: Callable[..., Any]) -> Callable[..., Any]:
    """A device function that plays a program by begin(table, program, first term) and add(..., term, so far)."""

    @inlined
    def play(table, p):
        """All instructions, each the lanes of its terms; few terms without a loop over them."""
        i, e = p.out, 0
        for run in range(p.runs, p.runs + 2 * p.n_runs, 2):
            last, size = i + item(p.numbers, run), item(p.numbers, run + 1)
            if size == 1:
                while i < last:
                    store(table, item(p.numbers, i), begin(table, p, e))
                    i, e = i + 1, e + 1
            elif size == 2:
                while i < last:
                    store(table, item(p.numbers, i), add(table, p, e + 1, begin(table, p, e)))
                    i, e = i + 1, e + 2
            elif size == 3:
                while i < last:
                    total = add(table, p, e + 1, begin(table, p, e))
                    store(table, item(p.numbers, i), add(table, p, e + 2, total))
                    i, e = i + 1, e + 3
            else:
                while i < last:
                    end, total = e + size, begin(table, p, e)
                    e += 1
                    while e < end:
                        total = add(table, p, e, total)
                        e += 1
                    store(table, item(p.numbers, i), total)
                    i += 1

    return play
