"""Addition in DeepProbLog gives our marginals, and what stops a size of the comparison is its line."""

from __future__ import annotations

import subprocess

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.baselines.addition_peers import deepproblog
from profiling import exact_rivals


@pytest.mark.filterwarnings(
    "ignore:ApproximateEngine is not available", "ignore:Converting a tensor with requires_grad"
)
def test_deepproblog_gives_our_marginals() -> None:
    """For a sum that it compiles, for the same one with other beliefs, and for another one."""
    pytest.importorskip("deepproblog")
    problem, run = em.Addition(1), deepproblog(1)
    for total, logits in zip(
        (9, 9, 12), torch.randn(3, 2, 1, 10, generator=torch.Generator().manual_seed(0)), strict=True
    ):
        post = em.posterior(problem, logits[None], problem.encode(torch.tensor([total])))
        answer = run(logits, total)
        torch.testing.assert_close(answer.marginals, post.marginals[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(answer.log_evidence, post.log_evidence[0], atol=1e-5, rtol=0)


def test_a_size_that_takes_too_long_is_stopped() -> None:
    assert exact_rivals.in_time(3, 0.0) == "| 3 | T/O (0 minutes) | | | | | |"


def test_a_size_that_the_system_kills_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.CompletedProcess([], exact_rivals.OUT_OF_MEMORY, "")
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: killed)
    assert exact_rivals.in_time(3, 1.0) == "| 3 | out of memory | | | | | |"


def test_an_error_of_a_size_ends_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: subprocess.CompletedProcess([], 1, ""))
    with pytest.raises(SystemExit):
        exact_rivals.in_time(3, 1.0)
