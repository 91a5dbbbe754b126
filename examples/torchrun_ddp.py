"""EM on several processes: the same net after the same steps, on any number of ranks that divides the batch.

    torchrun --nproc-per-node=2 examples/torchrun_ddp.py

Each rank takes its part of every batch. Gradients are averaged by DistributedDataParallel; the E-step stays on its
rank. Samples are those of the whole batch, whatever the number of ranks.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # imported later, its defaults would keep the process group alive
from torch.nn.parallel import DistributedDataParallel

import emnesy_gpu as em

ROWS, BATCH, EPOCHS = 600, 60, 5


def train(rank: int, ranks: int) -> None:
    problem = em.Addition(n_digits=1)
    generator = torch.Generator().manual_seed(1)
    z = torch.randint(0, 10, (ROWS, *problem.latent_shape), generator=generator)
    images = torch.nn.functional.one_hot(z, 10).float() + 0.3 * torch.randn(*z.shape, 10, generator=generator)
    label = problem.label(z)

    torch.manual_seed(1)
    net = DistributedDataParallel(torch.nn.Linear(10, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    trainer = em.EM(net, problem, optimizer, engine=em.Gibbs(chains=4, penalty=3.0))
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(ROWS, generator=generator).split(BATCH):
            mine = rows.chunk(ranks)[rank]
            metrics = trainer.step(images[mine], label[mine])
        evidence = torch.tensor(metrics["log_evidence"])
        dist.all_reduce(evidence)
        if rank == 0:
            print(f"epoch {epoch}  log evidence of a sum {evidence / ranks:.4f}", flush=True)
    if rank == 0:
        print(f"norm of the weights {net.module.weight.norm():.4f}", flush=True)


def main() -> None:
    dist.init_process_group("gloo")  # "nccl" on GPUs, and a device for each rank
    train(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # the net is gone by now: the threads of the processes end here


if __name__ == "__main__":
    main()
