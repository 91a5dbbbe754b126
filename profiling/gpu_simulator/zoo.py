"""Small Triton kernels that between them use most of the language, each with an independent reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

ZOO: dict[str, Callable[[], Example]] = {}


@dataclass
class Example:
    """A kernel launch and what must hold afterwards; tensors in `arguments` are updated in place."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    constants: dict[str, Any]
    check: Callable[[], None]

    def launch(self, **options: Any) -> None:
        self.kernel[self.grid](**self.arguments, **self.constants, **options)

    def compile(self, **options: Any) -> Any:
        return self.kernel.warmup(**self.arguments, **self.constants, grid=self.grid, **options)


def example(build: Callable[[], Example]) -> Callable[[], Example]:
    ZOO[build.__name__] = build
    return build


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def matches(actual: torch.Tensor, expected: Callable[[], torch.Tensor], tolerance: float = 0.0) -> Callable[[], None]:
    def check() -> None:
        torch.testing.assert_close(actual.double(), expected().double(), atol=tolerance, rtol=0.0)

    return check


@triton.jit
def softmax_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + column, mask=column < n, other=-float("inf")).to(tl.float32)
    weight = tl.exp(x - tl.max(x, 0))
    y = weight / tl.sum(weight, 0)
    tl.store(y_ptr + row * n + column, y.to(y_ptr.dtype.element_ty), mask=column < n)


def softmax_example(n: int, dtype: torch.dtype, tolerance: float) -> Example:
    x = draw(8, n, dtype=dtype) * 4
    y = torch.empty_like(x)
    check = matches(y, lambda: x.double().softmax(-1), tolerance)
    return Example(softmax_kernel, (8,), {"x_ptr": x, "y_ptr": y, "n": n}, {"BLOCK": 1024}, check)


@example
def softmax() -> Example:
    return softmax_example(1000, torch.float32, 1e-6)


@example
def softmax_fp16() -> Example:
    return softmax_example(1024, torch.float16, 3e-4)


@example
def softmax_bf16() -> Example:
    return softmax_example(1024, torch.bfloat16, 3e-3)


@triton.jit
def combine_moments(mean_a, square_a, count_a, mean_b, square_b, count_b):
    count = count_a + count_b
    difference = mean_b - mean_a
    share = tl.where(count == 0.0, 0.0, count_b / count)
    return mean_a + difference * share, square_a + square_b + difference * difference * count_a * share, count


