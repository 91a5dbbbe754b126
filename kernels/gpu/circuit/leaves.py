"""The leaves of a circuit: priors of the symbols, and what is given of the label."""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.circuit.group import pair_lanes, pair_numbers
from emnesy_gpu.kernels.gpu.common.status import INVALID_LABEL, POSSIBLE
from emnesy_gpu.kernels.gpu.common.sum_product import one, zero
from emnesy_gpu.kernels.gpu.common.symbol_priors import row_of


@triton.jit
def _entry_of(leaf, circuit):
    """The entry of the label that each leaf belongs to, by bisection: the last one that does not begin after it."""
    entry = leaf * 0
    above = entry + circuit.n_entries
    width = circuit.n_entries
    while width > 1:
        middle = (entry + above) // 2
        begins = tl.load(circuit.given + middle) <= leaf
        entry = tl.where(begins, middle, entry)
        above = tl.where(begins, above, middle)
        width = (width + 1) // 2
    return entry


@triton.jit
def store_label_leaves(table, batch, circuit, SIZES: tl.constexpr, LOG: tl.constexpr):
    """1 for values that an entry of the label has, and for all values of those that are not given."""
    COMPUTE: tl.constexpr = table.dtype.element_ty
    lane = pair_lanes(SIZES)
    row = row_of(batch, lane)
    end = tl.load(circuit.given + circuit.n_entries)
    for start in tl.range(tl.load(circuit.given), end, SIZES.pairs, disable_licm=True):
        leaf = start + pair_numbers(SIZES)
        entry = _entry_of(tl.minimum(leaf, end - 1), circuit)
        value = leaf - tl.load(circuit.given + entry)
        code = tl.load(batch.label + row * circuit.n_entries + entry)
        x = tl.where((code == 0) | (code == value + 1), one(LOG), zero(LOG)).to(COMPUTE)
        tl.store(table + leaf * SIZES.rows + lane, x, mask=leaf < end)


@triton.jit
def store_free_label_leaves(table, circuit, SIZES: tl.constexpr, LOG: tl.constexpr):
    """1 for all values of the label."""
    lane = pair_lanes(SIZES)
    end = tl.load(circuit.given + circuit.n_entries)
    x = tl.full((SIZES.pairs, SIZES.rows), one(LOG), table.dtype.element_ty)
    for start in tl.range(tl.load(circuit.given), end, SIZES.pairs, disable_licm=True):
        leaf = start + pair_numbers(SIZES)
        tl.store(table + leaf * SIZES.rows + lane, x, mask=leaf < end)


@triton.jit
def store_constant(table, circuit, SIZES: tl.constexpr, LOG: tl.constexpr):
    lane = tl.arange(0, SIZES.rows)
    x = tl.full((SIZES.rows,), one(LOG), table.dtype.element_ty)
    tl.store(table + tl.load(circuit.given + circuit.n_entries) * SIZES.rows + lane, x)


@triton.jit
def label_status(batch, circuit, SIZES: tl.constexpr):
    """INVALID_LABEL or POSSIBLE [1, R]."""
    lane = pair_lanes(SIZES)
    row = row_of(batch, lane)
    code = tl.full((SIZES.pairs, SIZES.rows), 0, tl.int32)
    for start in tl.range(0, circuit.n_entries, SIZES.pairs, disable_licm=True):
        entry = start + pair_numbers(SIZES)
        known = tl.load(batch.label + row * circuit.n_entries + entry, mask=entry < circuit.n_entries, other=0)
        code = tl.maximum(code, tl.where(known >= 0, POSSIBLE, INVALID_LABEL))
    return tl.max(code, 0)[None, :]
