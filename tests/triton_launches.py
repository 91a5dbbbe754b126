"""See and steer what the package launches: every launch goes through JITFunction.run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CompiledLaunch:
    """A kernel as one launch compiles it, with the options and the alignment of that launch."""

    kernel: str
    num_warps: int
    shared_bytes: int
    asm: dict[str, Any]
    constants: dict[str, Any]
    arguments: list[str]  # names, without the constants


@contextlib.contextmanager
def launches_with(**options: Any) -> Iterator[None]:
    """Replace launch options (num_warps) whatever the launch function says."""
    with _patched_run(lambda run, kernel, *arguments, **keywords: run(kernel, *arguments, **{**keywords, **options})):
        yield


@contextlib.contextmanager
def compiled_only() -> Iterator[list[CompiledLaunch]]:
    """Compile every launch for the active driver and run none; the list fills with what was compiled."""
    from triton.runtime import driver

    found: list[CompiledLaunch] = []

    def compile_only(run: Any, kernel: Any, *arguments: Any, **keywords: Any) -> Any:
        if driver.active.get_current_target().backend != "cuda":
            keywords.pop("maxnreg", None)
        compiled = run(kernel, *arguments, **{**keywords, "warmup": True})
        constants = {name: keywords[name] for name in kernel.arg_names if name in keywords}
        names = [name for name in kernel.arg_names if name not in constants]
        size = compiled.metadata.num_warps, compiled.metadata.shared
        found.append(CompiledLaunch(kernel.fn.__name__, *size, compiled.asm, constants, names))
        return compiled

    with _patched_run(compile_only):
        yield found


@contextlib.contextmanager
def not_launched() -> Iterator[list[tuple[Any, dict[str, Any]]]]:
    """Neither compile nor run; the list fills with the jit functions that would have been launched, with options."""
    found: list[tuple[Any, dict[str, Any]]] = []
    with _patched_run(lambda run, kernel, *arguments, **keywords: found.append((kernel, keywords))):
        yield found


@contextlib.contextmanager
def _patched_run(replacement: Any) -> Iterator[None]:
    from triton.runtime.jit import JITFunction

    run = JITFunction.run
    JITFunction.run = lambda kernel, *arguments, **keywords: replacement(run, kernel, *arguments, **keywords)
    try:
        yield
    finally:
        JITFunction.run = run


@contextlib.contextmanager
def amd_compiler(arch: str) -> Iterator[None]:
    """Make Triton compile for an AMD GPU; launches would fail, so this belongs with `compiled_only`."""
    from triton.backends.compiler import GPUTarget

    from profiling.gpu_simulator.triton_driver import SimulatorDriver, active_driver

    class Driver(SimulatorDriver):
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("hip", arch, 64)

        def get_current_device(self) -> str:
            return arch

    with active_driver(Driver(0)):
        yield
