"""Train a net on sums alone: EM on one-hot digits.

    python examples/train_addition.py

The "images" are noisy one-hot vectors, so that a linear net can read them. It never sees the label of a digit.
With seed 0 the run ends in a confusion of digits that explains many sums. Its log evidence stays near -2.9: this shows
that the run failed.
"""

from __future__ import annotations

import torch

import emnesy_gpu as em

ROWS, BATCH, EPOCHS, SEED = 600, 60, 10, 1
NOISE = 0.3


def images_of(z: torch.Tensor) -> torch.Tensor:
    """Noisy one-hot vectors [..., 10] of digits z [...]."""
    clean = torch.nn.functional.one_hot(z, 10).float()
    return clean + NOISE * torch.randn_like(clean)


def main() -> None:
    torch.manual_seed(SEED)
    problem = em.Addition(n_digits=2)
    z = torch.randint(0, 10, (ROWS, *problem.latent_shape))
    images, sums = images_of(z), problem.label(z)

    net = torch.nn.Linear(10, 10)
    trainer = em.EM(net, problem, torch.optim.Adam(net.parameters(), lr=0.05))
    for epoch in range(1, EPOCHS + 1):
        batches = torch.randperm(ROWS).split(BATCH)
        evidence = [trainer.step(images[rows], sums[rows])["log_evidence"] for rows in batches]
        print(f"epoch {epoch:2d}  log evidence of a sum {sum(evidence) / len(evidence):6.2f}")

    unseen = torch.randint(0, 10, (1000,))
    accuracy = (net(images_of(unseen)).argmax(-1) == unseen).float().mean()
    print(f"digits that are right: {100 * accuracy:.1f} %")


if __name__ == "__main__":
    main()
