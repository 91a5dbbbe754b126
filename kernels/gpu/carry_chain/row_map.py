"""Finds the most probable digits given the label, a thread for each row: max-product over the carries in float64.

Position by position a thread tabulates h_j(r) = max_d l_j(d) + h_{j+1}(r - d), down to h_2, and finds the best d_1 for
each carry out of and into the position. The best digits d_2, ... stay apart, by sum, until the path is known. Tables are
in registers, and h_2 is shifted there by the digit of the label. With four addends h_3 and h_2 are in scratch memory. This is
for small bases; kept_map.py has the positions of others.

Ties go to the smallest carry-in, then to the smallest d_1, d_2, ... of the position nearest the top.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.kept_map import (
    CARRIES,
    CODE_BITS,
    Step,
    follow_kept,
    most_probable_kept,
    step_kept,
)
from emnesy_gpu.kernels.gpu.carry_chain.label import checked_digit, final_status, top_carry
from emnesy_gpu.kernels.gpu.carry_chain.map_scores import NEVER, Best, as_logarithm, better, normaliser, times
from emnesy_gpu.kernels.gpu.carry_chain.row_tables import (
    Rows,
    Sizes,
    keep,
    keep_everywhere,
    kept,
    load_position,
    load_symbol,
    scratch_of,
    shifted,
    table_entry,
)
from emnesy_gpu.kernels.gpu.carry_chain.row_weights import replaced, selected
from emnesy_gpu.kernels.gpu.common.status import INVALID_LOGITS, POSSIBLE

CODE_MASK = tl.constexpr(127)
DIGIT_BITS = tl.constexpr(4)  # of d_2, ...
DIGIT_VALUES = tl.constexpr(16)
DIGITS = tl.constexpr(7)  # in an int32
LOW_HALF = tl.constexpr(0xFFFFFFFF)


@triton.jit
def _wide(logits, BASE: tl.constexpr):
    """The logits of a symbol as float64."""
    values = ()
    for v in tl.static_range(BASE):
        values = values + (logits[v].to(tl.float64),)
    return values


@triton.jit
def _best_sum(scores, table, U: tl.constexpr, UNIT: tl.constexpr):
    """The best of the values v for which table[U - v] exists too, and the code of v: UNIT v."""
    FIRST: tl.constexpr = max(0, U - len(table) + 1)
    LAST: tl.constexpr = min(U, len(scores) - 1)
    score = scores[FIRST] + table[U - FIRST].to(tl.float64)
    best = Best(score, tl.full(score.shape, FIRST * UNIT, tl.int32))
    for v in tl.static_range(FIRST + 1, LAST + 1):
        best = better(best, scores[v] + table[U - v].to(tl.float64), v * UNIT)
    return best


@triton.jit
def _convolved(table, scores):
    """The table with one more addend before, whose values have these scores, and its best values in int32 words."""
    LENGTH: tl.constexpr = len(table) + len(scores) - 1
    sums = ()
    words = ()
    for w in tl.static_range((LENGTH + DIGITS - 1) // DIGITS):
        word = tl.zeros(scores[0].shape, tl.int32)
        for u in tl.static_range(w * DIGITS, min((w + 1) * DIGITS, LENGTH)):
            best = _best_sum(scores, table, u, DIGIT_VALUES ** (u - w * DIGITS))
            sums = sums + (best.score,)
            word |= best.code
        words = words + (word,)
    return sums, words


@triton.jit
def _best_kept(rows, scores, COUNT: tl.constexpr, SIZES: tl.constexpr):
    """Leaves h_2 in scratch memory, made of h_3 there and the scores of d_2; the COUNT words of its best values."""
    BASE: tl.constexpr = SIZES.BASE
    FROM: tl.constexpr = table_entry(3, SIZES.ADDENDS, BASE)
    TO: tl.constexpr = table_entry(2, SIZES.ADDENDS, BASE)
    words = ()
    for _ in tl.static_range(COUNT):
        words = words + (tl.zeros(scores[0].shape, tl.int32),)
    # A loop keeps the compiler from computing all sums at once, which would spill registers.
    for w in range(COUNT):
        window = kept(rows.scratch, FROM + w * DIGITS - (BASE - 1), BASE - 1 + DIGITS)
        sums = ()
        word = tl.zeros(scores[0].shape, tl.int32)
        for u in tl.static_range(DIGITS):
            best = _best_sum(scores, window, BASE - 1 + u, DIGIT_VALUES**u)
            sums = sums + (best.score,)
            word |= best.code
        keep(rows.scratch, sums, TO + w * DIGITS)
        words = replaced(words, w, word)
    return words


@triton.jit
def _carried(alpha, scores, window, SIZES: tl.constexpr):
    """The best score of a carry out, and the code of what it belongs to: the carry in, and d_1 above it.

    window: h_2(digit + BASE carry - u), from the largest u that c + d_1 has down to 0.
    """
    for c in tl.static_range(SIZES.ADDENDS):
        pair = _best_sum(scores, window, len(window) - 1 - c, CARRIES)
        best = Best(alpha[0] + pair.score, pair.code) if c == 0 else better(best, alpha[c] + pair.score, pair.code + c)
    return best


@triton.jit
def _all_carried(alpha, scores, table, digit, SIZES: tl.constexpr):
    """The best scores of the carries out, and their codes; table: h_2."""
    LARGEST: tl.constexpr = SIZES.ADDENDS + SIZES.BASE - 2
    never = tl.full(digit.shape, NEVER, table[0].dtype)
    after = ()
    codes = tl.zeros(digit.shape, tl.int32)
    for out in tl.static_range(SIZES.ADDENDS):
        window = shifted(table, digit, never, out * SIZES.BASE - LARGEST, LARGEST + 1, SIZES.BASE)
        best = _carried(alpha, scores, window, SIZES)
        after = after + (best.score,)
        codes |= best.code << (CODE_BITS * out)
    return after, codes


@triton.jit
def _all_carried_kept(alpha, scores, rows, digit, SIZES: tl.constexpr):
    """The same, with h_2 in scratch memory."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    after = alpha
    codes = tl.zeros(digit.shape, tl.int32)
    # A loop keeps the compiler from reading all windows at once, which would spill registers.
    for out in range(ADDENDS):
        best = _carried(alpha, scores, kept(rows.scratch, digit + BASE * out, ADDENDS + BASE - 1), SIZES)
        after = replaced(after, out, best.score)
        codes |= best.code << (CODE_BITS * out)
    return after, codes


