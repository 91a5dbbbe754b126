"""em.EM with Hugging Face Accelerate, which places the batches and computes the gradients.

    accelerate launch examples/accelerate_loop.py
    ACCELERATE_USE_CPU=true torchrun --nproc-per-node=2 examples/accelerate_loop.py

With the package accelerate. Several processes take a batch each; the figures are those of the first one.
"""

from __future__ import annotations

import torch
import torch.distributed.nn.functional  # imported later, its defaults would keep the process group alive
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

import emnesy_gpu as em


def train(accelerator: Accelerator) -> None:
    torch.manual_seed(1)
    problem = em.Addition(n_digits=1)
    z = torch.randint(0, 10, (600, *problem.latent_shape))
    images = torch.nn.functional.one_hot(z, 10).float() + 0.3 * torch.randn(*z.shape, 10)
    loader = DataLoader(TensorDataset(images, problem.label(z)), batch_size=60, shuffle=True)

    net = torch.nn.Linear(10, 10)
    net, optimizer, loader = accelerator.prepare(net, torch.optim.Adam(net.parameters(), lr=0.05), loader)
    options = em.Options(backward=accelerator.backward, clip=1.0)
    trainer = em.EM(net, problem, optimizer, options=options)
    for epoch in range(1, 11):
        metrics = trainer.fit(loader, epochs=1)
        accelerator.print(f"epoch {epoch:2d}  log evidence of a sum {metrics['log_evidence']:6.2f}")


def main() -> None:
    accelerator = Accelerator()
    train(accelerator)
    accelerator.end_training()  # the net is gone by now: the threads of the processes end here


if __name__ == "__main__":
    main()
