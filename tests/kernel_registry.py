"""Every Triton kernel with the arguments it is usually launched with, for the static checks and the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu import carry_chain_general, carry_chain_map, carry_chain_pair, carry_chain_sampling


@dataclass(frozen=True)
class KernelEntry:
    name: str
    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    num_warps: int
    slow: bool = False


def _pair(n_digits: int, base: int, gradient: bool, dtype: str = "fp32", slow: bool = False) -> KernelEntry:
    compute = "fp64" if dtype == "fp64" else "fp32"
    config = launch_config.carry_chain_pair(n_digits, base, 8 if compute == "fp64" else 4)
    signature = {"logits_ptr": f"*{dtype}", "label_ptr": "*i64", "chunks_ptr": f"*{compute}", "out_ptr": f"*{compute}"}
    signature |= {"evidence_ptr": f"*{compute}", "status_ptr": "*u8", "batch": "i32", "n_digits": "i32"}
    signature |= {"scale_high": "fp32", "scale_low": "fp32"}
    constexprs = {"BASE": base, "N_EXTRA": 1, "SAMPLES": config.samples, "LANES": config.lanes, "RUN": config.run}
    constexprs |= {"GRADIENT": gradient, "CHUNKED": n_digits > config.lanes * config.run}
    name = f"pair {'gradient' if gradient else 'posterior'} n={n_digits} base={base} {dtype}"
    return KernelEntry(name, carry_chain_pair.pair_kernel, signature, constexprs, config.num_warps, slow)


def _pair_chunk(n_digits: int, base: int) -> KernelEntry:
    config = launch_config.carry_chain_pair(n_digits, base, 4)
    signature = {"logits_ptr": "*fp32", "label_ptr": "*i64", "chunks_ptr": "*fp32", "n_digits": "i32"}
    constexprs = {"BASE": base, "N_EXTRA": 1, "LANES": config.lanes, "RUN": config.run}
    name = f"pair chunk n={n_digits} base={base}"
    return KernelEntry(name, carry_chain_pair.pair_chunk_kernel, signature, constexprs, config.num_warps)


def _general(n_addends: int, base: int, gradient: bool, slow: bool = False) -> KernelEntry:
    signature = {"logits_ptr": "*fp32", "label_ptr": "*i64", "out_ptr": "*fp32", "evidence_ptr": "*fp32"}
    signature |= {"status_ptr": "*u8", "batch": "i32", "n_digits": "i32", "base": "i32"}
    signature |= {"scale_high": "fp32", "scale_low": "fp32"}
    constexprs, num_warps = _table_constants(n_addends, base)
    name = f"general {n_addends} addends base={base}"
    kernel = carry_chain_general.general_kernel
    return KernelEntry(name, kernel, signature, {**constexprs, "GRADIENT": gradient}, num_warps, slow)


def _map(n_addends: int, base: int) -> KernelEntry:
    signature = {"logits_ptr": "*fp32", "label_ptr": "*i64", "digits_ptr": "*i64", "log_joint_ptr": "*fp32"}
    signature |= {"status_ptr": "*u8", "batch": "i32", "n_digits": "i32", "base": "i32"}
    constexprs, num_warps = _table_constants(n_addends, base)
    kernel = carry_chain_map.map_kernel
    return KernelEntry(f"map {n_addends} addends base={base}", kernel, signature, constexprs, num_warps)


def _sample(n_addends: int, base: int) -> KernelEntry:
    signature = {"logits_ptr": "*fp32", "label_ptr": "*i64", "digits_ptr": "*i64", "status_ptr": "*u8"}
    signature |= {"batch": "i32", "n_digits": "i32", "base": "i32", "n_samples": "i32"}
    signature |= {"seed": "i64", "first_row": "i64"}
    constexprs, _ = _table_constants(n_addends, base)
    del constexprs["SAMPLES"]
    constexprs["LANES"] = 32
    kernel = carry_chain_sampling.sample_kernel
    return KernelEntry(f"sample {n_addends} addends base={base}", kernel, signature, constexprs, 1)


def _table_constants(n_addends: int, base: int) -> tuple[dict[str, Any], int]:
    config = launch_config.carry_chain_general(n_addends, base)
    constexprs = {"ADDENDS": n_addends, "N_EXTRA": 1, "SAMPLES": config.samples}
    return constexprs | {"WIDTH": config.width, "SUMS": config.sums}, config.num_warps


KERNELS = [
    _pair(100, 10, gradient=False),
    _pair(4, 10, gradient=True),
    _pair_chunk(5000, 3),
    _general(3, 10, gradient=True),
    _map(2, 10),
    _sample(2, 10),
    _pair(100, 10, gradient=True, slow=True),
    _pair(200, 10, gradient=True, slow=True),
    _pair(5000, 10, gradient=False, slow=True),
    _pair(15, 2, gradient=True, slow=True),
    _pair(15, 16, gradient=True, slow=True),
    _pair(15, 32, gradient=True, slow=True),
    _pair(15, 10, gradient=True, dtype="bf16", slow=True),
    _pair(15, 10, gradient=True, dtype="fp64", slow=True),
    _general(4, 32, gradient=True, slow=True),
]
