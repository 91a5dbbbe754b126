"""The posterior of automata against a loop in torch and against JAX: CPU time, in turns in one process, medians.

    python -m profiling.automaton_rivals [--states 16] [--batch 64] [--symbols 100]

CPU time is that of all threads of the process, so a method does not gain from threads. JAX takes part where it is
installed. Prints a Markdown table: the time of one posterior, and how many times as long the others take.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from emnesy_gpu.benchmarks.automaton import BATCHES, STATES, SYMBOLS, calls, inputs

METHODS = "fused", "torch EM", "JAX"
ROUNDS = 9
SHORTEST = 5e6
"""Nanoseconds of a turn at least: short calls are repeated."""
PAUSE = 0.02
"""Seconds before a turn, in which the threads of another method fall asleep."""


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
            times = medians({name: found[name] for name in METHODS if name in found})
            fused, *others = (times.get(name) for name in METHODS)
            ratios = " | ".join("-" if other is None or fused is None else f"{other / fused:.1f}" for other in others)
            print(f"| {states} | {batch} | {(fused or 0) / 1e6:.3f} | {ratios} |", flush=True)


def medians(methods: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Nanoseconds of a call of each method."""
    repeats = {}
    for name, call in methods.items():
        call()
        repeats[name] = 1 + int(SHORTEST / nanoseconds(call, 1))
    turns = [{name: nanoseconds(call, repeats[name]) for name, call in methods.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(turn[name] for turn in turns) for name in methods}


def nanoseconds(call: Callable[[], object], repeats: int) -> float:
    time.sleep(PAUSE)
    start = time.process_time_ns()
    for _ in range(repeats):
        call()
    return (time.process_time_ns() - start) / repeats


if __name__ == "__main__":
    main()
