"""Runs CUDA C in the simulator, in place of CuPy and a GPU, and compiles it for every architecture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn
from unittest import mock

import pytest
import torch
from torch import Tensor

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu import carry_chain
from emnesy_gpu.kernels.gpu.all_different import cuda as all_different_cuda
from emnesy_gpu.kernels.gpu.all_different import launch as all_different_launch
from emnesy_gpu.kernels.gpu.automaton import cuda as automaton_cuda
from emnesy_gpu.kernels.gpu.automaton import launch as automaton_launch
from emnesy_gpu.kernels.gpu.automaton import unrolled as automaton_unrolled
from emnesy_gpu.kernels.gpu.carry_chain import cuda as carry_chain_cuda
from profiling import roofline
from profiling.gpu_simulator import LaunchRecord, Options, launch, simulated_triton
from profiling.gpu_simulator.nvrtc import compile_cuda, find_nvrtc
from tests.boards import filled_board, soft_logits
from tests.cases import Case
from tests.graphs import sudoku_groups
from tests.kernel_registry.automaton import sum_modulo, two_classes, weighted, with_a_sink
from tests.static_checks import registers_and_spills, usage_of

needs_nvrtc = pytest.mark.skipif(find_nvrtc() is None, reason="needs libnvrtc: pip install nvidia-cuda-nvrtc")


def ptx(file: str, macros: Sequence[tuple[str, int]], arch: int = 80) -> str:
    return compile_cuda(loader.source(file), arch, loader.compiler_options(macros))


def assembled(text: str) -> tuple[int, int]:
    """Registers a thread and spilled bytes; skips where NVRTC is newer than the assembler of this Triton."""
    try:
        return registers_and_spills(text)
    except RuntimeError as error:
        skip_for_new_nvrtc(error)


def is_too_new(error: RuntimeError) -> bool:
    """Whether the assembler of Triton does not know the version of the PTX."""
    return "Unsupported .version" in str(error)


def skip_for_new_nvrtc(error: RuntimeError) -> NoReturn:
    """Skip the test where the assembler of Triton does not know the PTX of NVRTC; raise the error otherwise."""
    if not is_too_new(error):
        raise error
    pytest.skip("NVRTC is newer than the assembler of this Triton")


class Launched(NamedTuple):
    """The arguments of ``loader.launch``."""

    file: str
    function: str
    macros: Sequence[tuple[str, int]]
    grid: int
    block: int
    shared_bytes: int
    arguments: Sequence[Tensor | int | float]


def run_simulated(launched: Launched, options: Options, arch: int = 80) -> LaunchRecord:
    values = [argument.numpy() if isinstance(argument, Tensor) else argument for argument in launched.arguments]
    record = launch(
        ptx(launched.file, launched.macros, arch), (launched.grid,), (launched.block,), values, name=launched.function,
        dynamic_shared_bytes=launched.shared_bytes, options=options,
    )  # fmt: skip
    record.require_no_races()
    return record


def simulate_launches(patch: pytest.MonkeyPatch, options: Options = Options()) -> list[LaunchRecord]:  # noqa: B008
    """The loader's launches run in the simulator; the list fills with them."""
    records: list[LaunchRecord] = []
    patch.setattr(loader, "launch", lambda *of: records.append(run_simulated(Launched(*of), options)))
    return records


