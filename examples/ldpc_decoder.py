"""Decode a low-density parity-check code by belief propagation.

    python examples/ldpc_decoder.py [frames]

The code has 504 bits, three checks a bit, and six bits a check (MacKay, "Good error-correcting codes based on very
sparse matrices", 1999). The word of zeros is sent through Gaussian noise: all words are as hard for this decoder.
"""

from __future__ import annotations

import sys

import torch

import emnesy_gpu as em

N_BITS, RATE = 504, 0.5


def code(generator: torch.Generator) -> em.FactorGraph:
    """Three times, all bits are dealt out to 84 checks of six."""
    checks = torch.cat([torch.randperm(N_BITS, generator=generator).view(-1, 6) for _ in range(3)])
    graph = em.FactorGraph(N_BITS, cardinality=2)
    graph.add(em.factors.parity(), checks)
    return graph


def received(frames: int, decibels: float, generator: torch.Generator) -> torch.Tensor:
    """Logits of the bits, [frames, bits, 2], where 0 is sent as +1: a Gaussian has log odds 2 y / variance."""
    variance = 1.0 / (2.0 * RATE * 10.0 ** (decibels / 10.0))
    y = 1.0 + variance**0.5 * torch.randn(frames, N_BITS, generator=generator)
    return torch.stack([2.0 * y / variance, torch.zeros_like(y)], -1)


def main() -> None:
    frames = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    generator = torch.Generator().manual_seed(0)
    graph, label = code(generator), torch.ones(frames, dtype=torch.int64)
    decoder = em.BeliefPropagation(iterations=50, tolerance=1e-3)
    for decibels in (1.0, 1.5, 2.0, 2.5):
        logits = received(frames, decibels, generator)
        post = em.posterior(graph, logits, label, decoder)
        before, after = logits.argmax(-1), post.marginals.argmax(-1)
        wrong, sweeps = after.any(1).float().mean(), post.info["iterations"].float().mean()
        rates = f"bit errors {before.float().mean():.4f} -> {after.float().mean():.5f}"
        print(f"Eb/N0 {decibels} dB: {rates}, wrong words {wrong:.4f}, {sweeps:.1f} sweeps")


if __name__ == "__main__":
    main()
