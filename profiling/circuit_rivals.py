"""Published circuits against torch level by level and against KLay: CPU time, in turns in one process, medians.

    EMNESY_CIRCUITS=... python -m profiling.circuit_rivals [--batch 128] [--circuit sudoku_4 road_r]

EMNESY_CIRCUITS names a folder of .sdd files. CPU time is that of all threads of the process. KLay takes part where it
is installed. Prints a Markdown table: the time of one posterior, and how many times as long the others take for the log
evidence and its gradient.
"""

from __future__ import annotations

import argparse

import torch

from emnesy_gpu.benchmarks.circuit import files, inputs, methods
from emnesy_gpu.benchmarks.measure import medians_in_turns

METHODS = "fused", "torch levels", "KLay"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--circuit", nargs="*", default=list(files()), help="only these files, without their endings")
    parser.add_argument("--batch", type=int, nargs="*", default=[128, 1024])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| circuit | edges | batch | ns a row | x torch levels | x KLay |\n|---|---|---|---|---|---|")
    for name in options.circuit:
        for batch in options.batch:
            case = inputs(name, batch, torch.device("cpu"))
            problem, found = case[0], methods(*case)
            times = medians_in_turns({method: found[method] for method in METHODS if method in found})
            fused, *rest = (times.get(method) for method in METHODS)
            ratios = " | ".join("-" if other is None or fused is None else f"{other / fused:.0f}" for other in rest)
            print(f"| {name} | {problem.n_edges} | {batch} | {(fused or 0) / batch * 1e9:.0f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