@dataclass(frozen=True)
class CudaEntry:
    """A launch in CUDA C, which has budgets as the launches of tests/kernel_registry have. rows: of its batch."""

    case: str
    rows: int
    call: Callable[[], Any]
    stem = "cuda_c"

    def __str__(self) -> str:
        return f"{self.stem} {self.case}"

    def usage(self, arch: int) -> dict[str, dict[str, float]]:
        """Kernel -> what the assembler says of it."""
        found = {}
        for launched in self._launches():
            text = ptx(launched.file, launched.macros, arch)
            usage = usage_of(text, registers_and_spills(text), launched.shared_bytes)
            found[launched.function] = usage._asdict() | {"num_warps": launched.block // 32}
        return found

    def counts(self, arch: int) -> roofline.Counts:
        """What one simulated call executes and moves, per row."""
        least, counters = 0, []
        for launched in self._launches():
            tensors = [value for value in launched.arguments if isinstance(value, Tensor)]
            least += sum(value.nbytes for value in tensors)
            counters.append(run_simulated(launched, Options(checks=False), arch).counters)
        return roofline.count(str(self), "one row", arch, least, self.rows, counters)

    def _launches(self) -> list[Launched]:
        """The launches that the call would make."""
        found: list[Launched] = []
        with (
            simulated_triton(80, Options(counters=False)),  # a kernel in Triton makes tables
            mock.patch.object(carry_chain_cuda, "fits", return_value=True),
            mock.patch.object(all_different_cuda, "fits", return_value=True),
            mock.patch.object(all_different_launch, "launch_triton"),
            mock.patch.object(automaton_cuda, "fits", return_value=True),
            mock.patch.object(automaton_unrolled, "fits", lambda logits, tables: is_unrolled(tables)),
            mock.patch.object(automaton_launch, "launch_triton"),
            mock.patch.object(loader, "launch", lambda *arguments: found.append(Launched(*arguments))),
        ):
            self.call()
        return found


def _addition(function: str, n_digits: int, *more: float) -> CudaEntry:
    launch_function, rows = getattr(carry_chain, function), 32
    draw = partial(Case(n_digits, batch=rows).draw)
    return CudaEntry(f"carry_chain {function} n={n_digits}", rows, lambda: launch_function(*draw(), *more))


def _boards(size: int, rows: int, maximise: bool = False) -> CudaEntry:
    def call() -> None:
        board = filled_board(size).expand(rows, size, size)
        logits = soft_logits(board, 2.0, seed=size).flatten(1, 2)
        label = torch.ones(rows, dtype=torch.int64)
        graph = sudoku_groups(size), [size, size, size]
        all_different_launch.belief_propagation(logits, label, *graph, 2, 0.0, 0.0, maximise)

    return CudaEntry(f"all_different {'max' if maximise else 'sum'} {size} x {size}", rows, call)


def _automaton(function: str, name: str, tables: Callable[[], AutomatonTables], *more: float) -> CudaEntry:
    """As many rows as a block takes."""

    def draw() -> tuple[Any, ...]:
        t = tables()
        generator = torch.Generator().manual_seed(0)
        logits = 2.0 * torch.randn(block_rows(t), len(t.layer), t.classes.shape[1], generator=generator)
        codes = torch.randint(1, t.emissions.shape[1], (len(logits), len(t.emissions)), generator=generator)
        return logits, codes.int(), [table.clone() for table in t], *more

    launch_function = getattr(automaton_launch, function)
    return CudaEntry(f"automaton {function} {name}", block_rows(tables()), lambda: launch_function(*draw()))


def block_rows(tables: AutomatonTables) -> int:
    if is_unrolled(tables):
        return automaton_unrolled.ROWS
    return launch_config.automaton_block(*tables.successor.shape[1:]).rows


def is_unrolled(tables: AutomatonTables) -> bool:
    """Whether a GPU would take the kernel whose edges are written out."""
    return automaton_unrolled.is_served(tables, tables.classes.shape[1])


ENTRIES = [
    _addition("posterior", 4),
    _addition("posterior", 15),
    _addition("em_gradient", 15, 0.3),
    _addition("posterior", 100),
    _boards(4, 3),
    _boards(4, 3, maximise=True),
    _boards(9, 1),
    _automaton("posterior", "31 states", partial(sum_modulo, 31, 10, 6)),
    _automaton("em_gradient", "31 states", partial(sum_modulo, 31, 10, 6), 0.3),
    _automaton("posterior", "64 states", partial(sum_modulo, 64, 10, 6)),
    _automaton("posterior", "255 states", partial(sum_modulo, 255, 10, 6)),
    _automaton("posterior", "1,000 states", partial(sum_modulo, 1000, 10, 5)),
    _automaton("posterior", "a sink", with_a_sink),
    _automaton("posterior", "31 states with weights", partial(weighted, 31, 10, False, 6)),
    _automaton("em_gradient", "31 states with weights", partial(weighted, 31, 10, False, 6), 0.3),
    _automaton("posterior", "255 states with weights", partial(weighted, 255, 10, False, 6)),
    _automaton("posterior", "hidden Markov chain of 31 states", partial(weighted, 31, 4, True, 5)),
    _automaton("posterior", "12 states, two classes", two_classes),
    _automaton("posterior", "2 states, 2 values", partial(sum_modulo, 2, 2, 8)),
    _automaton("posterior", "4 states", partial(sum_modulo, 4, 10, 6)),
    _automaton("em_gradient", "4 states", partial(sum_modulo, 4, 10, 6), 0.3),
    _automaton("posterior", "8 states", partial(sum_modulo, 8, 10, 6)),
    _automaton("posterior", "16 states", partial(sum_modulo, 16, 10, 6)),
    _automaton("posterior", "9 states with weights", partial(weighted, 9, 10, False, 6)),
    _automaton("posterior", "10 states of 32 values with weights", partial(weighted, 10, 32, False, 4)),
    _automaton("posterior", "hidden Markov chain of 9 states", partial(weighted, 9, 10, True, 6)),
]
"""Every kernel of kernels/cuda, in the sizes of the benchmarks."""
