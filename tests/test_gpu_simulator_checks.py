"""Every check of the simulator finds what it is for, names the source line, and stays quiet on the correct twin."""

from __future__ import annotations

import numpy as np
import pytest

from profiling.gpu_simulator import (
    BarrierDeadlock,
    DataRace,
    DivergentCollective,
    EndlessLoop,
    KernelTrap,
    Misaligned,
    Options,
    OutOfBounds,
    UninitialisedRead,
)
from profiling.gpu_simulator.snippets import run

ADDRESS = "mad.wide.u32 %rd1, %r30, 4, %rd10;"
SHARED_ADDRESS = "mul.lo.u32 %r1, %r30, 4;"


def words(count: int) -> np.ndarray:
    return np.zeros(count, np.uint32)


@pytest.mark.parametrize("access", ["ld.global.u32 %r2, [%rd1];", "st.global.u32 [%rd1], %r30;"])
def test_access_past_the_end(access: str) -> None:
    with pytest.raises(OutOfBounds, match=r"CTA 0 thread 31: 4 B past the end of argument 0 .*snippet\.cu:101"):
        run(f"{ADDRESS}\n{access}", [words(31)])
    run(f"{ADDRESS}\n{access}", [words(32)])


def test_access_before_the_start() -> None:
    with pytest.raises(OutOfBounds, match="8 B before the start of argument 1"):
        run("ld.global.u32 %r2, [%rd11+-8];", [words(32), words(32)])


def test_access_through_a_wrapped_32_bit_index() -> None:
    body = """mul.lo.u32 %r1, %r30, 0x20000000;
mad.wide.s32 %rd1, %r1, 4, %rd10;
st.global.u32 [%rd1], %r30;"""
    with pytest.raises(OutOfBounds, match=r"snippet\.cu:102"):
        run(body, [words(64)])


def test_a_failed_launch_leaves_host_buffers_alone() -> None:
    buffer = words(31)
    with pytest.raises(OutOfBounds):
        run(f"st.global.u32 [%rd10], 7;\n{ADDRESS}\nst.global.u32 [%rd1], 1;", [buffer])
    assert not buffer.any()


def test_misaligned_global_access() -> None:
    with pytest.raises(Misaligned, match=r"16-byte access 4 B off its alignment.*snippet\.cu:100"):
        run("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd10+4];", [words(32)])
    run("ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd10+16];", [words(32)])


def test_shared_access_out_of_bounds() -> None:
    body = f"{SHARED_ADDRESS}\nst.shared.u32 [%r1], %r30;"
    with pytest.raises(OutOfBounds, match=r"byte 124 \+ 4 of 124 B of shared memory"):
        run(body, [], shared_bytes=124)
    run(body, [], shared_bytes=128)


def test_misaligned_shared_access() -> None:
    with pytest.raises(Misaligned, match="8-byte access 4 B off"):
        run("st.shared.u64 [%r1+4], %rd1;", [], shared_bytes=64)


def test_local_access_out_of_bounds() -> None:
    body = ".local .align 4 .b8 depot[8];\nmov.u64 %rd1, depot;\nst.local.u32 [%rd1+8], %r30;"
    with pytest.raises(OutOfBounds, match="local memory"):
        run(body, [])


def test_read_of_shared_memory_nobody_wrote() -> None:
    body = f"{SHARED_ADDRESS}\nsetp.lt.u32 %p1, %r30, 31;\n@%p1 st.shared.u32 [%r1], %r30;\nld.shared.u32 %r2, [%r1];"
    with pytest.raises(UninitialisedRead, match=r"thread 31.*snippet\.cu:103"):
        run(body, [], shared_bytes=128)
    run(body.replace("31;", "32;"), [], shared_bytes=128)


EXCHANGE = """mul.lo.u32 %r1, %r30, 4;
st.shared.u32 [%r1], %r30;
{barrier}
xor.b32 %r2, %r1, 128;
ld.shared.u32 %r3, [%r2];
mad.wide.u32 %rd1, %r30, 4, %rd10;
st.global.u32 [%rd1], %r3;
{second}
st.shared.u32 [%r1], 7;"""


def test_shared_race_read_after_write() -> None:
    output = words(64)
    with pytest.raises(DataRace, match=r"shared memory is read after another warp wrote it.*snippet\.cu:104"):
        run(EXCHANGE.format(barrier="", second="bar.sync 0;"), [output], n_threads=64, shared_bytes=256)
    run(EXCHANGE.format(barrier="bar.sync 0;", second="bar.sync 0;"), [output], n_threads=64, shared_bytes=256)
    assert output.tolist() == [lane ^ 32 for lane in range(64)]


def test_shared_race_write_after_read() -> None:
    with pytest.raises(DataRace, match=r"shared memory is written after another warp used it.*snippet\.cu:108"):
        run(EXCHANGE.format(barrier="bar.sync 0;", second=""), [words(64)], n_threads=64, shared_bytes=256)


def test_warps_of_one_cta_that_write_different_values() -> None:
    body = "and.b32 %r1, %r30, 31;\nmul.lo.u32 %r1, %r1, 4;\nst.shared.u32 [%r1], {value};"
    with pytest.raises(DataRace, match="different values to one location"):
        run(body.format(value="%r30"), [], n_threads=64, shared_bytes=128)
    run(body.format(value="%r1"), [], n_threads=64, shared_bytes=128)


