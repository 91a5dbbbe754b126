"""Runs annealed Gibbs chains on CPU tensors; the contract is in ``emnesy_gpu.reference.gibbs``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel
from emnesy_gpu.kernels.cpu.common.parallel import for_rows
from emnesy_gpu.kernels.cpu.common.row_driver import result_dtype
from emnesy_gpu.kernels.cpu.gibbs.chains import LANES, Chains, empty_workspace, half_of, packing
from emnesy_gpu.kernels.cpu.gibbs.rows import Results, posterior_in

NANOSECONDS_PER_LOGIT, NANOSECONDS_PER_VALUE = 10.0, 1.5
"""Rough ones: of the prior, and of a draw."""


def posterior(
    logits: Tensor,
    label: Tensor,
    factors: Tensor,
    memberships: Tensor,
    n_groups: int,
    chains: int,
    recorded: int,
    seed: int,
    first_row: int,
    step: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Marginals, log evidence, share of chains without a conflict, status: all steps of the reference in one kernel."""
    batch, n, k = logits.shape
    dtype = result_dtype(logits)
    taken = logits.detach() if logits.dtype in (torch.float32, torch.float64) else logits.detach().float()
    symbols, labels = taken.numpy(), label.numpy()
    packed = packing(k, factors.shape[1] - 1 + memberships.shape[1])
    numbers = chains, recorded, step, np.uint64(seed), first_row
    settings = Chains(factors.numpy(), memberships.numpy(), n_groups, packed, *numbers)
    of_rows = (np.empty(batch, kind) for kind in (dtype, dtype, np.uint8))
    results = Results(np.empty((batch, n, k), dtype), *of_rows)
    on_rows = posterior_few_rows if batch * chains <= LANES // 2 else posterior_rows

    def work(first: int, last: int) -> None:
        on_rows(symbols, labels, settings, results, first, last)

    cost = NANOSECONDS_PER_LOGIT * n * k + len(factors) * chains * n * k * NANOSECONDS_PER_VALUE
    for_rows(work, batch, max(1, LANES // chains), cost)
    marginals, log_evidence, satisfied, status = map(torch.from_numpy, results)
    return marginals, log_evidence, satisfied, status


@kernel
def posterior_rows(logits, label, chains, results, first, last):
    """See ``posterior_in``."""
    _, n, k = logits.shape
    posterior_in(logits, label, chains, results, first, last, empty_workspace(n, k, chains))


@kernel
def posterior_few_rows(logits, label, chains, results, first, last):
    """The same for chains that fit in half the lanes."""
    _, n, k = logits.shape
    posterior_in(logits, label, chains, results, first, last, half_of(empty_workspace(n, k, chains)))
