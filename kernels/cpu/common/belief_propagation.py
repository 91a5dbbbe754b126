"""What loopy belief propagation on CPU tensors is told, and how its methods are run, whatever the factors are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.kernels.cpu.common.row_driver import (
    Method,
    PropagationResults,
    result_dtype,
    run_rows,
)

Beliefs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Options(NamedTuple):
    """The settings of a run."""

    iterations: int
    damping: float
    tolerance: float
    maximise: bool
    stopped: np.ndarray
    """uint8 [1]: 1 once nobody waits for the results, which the next sweep then leaves unfinished."""


def new_options(iterations: int, damping: float, tolerance: float, maximise: bool) -> Options:
    return Options(iterations, float(damping), float(tolerance), maximise, np.zeros(1, np.uint8))


def propagate(methods: Sequence[Method], options: Options, logits: Tensor, label: Tensor, row_cost: float) -> Beliefs:
    """Marginals [like logits], log evidence [batch], status [batch], sweeps [batch] and change [batch].

    methods: in the order in which they take what the one before leaves. float64 logits skip those in float32. A block
    of rows may take a minute: an exception in the caller, such as KeyboardInterrupt, ends it after its sweep.
    """
    batch, dtype = len(logits), result_dtype(logits)
    results = PropagationResults(
        marginals=np.empty(logits.shape, dtype),
        log_evidence=np.empty(batch, dtype),
        status=np.empty(batch, np.uint8),
        sweeps=np.empty(batch, np.int32),
        change=np.empty(batch, dtype),
    )
    methods = [
        _until_stopped(method, options) for method in methods if dtype is np.float32 or method.dtype is np.float64
    ]
    try:
        run_rows(methods, logits, label.numpy(), results, FLOAT32_LANES, row_cost)
    except BaseException:
        options.stopped[0] = 1
        raise
    marginals, log_evidence, status, sweeps, change = map(torch.from_numpy, results)
    return marginals, log_evidence, status, sweeps, change


def _until_stopped(method: Method, options: Options) -> Method:
    """The method, which leaves nothing to the next one, such as its compilation, once nobody waits for the results."""

    def run(logits: np.ndarray, label: np.ndarray, results: Any) -> int:
        return 0 if options.stopped[0] else method.run(logits, label, results)

    return method._replace(run=run)
