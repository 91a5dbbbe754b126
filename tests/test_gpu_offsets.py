"""Rows whose offsets pass 2^31: the last block of a grid that covers more logits than 32 bits can count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from emnesy_gpu.reference import carry_chain as reference
from profiling.gpu_simulator.decoder import load_program
from profiling.gpu_simulator.launch import Options, run_program
from profiling.gpu_simulator.memory import GlobalMemory
from tests.cases import Case
from tests.kernel_registry import ENTRIES
from tests.static_checks import compile_for_nvidia


def test_last_rows_of_a_huge_batch() -> None:
    """Only the last rows exist in memory; the pointers are those of a batch whose first rows lie before it."""
    entry = next(entry for entry in ENTRIES if str(entry) == "carry_chain posterior n=100 base=10 addends=2")
    (kernel,) = compile_for_nvidia(entry, 80)
    n, base, samples = 100, 10, kernel.constants["SAMPLES"]
    row = 2 * n * base
    first_block = (2**31 // row + 1) // samples + 1
    first_row = first_block * samples
    logits, label = Case(n, batch=samples).draw()
    buffers = {
        "logits_ptr": (logits.numpy(), row),
        "label_ptr": (label.numpy(), n + 1),
        "out_ptr": (np.zeros_like(logits.numpy()), row),
        "evidence_ptr": (np.zeros(samples, np.float32), 1),
        "status_ptr": (np.full(samples, 255, np.uint8), 1),
    }
    memory = GlobalMemory()
    start = {name: memory.allocate(name, array.reshape(-1).view(np.uint8)) for name, (array, _) in buffers.items()}
    scalars = {"batch": first_row + samples, "n_digits": n, "scale_high": 1.0, "scale_low": 0.0, "chunks_ptr": 0}
    addresses = {name: start[name] - first_row * per_row * array.itemsize for name, (array, per_row) in buffers.items()}
    arguments = [(addresses | scalars)[name] for name in kernel.arguments]
    run_program(
        load_program(kernel.asm["ptx"], None),
        (first_block + 1, 1, 1),
        (32 * kernel.num_warps, 1, 1),
        arguments,
        memory,
        kernel.shared_bytes,
        Options(),
        ctas=range(first_block, first_block + 1),
    ).require_no_races()

    def result(name: str, dtype: torch.dtype) -> torch.Tensor:
        array, _ = buffers[name]
        return torch.from_numpy(memory.data(start[name], array.nbytes).copy()).view(dtype)

    marginals, log_evidence, status = reference.posterior(logits, label)
    torch.testing.assert_close(result("out_ptr", torch.float32).view_as(logits), marginals, atol=2e-5, rtol=0)
    torch.testing.assert_close(result("evidence_ptr", torch.float32), log_evidence, atol=1e-3, rtol=1e-6)
    assert torch.equal(result("status_ptr", torch.uint8), status)
