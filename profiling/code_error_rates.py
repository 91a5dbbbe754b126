"""The error rates of a (504, 252) code under belief propagation, against the noise.

    python -m profiling.code_error_rates [frames] [curve.png]

The code has 504 bits, three checks a bit, and six bits a check (MacKay, "Good error-correcting codes based on very
sparse matrices", 1999). No two checks share two bits. The word of zeros is sent through Gaussian noise: all words are
as hard for this decoder. With a file name, the error rates are drawn beside those of bits without a code, and the
noise at which long codes of this kind begin to work (Richardson and Urbanke, "The capacity of low-density parity-check
codes under message-passing decoding", 2001).
"""

from __future__ import annotations

import math
import sys

import torch
from matplotlib.figure import Figure

import emnesy_gpu as em
from emnesy_gpu.benchmarks.factor_graph import CODE_BITS, received

DECIBELS = (1.0, 1.5, 2.0, 2.5, 3.0)
THRESHOLD = 1.1
"""Eb/N0 in dB from which on codes with three checks a bit and six bits a check have no errors, if they are long."""


def code(generator: torch.Generator) -> torch.Tensor:
    """Checks [252, 6]: all bits are dealt out three times; then bits change places until no two checks share two."""
    checks = torch.randperm(CODE_BITS, generator=generator).view(-1, 6)
    for _ in range(2):
        dealt = torch.randperm(CODE_BITS, generator=generator)
        while (clash := (shared(dealt.view(-1, 6), checks) > 1).any(1)).any():
            place, other = torch.randint(CODE_BITS, (2,), generator=generator).tolist()
            place = 6 * int(clash.nonzero()[0, 0]) + place % 6
            dealt[[place, other]] = dealt[[other, place]]
        checks = torch.cat([checks, dealt.view(-1, 6)])
    return checks


def shared(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """How many bits checks share, [len(some), len(others)]."""
    return (some[:, None, :, None] == others[None, :, None, :]).sum((2, 3))


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    generator = torch.Generator().manual_seed(0)
    graph, label = em.FactorGraph(CODE_BITS, cardinality=2), torch.ones(frames, dtype=torch.int64)
    graph.add(em.factors.parity(), code(generator).numpy())
    decoder, rates = em.BeliefPropagation(iterations=50, tolerance=1e-3), []
    for decibels in DECIBELS:
        logits = received(frames, decibels, generator)
        post = em.posterior(graph, logits, label, decoder)
        before, after = logits.argmax(-1).float(), post.marginals.argmax(-1).float()
        rates.append((float(after.mean()), float(after.any(1).float().mean())))
        sweeps = post.info["iterations"].float().mean()
        words = f"bit errors {before.mean():.4f} -> {after.mean():.6f}, wrong words {rates[-1][1]:.4f}"
        print(f"Eb/N0 {decibels} dB: {words}, {sweeps:.1f} sweeps")
    if len(sys.argv) > 2:
        draw(sys.argv[2], rates, frames)


def draw(path: str, rates: list[tuple[float, float]], frames: int) -> None:
    """Draw the shares of wrong bits and wrong words; points without an error are left out."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, marker, column in (("wrong words", "o", 1), ("wrong bits", "s", 0)):
        points = [(decibels, rate[column]) for decibels, rate in zip(DECIBELS, rates, strict=True) if rate[column] > 0]
        axes.plot(*zip(*points, strict=True), marker=marker, label=name)
    uncoded = [0.5 * math.erfc(math.sqrt(10 ** (decibels / 10))) for decibels in DECIBELS]
    axes.plot(DECIBELS, uncoded, "--", color="tab:gray", label="wrong bits without a code")
    axes.axvline(THRESHOLD, color="black", linewidth=0.8, linestyle=":", label="threshold of long codes")
    axes.set(yscale="log", xlabel="Eb/N0 in dB", ylabel="share", title=f"(504, 252) code, {frames} frames a point")
    axes.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