@triton.jit
def moments_kernel(x_ptr, mean_ptr, variance_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    present = column < n
    x = tl.load(x_ptr + row * n + column, mask=present, other=0.0)
    mean, square, count = tl.reduce((x, tl.zeros_like(x), present.to(tl.float32)), 0, combine_moments)
    tl.store(mean_ptr + row, mean)
    tl.store(variance_ptr + row, square / count)


@example
def reduce_tuple() -> Example:
    x, mean, variance = draw(4, 700), torch.empty(4), torch.empty(4)

    def check() -> None:
        torch.testing.assert_close(mean, x.mean(-1), atol=1e-6, rtol=0)
        torch.testing.assert_close(variance, x.var(-1, correction=0), atol=1e-5, rtol=0)

    arguments = {"x_ptr": x, "mean_ptr": mean, "variance_ptr": variance, "n": 700}
    return Example(moments_kernel, (4,), arguments, {"BLOCK": 1024}, check)


@triton.jit
def compose_affine(scale_a, shift_a, scale_b, shift_b):
    return scale_a * scale_b, shift_a * scale_b + shift_b


@triton.jit
def recurrence_kernel(a_ptr, b_ptr, h_ptr, length, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.arange(0, ROWS)[:, None]
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    state = tl.zeros((COLUMNS,), tl.float32)
    for start in range(0, length, ROWS):
        present = (row + start < length) & (column < width)
        offset = (row + start) * width + column
        a = tl.load(a_ptr + offset, mask=present, other=1.0)
        b = tl.load(b_ptr + offset, mask=present, other=0.0)
        scale, shift = tl.associative_scan((a, b), 0, compose_affine)
        h = scale * state[None, :] + shift
        tl.store(h_ptr + offset, h, mask=present)
        state = tl.sum(tl.where(row == ROWS - 1, h, 0.0), 0)


@example
def scan_tuple_with_carry() -> Example:
    a, b = torch.sigmoid(draw(100, 40)), draw(100, 40, seed=1)
    h = torch.empty_like(a)

    def expected() -> torch.Tensor:
        state, states = torch.zeros(40, dtype=torch.float64), []
        for row in range(100):
            state = state * a[row] + b[row]
            states.append(state)
        return torch.stack(states)

    arguments = {"a_ptr": a, "b_ptr": b, "h_ptr": h, "length": 100, "width": 40}
    return Example(recurrence_kernel, (2,), arguments, {"ROWS": 32, "COLUMNS": 32}, matches(h, expected, 1e-5))


@triton.jit
def cumulative_kernel(x_ptr, y_ptr, z_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    tl.store(y_ptr + i, tl.cumsum(x, 0))
    tl.store(z_ptr + i, tl.cumsum(x, 0, reverse=True))


@example
def cumulative_sums() -> Example:
    x = torch.arange(512, dtype=torch.int32) % 7
    y, z = torch.empty_like(x), torch.empty_like(x)

    def check() -> None:
        assert torch.equal(y.long(), x.cumsum(0))
        assert torch.equal(z.long(), x.flip(0).cumsum(0).flip(0))

    return Example(cumulative_kernel, (1,), {"x_ptr": x, "y_ptr": y, "z_ptr": z}, {"BLOCK": 512}, check)


@triton.jit
def sort_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y_ptr + i, tl.sort(tl.load(x_ptr + i)))


@example
def sort() -> Example:
    x = draw(256)
    y = torch.empty_like(x)
    return Example(sort_kernel, (1,), {"x_ptr": x, "y_ptr": y}, {"BLOCK": 256}, matches(y, lambda: x.sort().values))


@triton.jit
def gather_kernel(x_ptr, index_ptr, y_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y_ptr + i, tl.gather(tl.load(x_ptr + i), tl.load(index_ptr + i), 0))


@example
def gather() -> Example:
    x, index = draw(256), (torch.arange(256, dtype=torch.int32) * 37) % 256
    y = torch.empty_like(x)
    arguments = {"x_ptr": x, "index_ptr": index, "y_ptr": y}
    return Example(gather_kernel, (1,), arguments, {"BLOCK": 256}, matches(y, lambda: x[index.long()]))


@triton.jit
def swap_pairs_kernel(x_ptr, y_ptr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    offset = tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    x = tl.reshape(tl.permute(tl.load(x_ptr + offset), (1, 0)), (COLUMNS, ROWS // 2, 2))
    even, odd = tl.split(x)
    swapped = tl.reshape(tl.join(odd, even), (COLUMNS, ROWS))
    tl.store(y_ptr + offset, tl.trans(swapped))


@example
def permute_split_join() -> Example:
    x = draw(32, 64)
    y = torch.empty_like(x)
    check = matches(y, lambda: x.reshape(16, 2, 64).flip(1).reshape(32, 64))
    return Example(swap_pairs_kernel, (1,), {"x_ptr": x, "y_ptr": y}, {"ROWS": 32, "COLUMNS": 64}, check)


@triton.jit
def random_kernel(uniform_ptr, integer_ptr, seed, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(uniform_ptr + i, tl.rand(seed, i))
    tl.store(integer_ptr + i, tl.randint(seed, i))


def philox(counter: np.ndarray, key: int) -> np.ndarray:
    """First word of Philox-4x32-10 with counter (counter, 0, 0, 0) and key (key, 0)."""
    words = [counter.astype(np.uint64), *[np.zeros(len(counter), np.uint64)] * 3]
    keys, low, shift = [key, 0], np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        first, third = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [
            (third >> shift) ^ words[1] ^ np.uint64(keys[0]),
            third & low,
            (first >> shift) ^ words[3] ^ np.uint64(keys[1]),
            first & low,
        ]
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return words[0].astype(np.uint32)


@example
def random_numbers() -> Example:
    uniform, integer = torch.empty(1024), torch.empty(1024, dtype=torch.int32)

    def check() -> None:
        words = philox(np.arange(1024), key=123)
        assert (integer.numpy().view(np.uint32) == words).all()
        signed = words.view(np.int32).astype(np.int64)
        magnitude = np.where(signed < 0, -signed - 1, signed).astype(np.float32)
        assert (uniform.numpy() == magnitude * np.float32(4.6566127342e-10)).all()

    arguments = {"uniform_ptr": uniform, "integer_ptr": integer, "seed": 123}
    return Example(random_kernel, (2,), arguments, {"BLOCK": 512}, check)


@triton.jit
def atomics_kernel(x_ptr, count_ptr, last_ptr, programs_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n, other=0)
    tl.atomic_add(count_ptr + x, 1.0, mask=i < n)
    tl.atomic_max(last_ptr + x, i, mask=i < n)
    tl.atomic_add(programs_ptr, 1)


@example
def atomics() -> Example:
    x = (torch.arange(1000) * 7 % 16).int()
    count, last, programs = torch.zeros(16), torch.full((16,), -1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)

    def check() -> None:
        assert torch.equal(count, torch.bincount(x, minlength=16).float())
        assert last.tolist() == [max(i for i in range(1000) if x[i] == value) for value in range(16)]
        assert programs.item() == 4

    arguments = {"x_ptr": x, "count_ptr": count, "last_ptr": last, "programs_ptr": programs, "n": 1000}
    return Example(atomics_kernel, (4,), arguments, {"BLOCK": 256}, check)


@triton.jit
def matmul_kernel(a_ptr, b_ptr, c_ptr, K, M: tl.constexpr, N: tl.constexpr, STEP: tl.constexpr):
    row, column = tl.arange(0, M)[:, None], tl.arange(0, N)[None, :]
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, K, STEP):
        k = start + tl.arange(0, STEP)
        a, b = tl.load(a_ptr + row * K + k[None, :]), tl.load(b_ptr + k[:, None] * N + column)
        total = tl.dot(a, b, total, input_precision="ieee")
    tl.store(c_ptr + row * N + column, total)


def matmul_example(depth: int, dtype: torch.dtype, tolerance: float, size: int = 32) -> Example:
    a, b, c = draw(size, depth, dtype=dtype), draw(depth, size, dtype=dtype, seed=1), torch.empty(size, size)
    check = matches(c, lambda: a.double() @ b.double(), tolerance)
    arguments = {"a_ptr": a, "b_ptr": b, "c_ptr": c, "K": depth}
    return Example(matmul_kernel, (1,), arguments, {"M": size, "N": size, "STEP": 32}, check)


@example
def matmul_fp16() -> Example:
    return matmul_example(64, torch.float16, 1e-4)


@example
def matmul_fp32() -> Example:
    return matmul_example(32, torch.float32, 1e-5)


@triton.jit
def float64_kernel(x_ptr, y_ptr, total_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    tl.store(y_ptr + i, tl.sqrt(x * x + 1.0) / 3.0 + tl.exp(x) * tl.log(tl.abs(x) + 1.0) - tl.exp2(x))
    tl.store(total_ptr, tl.sum(x, 0))


@example
def float64() -> Example:
    x = draw(256, dtype=torch.float64) * 3
    y, total = torch.empty_like(x), torch.empty(1, dtype=torch.float64)

    def check() -> None:
        expected = (x * x + 1).sqrt() / 3 + x.exp() * (x.abs() + 1).log() - x.exp2()
        torch.testing.assert_close(y, expected, atol=1e-13, rtol=1e-14)
        torch.testing.assert_close(total[0], x.sum(), atol=1e-12, rtol=0)

    return Example(float64_kernel, (1,), {"x_ptr": x, "y_ptr": y, "total_ptr": total}, {"BLOCK": 256}, check)


@triton.jit
def functions_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    y = tl.sin(x) + tl.cos(x) * tl.sigmoid(x) + tl.log(tl.abs(x) + 1.0) + tl.exp2(-x * x) + tl.floor(x)
    tl.store(y_ptr + i, y + tl.fma(x, x, x) + tl.erf(x) + tl.rsqrt(x * x + 1.0))


@example
def functions() -> Example:
    x = draw(512) * 3
    y = torch.empty_like(x)

    def expected() -> torch.Tensor:
        v = x.double()
        y = v.sin() + v.cos() * v.sigmoid() + (v.abs() + 1).log() + (-v * v).exp2() + v.floor()
        return y + v * v + v + v.erf() + (v * v + 1).rsqrt()

    return Example(functions_kernel, (1,), {"x_ptr": x, "y_ptr": y}, {"BLOCK": 512}, matches(y, expected, 2e-5))


@triton.jit
def collatz_kernel(x_ptr, steps_ptr, n):
    program = tl.program_id(0)
    if program >= n:
        return
    value = tl.load(x_ptr + program)
    steps = 0
    while value > 1:
        value = value // 2 if value % 2 == 0 else 3 * value + 1
        steps += 1
    tl.store(steps_ptr + program, steps)


@example
def while_and_early_return() -> Example:
    x, steps = torch.arange(1, 17, dtype=torch.int32), torch.full((16,), -7, dtype=torch.int32)

    def check() -> None:
        assert steps.tolist() == [0, 1, 7, 2, 5, 8, 16, 3, 19, 6, 14, 9] + [-7] * 4

    return Example(collatz_kernel, (16,), {"x_ptr": x, "steps_ptr": steps, "n": 12}, {}, check)


@triton.jit
def wide_index_kernel(quotient_ptr, product_ptr, stride, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK).to(tl.int64)
    tl.store(product_ptr + i, i * stride)
    tl.store(quotient_ptr + i, (i * stride // stride).to(tl.int32))


@example
def int64_index() -> Example:
    stride = 2**33 + 5
    quotient, product = torch.empty(128, dtype=torch.int32), torch.empty(128, dtype=torch.int64)

    def check() -> None:
        assert torch.equal(product, torch.arange(128) * stride)
        assert torch.equal(quotient, torch.arange(128).int())

    arguments = {"quotient_ptr": quotient, "product_ptr": product, "stride": stride}
    return Example(wide_index_kernel, (1,), arguments, {"BLOCK": 128}, check)


@triton.jit
def histogram_kernel(x_ptr, y_ptr, BINS: tl.constexpr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    tl.store(y_ptr + tl.arange(0, BINS), tl.histogram(x, BINS))


@example
def histogram() -> Example:
    x, y = (torch.arange(512) ** 2 % 32).int(), torch.empty(32, dtype=torch.int32)
    check = matches(y, lambda: torch.bincount(x, minlength=32))
    return Example(histogram_kernel, (1,), {"x_ptr": x, "y_ptr": y}, {"BINS": 32, "BLOCK": 512}, check)