@triton.jit
def _step(alpha, rows, i, digit, n_digits, SIZES: tl.constexpr):
    """Takes the best scores of the carries into a position to those of the carries out of it."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    BASE: tl.constexpr = SIZES.BASE
    table = load_symbol(rows, ADDENDS - 1, i, n_digits, SIZES)
    high, totals = normaliser(table, BASE)
    highs = high.to(tl.float64)
    words = ()
    # A symbol is loaded when it is needed: all at once would spill registers.
    for j in tl.static_range(ADDENDS - 2, 0, -1):
        logits = load_symbol(rows, j, i, n_digits, SIZES)
        high, total = normaliser(logits, BASE)
        highs += high.to(tl.float64)
        totals *= total
        if j == 1 and SIZES.KEPT:
            keep(rows.scratch, table, table_entry(3, ADDENDS, BASE))
            own = _best_kept(rows, _wide(logits, BASE), _first_word(2, ADDENDS, BASE) - 1, SIZES)
        else:
            table, own = _convolved(table, _wide(logits, BASE))
        words = own + words
    logits = load_symbol(rows, 0, i, n_digits, SIZES)
    high, total = normaliser(logits, BASE)
    if SIZES.KEPT:
        after, codes = _all_carried_kept(alpha, _wide(logits, BASE), rows, digit, SIZES)
    else:
        after, codes = _all_carried(alpha, _wide(logits, BASE), table, digit, SIZES)
    return Step(after, (codes,) + words, highs + high.to(tl.float64), totals * total)


@triton.jit
def _keep(rows, words, i, n_digits):
    """Leaves int32 words of a position in the output, two in the place of a digit."""
    for w in tl.static_range((len(words) + 1) // 2):
        pair = words[2 * w].to(tl.int64)
        if 2 * w + 1 < len(words):
            pair |= words[2 * w + 1].to(tl.int64) << 32
        tl.store(rows.digits + (w * n_digits + i), pair, mask=rows.present)


@triton.jit
def _kept(rows, i, n_digits, COUNT: tl.constexpr, possible):
    """The words that _keep has left."""
    words = ()
    for w in tl.static_range((COUNT + 1) // 2):
        pair = tl.load(rows.digits + (w * n_digits + i), mask=possible, other=0)
        words = words + ((pair & LOW_HALF).to(tl.int32), (pair >> 32).to(tl.int32))
    return words


@triton.jit
def _digit(words, FIRST: tl.constexpr, END: tl.constexpr, rest):
    """The best value for the sum rest, from the words from FIRST on."""
    word = selected(words, rest // DIGITS, FIRST, 1, END - FIRST)
    return (word >> (rest % DIGITS * DIGIT_BITS)) & (DIGIT_VALUES - 1)


@triton.jit
def _forward(rows, n_digits, SIZES: tl.constexpr):
    """Leaves the words of every position in the output.

    Returns the best scores of the carries out of the top, the log normaliser of all symbols and the status.
    """
    alpha = (tl.zeros(rows.present.shape, tl.float64),)
    for _ in tl.static_range(1, SIZES.ADDENDS):
        alpha = alpha + (tl.full(rows.present.shape, NEVER, tl.float64),)
    highs = tl.zeros(rows.present.shape, tl.float64)
    product = tl.full(rows.present.shape, 1.0, tl.float64)
    exponent = tl.zeros(rows.present.shape, tl.int32)
    code = tl.full(rows.present.shape, POSSIBLE, tl.int32)
    for back in tl.range(n_digits, disable_licm=SIZES.KEPT):
        i = n_digits - 1 - back
        digit, digit_code = checked_digit(rows.label + i, rows.present, SIZES.BASE)
        if SIZES.LOGITS_KEPT:
            step = step_kept(alpha, rows, i, digit, n_digits, SIZES)
        else:
            step = _step(alpha, rows, i, digit, n_digits, SIZES)
        alpha = step.alpha
        highs += step.highs
        product, exponent = times(product, exponent, step.totals)
        valid = step.totals == step.totals
        code = tl.maximum(code, tl.maximum(digit_code, tl.where(valid, POSSIBLE, INVALID_LOGITS)))
        _keep(rows, step.words, i, n_digits)
    return alpha, highs + as_logarithm(product, exponent), code


@triton.constexpr_function
def _first_word(j, addends, base):
    """The number of the first word with the best d_{j+1}, behind that with the codes; those of all for the last j."""
    return 1 + sum(((addends - i) * (base - 1) + 7) // 7 for i in range(1, j))


@triton.jit
def _follow_words(rows, words, i, rest, possible, n_digits, SIZES: tl.constexpr):
    """Stores the best digits d_2, ..., whose sum is the rest."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    for j in tl.static_range(1, ADDENDS - 1):
        value = _digit(words, _first_word(j, ADDENDS, SIZES.BASE), _first_word(j + 1, ADDENDS, SIZES.BASE), rest)
        tl.store(rows.digits + (j * n_digits + i), value.to(tl.int64), mask=possible)
        rest -= value
    tl.store(rows.digits + ((ADDENDS - 1) * n_digits + i), rest.to(tl.int64), mask=possible)


