"""What is particular to the GPU kernels of circuits: two designs, rows that underflow, and any batch, simulated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs triton")

from emnesy_gpu.circuits.tables import Compiled, make_tables
from emnesy_gpu.kernels.gpu.circuit import launch
from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.reference import circuit as reference
from profiling.gpu_simulator import Options, simulated_triton
from tests.circuits import permutation_graph

COMPILED = make_tables(permutation_graph(3, 4))
MORE: dict[str, tuple[Any, ...]] = {"map_assignment": (), "sample": (3, 7, 2**33)}


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2.0 * torch.randn(batch, 3, 4, generator=generator)
    return logits, torch.randint(0, 3, (batch, 1), generator=generator, dtype=torch.int32)


def run(function: str, logits: Tensor, rows: Tensor, compiled: Compiled = COMPILED, package: Any = launch) -> Any:
    more = MORE.get(function, (compiled.tape_rows, False))
    with simulated_triton(80, Options(checks=True, counters=False)):
        return getattr(package, function)(logits, rows, list(compiled.tables), *more)


@pytest.mark.parametrize("function", ["posterior", "map_assignment", "sample"])
def test_a_launch_for_every_level_changes_no_bit(monkeypatch, function: str) -> None:
    """Also where scratch memory holds two groups of rows only."""
    logits, rows = inputs(21)
    together = run(function, logits, rows)
    monkeypatch.setattr(launch, "BLOCK_ROWS", 0)
    monkeypatch.setattr(launch, "LEVEL_SCRATCH_BYTES", 6000)
    for mine, theirs in zip(run(function, logits, rows), together, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("batch", [1, 7, 8])
def test_the_batch_changes_no_bit(batch: int) -> None:
    logits, rows = inputs(9)
    for mine, theirs in zip(
        run("posterior", logits[:batch], rows[:batch]), run("posterior", logits, rows), strict=True
    ):
        assert torch.equal(mine, theirs[:batch])


def test_rows_that_underflow_are_repeated_and_impossible_rows_decided() -> None:
    """The evidence of distinct symbols is e^-60 in row 0, e^-200, e^-1000, 0; row 4 is an easy one."""
    logits, rows = torch.zeros(5, 3, 4), torch.full((5, 1), 2, dtype=torch.int32)
    logits[:, :, 0] = torch.tensor([30.0, 100.0, 500.0, float("inf"), 0.0])[:, None]
    logits[3] = torch.tensor([0.0, *[float("-inf")] * 3])
    marginals, log_evidence, status = run("posterior", logits, rows)
    expected = reference.posterior(logits, rows, list(COMPILED.tables), COMPILED.tape_rows, False)
    torch.testing.assert_close(marginals, expected[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(log_evidence, expected[1], atol=1e-5, rtol=1e-6)
    assert status.tolist() == [POSSIBLE] * 3 + [IMPOSSIBLE, POSSIBLE]
    assert torch.equal(status, expected[2])
