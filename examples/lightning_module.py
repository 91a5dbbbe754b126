"""EM in a Lightning module: automatic optimization, and Multi-M with manual optimization.

python examples/lightning_module.py, with the package lightning.
"""

from __future__ import annotations

import tempfile

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

import emnesy_gpu as em


class Digits(lightning.LightningModule):
    """Reads digits, and learns them from sums; m_steps gradient steps for each posterior."""

    def __init__(self, problem: em.Problem, m_steps: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()  # the problem too: checkpoints are read with weights_only=True
        self.net = torch.nn.Linear(problem.cardinality, problem.cardinality)
        self.automatic_optimization = m_steps == 1

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor | None:
        images = batch[0]
        post = em.posterior(self.hparams.problem, self.net(images), batch[1])
        self.log("log_evidence", post.log_evidence.mean(), on_epoch=True, on_step=False)
        if self.automatic_optimization:
            return em.em_loss(self.net(images), post)
        for _ in range(self.hparams.m_steps):
            self.optimizers().zero_grad()
            self.manual_backward(em.em_loss(self.net(images), post))
            self.optimizers().step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


def main() -> None:
    problem = em.Addition(n_digits=1)
    for m_steps in (1, 3):
        torch.manual_seed(1)
        z = torch.randint(0, 10, (600, *problem.latent_shape))
        images = torch.nn.functional.one_hot(z, 10).float() + 0.3 * torch.randn(*z.shape, 10)
        loader = DataLoader(TensorDataset(images, problem.label(z)), batch_size=60, shuffle=True)
        quiet = dict.fromkeys(["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"], False)
        trainer = lightning.Trainer(max_epochs=10, accelerator="cpu", **quiet)
        trainer.fit(Digits(problem, m_steps), loader)
        with tempfile.TemporaryDirectory() as folder:
            trainer.save_checkpoint(f"{folder}/last.ckpt")
            loaded = Digits.load_from_checkpoint(f"{folder}/last.ckpt", weights_only=True)
        evidence = f"log evidence of a sum {trainer.callback_metrics['log_evidence']:.2f}"
        print(f"{loaded.hparams.problem}, m_steps {m_steps}: {evidence}")


if __name__ == "__main__":
    main()
