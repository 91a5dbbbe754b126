"""Online EM on an endless stream that drifts: the pictures of digits turn slowly into others.

    python examples/stream.py

The E-step takes a running average of the net, or the net itself. The state is saved and taken up in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

import emnesy_gpu as em

PROBLEM, SIZE, BATCH, STEPS = em.Addition(n_digits=1), 16, 32, 300


class Drift(IterableDataset):
    """Batches from step ``first`` on; each picture moves by a small rotation of all its pixels in a step."""

    def __init__(self, first: int = 0) -> None:
        self.first = first

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        start = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)))[0]
        turn = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(1)) / SIZE**0.5
        step = self.first
        while True:
            generator = torch.Generator().manual_seed(step)
            z = torch.randint(0, 10, (BATCH, *PROBLEM.latent_shape), generator=generator)
            pictures = start[:10] @ torch.matrix_exp(2e-4 * step * (turn - turn.T))
            yield pictures[z] + 0.1 * torch.randn(*z.shape, SIZE, generator=generator), PROBLEM.label(z)
            step += 1


def trainer_with(decay: float | None) -> em.EM:
    torch.manual_seed(1)
    net = torch.nn.Linear(SIZE, 10)
    optimizer, options = torch.optim.Adam(net.parameters(), lr=0.05), em.Options()
    if decay is not None:
        teacher = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay))
        options = em.Options(teacher=teacher, callbacks=[lambda *_: teacher.update_parameters(net)])
    return em.EM(net, PROBLEM, optimizer, options=options)


def main() -> None:
    for decay in (None, 0.9):
        first, second = trainer_with(decay), trainer_with(decay)
        first.fit(DataLoader(Drift(), batch_size=None), steps=STEPS // 2)
        second.load_state_dict(first.state_dict())  # another process, later
        metrics = second.fit(DataLoader(Drift(first=second.steps), batch_size=None), steps=STEPS // 2)
        print(f"average {decay}: log evidence of a sum {metrics['log_evidence']:6.2f} at step {second.steps}")


if __name__ == "__main__":
    main()
