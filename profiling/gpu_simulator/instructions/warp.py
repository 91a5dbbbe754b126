"""Warp-wide instructions. The executing lanes must be exactly those that the member mask names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from profiling.gpu_simulator.active import WARP, ActiveSet
from profiling.gpu_simulator.decoding import Action, Decoding, Reader, opcode
from profiling.gpu_simulator.errors import DivergentCollective
from profiling.gpu_simulator.lanes import Lanes
from profiling.gpu_simulator.ptx_parser import Instruction

_LANE_BITS = np.uint64(1) << np.arange(WARP, dtype=np.uint64)
_ALL = np.uint32(0xFFFF_FFFF)


def ballot(rows: np.ndarray) -> np.ndarray:
    """[warps, 32] booleans to one 32-bit mask per warp."""
    return (rows * _LANE_BITS).sum(axis=1).astype(np.uint32)


def require_members(lanes: Lanes, active: ActiveSet, members: np.ndarray, instruction: Instruction) -> None:
    if active.mask is None and members.shape == (1,) and members[0] == _ALL:
        return
    rows = active.by_warp()
    named = lanes.full(members).reshape(-1, WARP) & ballot(lanes.existing.by_warp())[:, None]
    wrong = rows & (named != ballot(rows)[:, None])
    if wrong.any():
        lane = int(np.nonzero(wrong.reshape(-1))[0][0])
        warp = lane // WARP
        masks = f"lanes {int(ballot(rows)[warp]):#x} execute, the mask names {int(lanes.full(members)[lane]):#x}"
        raise DivergentCollective(f"{lanes.name_of(lane)}: {masks} at {instruction}")


@opcode("shfl")
def decode_shuffle(decoding: Decoding) -> Action:
    decoding.type("b32")
    decoding.choice(("sync",))
    mode = decoding.choice(("idx", "up", "down", "bfly"))
    decoding.end(5)
    instruction = decoding.instruction
    targets = [decoding.destination(name.strip()) for name in decoding.operands[0].split("|")]
    value, offset, clamp, members = (decoding.read(i, "u32") for i in (1, 2, 3, 4))

    def action(lanes: Lanes, active: ActiveSet) -> None:
        require_members(lanes, active, members(lanes), instruction)
        source, in_range = shuffle_source(lanes.lane, offset(lanes), clamp(lanes), mode)
        source = lanes.warp_start + source
        if active.mask is not None and not active.mask[source[active.mask]].all():
            lane = int(np.nonzero(active.mask & ~active.mask[source])[0][0])
            raise DivergentCollective(f"{lanes.name_of(lane)} reads an inactive lane at {instruction}")
        for register, result in zip(targets, (lanes.full(value(lanes))[source], in_range), strict=False):
            if register is not None:
                lanes.write(register, result, active)

    return action


def shuffle_source(lane: np.ndarray, offset: np.ndarray, clamp: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """The lane to read from (its own where out of range), and whether it is in range."""
    offset = (offset & np.uint32(31)).astype(np.int64)
    segment, bound = (
        ((clamp >> np.uint32(8)) & np.uint32(31)).astype(np.int64),
        (clamp & np.uint32(31)).astype(np.int64),
    )
    first = lane & segment
    last = first | (bound & ~segment)
    if mode == "up":
        source = lane - offset
        in_range = source >= last
    else:
        source = {"bfly": lane ^ offset, "down": lane + offset, "idx": first | (offset & ~segment)}[mode]
        in_range = source <= last
    return np.where(in_range, source, lane), in_range


WarpFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _per_warp(decoding: Decoding, function: WarpFunction, source: Reader, members: Reader) -> Action:
    """destination <- function(values [warps, 32], active [warps, 32]), one result per warp or per lane."""
    target, instruction = decoding.destination(), decoding.instruction
    assert target is not None

    def action(lanes: Lanes, active: ActiveSet) -> None:
        require_members(lanes, active, members(lanes), instruction)
        result = function(lanes.full(source(lanes)).reshape(-1, WARP), active.by_warp())
        lanes.write(target, np.repeat(result, WARP) if result.ndim == 1 else result.reshape(-1), active)

    return action


def _uniform(values: np.ndarray, active: np.ndarray) -> np.ndarray:
    votes = (values & active).sum(axis=1)
    return (votes == 0) | (votes == active.sum(axis=1))


_VOTES: dict[str, WarpFunction] = {
    "all": lambda values, active: np.all(values | ~active, axis=1),
    "any": lambda values, active: np.any(values & active, axis=1),
    "uni": _uniform,
    "ballot": lambda values, active: ballot(values & active),
}


@opcode("vote")
def decode_vote(decoding: Decoding) -> Action:
    decoding.choice(("sync",))
    mode = decoding.choice(_VOTES)
    decoding.type("b32" if mode == "ballot" else "pred")
    decoding.end(3)
    operand = decoding.operands[1]
    read = decoding.reader(operand.lstrip("!"), "pred")
    source: Reader = (lambda lanes: ~read(lanes)) if operand.startswith("!") else read
    return _per_warp(decoding, _VOTES[mode], source, decoding.read(2, "u32"))


@opcode("match")
def decode_match(decoding: Decoding) -> Action:
    ptx_type = decoding.type("b32", "b64")
    decoding.choice(("any",))
    decoding.choice(("sync",))
    decoding.end(3)

    def match_any(values: np.ndarray, active: np.ndarray) -> np.ndarray:
        equal = (values[:, :, None] == values[:, None, :]) & active[:, None, :]
        return (equal * _LANE_BITS).sum(axis=2).astype(np.uint32)

    return _per_warp(decoding, match_any, decoding.read(1, ptx_type), decoding.read(2, "u32"))


REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@opcode("redux")
def decode_reduction(decoding: Decoding) -> Action:
    """On float32 (sm_100), min and max return the number where one operand is NaN, with .NaN they return NaN."""
    ptx_type = decoding.type("u32", "s32", "b32", "f32")
    decoding.choice(("sync",))
    name = decoding.choice(("min", "max") if ptx_type == "f32" else REDUCTIONS)
    ufunc = REDUCTIONS[name]
    if ptx_type == "f32" and not decoding.flag("NaN"):
        ufunc = np.fmin if name == "min" else np.fmax
    reduce = ufunc.reduce
    decoding.end(3)

    def reduce_warp(values: np.ndarray, active: np.ndarray) -> np.ndarray:
        if active.all():
            return reduce(values, axis=1, dtype=values.dtype)
        result = np.zeros(len(values), values.dtype)
        for warp in np.nonzero(active.any(axis=1))[0]:
            result[warp] = reduce(values[warp, active[warp]], dtype=values.dtype)
        return result

    return _per_warp(decoding, reduce_warp, decoding.read(1, ptx_type), decoding.read(2, "u32"))


@opcode("activemask")
def decode_active_mask(decoding: Decoding) -> Action:
    decoding.type("b32")
    decoding.end(1)
    target = decoding.destination()
    assert target is not None
    return lambda lanes, active: lanes.write(target, np.repeat(ballot(active.by_warp()), WARP), active)


@opcode("elect")
def decode_elect(decoding: Decoding) -> Action:
    """Elects the lowest member."""
    decoding.choice(("sync",))
    decoding.end(2)
    targets = [decoding.destination(name.strip()) for name in decoding.operands[0].split("|")]
    members, instruction = decoding.read(1, "u32"), decoding.instruction

    def action(lanes: Lanes, active: ActiveSet) -> None:
        require_members(lanes, active, members(lanes), instruction)
        leader = np.repeat(active.by_warp().argmax(axis=1), WARP)
        for register, result in zip(targets, (leader.astype(np.uint32), lanes.lane == leader), strict=True):
            if register is not None:
                lanes.write(register, result, active)

    return action


@opcode("bar", "barrier")
def decode_warp_barrier(decoding: Decoding) -> Action:
    """bar.warp.sync: lanes of a warp already run in lockstep."""
    decoding.choice(("sync",))
    decoding.end(1)
    return lambda lanes, active: None
