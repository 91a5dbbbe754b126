"""The engines that train commands offer, by name."""

from __future__ import annotations

import emnesy_gpu as em
from emnesy_gpu.engines import ENGINES
from emnesy_gpu.tasks.core.plain_torch_engines import PLAIN_TORCH
from emnesy_gpu.tasks.core.sampling_engines import SAMPLERS, Sampling, sampling_engine

ENGINE_NAMES = (*ENGINES, *PLAIN_TORCH)
"""All engines that a train command can offer: the fused ones, and those in plain torch for comparison."""


def engine_by_name(name: str, messages: em.Engine, sampling: Sampling) -> em.Engine:
    """Return the engine of a training run.

    Args:
        name: one of ``ENGINE_NAMES``.
        messages: the engine whose messages "torch" and "bp-std" compute in plain torch; "bp" returns it as it is.
        sampling: what the task sets about "abc", "gibbs" and "rejection".

    Raises:
        ValueError: the name is unknown.
    """
    if name not in ENGINE_NAMES:
        raise ValueError(f"engine must be one of {', '.join(ENGINE_NAMES)}, got {name!r}")
    if name in SAMPLERS:
        return sampling_engine(name, sampling)
    if name in PLAIN_TORCH:
        return PLAIN_TORCH[name](messages)
    return messages if name == "bp" else ENGINES[name]()
