"""The engines that train commands offer, by name."""

from __future__ import annotations

import emnesy_gpu as em
from emnesy_gpu.engines import ENGINES
from emnesy_gpu.tasks.core.distributed import current
from emnesy_gpu.tasks.core.loss_engines import LOSSES, OF_ONE_PROCESS, LossEngine
from emnesy_gpu.tasks.core.plain_torch_engines import PLAIN_TORCH
from emnesy_gpu.tasks.core.sampling_engines import SAMPLERS, Sampling, sampling_engine

ENGINE_NAMES = (*ENGINES, *PLAIN_TORCH)
"""The fused engines, and those in plain torch for comparison, which train commands offer beside ``LOSSES``."""


def engine_by_name(name: str, problem: em.Problem, messages: em.Engine, sampling: Sampling) -> em.Engine:
    """Return the engine of a training run.

    Args:
        name: one of ``ENGINE_NAMES`` or ``LOSSES``.
        problem: the problem of the run.
        messages: the engine whose messages "torch" and "bp-std" compute in plain torch; "bp" returns it as it is.
        sampling: what the task sets about "abc", "gibbs" and "rejection".

    Raises:
        ValueError: the name is unknown, or a loss of ``OF_ONE_PROCESS`` on several ranks.
    """
    if name in OF_ONE_PROCESS and current().size > 1:
        raise ValueError(f"engine {name!r} draws or learns apart on every process: train with it on one process")
    if name in LOSSES:
        return LossEngine(LOSSES[name](problem))
    if name not in ENGINE_NAMES:
        raise ValueError(f"engine must be one of {', '.join([*ENGINE_NAMES, *LOSSES])}, got {name!r}")
    if name in SAMPLERS:
        return sampling_engine(name, sampling)
    if name in PLAIN_TORCH:
        return PLAIN_TORCH[name](messages)
    return messages if name == "bp" else ENGINES[name]()
