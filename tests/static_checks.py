"""Ahead-of-time compilation of the package's launches, and what the assembler says about the result. No GPU needed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from profiling.gpu_simulator import simulated_triton
from tests.kernel_registry import Entry
from tests.triton_launches import CompiledLaunch, amd_compiler, compiled_only

NVIDIA_ARCHITECTURES = (80, 90, 100, 120)
AMD_ARCHITECTURE = "gfx942"


class ResourceUsage(NamedTuple):
    """Registers a thread, bytes of spills and of shared memory, bits of the widest accesses, barriers in the code."""

    registers: int
    spill_bytes: int
    shared_bytes: int
    load_bits: int
    store_bits: int
    barriers: int


def compile_for_nvidia(entry: Entry, arch: int) -> list[CompiledLaunch]:
    """Every kernel that one call launches, as that launch compiles it, down to PTX."""
    with simulated_triton(arch), compiled_only() as launches:
        entry.run("kernels.gpu", entry.draw())
    return launches


def compile_for_amd(entry: Entry, arch: str = AMD_ARCHITECTURE) -> list[CompiledLaunch]:
    """The same down to machine code: the AMD assembler is part of Triton's compiler."""
    with amd_compiler(arch), compiled_only() as launches:
        entry.run("kernels.gpu", entry.draw())
    return launches


def resource_usage(launch: CompiledLaunch) -> ResourceUsage:
    ptx = launch.asm["ptx"]
    return usage_of(ptx, registers_and_spills(ptx), launch.shared_bytes)


def usage_of(ptx: str, registers_and_spills: tuple[int, int], shared_bytes: int) -> ResourceUsage:
    """What a module with one kernel takes."""
    barriers = len(re.findall(r"\b(?:bar|barrier)\.(?:cta\.)?sync", ptx))
    widths = widest_access(ptx, "ld"), widest_access(ptx, "st")
    return ResourceUsage(*registers_and_spills, shared_bytes, *widths, barriers)


def registers_and_spills(ptx: str) -> tuple[int, int]:
    """Registers a thread and bytes of spill stores and loads, of a module with one kernel."""
    report = _assemble(ptx)
    (registers,) = re.findall(r"Used (\d+) registers", report)
    ((stores, loads),) = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    return int(registers), int(stores) + int(loads)


def widest_access(ptx: str, instruction: str) -> int:
    """Bits that one thread moves with its widest global access; 0 where there is none."""
    accesses = re.findall(rf"\b{instruction}\.global\S*?(?:\.v(\d))?\.[a-z](\d+)\s", ptx)
    return max((int(count or 1) * int(bits) for count, bits in accesses), default=0)


def _assemble(ptx: str) -> str:
    """What `ptxas -v` says about the PTX. Neither of the two assemblers that Triton ships accepts every target."""
    import triton

    binaries = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    (target,) = re.findall(r"^\.target\s+(\w+)", ptx, re.MULTILINE)
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        for assembler in (binaries / "ptxas-blackwell", binaries / "ptxas"):
            if not assembler.exists():
                continue
            command = [str(assembler), "-v", f"--gpu-name={target}", str(source), "-o", f"{folder}/kernel.cubin"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return done.stderr + done.stdout
            errors.append(done.stderr)
    raise RuntimeError("no assembler accepts the kernel:\n" + "\n".join(errors))
