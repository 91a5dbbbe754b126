"""The checker is checked: kernels with one planted bug, every one of which must be caught.

Most mutants are PTX that Triton compiled, with one instruction changed. A mutant counts as caught when the simulator
raises, or, where the bug only changes values, when the result differs from the reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

import triton
import triton.language as tl

from profiling.gpu_simulator import (
    BarrierDeadlock,
    DataRace,
    Misaligned,
    OutOfBounds,
    UninitialisedRead,
    launch,
    simulated_triton,
)
from profiling.gpu_simulator.monitor import Access, MemoryMonitor
from profiling.gpu_simulator.zoo import ZOO, Example

ARCH = 80


def run_ptx(example: Example, ptx: str, compiled: Any) -> None:
    """Launch (mutated) PTX on the example's arguments."""
    types = compiled.src.signature
    kept = [name for name, ptx_type in types.items() if ptx_type != "constexpr"]
    values = [example.arguments[name] for name in kept]
    arguments = [value.numpy() if isinstance(value, torch.Tensor) else value for value in values]
    block = (compiled.metadata.num_warps * 32,)
    launch(ptx, example.grid, block, arguments, dynamic_shared_bytes=compiled.metadata.shared)


def compile_example(name: str) -> tuple[Example, Any]:
    example = ZOO[name]()
    with simulated_triton(ARCH):
        return example, example.compile()


def replace_nth(ptx: str, pattern: str, number: int, change: Callable[[re.Match[str]], str]) -> str:
    match = list(re.finditer(pattern, ptx))[number]
    return ptx[: match.start()] + change(match) + ptx[match.end() :]


def remove(match: re.Match[str]) -> str:
    return ""


def needed_barriers(monkeypatch: pytest.MonkeyPatch, example: Example, compiled: Any) -> list[bool]:
    """By brute force on sets of bytes: does a warp touch behind barrier i what another one wrote or read before it?"""
    touched: dict[tuple[int, bool], dict[int, set[int]]] = {}

    def spy(method: str) -> Callable[..., None]:
        original = getattr(MemoryMonitor, method)

        def observe(monitor: MemoryMonitor, access: Access, *rest: Any, **options: Any) -> None:
            if access.space == "shared":
                lanes = access.active.indices
                by_warp = touched.setdefault((int(monitor._lanes.epoch[lanes[0]]), method == "write"), {})
                for warp, first in zip(monitor._lanes.warp[lanes], access.flat, strict=True):
                    by_warp.setdefault(int(warp), set()).update(range(first, first + access.n_bytes))
            original(monitor, access, *rest, **options)

        return observe

    with monkeypatch.context() as patch:
        for method in ("read", "write"):
            patch.setattr(MemoryMonitor, method, spy(method))
        run_ptx(example, compiled.asm["ptx"], compiled)

    def conflict(epoch: int) -> bool:
        return any(
            mine & theirs
            for before, after in ((True, False), (False, True), (True, True))
            for warp, mine in touched.get((epoch, before), {}).items()
            for other, theirs in touched.get((epoch + 1, after), {}).items()
            if warp != other
        )

    return [conflict(epoch) for epoch in range(max(epoch for epoch, _ in touched))]


@pytest.mark.parametrize("name", ["softmax", "reduce_tuple", "cumulative_sums", "sort", "permute_split_join"])
def test_a_dropped_barrier_is_a_race_exactly_where_it_was_needed(name: str, monkeypatch) -> None:
    example, compiled = compile_example(name)
    ptx = compiled.asm["ptx"]
    needed = needed_barriers(monkeypatch, example, compiled)
    assert any(needed)
    for number, is_needed in enumerate(needed):
        mutant = replace_nth(ptx, r"bar\.sync\s+0;", number, remove)
        if is_needed:
            with pytest.raises(DataRace, match="shared memory"):
                run_ptx(example, mutant, compiled)
        else:
            run_ptx(example, mutant, compiled)


def test_dropped_store_mask() -> None:
    example, compiled = compile_example("softmax")
    mutant = replace_nth(compiled.asm["ptx"], r"@%p\d+ (st\.global)", -1, lambda match: match[1])
    with pytest.raises(OutOfBounds, match=r"argument 1 .*zoo\.py"):
        run_ptx(example, mutant, compiled)


