"""Scores an assignment by the factors that hold: see emnesy_gpu.kernels.score_tables."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.scored.scores import value_of

FAILED = tl.constexpr(-1)  # the state of a factor


@triton.jit
def _next_state(state, symbols, row, p, K: tl.constexpr):
    """The state after place p, which reads a symbol or a digit of the label."""
    _, place_ptr, successor_ptr = row.tables
    symbol = tl.load(place_ptr + 4 * p)
    successor_ptr += tl.load(place_ptr + 4 * p + 1)
    if symbol >= 0:
        state = tl.load(successor_ptr + state * K + value_of(symbols, symbol), mask=state >= 0, other=FAILED)
    else:
        entry = tl.load(row.label + tl.load(place_ptr + 4 * p + 2))
        digit = (tl.maximum(entry, 0) // tl.load(place_ptr + 4 * p + 3) % K).to(tl.int32)
        if entry >= 0:
            state = tl.load(successor_ptr + state * K + digit, mask=state >= 0, other=FAILED)
        else:
            state = tl.where(state >= 0, 0, FAILED)
    return state


@triton.jit
def held_factors(symbols, row, SIZES: tl.constexpr, FUNCTION: tl.constexpr):
    """How many factors hold; given label 0 all of them or none, whether some factor fails."""
    first_ptr, _, _ = row.tables
    held = symbols.value * 0
    for f in range(row.n_constraints):
        state = symbols.value * 0
        for p in range(tl.load(first_ptr + f), tl.load(first_ptr + f + 1)):
            state = _next_state(state, symbols, row, p, SIZES[0])
        held += (state >= 0).to(tl.int32)
    if (SIZES[1] == 0) & (tl.load(row.label) == 0):
        held = tl.where(held < row.n_constraints, row.n_constraints, 0)
    return held
