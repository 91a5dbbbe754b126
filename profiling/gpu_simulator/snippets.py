"""One-warp kernels around a few PTX instructions, for tests of single instructions and checks.

`evaluate("add.f32 %f4, %f1, %f2;", "f32", a, b)` gives each lane its element of the inputs in %f1, %f2, %f3 (or
%r, %rd, %rs by type) and returns what the lanes left in register 4 of that file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from profiling.gpu_simulator.launch import DEFAULT_OPTIONS, LaunchRecord, Options, launch
from profiling.gpu_simulator.ptx_types import BITS, value_dtype

_REGISTER = {"f32": "%f", "f64": "%fd"}
_BY_WIDTH = {16: "%rs", 32: "%r", 64: "%rd"}
_HEADER = """.version 8.4
.target sm_80
.address_size 64
.file 1 "/source/snippet.cu"
.extern .shared .align 16 .b8 dynamic_memory[];
.visible .entry snippet({parameters})
.reqntid {n_threads}
{{
.reg .pred %p<10>;
.reg .b16 %rs<10>;
.reg .b32 %r<40>;
.reg .f32 %f<10>;
.reg .b64 %rd<30>;
.reg .f64 %fd<10>;
"""


def kernel(body: str, n_buffers: int, n_threads: int = 32) -> str:
    """A kernel with buffer addresses in %rd10, %rd11, ... and the thread index in %r30; line 100 + i is body line i."""
    names = [f"buffer_{i}" for i in range(n_buffers)]
    text = _HEADER.format(parameters=", ".join(f".param .u64 {name}" for name in names), n_threads=n_threads)
    for i, name in enumerate(names):
        text += f"ld.param.u64 %rd{10 + i}, [{name}];\n"
    text += "mov.u32 %r30, %tid.x;\n"
    for number, line in enumerate(body.strip().splitlines()):
        text += f".loc 1 {100 + number} 1\n{line}\n"
    return text + "ret;\n}\n"


def run(
    body: str,
    buffers: Sequence[np.ndarray],
    n_threads: int = 32,
    grid: Sequence[int] = (1,),
    shared_bytes: int = 0,
    options: Options = DEFAULT_OPTIONS,
) -> LaunchRecord:
    """Launch `kernel(body, ...)`; buffers are updated in place."""
    ptx = kernel(body, len(buffers), n_threads)
    return launch(ptx, grid, (n_threads,), buffers, dynamic_shared_bytes=shared_bytes, options=options)


def register_of(ptx_type: str) -> str:
    return _REGISTER.get(ptx_type) or _BY_WIDTH[BITS[ptx_type]]


def evaluate(instructions: str, ptx_type: str, *inputs: Sequence[float], result: str | None = None) -> np.ndarray:
    """Run the instructions on one warp and return register 4 per lane, as `result` type (default: the input type)."""
    result = result or ptx_type
    n_lanes = len(inputs[0])
    arrays: list[np.ndarray] = [np.zeros(32, value_dtype(ptx_type)) for _ in inputs]
    for array, values in zip(arrays, inputs, strict=True):
        array[:n_lanes] = values
    output: np.ndarray = np.zeros(32, value_dtype(result))
    lines = []
    for i, array in enumerate([*arrays, output]):
        lines.append(f"mad.wide.u32 %rd{20 + i}, %r30, {array.itemsize}, %rd{10 + i};")
    for i in range(len(arrays)):
        bits = BITS[ptx_type]
        lines.append(f"ld.global.b{bits} {register_of(ptx_type)}{i + 1}, [%rd{20 + i}];")
    lines += instructions.splitlines()
    lines.append(f"st.global.b{BITS[result]} [%rd{20 + len(arrays)}], {register_of(result)}4;")
    run("\n".join(lines), [*arrays, output])
    return output[:n_lanes]