def test_dropped_load_mask() -> None:
    example, compiled = compile_example("softmax")
    mutant = replace_nth(compiled.asm["ptx"], r"@%p\d+ (ld\.global)", -1, lambda match: match[1])
    with pytest.raises(OutOfBounds, match=r"argument 0 .*zoo\.py"):
        run_ptx(example, mutant, compiled)


def test_barrier_under_a_divergent_predicate() -> None:
    example, compiled = compile_example("softmax")
    divergent = ".reg .pred %bad;\n.reg .b32 %t;\nmov.u32 %t, %tid.x;\nsetp.lt.u32 %bad, %t, 64;\n@%bad bar.sync 0;"
    mutant = replace_nth(compiled.asm["ptx"], r"bar\.sync\s+0;", 0, lambda match: divergent)
    with pytest.raises((BarrierDeadlock, DataRace)):
        run_ptx(example, mutant, compiled)


def test_atomic_replaced_by_load_and_store() -> None:
    example, compiled = compile_example("atomics")
    pattern = r"@(%p\d+) atom\.global\.gpu\.acq_rel\.add\.u32 (%r\d+), (\[[^]]*\]), (%r\d+);"
    plain = r"@\1 ld.global.b32 \2, \3; add.u32 \2, \2, 1; @\1 st.global.b32 \3, \2;"
    mutant = replace_nth(compiled.asm["ptx"], pattern, 0, lambda match: match.expand(plain))
    with pytest.raises(DataRace, match="argument"):
        run_ptx(example, mutant, compiled)


def test_store_beyond_shared_memory() -> None:
    example, compiled = compile_example("permute_split_join")
    pattern = r"(st\.shared\S*\s+\[\s*%r\d+)[^\]]*\]"
    mutant = replace_nth(compiled.asm["ptx"], pattern, 0, lambda match: f"{match[1]} + {1 << 16}]")
    with pytest.raises(OutOfBounds, match=r"shared memory at .*zoo\.py"):
        run_ptx(example, mutant, compiled)


def test_store_to_the_wrong_place_in_shared_memory() -> None:
    """All threads store where thread 0 does: a conflict between warps, or a read of what nobody wrote."""
    example, compiled = compile_example("permute_split_join")
    pattern = r"st\.shared(\S*)\s+\[\s*(%r\d+)"
    mutant = replace_nth(compiled.asm["ptx"], pattern, 0, lambda match: f"mov.b32 {match[2]}, global_smem; {match[0]}")
    with pytest.raises((DataRace, UninitialisedRead)):
        run_ptx(example, mutant, compiled)


@triton.jit
def row_sums(x_ptr, y_ptr, stride, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * stride + column, mask=column < n, other=0.0)
    tl.store(y_ptr + row, tl.sum(x, 0))


@pytest.mark.parametrize(("distance", "wrong"), [(16, 8), (8, 4), (4, 2), (2, 1)])
def test_wrong_shuffle_distance_changes_the_sum(distance: int, wrong: int) -> None:
    """No check can see this one: only the value is wrong."""
    x, y = torch.randn(6, 200), torch.empty(6)
    example = Example(
        row_sums,
        (6,),
        {"x_ptr": x, "y_ptr": y, "stride": 200, "n": 200},
        {"BLOCK": 256},
        lambda: torch.testing.assert_close(y, x.sum(1), atol=1e-4, rtol=0),
    )
    with simulated_triton(ARCH):
        compiled = example.compile()
    run_ptx(example, compiled.asm["ptx"], compiled)
    example.check()
    pattern = rf"(shfl\.sync\.bfly\.b32\s+%r\d+, %r\d+), {distance},"
    run_ptx(example, replace_nth(compiled.asm["ptx"], pattern, 0, lambda match: f"{match[1]}, {wrong},"), compiled)
    with pytest.raises(AssertionError):
        example.check()


def test_wrong_stride() -> None:
    x, y = torch.ones(6, 200), torch.empty(6)
    with simulated_triton(ARCH):
        row_sums[(6,)](x, y, 200, 200, BLOCK=256)
        assert y.tolist() == [200.0] * 6
        with pytest.raises(OutOfBounds, match="past the end of x_ptr"):
            row_sums[(6,)](x, y, 201, 200, BLOCK=256)


def test_one_row_too_many() -> None:
    x, y = torch.ones(6, 200), torch.empty(6)
    with simulated_triton(ARCH), pytest.raises(OutOfBounds, match="past the end of x_ptr"):
        row_sums[(7,)](x, y, 200, 200, BLOCK=256)


