"""A layer that predicts paths alone, trained by p(path | map) given that it is a path, on synthetic Warcraft maps.

    python examples/path_layer.py [cells along a side] [training maps] [epochs]

A net gives two logits for each cell: off the path, on the path. The layer adds log p(any path) to the cross-entropy.
"""

import sys

import torch
from torch import Tensor
from torch.nn import Conv2d, ReLU, Sequential
from torch.nn.functional import cross_entropy

import emnesy_gpu as em
from emnesy_gpu.tasks.warcraft import synthetic


def trained(paths: em.SimplePaths, pixels: list[Tensor], truth: Tensor, epochs: int, with_layer: bool) -> Tensor:
    """Logits [maps, size, size, 2] of the test maps, after training on the others."""
    torch.manual_seed(0)
    around = [layer for _ in range(4) for layer in (Conv2d(64, 64, 3, padding=1), ReLU())]
    net = Sequential(Conv2d(3, 32, 5, 2, 2), ReLU(), Conv2d(32, 64, 4, 4), ReLU(), *around, Conv2d(64, 2, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for rows in [rows for _ in range(epochs) for rows in torch.randperm(len(truth)).split(20)]:
        logits = net(pixels[0][rows]).movedim(1, -1)
        loss = cross_entropy(logits.flatten(0, 2), truth[rows].flatten(), reduction="sum") / len(rows)
        if with_layer:
            loss = loss - em.fused_em_loss(paths, logits, paths.encode([1] * len(rows)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net(pixels[1]).movedim(1, -1).detach()


def main(size: int = 5, n_maps: int = 400, epochs: int = 6) -> None:
    maps, paths = synthetic.generate(size, n_maps), em.SimplePaths(size, size, over="cells", neighbours=8)
    pixels = [(part.pixels.float().movedim(-1, 1) - 85) / 40 for part in (maps.train, maps.test)]
    truth, cost = [part.paths.long() for part in (maps.train, maps.test)], em.ShortestPath(size).path_cost
    least = cost(maps.test.paths, maps.test.classes.long())
    plain, layer = (trained(paths, pixels, truth[0], epochs, with_layer) for with_layer in (False, True))
    best = [em.posterior(paths, z, paths.encode([1] * len(z)), em.MAP()).info["assignment"] for z in (plain, layer)]
    for name, z in zip(("cells alone", "their best path", "path layer"), (plain.argmax(-1), *best), strict=True):
        is_path, right = paths.label(z) == 1, (z == truth[1]).flatten(1).all(1)
        times = (cost(z.to(torch.uint8), maps.test.classes.long()) / least)[is_path].mean()
        print(f"{name}: {is_path.float().mean():.1%} paths, {right.float().mean():.1%} right, cost x {times:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
