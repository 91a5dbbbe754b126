"""Chooses compiler options of launches. Whether a * b + c is rounded once changes results, so every launch says it."""

from __future__ import annotations

from emnesy_gpu.kernels import launch_config

LaunchOptions = dict[str, int | bool | None]


def rounded_once(num_warps: int, limit_registers: bool = True) -> LaunchOptions:
    """a * b + c is one instruction. The limit of registers keeps the assembler from spilling."""
    limit = launch_config.max_registers(num_warps) if limit_registers else None
    return {"num_warps": num_warps, "maxnreg": limit, "enable_fp_fusion": True}


def rounded_twice(num_warps: int, limit_registers: bool = False) -> LaunchOptions:
    """a * b and the sum are rounded as on every other back end."""
    limit = launch_config.max_registers(num_warps) if limit_registers else None
    return {"num_warps": num_warps, "maxnreg": limit, "enable_fp_fusion": False}
