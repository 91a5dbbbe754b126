"""EXAL on maps by its published recipe: what its examples teach a linear net, on tiles of noise and on textures.

    python -m profiling.exal_maps [--tiles noise textures] [--maps 100000] [--seeds 0] [--out FILE]

A chain of maps for each label keeps its cheapest path, and its moves in the 5 x 5 cells at the start are the examples.
A linear softmax learns them in one pass: plain ascent on the probability of the class, step 1e-6, sums of 100 examples.

noise: as the default data of the public code. Classes are independent and uniform, costs 1 to 5, a tile is the mean of
its class and normal noise. textures: the synthetic maps of ``train warcraft``, where classes lie in fields. A record
also has the class that the most examples of a true class name, and the accuracy of a net that reads just these classes.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines.exal_maps import kept_moves
from emnesy_gpu.tasks.warcraft import synthetic

SIZE, WINDOW, TEST_MAPS, PIXELS = 12, 5, 1000, 192
COSTS = {"noise": (1.0, 2.0, 3.0, 4.0, 5.0), "textures": (0.8, 1.2, 5.3, 7.7, 9.2)}
FIRST_MOVES, MOVES = 114, 342
"""Proposals before and for the examples: seven of eight are kept, so that about 100 and 300 are moves."""
STEP, EXAMPLES, MAPS_PER_CHAIN = 1e-6, 100, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", nargs="*", choices=list(COSTS), default=list(COSTS))
    parser.add_argument("--maps", type=int, default=100_000)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--out", help="file that gets a line of JSON for each run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for tiles in options.tiles:
            line = json.dumps(run(tiles, options.maps, seed))
            print(line, flush=True)
            if options.out:
                with open(options.out, "a", encoding="utf-8") as file:
                    file.write(line + "\n")


def run(tiles: str, n_maps: int, seed: int) -> dict[str, Any]:
    """Return the record of one training."""
    began, problem = time.process_time(), em.ShortestPath(SIZE, costs=COSTS[tiles])
    classes, pixels = make_maps(tiles, n_maps, seed, 0, WINDOW)
    generator = torch.Generator().manual_seed(seed)
    labels = problem.label(classes)
    kept = torch.cat(
        [
            kept_moves(problem, part, MOVES, FIRST_MOVES, generator, WINDOW)[:, :WINDOW, :WINDOW].to(torch.uint8)
            for part in labels.split(MAPS_PER_CHAIN)
        ]
    )
    read = learn(pixels, kept.flatten(0, 2), generator)
    taught = majority(classes[:, :WINDOW, :WINDOW], kept)
    true, pixels = make_maps(tiles, TEST_MAPS, seed, 1, SIZE)
    return {
        "tiles": tiles,
        "seed": seed,
        "maps": n_maps,
        "examples": int(kept.sum(dtype=torch.int64)),
        **judge(problem, true, read(pixels).view_as(true)),
        "taught": taught.tolist(),
        "perfect_reader": judge(problem, true, taught[true.long()])["cost_accuracy"],
        "cpu_minutes": (time.process_time() - began) / 60,
    }


def make_maps(tiles: str, n_maps: int, seed: int, part: int, window: int) -> tuple[Tensor, Tensor]:
    """Draw classes uint8 [n_maps, SIZE, SIZE], and the tiles [n_maps * window ** 2, PIXELS] at their first corner."""
    rng = np.random.default_rng([SIZE, seed, part])
    if tiles == "noise":
        means = np.random.default_rng([SIZE, seed]).standard_normal((5, PIXELS), dtype=np.float32)
        classes = rng.integers(5, size=(n_maps, SIZE, SIZE)).astype(np.uint8)
        seen = means[classes[:, :window, :window].ravel()]
        for rows in np.array_split(seen, max(1, len(seen) // 100_000)):
            rows += rng.standard_normal(rows.shape, dtype=np.float32)
        return torch.from_numpy(classes), torch.from_numpy(seen)
    classes, textures = np.empty((n_maps, SIZE, SIZE), np.uint8), synthetic.make_textures()
    pixels = np.empty((n_maps, window, window, PIXELS), np.uint8)
    for row in range(n_maps):
        classes[row] = synthetic.terrain(rng, SIZE)
        whole = synthetic.render(rng, classes[row], textures).reshape(SIZE, 8, SIZE, 8, 3).swapaxes(1, 2)
        pixels[row] = whole.reshape(SIZE, SIZE, PIXELS)[:window, :window]
    return torch.from_numpy(classes), torch.from_numpy(pixels.reshape(-1, PIXELS))


def learn(pixels: Tensor, kept: Tensor, generator: torch.Generator) -> Any:
    """Return the reader of tiles [n, PIXELS] after one pass over the examples that ``kept`` [n, 5] counts."""
    tile, value = kept.nonzero(as_tuple=True)
    copies = kept[tile, value].long()
    tile, value = (each.to(torch.int32).repeat_interleave(copies) for each in (tile, value))
    order = torch.randperm(len(tile), generator=generator)
    tile, value = tile[order].long(), value[order].long()
    weights, offset, each_class = torch.zeros(PIXELS, 5), torch.zeros(5), torch.eye(5)
    for rows, named in zip(tile.split(EXAMPLES), value.split(EXAMPLES), strict=True):
        x, one_hot = pixels[rows].float(), each_class[named]
        p = torch.addmm(offset, x, weights).softmax(-1)
        ascent = (p * one_hot).sum(1, keepdim=True) * (one_hot - p)
        weights.addmm_(x.T, ascent, alpha=STEP)
        offset.add_(ascent.sum(0), alpha=STEP)
    return lambda tiles: (tiles.float() @ weights + offset).argmax(-1)


def majority(classes: Tensor, kept: Tensor) -> Tensor:
    """Return the class that most examples of each true class name: int64 [5]."""
    counts = torch.stack([kept[classes == true].sum(0, dtype=torch.int64) for true in range(5)])
    return counts.argmax(1)


def judge(problem: em.ShortestPath, true: Tensor, read: Tensor) -> dict[str, float]:
    """Return the shares of maps whose predicted path is cheapest, and is the label, and of right cells."""
    label, path = problem.label(true), problem.label(read)
    gap = problem.path_cost(path, true.long()) - problem.path_cost(label, true.long())
    return {
        "cost_accuracy": float((gap <= 0).double().mean()),
        "path_accuracy": float((path == label).flatten(1).all(1).double().mean()),
        "cell_accuracy": float((read == true).double().mean()),
    }


if __name__ == "__main__":
    main()
