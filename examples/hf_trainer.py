"""EM in the Trainer of Hugging Face transformers, by compute_loss.

python examples/hf_trainer.py, with the packages transformers and accelerate.
"""

from __future__ import annotations

import tempfile

import torch
from transformers import Trainer, TrainingArguments

import emnesy_gpu as em

PROBLEM = em.Addition(n_digits=1)


class Net(torch.nn.Module):
    """A model of transformers takes names and gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(10, 10)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.linear(images)}


class EMTrainer(Trainer):
    """A trainer whose labels are those of a problem."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        output = model(inputs["images"])
        loss = em.fused_em_loss(PROBLEM, output["logits"], inputs["labels"], impossible="skip")
        return (loss, output) if return_outputs else loss


def main() -> None:
    torch.manual_seed(1)
    z = torch.randint(0, 10, (600, *PROBLEM.latent_shape))
    images = torch.nn.functional.one_hot(z, 10).float() + 0.3 * torch.randn(*z.shape, 10)
    rows = [{"images": x, "labels": y} for x, y in zip(images, PROBLEM.label(z), strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=60, num_train_epochs=10, learning_rate=0.05, use_cpu=True,
            report_to=[], save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = EMTrainer(model=Net(), args=arguments, train_dataset=rows)
        trainer.train()
    right = (trainer.model(images)["logits"].argmax(-1) == z).float().mean()
    print(f"digits that are right: {100 * right:.1f} %")


if __name__ == "__main__":
    main()
