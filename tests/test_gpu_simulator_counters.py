"""The simulator's counts on kernels whose traffic is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from profiling.gpu_simulator import Options
from profiling.gpu_simulator.snippets import run


def copy_kernel(stride: int) -> str:
    return f"""mul.lo.u32 %r1, %r30, {stride};
mad.wide.u32 %rd1, %r1, 4, %rd10;
ld.global.u32 %r2, [%rd1];
mad.wide.u32 %rd2, %r30, 4, %rd11;
st.global.u32 [%rd2], %r2;"""


@pytest.mark.parametrize(("stride", "sectors"), [(0, 1), (1, 4), (2, 8), (8, 32), (32, 32)])
def test_sectors_of_a_strided_read(stride: int, sectors: int) -> None:
    buffers = [np.zeros(32 * 32, np.uint32), np.zeros(32, np.uint32)]
    counters = run(copy_kernel(stride), buffers).counters
    assert counters.global_reads.sectors == sectors
    assert counters.global_reads.coalescing == pytest.approx(128 / (32 * sectors))
    assert (counters.global_writes.sectors, counters.global_writes.coalescing) == (4, 1.0)


def test_an_unaligned_row_touches_one_more_sector() -> None:
    counters = run(
        "mad.wide.u32 %rd1, %r30, 4, %rd10;\nld.global.u32 %r1, [%rd1+4];", [np.zeros(64, np.uint32)]
    ).counters
    assert counters.global_reads.sectors == 5


def test_vector_reads_are_one_request() -> None:
    body = "mad.wide.u32 %rd1, %r30, 16, %rd10;\nld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];"
    counters = run(body, [np.zeros(128, np.uint32)]).counters
    assert (counters.global_reads.requests, counters.global_reads.sectors, counters.global_reads.bytes) == (1, 16, 512)


def test_block_sectors_count_rereads_once_per_cta() -> None:
    body = "mad.wide.u32 %rd1, %r30, 4, %rd10;\n" + "ld.global.u32 %r1, [%rd1];\n" * 5
    counters = run(body, [np.zeros(32, np.uint32)], grid=(3,)).counters
    assert counters.global_reads.sectors == 3 * 5 * 4
    assert counters.global_reads.block_sectors == 3 * 4


def test_masked_lanes_cost_no_sectors() -> None:
    body = "setp.lt.u32 %p1, %r30, 8;\nmad.wide.u32 %rd1, %r30, 4, %rd10;\n@%p1 ld.global.u32 %r1, [%rd1];"
    counters = run(body, [np.zeros(8, np.uint32)]).counters
    assert (counters.global_reads.sectors, counters.global_reads.bytes) == (1, 32)


@pytest.mark.parametrize(("stride", "wavefronts"), [(1, 1), (2, 2), (3, 1), (4, 4), (32, 32), (33, 1), (0, 1)])
def test_bank_conflicts_of_a_strided_store(stride: int, wavefronts: int) -> None:
    body = f"mul.lo.u32 %r1, %r30, {4 * stride};\nst.shared.u32 [%r1], 1;"
    shared = run(body, [], shared_bytes=8192).counters.shared
    assert (shared.requests, shared.wavefronts, shared.bank_conflicts) == (1, wavefronts, wavefronts - 1)


@pytest.mark.parametrize(("width", "wavefronts"), [(1, 1), (2, 2), (4, 4)])
def test_wide_shared_accesses_take_one_wavefront_per_128_bytes(width: int, wavefronts: int) -> None:
    vector = {1: "u32 [%r1], %r2", 2: "v2.u32 [%r1], {%r2, %r3}", 4: "v4.u32 [%r1], {%r2, %r3, %r4, %r5}"}[width]
    shared = run(f"mul.lo.u32 %r1, %r30, {4 * width};\nst.shared.{vector};", [], shared_bytes=512).counters.shared
    assert (shared.wavefronts, shared.bank_conflicts) == (wavefronts, 0)


def test_a_broadcast_is_one_wavefront_at_any_width() -> None:
    body = """st.shared.v4.u32 [%r5], {%r5, %r5, %r5, %r5};
ld.shared.v4.u32 {%r1, %r2, %r3, %r4}, [%r5];"""
    shared = run(body, [], shared_bytes=16).counters.shared
    assert (shared.requests, shared.wavefronts, shared.bank_conflicts) == (2, 2, 0)


def test_bank_conflicts_of_wide_accesses() -> None:
    """Lanes 32 bytes apart: every quarter warp finds two words in each of 16 banks."""
    body = "mul.lo.u32 %r1, %r30, 32;\nst.shared.v4.u32 [%r1], {%r2, %r3, %r4, %r5};"
    shared = run(body, [], shared_bytes=1024).counters.shared
    assert (shared.wavefronts, shared.bank_conflicts) == (8, 4)


def test_instructions_per_thread_and_issue_slots() -> None:
    """2 set-up instructions, then 3, of which the guarded one runs in a quarter of the threads, then ret."""
    body = "setp.lt.u32 %p1, %r30, 16;\n@%p1 add.u32 %r1, %r1, 1;\nadd.u32 %r2, %r2, 1;"
    counters = run(body, [np.zeros(1, np.uint32)], n_threads=64, grid=(2,)).counters
    assert counters.thread_instructions == 2 * (64 * 5 + 16)
    assert counters.warp_instructions == 2 * 2 * 6
    assert counters.instructions_per_thread == pytest.approx(5.25)
    assert counters.opcodes["add.u32"] == 2 * (64 + 16)


def test_loops_are_counted_by_iteration() -> None:
    body = """mov.u32 %r1, 0;
LOOP:
add.u32 %r1, %r1, 1;
setp.lt.u32 %p1, %r1, 10;
@%p1 bra LOOP;"""
    counters = run(body, []).counters
    assert counters.opcodes["add.u32"] == 320
    assert counters.divergent_branches == 0


def test_divergence_issues_both_sides() -> None:
    body = """and.b32 %r1, %r30, 1;
setp.eq.u32 %p1, %r1, 0;
@%p1 bra EVEN;
mov.u32 %r2, 1;
bra JOIN;
EVEN:
mov.u32 %r2, 2;
JOIN:
mov.u32 %r3, %r2;"""
    counters = run(body, []).counters
    assert counters.divergent_branches == 1
    assert counters.warp_instructions == 1 + 3 + 2 + 1 + 2  # set-up, branch, odd side, even side, joined end


def test_barriers_and_atomics() -> None:
    counters = run(
        "bar.sync 0;\nred.global.add.u32 [%rd10], 1;", [np.zeros(1, np.uint32)], n_threads=64, grid=(3,)
    ).counters
    assert (counters.barriers, counters.atomics) == (3, 192)


def test_batches_do_not_change_counts_or_results() -> None:
    summaries = []
    for lanes_per_batch in (32, 100, 1 << 14):
        buffers = [np.arange(96, dtype=np.uint32), np.zeros(32, np.uint32)]
        record = run(copy_kernel(3), buffers, grid=(3,), options=Options(lanes_per_batch=lanes_per_batch))
        summaries.append((record.counters.summary(), buffers[1].tolist()))
    assert summaries[0] == summaries[1] == summaries[2]


def test_counters_can_be_switched_off() -> None:
    buffers = [np.arange(32, dtype=np.uint32), np.zeros(32, np.uint32)]
    counters = run(copy_kernel(1), buffers, options=Options(counters=False)).counters
    assert counters.thread_instructions == counters.global_reads.sectors == 0
    assert buffers[1].tolist() == list(range(32))
