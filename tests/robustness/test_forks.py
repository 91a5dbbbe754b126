"""Forked children work with one torch thread, as workers of a DataLoader have it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
import torch
import emnesy_gpu as em

torch.set_num_threads(4)
torch.randn(1 << 22).exp().sum()
addition, sudoku = em.Addition(4), em.Sudoku(9)


def everything():
    logits = torch.randn(300, 2, 4, 10, requires_grad=True)
    label = addition.label(logits.argmax(-1))
    em.posterior(addition, logits, label)
    em.fused_em_loss(addition, logits, label).backward()
    em.sample_posterior(addition, logits, label, 2, seed=0)
    boards = torch.randn(60, 9, 9, 9)
    for valid in (0, 1):
        em.posterior(sudoku, boards, torch.full((60,), valid))
        em.posterior(em.Sudoku(9), boards, torch.full((60,), valid))
    em.posterior(sudoku, boards, torch.ones(60, dtype=torch.int64), em.Gibbs(sweeps=2))
    em.posterior(sudoku, boards, torch.ones(60, dtype=torch.int64), em.ABC(samples=50, target_ess=4.0))


everything()
for _ in range(2):
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        everything()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
everything()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_with_one_thread_does_everything() -> None:
    """With more threads, loops of torch itself hang in a child of a process that has run such a loop."""
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], check=True, timeout=120, env=environment)
