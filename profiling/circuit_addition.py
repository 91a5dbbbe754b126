"""Addition as a circuit, the digits of the sum given, against ``em.Addition``: CPU time of one thread, medians.

    python -m profiling.circuit_addition [--batch 1024]

Prints a Markdown table: nanoseconds a row of a posterior, as calls, and the largest difference of the marginals.
"""

from __future__ import annotations

import argparse

import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks.measure import medians_in_turns

DIGITS = 1, 2, 4


def circuit(n: int) -> em.Circuit:
    """Two numbers of n digits, place by place from the ones on; each place has its digit of the sum behind it."""

    def add(state: tuple[int, int], digit: int, position: int) -> tuple[int, int] | None:
        carry, total = state
        if position == 3 * n:  # the digit before all others
            return (0, 0) if digit == carry else None
        if position % 3 < 2:
            return carry, total + digit
        return ((carry + total) // 10, 0) if (carry + total) % 10 == digit else None

    return em.Circuit.from_program(add, 3 * n + 1, 10, start=(0, 0), given=[*range(2, 3 * n, 3), 3 * n])


def measure(n: int, batch: int) -> str:
    """One row of the table."""
    addition, compiled = em.Addition(n_digits=n), circuit(n)
    digits = torch.randint(0, 10, (batch, 2, n))
    logits, label = torch.randn(batch, 2, n, 10), addition.label(digits)
    by_place, from_ones = logits.flip(2).transpose(1, 2).flatten(1, 2).contiguous(), label.flip(1).contiguous()
    expected = em.posterior(addition, logits, label).marginals
    found = em.posterior(compiled, by_place, from_ones).marginals.view(batch, n, 2, 10).transpose(1, 2).flip(2)
    times = medians_in_turns(
        {
            "addition": lambda: em.posterior(addition, logits, label),
            "circuit": lambda: em.posterior(compiled, by_place, from_ones),
        }
    )
    ours, other = times["circuit"], times["addition"]
    cells = n, compiled.n_edges, f"{other / batch * 1e9:.0f}", f"{ours / batch * 1e9:.0f}", f"{ours / other:.2f}"
    return f"| {' | '.join(map(str, cells))} | {float((found - expected).abs().max()):.0e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1024)
    batch = parser.parse_args().batch
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print("| digits | edges | em.Addition | circuit | circuit / em.Addition | difference |\n|---|---|---|---|---|---|")
    for n in DIGITS:
        print(measure(n, batch), flush=True)


if __name__ == "__main__":
    main()
