"""A plain training loop with the E-step and the M-step by hand, compiled once for all batch sizes.

python examples/plain_loop.py
"""

from __future__ import annotations

import torch

import emnesy_gpu as em

STEPS, SEED, NOISE = 200, 0, 0.3
problem = em.rules.compare(2)  # is the first of two 2-digit numbers smaller, equal or larger?


def drawn(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy one-hot images [rows, 2, 2, 10] of digits, and the digits."""
    z = torch.randint(0, problem.cardinality, (rows, *problem.latent_shape))
    clean = torch.nn.functional.one_hot(z, problem.cardinality).float()
    return clean + NOISE * torch.randn_like(clean), z


def main() -> None:
    torch.manual_seed(SEED)
    net = torch.nn.Linear(problem.cardinality, problem.cardinality)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)

    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def loss_of(images: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = net(images)
        post = em.posterior(problem, logits, label)
        return em.em_loss(logits, post), post.log_evidence.mean()

    for step in range(STEPS):
        images, z = drawn(rows=64 + step % 8)
        loss, evidence = loss_of(images, problem.label(z))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1:3d}  log evidence of a comparison {evidence:6.2f}")


if __name__ == "__main__":
    main()
