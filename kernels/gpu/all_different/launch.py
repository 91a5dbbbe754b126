"""Launch function of loopy belief propagation with all-different factors on a GPU; contract in emnesy_gpu.reference.

Two launches do the work. The first computes with float32 probabilities and marks the rows whose digits drown, in CUDA C
where CuPy is installed, else in Triton; the second repeats the marked rows with float64 logarithms. Scratch memory does
not grow with the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu.all_different.kernels import belief_propagation_kernel, graph_kernel
from emnesy_gpu.kernels.gpu.common.scalars import high_and_low

MAX_VALUES = 12
_SPREAD = (0, 0, 0, 0, 0, 0, 3, 12, 30, 23, 22, 15)  # as in all_different.cu


class _Parameters(NamedTuple):
    iterations: int
    damping: float
    tolerance: float
    maximise: bool


def belief_propagation(
    logits: torch.Tensor,
    label: torch.Tensor,
    groups: torch.Tensor,
    phases: list[int],
    iterations: int,
    damping: float,
    tolerance: float,
    maximise: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, n_variables, n_values = logits.shape
    if n_values > MAX_VALUES:
        message = f"all-different factors on a GPU take at most {MAX_VALUES} values, got {n_values}"
        raise ValueError(message + ': use factors="pairwise"')
    dtype = torch.promote_types(logits.dtype, torch.float32)
    marginals = torch.empty_like(logits, dtype=dtype)
    status = logits.new_empty(batch, dtype=torch.uint8)
    sweeps = logits.new_empty(batch, dtype=torch.int32)
    log_evidence, change = logits.new_empty(batch, dtype=dtype), logits.new_empty(batch, dtype=dtype)
    results = (marginals, log_evidence, status, sweeps, change)
    if batch > 0:
        parameters = _Parameters(iterations, damping, tolerance, maximise)
        with torch.cuda.device_of(logits):
            tables = _tables(groups, phases, n_variables)
            redo = torch.ones_like(status)
            if dtype == torch.float32:
                launch = _launch_cuda if _fits_cuda(logits, groups, phases) else _launch_triton
                launch(logits, label, tables, phases, results, redo, torch.float32, parameters)
            _launch_triton(logits, label, tables, phases, results, redo, torch.float64, parameters)
    return results


def _tables(groups: torch.Tensor, phases: list[int], n_variables: int) -> tuple[torch.Tensor, ...]:
    """What all rows share: groups, incident, degree, phase_end (of every group), bounding; see graph_kernel."""
    n_groups, width = groups.shape
    incident = groups.new_empty(n_variables, n_groups)
    degree = groups.new_empty(n_variables)
    phase_end = groups.new_empty(n_groups)
    start = 0
    for size in phases:
        phase_end[start : start + size] = start + size
        start += size
    bounding = groups.new_zeros(n_groups)
    graph_kernel[(n_variables + 1,)](
        groups, incident, degree, bounding, n_variables, n_groups, width, phases[0],
        EDGES=launch_config.next_power_of_two(n_groups * width),
        VARIABLES=launch_config.next_power_of_two(n_variables), **_options(1),
    )  # fmt: skip
    return groups, incident, degree, phase_end, bounding


def _launch_triton(
    logits: torch.Tensor,
    label: torch.Tensor,
    tables: tuple[torch.Tensor, ...],
    phases: list[int],
    results: tuple[torch.Tensor, ...],
    redo: torch.Tensor,
    compute: torch.dtype,
    parameters: _Parameters,
) -> None:
    """All rows in float32, or those to be repeated in float64."""
    batch, n_variables, n_values = logits.shape
    n_groups, width = tables[0].shape
    config = launch_config.all_different(batch, n_variables, n_groups, width, n_values, compute.itemsize)
    scratch = logits.new_empty(config.programs * config.scratch, dtype=compute)
    subsets = _subsets(n_values, logits.device)
    belief_propagation_kernel[(config.programs,)](
        logits, label, *tables, subsets, scratch, *results, redo, batch, n_variables, n_groups, width,
        parameters.iterations, *high_and_low(parameters.damping), parameters.tolerance,
        ROWS=config.rows, K=n_values, LANES=config.lanes, MAX=parameters.maximise, **_options(config.num_warps),
    )  # fmt: skip


def _fits_cuda(logits: torch.Tensor, groups: torch.Tensor, phases: list[int]) -> bool:
    """Whether the CUDA C kernel can run: CuPy, an Nvidia GPU, and room for a row of the batch in shared memory."""
    if not (logits.is_cuda and loader.available()):
        return False
    properties = torch.cuda.get_device_properties(logits.device)
    sizes = (logits.shape[1], *groups.shape, logits.shape[2])
    config = launch_config.all_different_block(*sizes, max(phases))
    return properties.major >= 8 and config.shared_bytes <= properties.shared_memory_per_block_optin


def _launch_cuda(
    logits: torch.Tensor,
    label: torch.Tensor,
    tables: tuple[torch.Tensor, ...],
    phases: list[int],
    results: tuple[torch.Tensor, ...],
    redo: torch.Tensor,
    compute: torch.dtype,
    parameters: _Parameters,
) -> None:
    """All rows in float32."""
    batch, n_variables, n_values = logits.shape
    n_groups, width = tables[0].shape
    config = launch_config.all_different_block(n_variables, n_groups, width, n_values, max(phases))
    places = _places(n_values, logits.device)
    loader.launch(
        "all_different.cu",
        "belief_propagation",
        (("VALUES", n_values), ("MAXIMISE", int(parameters.maximise))),
        batch,
        32 * config.warps,
        config.shared_bytes,
        (logits.to(compute), label, *tables, places, *results, redo, n_variables, n_groups, width,
         parameters.iterations, float(parameters.damping), float(parameters.tolerance)),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _subsets(n_values: int, device: torch.device) -> torch.Tensor:
    """int32 [2^K]: all subsets of the values as bit sets, by size and then in ascending order."""
    subset = torch.arange(1 << n_values, dtype=torch.int32, device=device)
    size = sum((subset >> v) & 1 for v in range(n_values))
    return ((size << n_values) + subset).argsort().int()


@lru_cache(maxsize=64)
def _places(n_values: int, device: torch.device) -> torch.Tensor:
    """int32 [2^K]: the byte offsets at which all_different.cu keeps the subsets, by size, in an order for few conflicts."""
    places = [0]
    for v in range(n_values):
        places += [place ^ (1 << v) ^ _SPREAD[v] for place in places]
    levels: list[list[int]] = [[] for _ in range(n_values + 1)]
    for subset, place in enumerate(places):
        levels[bin(subset).count("1")].append(place)
    offsets = [4 * place for level in levels for place in _dealt(level)]
    return torch.tensor(offsets, dtype=torch.int32, device=device)


def _dealt(level: list[int]) -> list[int]:
    """The places of a level in runs of 32 lanes, dealt out so that few runs meet one bank of shared memory often."""
    sizes = [min(32, len(level) - start) for start in range(0, len(level), 32)]
    hands: list[list[int]] = [[] for _ in sizes]
    held = [[0] * 32 for _ in sizes]
    population = [sum(place % 32 == bank for place in level) for bank in range(32)]
    for place in sorted(level, key=lambda place: (-population[place % 32], place % 32)):
        bank = place % 32
        open_hands = [i for i, size in enumerate(sizes) if len(hands[i]) < size]
        chosen = min(open_hands, key=lambda i: (max(held[i][bank] + 1 - max(held[i]), 0), held[i][bank]))
        held[chosen][bank] += 1
        hands[chosen].append(place)
    return [place for hand in hands for place in hand]


def _options(num_warps: int) -> dict[str, int | bool | None]:
    """As for the carry chain: rounding a * b + c once changes results, and a limit keeps the assembler from spilling."""
    return {"num_warps": num_warps, "maxnreg": launch_config.max_registers(num_warps), "enable_fp_fusion": True}
