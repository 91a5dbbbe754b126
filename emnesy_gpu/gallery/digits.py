"""A net that learned digits from sums alone, and what other rules then say about the same digits."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import emnesy_gpu as em
from emnesy_gpu.tasks.files.extras import require
from emnesy_gpu.tasks.mnist import sklearn_digits
from emnesy_gpu.tasks.mnist.images import Images
from emnesy_gpu.tasks.sudoku.pictures import BoardView, draw_boards

STEPS, ROWS = 400, 64
"""Training steps of the net, and sums in each."""

CHARACTERS = (*"123456789", "+", "-", "×", "÷")
"""The values of the formula, in their order."""


@cache
def trained() -> tuple[nn.Module, Images, float]:
    """Return a linear net that has seen two-digit sums alone, images that it has not seen, and its share of them."""
    torch.manual_seed(0)
    data, problem = sklearn_digits.load(), em.Addition(n_digits=2)
    net = nn.Linear(28 * 28, 10)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(STEPS):
        rows = torch.randint(len(data.train), (ROWS, 2, 2))
        label = problem.label(data.train.classes[rows])
        loss = em.fused_em_loss(problem, read(net, data.train.pixels[rows]), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (read(net, data.test.pixels).argmax(-1) == data.test.classes).float().mean()
    return net, data.test, float(right)


def read(net: nn.Module, pixels: Tensor) -> Tensor:
    """Logits of images uint8 [..., 28, 28]."""
    logits: Tensor = net(pixels.flatten(-2).float() / 255)
    return logits


def addition() -> Any:
    """Draw a sum whose digits the net misreads: what it believes before it knows the sum, and after."""
    net, images, right = trained()
    problem = em.Addition(n_digits=2)
    rows = torch.arange(len(images) // 4 * 4).view(-1, 2, 2)
    with torch.no_grad():
        logits = read(net, images.pixels[rows])
    classes = images.classes[rows]
    label = problem.label(classes)
    wrong = (logits.argmax(-1) != classes).flatten(1).sum(1)
    mended = (em.posterior(problem, logits, label).marginals.argmax(-1) == classes).flatten(1).all(1)
    row = int((wrong * mended).argmax())
    figure = require("matplotlib.figure").Figure(figsize=(11, 4.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.0, 2.2))
    for ax, image in zip(above.subplots(1, 4), images.pixels[rows[row]].flatten(0, 1), strict=True):
        ax.imshow(image.numpy(), cmap="gray")
        ax.set_axis_off()
    for ax, place in zip(above.axes, ("tens", "ones", "tens", "ones"), strict=True):
        ax.set_title(place, fontsize=9)
    em.explain(problem, logits, label, row=row, k=4).plot(below)
    total = "".join(map(str, label[row].tolist())).lstrip("0")
    below.suptitle(f"two numbers that sum to {total}", fontsize=11)
    figure.suptitle(f"A net that has seen sums alone reads {100 * right:.1f} % of new digits; this sum tells the rest")
    return figure


def sudoku() -> Any:
    """Draw a 9x9 Sudoku of handwritten digits, read by the net that has seen sums alone."""
    net, images, _ = trained()
    row, column = torch.arange(9).view(9, 1), torch.arange(9).view(1, 9)
    board = (row // 3 + 3 * row + column) % 9
    of_class = [torch.nonzero(images.classes == digit).flatten() for digit in range(10)]
    index = torch.stack([of_class[value + 1][place % len(of_class[value + 1])] for place, value in _numbered(board)])
    pixels = images.pixels[index].view(9, 9, 28, 28)
    with torch.no_grad():
        logits = read(net, pixels)[None, ..., 1:]
    post = em.posterior(em.Sudoku(9), logits, torch.tensor([1]))
    before, after = (int((belief.argmax(-1) == board).sum()) for belief in (logits[0], post.marginals[0]))
    view = BoardView(
        f"right: {before} of 81 before,\n{after} given the rules", pixels, logits[0].softmax(-1), post.marginals[0]
    )
    return draw_boards([view], "A Sudoku read by a net that has seen sums alone (symbol s stands for the digit s + 1)")


def _numbered(board: Tensor) -> list[tuple[int, int]]:
    """How often each value came before, and the value, in reading order."""
    seen = [0] * 9
    found = []
    for value in board.flatten().tolist():
        found.append((seen[value], value))
        seen[value] += 1
    return found


def formula() -> Any:
    """Draw what the value of a formula says about its blurred characters."""
    rule = em.rules.formula(5, one_alphabet=True)
    said = "3+4×2"
    z = torch.tensor([[CHARACTERS.index(character) for character in said]])
    torch.manual_seed(2)
    logits = 2.0 * torch.nn.functional.one_hot(z, len(CHARACTERS)) + torch.randn(1, 5, len(CHARACTERS))
    label = rule.label(z)
    figure = em.explain(rule, logits, label, k=8).plot()
    for ax in figure.axes[:2]:
        ax.set_xticks(range(len(CHARACTERS)), CHARACTERS)
        ax.set_xlabel("character")
    bars = figure.axes[2]
    words = [text.get_text().split() for text in bars.get_yticklabels()]
    bars.set_yticks(range(len(words)), ["".join(CHARACTERS[int(value)] for value in word) for word in words])
    figure.suptitle(f"Five blurred characters whose value is {rule.labels[int(label)]}: the truth is {' '.join(said)}")
    return figure
