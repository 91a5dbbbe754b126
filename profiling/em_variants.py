"""Draws the figures of docs/em_variants.md: Theorem 3.1 in float32, and the variants of EM on a small problem.

    python -m profiling.em_variants --out docs/figures      # about three minutes on one CPU core

Needs no data but the 8x8 digits that scikit-learn ships. Prints the figures as tables too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import emnesy_gpu as em
from emnesy_gpu.reference import carry_chain as reference
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.mnist import sklearn_digits
from emnesy_gpu.tasks.mnist.rows import cut

THEOREM_DIGITS = (1, 2, 4, 8, 15, 32, 64, 100, 200, 500, 1000)
THEOREM_BATCH = 64
SEEDS = 10
STEPS = 400
DIGITS = (1, 4, 15)
IMAGES = 120
"""Of a mini-batch."""

LEARNING_RATE, HIDDEN = 3e-3, 64


@dataclass(frozen=True)
class Variant:
    """batches: mini-batches, or else all sums in every step."""

    name: str
    colour: str
    marker: str
    line: str
    batches: bool = True
    m_steps: int = 1
    hard: bool = False

    def looks(self) -> dict[str, Any]:
        """Return how points and lines look: markers and dashes tell them apart where colours do not."""
        return {"color": self.colour, "marker": self.marker, "markersize": 5, "linewidth": 1, "alpha": 0.6}


VARIANTS = (
    Variant("soft, mini-batches", "#0072B2", "o", "-"),
    Variant("soft, all sums at once", "#56B4E9", "s", "--", batches=False),
    Variant("Multi-M, 10 steps", "#009E73", "^", "-.", m_steps=10),
    Variant("M-step run to the end, 100 steps", "#E69F00", "D", "--", batches=False, m_steps=100),
    Variant("hard, mini-batches", "#CC79A7", "v", ":", hard=True),
)


def gradient_errors(n_digits: int) -> dict[str, float]:
    """Largest deviation of float32 gradients from the exact ones in float64, and from each other."""
    problem, generator = em.Addition(n_digits), torch.Generator().manual_seed(n_digits)
    z = torch.randint(0, 10, (THEOREM_BATCH, *problem.latent_shape), generator=generator)
    logits = 3 * torch.randn(*z.shape, 10, generator=generator) + 2 * nn.functional.one_hot(z, 10)
    label = problem.label(z)
    exact = logits.double().softmax(-1) - reference.posterior(logits.double(), label)[0]
    em_gradient = _gradient(lambda leaf: em.em_loss(leaf, em.posterior(problem, leaf, label), "sum"), logits)
    autograd = _gradient(lambda leaf: em.bp_std_loss(problem, leaf, label, "sum"), logits)
    return {
        "EM gradient, fused": _distance(em_gradient, exact),
        "autograd through BP": _distance(autograd, exact),
        "the two from each other": _distance(em_gradient, autograd),
    }


def _gradient(loss: Any, logits: Tensor) -> Tensor:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    return gradient


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).abs().max())


class SmallTask:
    """Sums of n-digit numbers from 8x8 images, and a perceptron with one hidden layer to read them."""

    def __init__(self, n_digits: int, seed: int) -> None:
        data = sklearn_digits.load()
        self.generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        self.problem = em.Addition(n_digits)
        sums = cut(torch.randperm(len(data.train.classes), generator=self.generator), self.problem.latent_shape)
        self.images, self.label = _flat(data.train.pixels)[sums], self.problem.label(data.train.classes[sums])
        self.test_images, self.test_classes = _flat(data.test.pixels), data.test.classes
        self.net = nn.Sequential(nn.Linear(self.images.shape[-1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))

    def train(self, variant: Variant) -> Iterator[tuple[int, float]]:
        """Gradient steps so far, and log evidence per image on the training sums before they went on."""
        optimizer = torch.optim.Adam(self.net.parameters(), lr=LEARNING_RATE)
        trainer = em.EM(self.net, self.problem, optimizer, m_steps=variant.m_steps, hard=variant.hard)
        n_sums, images_per_sum = len(self.label), 2 * self.problem.n_digits
        batch = max(1, IMAGES // images_per_sum) if variant.batches else n_sums
        done = 0
        while done < STEPS:
            for rows in torch.randperm(n_sums, generator=self.generator).split(batch):
                if done >= STEPS:
                    break
                if done % 10 == 0:
                    yield done, self.log_evidence()
                trainer.step(self.images[rows], self.label[rows])
                done += variant.m_steps
        yield done, self.log_evidence()

    def log_evidence(self) -> float:
        with torch.no_grad():
            found = em.posterior(self.problem, self.net(self.images), self.label).log_evidence
        return float(found.mean()) / (2 * self.problem.n_digits)

    def accuracy(self) -> float:
        """Share of test images whose digit is read rightly."""
        with torch.no_grad():
            return float((self.net(self.test_images).argmax(-1) == self.test_classes).double().mean())


def _flat(pixels: Tensor) -> Tensor:
    return pixels.flatten(1).float() / 255


def theorem_figure(path: Path) -> None:
    errors = [gradient_errors(n_digits) for n_digits in THEOREM_DIGITS]
    print("| digits | " + " | ".join(errors[0]) + " |")
    for n_digits, row in zip(THEOREM_DIGITS, errors, strict=True):
        print(f"| {n_digits} | " + " | ".join(f"{value:.1e}" for value in row.values()) + " |")
    figure = require("matplotlib.figure").Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, colour, style in zip(errors[0], ("#0072B2", "#333333", "#E69F00"), ("-o", "-s", "--^"), strict=True):
        axes.loglog(THEOREM_DIGITS, [row[name] for row in errors], style, color=colour, label=name, markersize=5)
    axes.set(xlabel="digits per number", ylabel="largest difference of a gradient entry")
    axes.set_title("EM gradient and gradient of -log p(y|x), float32")
    axes.axhline(torch.finfo(torch.float32).eps, color="#999999", linewidth=0.8)
    axes.annotate("float32 eps", (1, torch.finfo(torch.float32).eps), color="#777777", va="bottom", fontsize=9)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def variants_figure(path: Path) -> None:
    """Evidence against gradient steps for one seed of the middle size, and the accuracy of every seed and size."""
    figure = require("matplotlib.figure").Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    print("\n| variant | " + " | ".join(f"{n} digits" for n in DIGITS) + " |")
    for place, variant in enumerate(VARIANTS):
        words = []
        for column, n_digits in enumerate(DIGITS):
            accuracies = []
            for seed in range(SEEDS):
                task = SmallTask(n_digits, seed)
                curve = list(task.train(variant))
                accuracies.append(100 * task.accuracy())
                if n_digits == DIGITS[1]:
                    label = variant.name if seed == 0 else None
                    left.plot(
                        *zip(*curve, strict=True),
                        **variant.looks(),
                        markevery=[-1],
                        linestyle=variant.line,
                        label=label,
                    )
            x = column + (place - (len(VARIANTS) - 1) / 2) / 7
            right.plot([x] * SEEDS, accuracies, **variant.looks(), linestyle="none")
            learned = sum(value > 80 for value in accuracies)
            words.append(f"{sorted(accuracies)[SEEDS // 2]:.1f} ({learned} of {SEEDS})")
        print(f"| {variant.name} | " + " | ".join(words) + " |", flush=True)
    left.set(xlabel="gradient steps", ylabel="log evidence per image", title=f"{DIGITS[1]} digits, every seed")
    right.set(ylabel="test digits right, %", ylim=(0, 100), xlabel="digits per number")
    right.set_title(f"after {STEPS} gradient steps, {SEEDS} seeds")
    right.set_xticks(range(len(DIGITS)), map(str, DIGITS))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"), help="Folder for the figures.")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    theorem_figure(folder / "theorem.png")
    variants_figure(folder / "em_variants.png")


if __name__ == "__main__":
    main()
