"""The posterior of automata against a loop in torch and against JAX: CPU time, in turns in one process, medians.

    python -m profiling.automaton_rivals [--states 16] [--batch 64] [--symbols 100]

CPU time is that of all threads of the process, so a method does not gain from threads. JAX takes part where it is
installed. Prints a Markdown table: the time of one posterior, and how many times as long the others take.
"""

from __future__ import annotations

import argparse

import torch

from emnesy_gpu.benchmarks.automaton import BATCHES, STATES, SYMBOLS, calls, inputs
from emnesy_gpu.benchmarks.measure import medians_in_turns

METHODS = "fused", "torch EM", "JAX"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, nargs="*", default=STATES)
    parser.add_argument("--batch", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| states | batch | fused ms | x torch EM | x JAX |\n|---|---|---|---|---|")
    for states in options.states:
        for batch in options.batch:
            found = calls(*inputs(states, batch, torch.device("cpu"), options.symbols))
            times = medians_in_turns({name: found[name] for name in METHODS if name in found})
            fused, *others = (times.get(name) for name in METHODS)
            ratios = " | ".join("-" if other is None or fused is None else f"{other / fused:.1f}" for other in others)
            print(f"| {states} | {batch} | {(fused or 0) * 1e3:.3f} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
