"""Clean a noisy image with an Ising model: a factor for each pair of neighbours prefers equal values.

    python examples/denoise_image.py [picture.png]

With a file name, all three images are drawn side by side (pip install matplotlib).
"""

from __future__ import annotations

import sys

import torch

import emnesy_gpu as em

SIZE, FLIPPED, COUPLING = 96, 0.2, 3.0


def picture() -> torch.Tensor:
    """A ring, a bar and a triangle: 0 and 1, [SIZE, SIZE]."""
    row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    ring = ((row - 34) ** 2 + (column - 34) ** 2 - 360).abs() < 216
    bar = (row > 66) & (row < 78) & (column > 8) & (column < 60)
    triangle = (column > 64) & (column < 90) & (row > 20) & (row - 20 < 2 * (column - 64))
    return (ring | bar | triangle).long()


def ising() -> em.FactorGraph:
    pixel = torch.arange(SIZE * SIZE).view(SIZE, SIZE)
    pairs = [torch.stack(pair, -1).view(-1, 2) for pair in ((pixel[:, :-1], pixel[:, 1:]), (pixel[:-1], pixel[1:]))]
    graph = em.FactorGraph(SIZE * SIZE, cardinality=2, latent_shape=(SIZE, SIZE))
    graph.add(em.factors.pairwise([[COUPLING, 1.0], [1.0, COUPLING]]), torch.cat(pairs))
    return graph


def main() -> None:
    clean = picture()
    noisy = clean ^ (torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0)) < FLIPPED)
    logits = torch.tensor([FLIPPED, 1.0 - FLIPPED]).log()[torch.stack([1 - noisy, noisy], -1)]
    post = em.posterior(ising(), logits[None], torch.tensor([1]), em.BeliefPropagation(50, tolerance=1e-3))
    for name, image in (("noisy", noisy), ("cleaned", cleaned := post.marginals[0].argmax(-1))):
        print(f"{name}: {100 * (image != clean).float().mean():.2f}% of the pixels are wrong")
    if len(sys.argv) > 1:
        from matplotlib.pyplot import imsave

        imsave(sys.argv[1], torch.cat([clean, noisy, cleaned], 1).numpy(), cmap="gray")


if __name__ == "__main__":
    main()
