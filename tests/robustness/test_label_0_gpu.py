"""Label 0 where the net is certain of a valid board, after messages in Triton and in CUDA C: right for every gap."""

from __future__ import annotations

import math
import os

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not compiled", allow_module_level=True)

import emnesy_gpu as em
from emnesy_gpu.kernels.gpu import given_label, not_equal
from emnesy_gpu.kernels.gpu.all_different import cuda
from emnesy_gpu.kernels.gpu.all_different import launch as all_different
from emnesy_gpu.kernels.status import POSSIBLE
from profiling.gpu_simulator import Options, simulated_triton
from tests.cuda_c import needs_nvrtc, simulate_launches
from tests.robustness.test_label_0 import BOARD

GAPS = torch.tensor([28.0, 36.0, 80.0, 500.0, 1e4])
PROBLEM = em.Sudoku(4)
ONE_SWEEP = 1, 0.0, 0.0, False


def by_all_different(logits: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    groups = PROBLEM.tables(logits.device).groups
    return all_different.belief_propagation(logits, label, groups, PROBLEM.serial_phases, *ONE_SWEEP)


def by_pairs(logits: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    tables = PROBLEM.tables(logits.device)
    graph = tables.neighbours, tables.reverse, tables.order, [PROBLEM.n_variables]
    return not_equal.belief_propagation(logits, label, *graph, *ONE_SWEEP)


@pytest.mark.parametrize("kind", ["all_different", "pairwise", pytest.param("cuda_c", marks=needs_nvrtc)])
def test_simulated_messages_given_label_0(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change of one of 16 cells to one of 3 other values breaks the board; two changes weigh nothing."""
    monkeypatch.setattr(cuda, "fits", lambda *_: kind == "cuda_c")
    launches = simulate_launches(monkeypatch) if kind == "cuda_c" else []
    logits = GAPS[:, None, None] * torch.nn.functional.one_hot(BOARD.flatten(), 4)
    label = torch.zeros(len(GAPS), dtype=torch.int64)
    with simulated_triton(80, Options(checks=False, counters=False)):
        results = (by_pairs if kind == "pairwise" else by_all_different)(logits, label)[:3]
        neighbours = PROBLEM.tables(logits.device).neighbours
        marginals, log_evidence, status = given_label.given_label(logits, label, neighbours, results)
    assert len(launches) == (kind == "cuda_c")
    assert status.eq(POSSIBLE).all()
    torch.testing.assert_close(log_evidence.double(), math.log(48) - GAPS.double(), rtol=1e-6, atol=1e-5)
    right = marginals.gather(-1, BOARD.flatten().expand(len(GAPS), 16)[..., None])
    torch.testing.assert_close(right, torch.full_like(right, 15 / 16), rtol=0, atol=1e-5)
