"""Factor graphs: a nonogram that is solved sweep by sweep, and a decoder over noisier and noisier channels."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.palette import series
from emnesy_gpu.tasks.files.extras import require

PICTURE = """
..XXX...XX
.XXXXX..XX
.XX.XX.XX.
.XXXXXXX..
..XXXXXX..
..XXXXX...
.XXXXXXX..
.XX..XXXX.
XX....XXX.
XX.....XXX
"""
SWEEPS = 6

N_BITS, RATE = 504, 0.5
DECIBELS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5)
FRAMES = 2000
"""Words sent at each noise level."""


def nonogram() -> tuple[Any, Any]:
    """Return a figure, and a function of a sweep that draws it: beliefs of the cells of a nonogram, from nothing."""
    picture = torch.tensor([[cell == "X" for cell in line] for line in PICTURE.split()]).int()
    size = len(picture)
    graph, cell = em.FactorGraph(size * size, 2, latent_shape=(size, size)), torch.arange(size * size).view(size, size)
    clues = [[_runs(line) for line in lines] for lines in (picture, picture.T)]
    for lines, cells in zip(clues, (cell, cell.T), strict=True):
        for runs, scope in zip(lines, cells, strict=True):
            graph.add(em.factors.regular("0*" + "0+".join(f"1{{{run}}}" for run in runs) + "0*"), scope)
    nothing, label = torch.zeros(1, size, size, 2), torch.tensor([1])
    beliefs = [nothing[0].softmax(-1)[..., 1]]
    for sweeps in range(1, SWEEPS + 1):
        beliefs.append(
            em.posterior(graph, nothing, label, em.BeliefPropagation(sweeps, schedule="flooding")).marginals[0, ..., 1]
        )
    figure = require("matplotlib.figure").Figure(figsize=(5.6, 5.2), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(beliefs[0].numpy(), cmap="Greys", vmin=0, vmax=1)
    ax.set_yticks(range(size), [" ".join(map(str, runs)) for runs in clues[0]])
    ax.set_xticks(range(size), ["\n".join(map(str, runs)) for runs in clues[1]])
    ax.xaxis.tick_top()
    ax.set(xlabel="clues: lengths of the runs of black cells")
    figure.colorbar(image, label="probability that the cell is black")

    def draw(sweep: int) -> None:
        right = ((beliefs[sweep] > 0.5) == picture).sum()
        image.set_data(beliefs[sweep].numpy())
        figure.suptitle(f"sweep {sweep} of belief propagation: {right} of {size * size} cells right")

    return figure, draw


def _runs(line: Tensor) -> list[int]:
    return [len(run) for run in re.findall("1+", "".join(map(str, line.tolist())))]


def decoder() -> Any:
    """Draw bit and word errors of a low-density parity-check code over the noise, before and after decoding."""
    generator = torch.Generator().manual_seed(0)
    checks = torch.cat([torch.randperm(N_BITS, generator=generator).view(-1, 6) for _ in range(3)])
    graph = em.FactorGraph(N_BITS, cardinality=2)
    graph.add(em.factors.parity(), checks)
    engine, sent = em.BeliefPropagation(iterations=50, tolerance=1e-3), torch.ones(FRAMES, dtype=torch.int64)
    rates: dict[str, list[float]] = {"bits as received": [], "bits, decoded": [], "words, decoded": []}
    for decibels in DECIBELS:
        variance = 1.0 / (2.0 * RATE * 10.0 ** (decibels / 10.0))
        y = 1.0 + variance**0.5 * torch.randn(FRAMES, N_BITS, generator=generator)
        logits = torch.stack([2.0 * y / variance, torch.zeros_like(y)], -1)
        wrong = em.posterior(graph, logits, sent, engine).marginals.argmax(-1).bool()
        found = (logits.argmax(-1).float().mean(), wrong.float().mean(), wrong.any(1).float().mean())
        for rate, value in zip(rates.values(), found, strict=True):
            rate.append(float(value))
    return _draw_rates(rates)


def _draw_rates(rates: dict[str, list[float]]) -> Any:
    """Draw error rates with two standard errors; rates of 0 have no place on a logarithmic axis."""
    figure = require("matplotlib.figure").Figure(figsize=(6.4, 4.6), layout="constrained")
    ax = figure.subplots()
    for number, (name, found) in enumerate(rates.items()):
        points = [(decibels, rate) for decibels, rate in zip(DECIBELS, found, strict=True) if rate > 0]
        ax.plot(*zip(*points, strict=True), label=name, **series(number))
        if name.startswith("words"):
            x, y = (torch.tensor(part) for part in zip(*points, strict=True))
            spread = 2 * (y * (1 - y) / FRAMES).sqrt()
            ax.fill_between(
                x.numpy(),
                (y - spread).clamp_min(1e-5).numpy(),
                (y + spread).numpy(),
                alpha=0.2,
                color=ax.lines[-1].get_color(),
            )
    ax.set(yscale="log", xlabel="signal to noise, Eb/N0 in dB", ylabel="share that is wrong")
    ax.set_title(f"Waterfall of a (3, 6) code of {N_BITS} bits, {FRAMES} words a point")
    ax.grid(alpha=0.3, which="both")
    ax.legend()
    return figure
