"""The package's own operators, launch functions and all, on the simulated GPU."""

from __future__ import annotations

import pytest
import torch
from torch.library import opcheck

pytest.importorskip("triton", reason="needs triton")

import emnesy_gpu as em
from tests.cases import Case
from tests.gpu_simulator import simulated_gpu

OPS = torch.ops.emnesy_gpu
ARGUMENTS = {
    "carry_chain_posterior": (True,),
    "carry_chain_em_gradient": (0.5, True),
    "carry_chain_map": (True,),
    "carry_chain_sample": (2, 7, 0, True),
}
CASE = Case(15, batch=9)
CASES = [
    CASE,
    Case(4, base=5, n_addends=3),
    pytest.param(Case(2, base=3, hard_zeros=0.4, seed=1), marks=pytest.mark.slow),
    pytest.param(Case(100, batch=3), marks=pytest.mark.slow),
    pytest.param(Case(3, base=4, n_addends=4), marks=pytest.mark.slow),
]


def on_reference(op: str, *arguments):
    with em.backend("reference"):
        return getattr(OPS, op)(*arguments)


@pytest.mark.parametrize("op", ARGUMENTS)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("arch", [80, pytest.param(90, marks=pytest.mark.slow)])
def test_agrees_with_the_reference(op: str, case: Case, arch: int) -> None:
    logits, label = case.draw()
    expected = on_reference(op, logits, label, *ARGUMENTS[op])
    with simulated_gpu(arch) as gpu:
        actual = getattr(OPS, op)(logits, label, *ARGUMENTS[op])
    assert gpu.launches
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("op", ["carry_chain_posterior", "carry_chain_em_gradient"])
def test_float64_agrees_with_the_reference(op: str) -> None:
    logits, label = Case(5).draw()
    expected = on_reference(op, logits.double(), label, *ARGUMENTS[op])
    with simulated_gpu(80):
        actual = getattr(OPS, op)(logits.double(), label, *ARGUMENTS[op])
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("op", ARGUMENTS)
def test_a_row_does_not_depend_on_its_batch(op: str) -> None:
    logits, label = CASE.draw()
    with simulated_gpu(80):
        together = getattr(OPS, op)(logits, label, *ARGUMENTS[op])
        alone = getattr(OPS, op)(logits[:1].clone(), label[:1].clone(), *ARGUMENTS[op])
    for whole, single in zip(together, alone, strict=True):
        row = whole[:, :1] if op == "carry_chain_sample" and whole.dim() > 1 else whole[:1]
        assert torch.equal(row, single)


@pytest.mark.parametrize("offset", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_logits_that_start_off_a_vector_boundary(offset: int) -> None:
    logits, label = CASE.draw()
    shifted = torch.empty(logits.numel() + offset)[offset:].view_as(logits).copy_(logits)
    with simulated_gpu(80):
        expected = OPS.carry_chain_posterior(logits, label, True)
        actual = OPS.carry_chain_posterior(shifted, label, True)
    torch.testing.assert_close(actual[0], expected[0], atol=1e-6, rtol=1e-6)


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
    logits, label = CASE.draw()
    with simulated_gpu(80) as gpu:
        opcheck(OPS.carry_chain_posterior, (logits, label, True))
        compiled = torch.compile(OPS.carry_chain_posterior, backend="aot_eager", fullgraph=True)
        n_before = len(gpu.launches)
        actual = compiled(logits, label, True)
        assert len(gpu.launches) > n_before
    expected = on_reference("carry_chain_posterior", logits, label, True)
    torch.testing.assert_close(actual[0], expected[0], atol=2e-5, rtol=2e-5)
