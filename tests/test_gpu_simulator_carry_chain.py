"""The package's own operators on the simulated GPU; values of the launch functions are in test_kernel_values.py."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck

pytest.importorskip("triton", reason="needs triton")

import emnesy_gpu as em
from profiling.gpu_simulator import simulated_gpu
from tests.cases import Case

OPS = torch.ops.emnesy_gpu
ARGUMENTS = {
    "carry_chain_posterior": (True,),
    "carry_chain_em_gradient": (0.5, True),
    "carry_chain_map": (True,),
    "carry_chain_sample": (2, 7, 0, True),
}


@pytest.mark.parametrize("op", ARGUMENTS)
def test_operators_take_their_gpu_kernel(op: str) -> None:
    logits, label = Case(4, base=3, batch=5).draw()
    with em.backend("reference"):
        expected = getattr(OPS, op)(logits, label, *ARGUMENTS[op])
    with simulated_gpu(80) as gpu:
        actual = getattr(OPS, op)(logits, label, *ARGUMENTS[op])
    assert gpu.launches
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


def test_every_byte_moves_about_once() -> None:
    """What an L1 that keeps up fetches: the logits and labels in, the marginals and per-row results out."""
    logits, label = Case(15, batch=32).draw()
    with simulated_gpu(80) as gpu:
        outputs = OPS.carry_chain_posterior(logits, label, True)
    read = sum(record.counters.global_reads.block_sectors for record in gpu.launches) * 32
    written = sum(record.counters.global_writes.block_sectors for record in gpu.launches) * 32
    assert read <= 1.2 * (logits.nbytes + label.nbytes)
    assert written <= 1.2 * sum(output.nbytes for output in outputs)


def test_opcheck_and_compile() -> None:
    logits, label = Case(4, base=3, batch=5).draw()
    with simulated_gpu(80) as gpu:
        opcheck(OPS.carry_chain_posterior, (logits, label, True))
        compiled = torch.compile(OPS.carry_chain_posterior, backend="aot_eager", fullgraph=True)
        n_before = len(gpu.launches)
        actual = compiled(logits, label, True)
        assert len(gpu.launches) > n_before
    with em.backend("reference"):
        expected = OPS.carry_chain_posterior(logits, label, True)
    torch.testing.assert_close(actual[0], expected[0], atol=2e-5, rtol=2e-5)
