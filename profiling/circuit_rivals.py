"""Published circuits against torch level by level and against KLay: CPU time, in turns in one process, medians.

    EMNESY_CIRCUITS=... python -m profiling.circuit_rivals [--batch 128] [--circuit sudoku_4 road_r]

EMNESY_CIRCUITS names a folder of .sdd files. CPU time is that of all threads of the process. KLay takes part where it
is installed. Prints a Markdown table: the time of one call of ``em.posterior``, and how many times as long the others
take for the log evidence and its gradient; the same for the kernel alone, without the fixed costs of a call; and how
many times as long the most probable symbols take, by ``em.MAP``.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks.circuit import files, inputs, methods
from emnesy_gpu.benchmarks.measure import medians_in_turns
from emnesy_gpu.circuits.evaluate import uniform_evidence
from emnesy_gpu.problems.circuit_problem import NARROW_EVIDENCE
from profiling.circuit_kernel import kernel

HEADER = """| circuit | edges | batch | ns a row | x torch levels | x KLay | kernel: ns a row | x KLay | MAP |
|---|---|---|---|---|---|---|---|---|"""
RIVALS = "torch levels", "KLay"


def measure(name: str, batch: int) -> str:
    """One row of the table."""
    problem, logits, label, file = inputs(name, batch, torch.device("cpu"))
    found = methods(problem, logits, label, file)
    lanes = np.float64 if uniform_evidence(problem.graph) < NARROW_EVIDENCE else np.float32
    times = medians_in_turns(
        {
            "posterior": found["fused"],
            "kernel": kernel(problem, logits, label, lanes)[0],
            "map": lambda: em.posterior(problem, logits, label, em.MAP()),
            **{rival: found[rival] for rival in RIVALS if rival in found},
        }
    )
    ours, alone = times["posterior"], times["kernel"]
    levels, klay, klay_alone = (
        f"{times[rival] / base:.0f}" if rival in times else "-"
        for rival, base in (("torch levels", ours), ("KLay", ours), ("KLay", alone))
    )
    sizes, maxima = f"{name} | {problem.n_edges} | {batch}", f"{times['map'] / ours:.2f}"
    call, kernel_alone = f"{ours / batch * 1e9:.0f}", f"{alone / batch * 1e9:.0f}"
    return f"| {sizes} | {call} | {levels} | {klay} | {kernel_alone} | {klay_alone} | {maxima} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--circuit", nargs="*", default=list(files()), help="only these files, without their endings")
    parser.add_argument("--batch", type=int, nargs="*", default=[128, 1024])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(HEADER)
    for name in options.circuit:
        for batch in options.batch:
            print(measure(name, batch), flush=True)


if __name__ == "__main__":
    main()
