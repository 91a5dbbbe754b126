"""Ahead-of-time compilation of Triton kernels, and what the assembler says about the result. No GPU needed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emnesy_gpu.kernels import launch_config

NVIDIA_ARCHITECTURES = (80, 90, 100, 120)
AMD_ARCHITECTURE = "gfx942"


class ResourceUsage(NamedTuple):
    registers: int
    spill_bytes: int
    shared_memory: int


def compile_kernel(
    fn: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any], arch: int | str, num_warps: int
) -> Any:
    """The kernel as a launch with 16-byte aligned pointers compiles it.

    signature: argument name -> type ("*fp32", "i32") in order, without constexprs. arch: 80, 90, ... or "gfx942".
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if triton.knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET is set: there is nothing to compile")
    target = GPUTarget("hip", arch, 64) if isinstance(arch, str) else GPUTarget("cuda", arch, 32)
    types = {name: "constexpr" if name in constexprs else signature[name] for name in fn.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(fn.arg_names) if types[name].startswith("*")}
    source = ASTSource(fn, types, dict(constexprs), aligned)
    options = {"num_warps": num_warps, "enable_fp_fusion": True}
    if target.backend == "cuda":
        options["maxnreg"] = launch_config.max_registers(num_warps)
    return triton.compile(source, target=target, options=options)


def resource_usage(compiled: Any) -> ResourceUsage:
    """Registers a thread, bytes of spill stores and loads, bytes of shared memory of a compiled CUDA kernel."""
    report = _assemble(compiled.asm["ptx"])
    (registers,) = re.findall(r"Used (\d+) registers", report)
    ((stores, loads),) = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    return ResourceUsage(int(registers), int(stores) + int(loads), compiled.metadata.shared)


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
