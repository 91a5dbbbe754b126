"""Export a net together with its posterior by torch.export: one program for any batch size, saved to a file.

    python examples/export_posterior.py

The process that loads the program imports emnesy_gpu, which registers the operators in it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import emnesy_gpu as em


class Reader(torch.nn.Module):
    """Images of two numbers and their sum -> the most probable digits, given the sum."""

    def __init__(self, problem: em.Problem) -> None:
        super().__init__()
        self.problem, self.net = problem, torch.nn.Linear(10, 10)

    def forward(self, images: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        post = em.posterior(self.problem, self.net(images), label)
        return post.mode(), post.log_evidence


def main() -> None:
    torch.manual_seed(0)
    problem = em.Addition(n_digits=3)
    reader, images = Reader(problem), torch.randn(5, *problem.latent_shape, 10)
    label = problem.label(torch.randint(0, 10, (5, *problem.latent_shape)))
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(reader, (images, label), dynamic_shapes=({0: batch}, {0: batch}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reader.pt2"
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()
    for rows in (slice(0, 5), slice(1, 3)):
        digits, evidence = loaded(images[rows], label[rows])
        expected = reader(images[rows], label[rows])
        same = torch.equal(digits, expected[0]) and torch.equal(evidence, expected[1])
        print(f"{len(digits)} rows: {'the same as' if same else 'not the same as'} the module")


if __name__ == "__main__":
    main()