@triton.jit
def _follow(rows, carry, possible, n_digits, SIZES: tl.constexpr):
    """Overwrites the words with the digits of the best path, from the carry out of the top position down."""
    ADDENDS: tl.constexpr = SIZES.ADDENDS
    for i in range(n_digits):
        WORDS: tl.constexpr = 1 if SIZES.LOGITS_KEPT else _first_word(ADDENDS - 1, ADDENDS, SIZES.BASE)
        words = _kept(rows, i, n_digits, WORDS, possible)
        tl.debug_barrier()
        digit, digit_code = checked_digit(rows.label + i, possible, SIZES.BASE)
        chosen = (words[0] >> (carry * CODE_BITS)) & CODE_MASK
        rest = digit + SIZES.BASE * carry
        carry = chosen % CARRIES
        value = chosen // CARRIES
        rest -= carry + value
        tl.store(rows.digits + i, value.to(tl.int64), mask=possible)
        if SIZES.LOGITS_KEPT:
            follow_kept(rows, i, rest, possible, n_digits, SIZES)
        else:
            _follow_words(rows, words, i, rest, possible, n_digits, SIZES)


@triton.jit
def _most_probable_alone(rows, alone, n_digits, SIZES: tl.constexpr):
    """Leaves the smallest value of the largest logit of every symbol in the output of these rows."""
    for i in range(n_digits):
        symbols = load_position(rows, i, n_digits, SIZES)
        for j in tl.static_range(SIZES.ADDENDS):
            best = Best(symbols[j][0], tl.zeros(alone.shape, tl.int32))
            for v in tl.static_range(1, SIZES.BASE):
                best = better(best, symbols[j][v], v)
            tl.store(rows.digits + (j * n_digits + i), best.code.to(tl.int64), mask=alone)


