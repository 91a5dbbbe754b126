"""Messages of pairs of symbols of two values, in registers: what ``factors_in_lanes`` does for any number of values."""

from __future__ import annotations

from emnesy_gpu.kernels.cpu.common.compile import inlined
from emnesy_gpu.kernels.cpu.common.flat_tables import item
from emnesy_gpu.kernels.cpu.common.gathers import gather_pair, read, read_pair, write_pair
from emnesy_gpu.kernels.cpu.common.lanes import maximum, minimum, multiply_add
from emnesy_gpu.kernels.cpu.factor_graph.waves import TABLES, WIDTH


@inlined
def find_bits(numbers, lanes, w, source, edge):
    """n of one side of a group of symbols of two values."""
    zero, one = read_pair(lanes, numbers, w.read + 2 * edge * WIDTH)
    for j in range(item(w.numbers, w.others + edge)):
        m = gather_pair(lanes, numbers, source, w.numbers, w.cavity + (edge * w.degree + j) * WIDTH)
        zero, one = zero * m[0], one * m[1]
    return zero, one


@inlined
def write_bits(numbers, lanes, way, message, bits, shares):
    """``send`` of two sums to one side of a group; returns changes and sums."""
    total, start = bits[0] + bits[1], 2 * message * WIDTH
    scale = shares[0] * 2.0 / maximum(total, way.tiny)
    old_zero, old_one = read_pair(lanes, numbers, way.source + start)
    zero = multiply_add(bits[0], scale, old_zero * shares[1])
    one = multiply_add(bits[1], scale, old_one * shares[1])
    write_pair(numbers, way.target + start, zero, one)
    change = maximum(maximum(zero - old_zero, old_zero - zero), maximum(one - old_one, old_one - one))
    return change * 0.5, total


@inlined
def send_bits(numbers, lanes, w, way, group, shares):
    """All messages of a group of symbols of two values, in registers; returns the largest changes and smallest sums."""
    zero, one = find_bits(numbers, lanes, w, way.source, 2 * group)
    other_zero, other_one = find_bits(numbers, lanes, w, way.source, 2 * group + 1)
    table = item(w.numbers, w.weight + group) + TABLES * WIDTH
    w_00, w_01 = read(lanes, w.weights, table), read(lanes, w.weights, table + WIDTH)
    w_10, w_11 = read(lanes, w.weights, table + 2 * WIDTH), read(lanes, w.weights, table + 3 * WIDTH)
    bits = multiply_add(other_one, w_01, other_zero * w_00), multiply_add(other_one, w_11, other_zero * w_10)
    other = multiply_add(one, w_10, zero * w_00), multiply_add(one, w_11, zero * w_01)
    change, total = write_bits(numbers, lanes, way, 2 * group, bits, shares)
    other_change, other_total = write_bits(numbers, lanes, way, 2 * group + 1, other, shares)
    return maximum(change, other_change), minimum(total, other_total)
