"""The error rates of codes with three checks a bit and six bits a check under belief propagation, against the noise.

    python -m profiling.code_error_rates [frames] [curve.png]
    python -m profiling.code_error_rates --published [frames]

The first is a code of 504 bits. With a file name, its error rates are drawn beside those of bits without a code and the
noise at which long codes of this kind begin to work (Richardson and Urbanke, "The capacity of low-density parity-check
codes under message-passing decoding", 2001). The second is a code of 8000 bits, up to 20 flooding sweeps, beside
figures that the project AFF3CT has published for MacKay's code 8000.4000.3.483 and the same decoder
(github.com/aff3ct/error_rate_references, LDPC_N8000_K4000_flooding_SPA_i20_MacKay.txt).

The codes are not MacKay's: bits are dealt out at random, and change places until no two checks share two bits, which is
how he made his (MacKay, "Good error-correcting codes based on very sparse matrices", 1999). The word of zeros is sent
through Gaussian noise: all words are as hard for this decoder.
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

import emnesy_gpu as em
from emnesy_gpu.benchmarks.factor_graph import CODE_BITS, received

DECIBELS = (1.0, 1.5, 2.0, 2.5, 3.0)
THRESHOLD = 1.1
"""Eb/N0 in dB from which on codes with three checks a bit and six bits a check have no errors, if they are long."""

PUBLISHED_BITS, PUBLISHED_SWEEPS = 8000, 20
PUBLISHED = {
    1.2: (3.27e-2, 8.85e-1),
    1.3: (2.23e-2, 7.90e-1),
    1.4: (9.72e-3, 4.98e-1),
    1.5: (2.96e-3, 1.88e-1),
    1.6: (5.93e-4, 5.57e-2),
    1.7: (9.55e-5, 1.06e-2),
}
"""Eb/N0 in dB -> shares of wrong bits and wrong words, which were counted up to 100 wrong words or a few more."""

FRAMES_AT_A_TIME = 512


def code(n_bits: int, generator: torch.Generator) -> torch.Tensor:
    """Checks [n_bits / 2, 6], in which every bit is three times, and no two checks share two bits."""
    dealt = torch.arange(n_bits).repeat(3)[torch.randperm(3 * n_bits, generator=generator)]
    while len(clashing := clashes(dealt.view(-1, 6))):
        place, other = int(clashing[0]), int(torch.randint(3 * n_bits, (), generator=generator))
        dealt[[place, other]] = dealt[[other, place]]
    return dealt.view(-1, 6)


def clashes(checks: torch.Tensor) -> torch.Tensor:
    """Places of bits that a check has twice, or with another bit that a second check has too."""
    bits, order = checks.sort(1)
    first, second = torch.combinations(torch.arange(6)).unbind(1)
    _, number, count = (bits[:, first] * 2 * len(checks) + bits[:, second]).unique(
        return_inverse=True, return_counts=True
    )
    check, pair = ((count[number] > 1) | (bits[:, first] == bits[:, second])).nonzero(as_tuple=True)
    return 6 * check + order[check, first[pair]]


class Counts(NamedTuple):
    """Of all frames: shares of bits that arrive wrong, bits and words that are wrong once decoded; sweeps a frame."""

    before: float
    bits: float
    words: float
    sweeps: float


def decode(graph: em.FactorGraph, decibels: float, frames: int, decoder: em.BeliefPropagation, seed: int) -> Counts:
    """Decode so many frames, some at a time."""
    totals, generator = torch.zeros(4, dtype=torch.float64), torch.Generator().manual_seed(seed)
    for start in range(0, frames, FRAMES_AT_A_TIME):
        some = min(FRAMES_AT_A_TIME, frames - start)
        logits = received(some, decibels, generator, graph.n_variables)
        post = em.posterior(graph, logits, torch.ones(some, dtype=torch.int64), decoder)
        before, after = logits.argmax(-1).double(), post.marginals.argmax(-1).double()
        sums = before.mean(1).sum(), after.mean(1).sum(), after.amax(1).sum(), post.info["iterations"].double().sum()
        totals += torch.stack(sums)
    return Counts(*(totals / frames).tolist())


def graph_of(n_bits: int) -> em.FactorGraph:
    graph = em.FactorGraph(n_bits, cardinality=2)
    graph.add(em.factors.parity(), code(n_bits, torch.Generator().manual_seed(0)).numpy())
    return graph


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--published"]:
        compare(int(arguments[1]) if len(arguments) > 1 else 2000)
        return
    frames = int(arguments[0]) if arguments else 500
    graph, rates = graph_of(CODE_BITS), []
    for decibels in DECIBELS:
        counts = decode(graph, decibels, frames, em.BeliefPropagation(iterations=50, tolerance=1e-3), seed=1)
        rates.append((counts.bits, counts.words))
        words = f"bit errors {counts.before:.4f} -> {counts.bits:.6f}, wrong words {counts.words:.4f}"
        print(f"Eb/N0 {decibels} dB: {words}, {counts.sweeps:.1f} sweeps")
    if len(arguments) > 1:
        draw(arguments[1], rates, frames)


def compare(frames: int) -> None:
    """Print our error rates of a code of 8000 bits beside the published ones."""
    graph, decoder = graph_of(PUBLISHED_BITS), em.BeliefPropagation(PUBLISHED_SWEEPS, schedule="flooding")
    print("| Eb/N0 dB | wrong words | published | wrong bits | published |\n|---|---|---|---|---|")
    for decibels, (bits, words) in PUBLISHED.items():
        counts = decode(graph, decibels, frames, decoder, seed=1)
        print(f"| {decibels} | {counts.words:.4f} | {words:.4f} | {counts.bits:.2e} | {bits:.2e} |", flush=True)


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