class Launch(NamedTuple):
    """The arguments of a launch."""

    logits: Any  # [batch, ADDENDS, n_digits, BASE]
    label: Any  # int64 [batch, N_EXTRA + n_digits]
    digits: Any  # int64 [batch, ADDENDS, n_digits]
    log_joint: Any  # [batch]
    status: Any  # uint8 [batch]
    scratch: Any  # pointers [ROWS, 1] to float64 [entries, ROWS] of the program
    batch: Any
    n_digits: Any
    base: Any  # BASE, for loops that the compiler would unroll


@triton.jit
def _find_block(block, launch, N_EXTRA: tl.constexpr, SIZES: tl.constexpr):
    """Finds the digits of a block of rows; positions forwards, then backwards along the paths."""
    ROWS: tl.constexpr = launch.scratch.shape[0]
    n_digits = launch.n_digits
    row = tl.arange(0, ROWS)[:, None].to(tl.int64) + block * ROWS
    present = row < launch.batch
    size = SIZES.ADDENDS * n_digits
    label = launch.label + row * (N_EXTRA + n_digits)
    logits = launch.logits + row * (size * SIZES.BASE)
    rows = Rows(logits, label + N_EXTRA, launch.digits + row * size, present, launch.scratch, launch.base)
    carry, code = top_carry(label, present, N_EXTRA, SIZES.BASE)
    last, log_total, chain_code = _forward(rows, n_digits, SIZES)
    code = tl.maximum(code, chain_code)
    score = selected(last, carry, 0, 1, SIZES.ADDENDS)
    possible = (score > NEVER) & (carry < SIZES.ADDENDS) & (code == POSSIBLE)
    log_joint = tl.where(possible, score - log_total, NEVER)
    tl.store(launch.log_joint + row, log_joint.to(SIZES.COMPUTE), mask=present)
    tl.store(launch.status + row, final_status(code, possible).to(tl.uint8), mask=present)
    tl.debug_barrier()
    _follow(rows, carry, present & possible, n_digits, SIZES)
    alone = present & ~possible
    if tl.max(alone.to(tl.int32)) > 0:
        if SIZES.LOGITS_KEPT:
            most_probable_kept(rows, alone, n_digits, SIZES)
        else:
            _most_probable_alone(rows, alone, n_digits, SIZES)


@triton.jit(do_not_specialize=["batch", "n_digits", "base"])
def row_map_kernel(
    logits_ptr, label_ptr, digits_ptr, log_joint_ptr, status_ptr, scratch_ptr, batch, n_digits, base,
    ADDENDS: tl.constexpr, BASE: tl.constexpr, N_EXTRA: tl.constexpr, ROWS: tl.constexpr, ENTRIES: tl.constexpr,
    LOGITS_KEPT: tl.constexpr,
):  # fmt: skip
    """Programs share blocks of ROWS rows. base: BASE, for loops that the compiler would unroll.

    ENTRIES: of the scratch memory of a row, 0 if tables are in registers. LOGITS_KEPT: whether logits are there too.

    Grid (programs,). logits [batch, ADDENDS, n_digits, BASE], digits int64 [batch, ADDENDS, n_digits].
    """
    SIZES: tl.constexpr = Sizes(ADDENDS, BASE, log_joint_ptr.dtype.element_ty, ENTRIES > 0, LOGITS_KEPT)
    scratch = scratch_of(scratch_ptr, ENTRIES, ROWS)
    launch = Launch(logits_ptr, label_ptr, digits_ptr, log_joint_ptr, status_ptr, scratch, batch, n_digits, base)
    for block in range(tl.program_id(0), tl.cdiv(batch, ROWS), tl.num_programs(0)):
        keep_everywhere(scratch, NEVER, ENTRIES)
        _find_block(block, launch, N_EXTRA, SIZES)
