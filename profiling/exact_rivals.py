"""Exact inference on addition by DeepProbLog and by em.Addition: seconds of one E-step with one row.

    python -m profiling.exact_rivals [--digits 1 2 3] [--limit-minutes 60]

DeepProbLog (pip install "emnesy_gpu[competitors]") grounds and compiles a program for every sum that it has not seen,
and evaluates a circuit for every row. Each size runs in a process of its own, which is stopped at the limit: T/O. Its
marginals are compared with ours. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import warnings

import torch

import emnesy_gpu as em
from emnesy_gpu.baselines.addition_peers import deepproblog
from emnesy_gpu.benchmarks.measure import median_seconds

ROWS = 5
OUT_OF_MEMORY = -9
"""The code of a process that the system has killed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--limit-minutes", type=float, default=60.0)
    parser.add_argument("--row", action="store_true", help="print the line of one size, in this process")
    options = parser.parse_args()
    if options.row:
        print(compared(options.digits[0]))
        return
    print("| digits | ground s | compile s | evaluate ms | `em.posterior` us | times as long | error |")
    print("|---|---|---|---|---|---|---|")
    for n_digits in options.digits:
        print(in_time(n_digits, options.limit_minutes), flush=True)


def in_time(n_digits: int, minutes: float) -> str:
    """The line of one size by another process, or what stopped it."""
    words = [sys.executable, "-m", "profiling.exact_rivals", "--row", "--digits", str(n_digits)]
    try:
        done = subprocess.run(words, timeout=60 * minutes, stdout=subprocess.PIPE, text=True)
    except subprocess.TimeoutExpired:
        return f"| {n_digits} | T/O ({minutes:g} minutes) | | | | | |"
    if done.returncode == OUT_OF_MEMORY:
        return f"| {n_digits} | out of memory | | | | | |"
    if done.returncode != 0:
        raise SystemExit(done.returncode)
    return done.stdout.splitlines()[-1]


def compared(n_digits: int) -> str:
    """The line of one size: the first row asks for a sum, the others for the same one with other beliefs."""
    for message in ("ApproximateEngine is not available", "Converting a tensor with requires_grad"):
        warnings.filterwarnings("ignore", message=message)
    torch.set_num_threads(1)
    problem, total = em.Addition(n_digits), 10**n_digits - 1
    label = problem.encode(torch.tensor([total]))
    logits = torch.randn(ROWS, 1, 2, n_digits, 10, generator=torch.Generator().manual_seed(0))
    run = deepproblog(n_digits)
    answers = [run(row[0], total) for row in logits]
    ours = [em.posterior(problem, row, label).marginals[0] for row in logits]
    error = max(float((a.marginals - b).abs().max()) for a, b in zip(answers, ours, strict=True))
    theirs = statistics.median(answer.evaluated for answer in answers[1:])
    mine = median_seconds(lambda: em.posterior(problem, logits[0], label), torch.device("cpu"))
    first = answers[0]
    return (
        f"| {n_digits} | {first.ground:.2f} | {first.compiled:.2f} | {1e3 * theirs:.0f} | {1e6 * mine:.0f} "
        f"| {theirs / mine:.0f} | {error:.0e} |"
    )


if __name__ == "__main__":
    main()
