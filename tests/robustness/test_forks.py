"""Forked children work with one torch thread, as workers of a DataLoader have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import faulthandler
import os
import signal
import time
from pathlib import Path
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


def cpu_seconds(process):
    words = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(child, limit):
    '''Wait for the end of a child; one that rests or computes for too long says where, and is killed.'''
    used, rests = 0.0, 0
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        before, used = used, cpu_seconds(child)
        rests = 0 if used > before else rests + 1
        if rests > 300 or used > limit:
            os.kill(child, signal.SIGABRT)
        time.sleep(0.1)


faulthandler.enable()
everything()
began = time.process_time()
everything()
limit = 20.0 + 10.0 * (time.process_time() - began)
for _ in range(2):
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        everything()
        os._exit(0)
    assert wait_for(child, limit) == 0
everything()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs forks, and the times of processes")
@pytest.mark.filterwarnings("ignore")
def test_a_forked_child_with_one_thread_does_everything() -> None:
    """With more threads, loops of torch itself hang in a child of a process that has run such a loop.

    A child hangs if it gets no processor time in 300 looks at it. The clock does not tell: a busy machine takes minutes
    to compile the kernels.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], check=True, timeout=900, env=environment)


LONG_CALL = """
import os
import signal
import torch
from emnesy_gpu.kernels.cpu.common.parallel import for_rows

torch.set_num_threads(1)
for_rows(lambda first, last: None, 4, 1, 0.0)
child = os.fork()
if child == 0:
    signal.alarm(60)
    for_rows(lambda first, last: None, 4, 1, 0.0)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_forked_child_has_threads_of_its_own_for_long_calls() -> None:
    """A call of unknown cost runs in a thread, which the child of a process with such threads has not."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", LONG_CALL], check=True, timeout=300)
