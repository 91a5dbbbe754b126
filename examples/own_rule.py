"""A rule of your own: exact and sampled posteriors of a row of Kakuro.

    python examples/own_rule.py

Three cells hold different digits 1..9, and their sum is known. A net reads the first cell well. It cannot read the
others.
"""

from __future__ import annotations

import torch

import emnesy_gpu as em

TOTAL = 7


def satisfied(z: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """How many of the two constraints hold: z int64 [samples, batch, 3] with digit - 1, total [batch]."""
    first, second, third = z.unbind(-1)
    different = (first != second) & (first != third) & (second != third)
    right_sum = z.sum(-1) + 3 == total
    return different.long() + right_sum.long()


def digits(marginals: torch.Tensor) -> str:
    """The digits of one cell that have a probability of 1 % or more."""
    return ", ".join(f"{digit} {p:.2f}" for digit, p in enumerate(marginals.tolist(), 1) if p >= 0.01)


def main() -> None:
    row = em.BlackBox(satisfied, latent_shape=(3,), cardinality=9, n_constraints=2)
    logits = torch.zeros(1, 3, 9)
    logits[0, 0, 0] = 5.0  # the first cell looks like a 1
    label = torch.tensor([TOTAL])

    exact = em.posterior(row, logits, label)
    sampled = em.posterior(row, logits, label, em.Rejection(samples=20_000))
    for cell in range(3):
        print(f"cell {cell + 1}: {digits(exact.marginals[0, cell])}")
    print(f"p(sum is {TOTAL} and all differ) = {exact.log_evidence.exp().item():.4f}")
    print(f"samples differ by at most {(sampled.marginals - exact.marginals).abs().max():.2f}")


if __name__ == "__main__":
    main()
