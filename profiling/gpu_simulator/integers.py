"""Integer arithmetic with the widths and corner cases of PTX."""

from __future__ import annotations

import numpy as np

_WIDER = {np.uint16: np.uint32, np.int16: np.int32, np.uint32: np.uint64, np.int32: np.int64}
_LOW = np.uint64(0xFFFF_FFFF)
_32 = np.uint64(32)


def multiply_wide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wider = _WIDER[a.dtype.type]
    return a.astype(wider) * b.astype(wider)


def multiply_high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper half of the double-width product."""
    if a.dtype.itemsize < 8:
        product = multiply_wide(a, b)
        return (product >> product.dtype.type(a.dtype.itemsize * 8)).astype(a.dtype)
    high = _multiply_high_u64(a.view(np.uint64), b.view(np.uint64))
    if a.dtype.kind == "i":
        zero = np.uint64(0)
        high = high - np.where(a < 0, b.view(np.uint64), zero) - np.where(b < 0, a.view(np.uint64), zero)
    return high.view(a.dtype)


def _multiply_high_u64(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Schoolbook multiplication on 32-bit limbs."""
    a_low, a_high, b_low, b_high = a & _LOW, a >> _32, b & _LOW, b >> _32
    middle = a_high * b_low + (a_low * b_low >> _32)
    other = a_low * b_high + (middle & _LOW)
    return a_high * b_high + (middle >> _32) + (other >> _32)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Truncating division; by zero all bits are set, as NVIDIA hardware does."""
    zero = b == 0
    b = np.where(zero, b.dtype.type(1), b)
    quotient = a // b
    if a.dtype.kind == "i":
        quotient = quotient + ((a % b != 0) & ((a < 0) != (b < 0)))
    return np.where(zero, a.dtype.type(-1) if a.dtype.kind == "i" else np.iinfo(a.dtype).max, quotient).astype(a.dtype)


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sign of the dividend; by zero the dividend."""
    zero = b == 0
    return np.where(zero, a, np.fmod(a, np.where(zero, b.dtype.type(1), b)))


def population_count(a: np.ndarray) -> np.ndarray:
    raw = np.ascontiguousarray(a[..., None]).view(np.uint8)
    return np.unpackbits(raw, axis=-1).sum(axis=-1, dtype=np.uint32)


def count_leading_zeros(a: np.ndarray) -> np.ndarray:
    """Of 32- or 64-bit unsigned integers."""
    for shift in (1, 2, 4, 8, 16, 32)[: 5 if a.dtype.itemsize == 4 else 6]:
        a = a | (a >> a.dtype.type(shift))
    return np.uint32(a.dtype.itemsize * 8) - population_count(a)


def find_leading_bit(a: np.ndarray) -> np.ndarray:
    """bfind: position of the top bit that differs from the sign, all ones if there is none."""
    unsigned = np.uint32 if a.dtype.itemsize == 4 else np.uint64
    magnitude = np.where(a < 0, ~a, a).view(unsigned) if a.dtype.kind == "i" else a
    return np.uint32(a.dtype.itemsize * 8 - 1) - count_leading_zeros(magnitude)


def reverse_bits(a: np.ndarray) -> np.ndarray:
    raw = np.ascontiguousarray(a[..., None]).view(np.uint8)
    flipped = np.packbits(np.unpackbits(raw, axis=-1, bitorder="little"), axis=-1, bitorder="big")
    return np.ascontiguousarray(flipped[..., ::-1]).view(a.dtype)[..., 0]


def shift(a: np.ndarray, amount: np.ndarray, left: bool) -> np.ndarray:
    """shl or shr; amounts beyond the width shift everything out (arithmetic right shifts leave the sign)."""
    width = a.dtype.itemsize * 8
    beyond = amount >= width
    clamped = np.minimum(amount, np.uint32(width - 1)).astype(a.dtype)
    shifted = a << clamped if left else a >> clamped
    if not beyond.any() or (a.dtype.kind == "i" and not left):
        return shifted
    return np.where(beyond, a.dtype.type(0), shifted)


def funnel_shift(low: np.ndarray, high: np.ndarray, amount: np.ndarray, left: bool, wrap: bool) -> np.ndarray:
    """shf.l: upper word of {high, low} << n; shf.r: lower word of {high, low} >> n."""
    n = (amount & np.uint32(31) if wrap else np.minimum(amount, np.uint32(32))).astype(np.uint64)
    both = (high.astype(np.uint64) << _32) | low
    return (((both << n) >> _32) if left else (both >> n) & _LOW).astype(np.uint32)


def extract_field(a: np.ndarray, position: np.ndarray, length: np.ndarray) -> np.ndarray:
    """bfe; bits beyond the top are copies of the sign (signed) or zero."""
    width = a.dtype.itemsize * 8
    position = (position & np.uint32(255)).astype(np.int64)
    length = (length & np.uint32(255)).astype(np.int64)
    kept = np.minimum(length, np.maximum(width - position, 0))
    in_range = np.minimum(position, width - 1)
    unsigned = a.view(np.uint32 if width == 32 else np.uint64).astype(np.uint64)
    field = (unsigned >> in_range.astype(np.uint64)) & _ones(kept)
    if a.dtype.kind == "i":
        sign_position = np.minimum(position + length - 1, width - 1)
        negative = (unsigned >> np.maximum(sign_position, 0).astype(np.uint64)) & np.uint64(1) == 1
        field = np.where(negative & (length > 0), field | ~_ones(kept), field)
    return field.astype(np.uint32 if width == 32 else np.uint64).view(a.dtype)


def insert_field(field: np.ndarray, base: np.ndarray, position: np.ndarray, length: np.ndarray) -> np.ndarray:
    """bfi: the low `length` bits of field over base at `position`."""
    width = base.dtype.itemsize * 8
    position = (position & np.uint32(255)).astype(np.int64)
    length = (length & np.uint32(255)).astype(np.int64)
    kept = np.where(position < width, np.minimum(length, width - position), 0)
    offset = np.minimum(position, width - 1).astype(np.uint64)
    mask = _ones(kept) << offset
    return (((field.astype(np.uint64) << offset) & mask) | (base & ~mask)).astype(base.dtype)


def _ones(count: np.ndarray) -> np.ndarray:
    """The lowest `count` bits set, 0 <= count <= 64."""
    partial = (np.uint64(1) << np.minimum(count, 63).astype(np.uint64)) - np.uint64(1)
    return np.where(count >= 64, ~np.uint64(0), partial)


def permute_bytes(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    """prmt: four bytes out of {b, a}, each chosen by a nibble whose top bit replicates the sign."""
    both = (b.astype(np.uint64) << _32) | a
    result = np.zeros(1, np.uint32)
    for i in range(4):
        nibble = (selector >> np.uint32(4 * i)) & np.uint32(15)
        byte = ((both >> ((nibble & np.uint32(7)).astype(np.uint64) * np.uint64(8))) & np.uint64(255)).astype(np.uint32)
        sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
        result = result | (np.where(nibble & np.uint32(8), sign, byte) << np.uint32(8 * i))
    return result


def lookup3(a: np.ndarray, b: np.ndarray, c: np.ndarray, table: int) -> np.ndarray:
    """lop3: any function of three bits, as its truth table."""
    result = np.zeros(1, np.uint32)
    for row in range(8):
        if table >> row & 1:
            result = result | ((a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c))
    return result