def test_a_byte_and_the_word_around_it_race() -> None:
    body = """setp.lt.u32 %p1, %r30, 32;
@%p1 st.shared.u32 [%r5], %r30;
@!%p1 st.shared.u8 [%r5+2], %r30;"""
    with pytest.raises(DataRace):
        run(body, [], n_threads=64, shared_bytes=16)


def test_neighbouring_bytes_do_not_race() -> None:
    output = np.zeros(64, np.uint8)
    run("cvt.u64.u32 %rd1, %r30;\nadd.u64 %rd2, %rd1, %rd10;\nst.global.u8 [%rd2], %r30;", [output], n_threads=64)
    assert output.tolist() == list(range(64))


def test_global_race_between_ctas() -> None:
    body = "mov.u32 %r1, %ctaid.x;\nld.global.u32 %r2, [%rd10];\nadd.u32 %r3, %r2, 1;\nst.global.u32 [%rd10], %r3;"
    with pytest.raises(DataRace, match=r"argument 0 is written after another warp used it.*snippet\.cu:103"):
        run(body, [words(1)], grid=(3,))


@pytest.mark.parametrize("lanes_per_batch", [32, 1 << 14])
def test_global_race_is_found_across_batches(lanes_per_batch: int) -> None:
    body = "mov.u32 %r1, %ctaid.x;\nst.global.u32 [%rd10], %r1;"
    with pytest.raises(DataRace):
        run(body, [words(1)], grid=(4,), options=Options(lanes_per_batch=lanes_per_batch))


def test_atomics_do_not_race_with_each_other_but_with_plain_reads() -> None:
    counter = words(1)
    run("red.global.add.u32 [%rd10], 1;", [counter], n_threads=64, grid=(5,))
    assert counter[0] == 320
    with pytest.raises(DataRace):
        run("ld.global.u32 %r1, [%rd10];\nred.global.add.u32 [%rd10], 1;", [counter], grid=(2,))


def test_a_barrier_orders_global_memory_within_a_cta() -> None:
    body = f"""{ADDRESS}
st.global.u32 [%rd1], %r30;
{{barrier}}
xor.b32 %r2, %r30, 32;
mad.wide.u32 %rd2, %r2, 4, %rd10;
ld.global.u32 %r3, [%rd2];"""
    run(body.format(barrier="bar.sync 0;"), [words(64)], n_threads=64)
    with pytest.raises(DataRace):
        run(body.format(barrier=""), [words(64)], n_threads=64)


def test_barrier_that_some_threads_skip() -> None:
    body = "setp.lt.u32 %p1, %r30, {limit};\n@!%p1 bra WAIT;\n{skip}\nWAIT:\nbar.sync 0;"
    run(body.format(limit=32, skip=""), [], n_threads=64)
    never = "SPIN:\nbra SPIN;"
    with pytest.raises(EndlessLoop):
        run(body.format(limit=32, skip=never), [], n_threads=64, options=Options(max_steps=1000))


def test_barriers_at_different_places() -> None:
    body = """setp.lt.u32 %p1, %r30, 32;
@%p1 bra FIRST;
bar.sync 0;
bra DONE;
FIRST:
bar.sync 0;
DONE:
mov.u32 %r1, 0;"""
    with pytest.raises(BarrierDeadlock, match="different barriers"):
        run(body, [], n_threads=64)


def test_threads_left_alone_at_a_barrier() -> None:
    body = """setp.lt.u32 %p1, %r30, 32;
@%p1 bar.sync 0;
bar.sync 0;"""
    with pytest.raises(BarrierDeadlock, match=r"snippet\.cu:10[12]"):
        run(body, [], n_threads=64)


def test_exited_threads_do_not_block_a_barrier() -> None:
    record = run("setp.ge.u32 %p1, %r30, 32;\n@%p1 exit;\nbar.sync 0;", [], n_threads=64)
    assert record.counters.barriers == 1


def test_shuffle_in_a_diverged_warp() -> None:
    body = "setp.lt.u32 %p1, %r30, 16;\n@%p1 shfl.sync.bfly.b32 %r1, %r30, 1, 0x1f, {mask};"
    with pytest.raises(DivergentCollective, match=r"lanes 0xffff execute, the mask names 0xffffffff.*snippet\.cu:101"):
        run(body.format(mask="0xffffffff"), [])
    run(body.format(mask="0xffff"), [])


def test_shuffle_from_an_inactive_lane() -> None:
    body = "setp.lt.u32 %p1, %r30, 16;\n@%p1 shfl.sync.idx.b32 %r1, %r30, 20, 0x1f, 0xffff;"
    with pytest.raises(DivergentCollective, match="inactive lane"):
        run(body, [])


def test_vote_in_a_diverged_warp() -> None:
    body = "setp.lt.u32 %p1, %r30, 3;\n@%p1 vote.sync.any.pred %p2, %p1, -1;"
    with pytest.raises(DivergentCollective):
        run(body, [])


def test_trap() -> None:
    with pytest.raises(KernelTrap, match=r"snippet\.cu:101"):
        run("setp.eq.u32 %p1, %r30, 5;\n@%p1 trap;", [])


def test_race_and_initialisation_checks_can_be_switched_off() -> None:
    body = EXCHANGE.format(barrier="", second="") + "\nld.shared.u32 %r4, [%r9+512];"
    run(body, [words(64)], n_threads=64, shared_bytes=1024, options=Options(checks=False))
    with pytest.raises(OutOfBounds):
        run(body, [words(63)], n_threads=64, shared_bytes=1024, options=Options(checks=False))
