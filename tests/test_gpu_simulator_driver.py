"""The Triton driver on top of the simulator: unchanged launches, autotuning, torch.library operators, torch.compile."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

import triton
import triton.language as tl
from torch.library import opcheck, triton_op, wrap_triton
from triton import knobs
from triton.runtime import driver

from profiling.gpu_simulator import Options, OutOfBounds, SimulationError, UnsupportedPtx, simulated_triton


@triton.jit
def add_kernel(x_ptr, y_ptr, out_ptr, n, scale, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n)
    y = tl.load(y_ptr + i, mask=i < n)
    tl.store(out_ptr + i, x + scale * y, mask=i < n)


def add(x: torch.Tensor, y: torch.Tensor, block: int = 256, kernel=add_kernel, scale: float = 1.0) -> torch.Tensor:
    out = torch.empty_like(x)
    kernel[(triton.cdiv(x.numel(), block),)](x, y, out, x.numel(), scale, BLOCK=block)
    return out


@triton_op("simulated::add", mutates_args={})
def add_op(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return add(x, y, kernel=wrap_triton(add_kernel))


@pytest.fixture
def operands() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1024, generator=generator), torch.randn(1024, generator=generator)


def test_records_every_launch(operands) -> None:
    x, y = operands
    with simulated_triton(80) as gpu:
        assert torch.equal(add(x, y), x + y)
        assert torch.equal(add(x, y, scale=0.5), x + 0.5 * y)
    assert [record.name for record in gpu.launches] == ["add_kernel"] * 2
    record = gpu.launches[0]
    assert (record.grid, record.block, record.races) == ((4, 1, 1), (128, 1, 1), [])
    assert record.counters.global_reads.bytes == 2 * 4096
    assert record.counters.global_reads.coalescing == 1.0


def test_the_previous_driver_and_settings_come_back(operands) -> None:
    before = driver._active, knobs.runtime.add_stages_inspection_hook, knobs.cache.dir
    with simulated_triton(80):
        inside = driver._active
        with simulated_triton(90) as inner:
            assert driver.active.get_current_target().arch == 90
            add(*operands)
        assert driver._active is inside
        assert len(inner.launches) == 1
    assert (driver._active, knobs.runtime.add_stages_inspection_hook, knobs.cache.dir) == before


def test_an_exception_restores_the_driver_too(operands) -> None:
    before = driver._active
    with pytest.raises(OutOfBounds), simulated_triton(80):
        add_kernel[(4,)](*operands, torch.empty(1023), 1024, 1.0, BLOCK=256)
    assert driver._active is before


def test_bounds_are_those_of_the_view_not_of_its_storage(operands) -> None:
    storage = torch.zeros(3000)
    x, y = operands
    with simulated_triton(80) as gpu:
        add_kernel[(4,)](x, y, storage[1000:2024], 1024, 1.0, BLOCK=256)
        with pytest.raises(OutOfBounds, match="past the end of out_ptr"):
            add_kernel[(4,)](x, y, storage[1000:2023], 1024, 1.0, BLOCK=256)
    assert torch.equal(storage[1000:2024], x + y)
    assert not storage[:1000].any()
    assert not storage[2024:].any()
    assert len(gpu.launches) == 1


def test_a_view_off_its_alignment_is_specialised_for() -> None:
    storage = torch.arange(1025.0)
    with simulated_triton(80) as gpu:
        aligned = add(storage[:1024], storage[:1024])
        shifted = add(storage[1:], storage[1:])
    assert torch.equal(aligned, 2 * storage[:1024])
    assert torch.equal(shifted, 2 * storage[1:])
    vectors = [any(op.startswith("ld.global.v") for op in record.counters.opcodes) for record in gpu.launches]
    assert vectors == [True, False]


def test_two_views_of_one_storage() -> None:
    storage = torch.arange(2000.0)
    with simulated_triton(80):
        add_kernel[(4,)](storage[:1000], storage[1000:], storage[:1000], 1000, 1.0, BLOCK=256)
    assert torch.equal(storage[:1000], torch.arange(1000.0) * 2 + 1000)


def test_empty_grid_and_empty_tensor() -> None:
    with simulated_triton(80) as gpu:
        assert add(torch.empty(0), torch.empty(0)).numel() == 0
    assert gpu.launches == []


def test_a_grid_that_no_gpu_takes_is_refused(operands) -> None:
    x, y = operands
    with simulated_triton(80), pytest.raises(SimulationError, match=r"grid \(1, 65536, 1\)"):
        add_kernel[(1, 65536)](x, y, torch.empty(1024), 1024, 1.0, BLOCK=256)


def test_options_reach_the_launch(operands) -> None:
    with simulated_triton(80, Options(counters=False)) as gpu:
        add(*operands)
        gpu.options = Options()
        add(*operands)
    assert [record.counters.thread_instructions > 0 for record in gpu.launches] == [False, True]


def test_autotune(operands) -> None:
    configs = [triton.Config({"BLOCK": 128}), triton.Config({"BLOCK": 512}, num_warps=8)]
    tuned = triton.autotune(configs=configs, key=["n"])(add_kernel)
    x, y = operands
    out = torch.empty_like(x)
    with simulated_triton(80) as gpu:
        tuned[lambda meta: (triton.cdiv(1024, meta["BLOCK"]),)](x, y, out, 1024, 1.0)
    assert torch.equal(out, x + y)
    assert {record.block[0] for record in gpu.launches} == {128, 256}


def test_triton_operator_passes_opcheck(operands) -> None:
    with simulated_triton(80):
        assert set(opcheck(add_op, operands).values()) == {"SUCCESS"}


def test_torch_compile(operands) -> None:
    x, y = operands
    with simulated_triton(80) as gpu:
        compiled = torch.compile(lambda a, b: add_op(a, b) * 2, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x, y), (x + y) * 2)
    assert len(gpu.launches) == 1


def test_other_triton_versions_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(triton, "__version__", "3.5.1")
    with pytest.raises(UnsupportedPtx, match=r"Triton 3\.5\.1"), simulated_triton(80):
        pass


def test_the_interpreter_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="interpreter"), simulated_triton(80):
        pass