@triton.jit
def total_without_atomic(x_ptr, y_ptr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr, tl.load(y_ptr) + tl.sum(tl.load(x_ptr + i), 0))


def test_non_atomic_accumulation() -> None:
    total = torch.zeros(1)
    with simulated_triton(ARCH) as gpu:
        with pytest.raises(DataRace, match=r"y_ptr .*test_gpu_simulator_mutants\.py"):
            total_without_atomic[(4,)](torch.ones(512), total, BLOCK=128)
        assert len(gpu.launches[0].races) == 1
    assert total.item() == 0.0


@triton.jit
def overlapping_tiles(y_ptr, STEP: tl.constexpr, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    tl.store(y_ptr + program * STEP + tl.arange(0, BLOCK), tl.full((BLOCK,), 1.0, tl.float32) * program)


def test_overlapping_tiles() -> None:
    y = torch.zeros(512)
    with simulated_triton(ARCH):
        overlapping_tiles[(4,)](y, STEP=128, BLOCK=128)
        with pytest.raises(DataRace):
            overlapping_tiles[(4,)](y, STEP=64, BLOCK=128)


@triton.jit
def stencil_in_place(x_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    left = tl.load(x_ptr + i - 1, mask=(i < n) & (i > 0), other=0.0)
    right = tl.load(x_ptr + i + 1, mask=i < n - 1, other=0.0)
    tl.store(x_ptr + i, left + right, mask=i < n)


def test_stencil_in_place_over_several_programs() -> None:
    with simulated_triton(ARCH), pytest.raises(DataRace):
        stencil_in_place[(4,)](torch.randn(500), 500, BLOCK=128)


@triton.jit
def reverse_in_place(x_ptr, y_ptr, BARRIER: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(x_ptr + i, tl.load(x_ptr + i) * 2.0)
    if BARRIER:
        tl.debug_barrier()
    tl.store(y_ptr + i, tl.load(x_ptr + (BLOCK - 1 - i)))


def test_missing_barrier_in_triton_source() -> None:
    x, y = torch.arange(256.0), torch.empty(256)
    with simulated_triton(ARCH):
        reverse_in_place[(1,)](x, y, BARRIER=True, BLOCK=256)
        assert torch.equal(y, torch.arange(256.0).flip(0) * 2)
        with pytest.raises(DataRace, match="x_ptr is read after another warp wrote it"):
            reverse_in_place[(1,)](x, y, BARRIER=False, BLOCK=256)


@triton.jit
def strided_fill(x_ptr, stride, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.program_id(0) * stride + tl.arange(0, BLOCK), 1.0)


def test_int32_overflow_of_an_index() -> None:
    with simulated_triton(ARCH), pytest.raises(OutOfBounds, match=r"test_gpu_simulator_mutants\.py"):
        strided_fill[(3,)](torch.zeros(192), 2**30 + 64, BLOCK=64)


def test_misaligned_view_given_to_a_vectorised_kernel() -> None:
    """The kernel was compiled for 16-byte aligned pointers; the buffer starts 4 bytes off."""
    example, compiled = compile_example("cumulative_sums")
    assert "ld.global.v4" in compiled.asm["ptx"]
    from profiling.gpu_simulator.decoder import load_program
    from profiling.gpu_simulator.launch import DEFAULT_OPTIONS, run_program
    from profiling.gpu_simulator.memory import GlobalMemory

    memory = GlobalMemory()
    raw = [example.arguments[name].view(torch.uint8).numpy() for name in ("x_ptr", "y_ptr", "z_ptr")]
    addresses = [memory.allocate(str(i), data, misalignment=4 * (i == 0)) for i, data in enumerate(raw)]
    program = load_program(compiled.asm["ptx"])
    with pytest.raises(Misaligned, match=r"16-byte access 4 B off .*zoo\.py"):
        run_program(program, (1,), (128,), addresses, memory, compiled.metadata.shared, DEFAULT_OPTIONS)


def test_size_that_breaks_a_divisibility_promise() -> None:
    """Compiled for rows of a multiple of 16 elements, launched on rows of 1023."""
    example, compiled = compile_example("softmax_fp16")
    example.arguments["n"] = 1023
    with pytest.raises(Misaligned):
        run_ptx(example, compiled.asm["ptx"], compiled)
