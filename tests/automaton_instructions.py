"""Counts what a position costs in the GPU kernels of automata, and models the time on an H200.

    python -m tests.automaton_instructions

Full programs, code for sm_90, from the simulator: thread instructions without moves, of one position more and over all
edges (pairs of a state and a value where there are no weights). The times are those of profiling/roofline.py, per
position of 16: nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu.automaton import cuda, unrolled
from emnesy_gpu.kernels.gpu.automaton import launch as automaton
from profiling import peaks, roofline
from profiling.gpu_simulator import Options, simulated_triton
from tests.cuda_c import Launched, block_rows, run_simulated
from tests.kernel_registry.automaton import different_values, weighted

SIZES = ((2, 10), (3, 10), (4, 10), (6, 10), (8, 10), (16, 10), (31, 10), (2, 2), (3, 2), (4, 2), (6, 2), (8, 2))
WEIGHTED = (
    (9, 10, False), (16, 10, False), (4, 4, True), (9, 10, True),
    (31, 10, False), (64, 10, False), (255, 10, False), (31, 4, True),
)  # fmt: skip
SHORT, LONG = 16, 24
GPU = peaks.GPUS["H200"]


def draw(tables: AutomatonTables, batch: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Logits, labels and tables: launches keep what they make of these."""
    generator = torch.Generator().manual_seed(batch)
    logits = 2.0 * torch.randn(batch, len(tables.layer), tables.classes.shape[1], generator=generator)
    shape = batch, len(tables.emissions)
    rows = torch.randint(0, tables.emissions.shape[1], shape, generator=generator, dtype=torch.int32)
    return logits, rows, [table.clone() for table in tables]


def counters_of_cuda_c(arguments: Sequence[Any], arch: int) -> Any:
    """Of the CUDA C kernel that a GPU would take."""
    found: list[Any] = []

    def run(*of: Any) -> None:
        found.append(run_simulated(Launched(*of), Options(checks=False), arch).counters)

    with (
        simulated_triton(arch, Options(counters=False)),
        mock.patch.object(unrolled, "fits", lambda logits, tables: unrolled.is_served(tables, logits.shape[2])),
        mock.patch.object(cuda, "fits", return_value=True),
        mock.patch.object(automaton, "launch_triton"),
        mock.patch.object(loader, "launch", run),
    ):
        automaton.posterior(*arguments)
    return found[-1]


def counters_of_triton(arguments: Sequence[Any], arch: int) -> Any:
    """Of its launch in float32, which is the last but one."""
    with simulated_triton(arch, Options(checks=False)) as gpu:
        automaton.posterior(*arguments)
    return gpu.launches[-2].counters


def instructions(counters: Any) -> int:
    """Thread instructions but moves between registers, which the assembler leaves out."""
    return sum(n for opcode, n in counters.opcodes.items() if not opcode.startswith("mov"))


def cost_of_a_position(tables: Callable[[int], AutomatonTables], in_cuda_c: bool) -> tuple[float, float, str]:
    """Instructions, and modelled nanoseconds on an H200 with the bound that sets them. tables: for some positions."""
    t = tables(SHORT)
    count = counters_of_cuda_c if in_cuda_c else counters_of_triton
    n_states, n_values = t.successor.shape[1], t.classes.shape[1]
    rows = block_rows(t) if in_cuda_c else automaton.rows_of_program(n_states, n_values)
    short, long = (count(draw(tables(n), rows), GPU.arch) for n in (SHORT, LONG))
    limits = roofline.bounds(roofline.count("posterior", "a row", GPU.arch, 0, rows, [short]), GPU)
    limit = max(limits, key=limits.__getitem__)
    return (instructions(long) - instructions(short)) / ((LONG - SHORT) * rows), limits[limit] * 1e9 / SHORT, limit


def main() -> None:
    print("| states, values, edges | kernel | a position | an edge | H200, modelled |\n|---|---|---|---|---|")
    cases = [((*size, size[0] * size[1]), partial(different_values, *size)) for size in SIZES]
    for n_states, n_values, dense in WEIGHTED:
        n_edges = n_states * n_values * (n_states if dense else 1)
        cases.append(((n_states, n_values, n_edges), partial(weighted, n_states, n_values, dense)))
    for (n_states, n_values, n_edges), tables in cases:
        for kernel, in_cuda_c in (("Triton", False), ("CUDA C", True)):
            total, time, limit = cost_of_a_position(tables, in_cuda_c)
            each, picoseconds = total / n_edges, 1e3 * time
            sizes = f"{n_states}, {n_values}, {n_edges}"
            print(f"| {sizes} | {kernel} | {total:,.0f} | {each:.1f} | {picoseconds:.1f} ps ({limit}) |", flush=True)


if __name__ == "__main__":
    main()
