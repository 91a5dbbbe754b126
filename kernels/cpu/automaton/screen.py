"""Which rows have a posterior: valid logits, a valid label, and a path that can give it.

Whether a path exists is a question of bits. A word holds a bit of each of 64 rows, R_i(t) the rows that can be in state
t after position i, A_i(c) those with a value of class c whose logit is not -inf, and O_i(t) those whose label allows t:

    R_i(t) = O_i(t) & OR over edges (s, c, t) of R_{i-1}(s) & A_i(c)

All weights of edges are positive, so a row is possible exactly where some R_n(t) has its bit. Rows without hard zeros
and with one entry in their label share the answer with all others that have the label: it is looked up.
"""

from __future__ import annotations

import numpy as np

from emnesy_gpu.kernels.cpu.automaton.graph import UNKNOWN, Graph
from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, lane_function
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE

WORD = 64
ASK = 254
NO_ROWS, ALL_ROWS, ONE = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1)


def screen_labels(rows: np.ndarray, g: Graph, status: np.ndarray) -> bool:
    """Status as far as the label decides it, and whether all rows may be possible; rows [batch, M]."""
    if rows.shape[1] <= 1:
        find_possible_labels(g, rows.shape[1])
    return check_labels(rows, g.possible, status) == 0


def screen(logits: np.ndarray, rows: np.ndarray, g: Graph, status: np.ndarray) -> bool:
    """Status of every row, and whether all are possible; logits float32 or float64 [batch, n, K], rows [batch, M]."""
    unsigned, infinity = (np.uint32, 0x7F800000) if logits.dtype == np.float32 else (np.uint64, 0x7FF << 52)
    bits = logits.view(unsigned).reshape(len(logits), -1)
    hard = np.empty(len(logits), np.bool_)
    if rows.shape[1] <= 1:
        find_possible_labels(g, rows.shape[1])
    asked, others = check_rows(logits, bits, unsigned(infinity), rows, g.possible, status, hard)
    if asked:
        which = np.flatnonzero(status == ASK)
        status[which] = POSSIBLE
        reach(logits, rows, hard, which, g, status)
        return bool((status == POSSIBLE).all())
    return others == 0


def find_possible_labels(g: Graph, n_entries: int) -> None:
    """g.possible: the status of the rows of the emissions, where the label has one entry or none."""
    if g.possible[0] != UNKNOWN:
        return
    count = len(g.possible)
    rows = np.arange(count, dtype=np.int32)[:, None][:, :n_entries]
    status = np.full(count, POSSIBLE, np.uint8)
    no_logits = np.empty((0, 0, 0), np.float32)
    reach(no_logits, np.ascontiguousarray(rows), np.zeros(count, np.bool_), np.arange(count), g, status)
    # The first one last: it tells other threads that all are there.
    g.possible[1:] = status[1:]
    g.possible[0] = status[0]


@inlined
def label_status(rows, row, possible):
    """INVALID_LABEL, or what is known of labels with one entry or none."""
    n_entries = rows.shape[1]
    for entry in range(n_entries):
        if rows[row, entry] < 0:
            return INVALID_LABEL
    return POSSIBLE if n_entries > 1 else possible[rows[row, 0] if n_entries else 0]


@kernel
def check_labels(rows, possible, status):
    """Status of every row by its label; returns how many have no posterior."""
    others = 0
    for row in range(len(rows)):
        status[row] = label_status(rows, row, possible)
        others += status[row] != POSSIBLE
    return others


@kernel
def check_rows(logits, bits, infinity, rows, possible, status, hard):
    """Status of every row, ASK where that takes ``reach``, and whether it has logits of -inf.

    Returns how many rows are to be asked for, and how many have no posterior.
    """
    asked, others = 0, 0
    for row in range(len(logits)):
        # Without a branch, so that it is done on vectors: most rows have finite logits alone.
        found = False
        for column in range(bits.shape[1]):
            found |= (bits[row, column] & infinity) == infinity
        hard[row] = found
        code = label_status(rows, row, possible)
        if found and code != INVALID_LABEL and not are_priors(logits[row]):
            code = INVALID_LOGITS
        if code == POSSIBLE and (found or rows.shape[1] > 1):
            code = ASK
        status[row] = code
        asked += code == ASK
        others += code != ASK and code != POSSIBLE
    return asked, others


@lane_function
def are_priors(logits):
    n, k = logits.shape
    for i in range(n):
        largest = -np.inf
        for v in range(k):
            if not logits[i, v] < np.inf:
                return False
            largest = max(largest, logits[i, v])
        if largest == -np.inf:
            return False
    return True


@lane_function
def available(logits, hard, group, i, g, result):
    """A_i(c) of a group of rows."""
    first = item(g.numbers, g.layer + i) * g.n_values
    result[:] = NO_ROWS
    for bit in range(len(group)):
        row = group[bit]
        for v in range(g.n_values):
            if not hard[row] or logits[row, i, v] > -np.inf:
                result[item(g.numbers, g.classes + first + v)] |= ONE << np.uint64(bit)


@lane_function
def allowed(rows, group, i, g, result):
    """O_i(t) of a group of rows."""
    states, entry = g.n_states, item(g.numbers, g.entry + i)
    result[:] = NO_ROWS
    for bit in range(len(group)):
        first = (entry * g.n_labels + rows[group[bit], entry]) * states
        for t in range(states):
            if item(g.numbers, g.allowed + first + t):
                result[t] |= ONE << np.uint64(bit)


@kernel
def reach(logits, rows, hard, which, g, status):
    """IMPOSSIBLE for the rows among ``which`` that no path can give. Logits of rows that are not hard are not read."""
    before, after = np.empty(g.n_states, np.uint64), np.empty(g.n_states, np.uint64)
    classes, seen = np.empty(g.n_classes + 1, np.uint64), np.empty(g.n_states, np.uint64)
    for first in range(0, len(which), WORD):
        group = which[first : first + WORD]
        any_hard = False
        for row in group:
            any_hard |= hard[row]
        classes[:] = ALL_ROWS
        for s in range(g.n_states):
            before[s] = ALL_ROWS if item(g.numbers, g.starts + s) else NO_ROWS
        for i in range(g.n):
            if any_hard:
                available(logits, hard, group, i, g, classes)
            edges = item(g.numbers, g.layer + i) * (g.n_states + 1)
            for t in range(g.n_states):
                found = NO_ROWS
                for e in range(item(g.numbers, g.in_first + edges + t), item(g.numbers, g.in_first + edges + t + 1)):
                    found |= before[item(g.numbers, g.in_source + e)] & classes[item(g.numbers, g.in_class + e)]
                after[t] = found
            if item(g.numbers, g.entry + i) >= 0:
                allowed(rows, group, i, g, seen)
                after &= seen
            before, after = after, before
        found = NO_ROWS
        for s in range(g.n_states):
            found |= before[s]
        for bit in range(len(group)):
            if not found >> np.uint64(bit) & ONE:
                status[group[bit]] = IMPOSSIBLE
