"""Tensor-core instructions of sm_80: ldmatrix, stmatrix and mma.sync with float32 accumulators."""

from __future__ import annotations

import re

import numpy as np

from profiling.gpu_simulator.active import WARP, ActiveSet
from profiling.gpu_simulator.decoding import Action, Decoding, opcode
from profiling.gpu_simulator.errors import DivergentCollective
from profiling.gpu_simulator.lanes import Lanes
from profiling.gpu_simulator.ptx_types import half_to_f32

_LANE = np.arange(WARP)
_GROUP, _MEMBER = _LANE >> 2, _LANE & 3


def _require_whole_warps(lanes: Lanes, active: ActiveSet, decoding: Decoding) -> None:
    rows = active.by_warp()
    partial = rows.any(axis=1) & ~rows.all(axis=1)
    if partial.any():
        lane = int(np.argmax(partial)) * WARP
        raise DivergentCollective(f"{lanes.name_of(lane)}: part of the warp executes {decoding.instruction}")


@opcode("mma")
def decode_matrix_multiply(decoding: Decoding) -> Action:
    """D = A B + C per warp; products and sums in float32, in another order than the hardware's."""
    shape = decoding.choice(("m16n8k8", "m16n8k16"))
    for required in ("sync", "aligned", "row", "col"):
        decoding.choice((required,))
    accumulator, right, left, result = (decoding.type("f32", "f16", "bf16", "tf32") for _ in range(4))
    if accumulator != "f32" or result != "f32" or left != right or left == "f32":
        raise decoding.unsupported(f"mma of {left} and {right} to {result}")
    decoding.end(4)
    depth, per_register = int(shape.split("k")[1]), 1 if left == "tf32" else 2
    registers = [[decoding.destination(name) for name in decoding.vector(operand)] for operand in decoding.operands]

    def action(lanes: Lanes, active: ActiveSet) -> None:
        _require_whole_warps(lanes, active, decoding)
        a = _fragments(lanes, registers[1], left)
        b = _fragments(lanes, registers[2], left)
        left_matrix = np.zeros((len(a), 16, depth), np.float32)
        right_matrix = np.zeros((len(a), depth, 8), np.float32)
        for register in range(a.shape[2]):
            column = _MEMBER * per_register + depth // 2 * (register >> 1)
            for part in range(per_register):
                left_matrix[:, _GROUP + 8 * (register & 1), column + part] = a[:, :, register, part]
        for register in range(b.shape[2]):
            row = _MEMBER * per_register + depth // 2 * register
            for part in range(per_register):
                right_matrix[:, row + part, _GROUP] = b[:, :, register, part]
        product = np.matmul(left_matrix, right_matrix)
        for register, (target, addend) in enumerate(zip(registers[0], registers[3], strict=True)):
            start = lanes.full(lanes.registers[addend]).view(np.float32).reshape(-1, WARP)  # type: ignore[index]
            total = product[:, _GROUP + 8 * (register >> 1), _MEMBER * 2 + (register & 1)] + start
            lanes.write(target, np.ascontiguousarray(total).reshape(-1), active)  # type: ignore[arg-type]

    return action


def _fragments(lanes: Lanes, registers: list[int | None], ptx_type: str) -> np.ndarray:
    """[warps, 32, registers, values per register] as float32."""
    raw = np.stack([lanes.full(lanes.registers[index]) for index in registers], axis=1)  # type: ignore[index]
    if ptx_type == "tf32":
        return raw.view(np.float32).reshape(-1, WARP, len(registers), 1)
    return half_to_f32(raw, ptx_type).reshape(-1, WARP, len(registers), 2)


@opcode("ldmatrix", "stmatrix")
def decode_matrix_move(decoding: Decoding) -> Action:
    """1, 2 or 4 matrices of 8 x 8 halves; lanes 8 i .. 8 i + 7 hold the row addresses of matrix i."""
    decoding.type("b16")
    for required in ("sync", "aligned", "m8n8"):
        decoding.choice((required,))
    n_matrices = int(decoding.choice(("x1", "x2", "x4"))[1:])
    transposed = decoding.flag("trans")
    decoding.choice(("shared", "shared::cta"))
    decoding.end(2)
    loading = decoding.name == "ldmatrix"
    names, address_text = decoding.operands if loading else decoding.operands[::-1]
    registers = [decoding.destination(name) for name in decoding.vector(names)]
    address = decoding.address(re.sub(r"\s", "", address_text))

    def action(lanes: Lanes, active: ActiveSet) -> None:
        _require_whole_warps(lanes, active, decoding)
        addressing = active.where(lanes.lane < 8 * n_matrices)
        rows = addressing.pick(lanes.full(address(lanes)))
        access = lanes.monitor.locate(decoding.instruction, addressing, "shared", rows, 16, 2)
        memory, starts = lanes.monitor.elements(access, np.uint16)
        cells = starts.reshape(-1, n_matrices, 8, 1) + np.arange(8)
        first, second = 2 * _MEMBER, 2 * _MEMBER + 1
        if loading:
            lanes.monitor.read(access)
        else:
            lanes.monitor.write(access, np.zeros(len(starts), bool))
        for i, register in enumerate(registers):
            low = cells[:, i, first, _GROUP] if transposed else cells[:, i, _GROUP, first]
            high = cells[:, i, second, _GROUP] if transposed else cells[:, i, _GROUP, second]
            if loading:
                pairs = memory[low].astype(np.uint32) | memory[high].astype(np.uint32) << np.uint32(16)
                lanes.write(register, active.spread(pairs.reshape(-1)), active)  # type: ignore[arg-type]
            else:
                pairs = active.pick(lanes.full(lanes.registers[register])).reshape(-1, WARP)  # type: ignore[index]
                memory[low] = (pairs & np.uint32(0xFFFF)).astype(np.uint16)
                memory[high] = (pairs >> np.uint32(16)).astype(np.uint16)

    return action
