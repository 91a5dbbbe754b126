"""Nets that read the classes of cells from pictures of maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from emnesy_gpu.tasks.warcraft.maps import TILE


class PerTile(nn.Module):
    """A net for single cells, float [n, 3, 8, 8] -> [n, n_classes], on every cell of a map by itself.

    Float [batch, 3, 8 * height, 8 * width] -> logits [batch, height, width, n_classes].
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, maps: Tensor) -> Tensor:
        tiles = maps.unflatten(3, (-1, TILE)).unflatten(2, (-1, TILE)).permute(0, 2, 4, 1, 3, 5)
        return self.net(tiles.flatten(0, 2)).unflatten(0, tiles.shape[:3])


class PerCell(nn.Module):
    """A convolutional net whose outputs [batch, n_classes, height, width] get the classes as their last axis."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, maps: Tensor) -> Tensor:
        return self.net(maps).movedim(1, -1)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, and the input added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.first_norm(self.first(inputs)))
        return F.relu(self.second_norm(self.second(hidden)) + inputs)


def tile_net(n_classes: int) -> nn.Module:
    """Return the small net of the published systems that read cell by cell: 2,981 weights for 5 classes."""
    return PerTile(
        nn.Sequential(
            nn.Conv2d(3, 6, kernel_size=5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24, 84),
            nn.ReLU(),
            nn.Linear(84, n_classes),
        )
    )


def context_net(n_classes: int) -> nn.Module:
    """Return three strided convolutions that see about a cell and a half beyond the borders of a cell."""
    return PerCell(
        nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, n_classes, kernel_size=1),
        )
    )


def truncated_resnet18(n_classes: int, channels: int = 64) -> nn.Module:
    """Return ResNet18 up to its first two blocks, pooled to a vector per cell, with a linear layer for all cells.

    This is the net of blackbox backpropagation (Vlastelica et al., ICLR 2020) with class logits in place of costs.
    """
    return PerCell(
        nn.Sequential(
            nn.Conv2d(3, channels, kernel_size=7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            ResidualBlock(channels),
            ResidualBlock(channels),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, n_classes, kernel_size=1),
        )
    )


NETS = {"tile": tile_net, "context": context_net, "resnet18": truncated_resnet18}
"""Name on the command line -> net for a number of classes."""


class MapReader(nn.Module):
    """A model from raw maps uint8 [batch, 8 * height, 8 * width, 3] to logits [batch, height, width, n_classes].

    Args:
        net: logits from normalised maps [batch, 3, 8 * height, 8 * width].
        mean, deviation: of the training pixels by channel, float [3], in units of 255.
    """

    def __init__(self, net: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.net = net
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", 255 * mean, persistent=False)
        self.register_buffer("deviation", 255 * deviation, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.net(((pixels.float() - self.mean) / self.deviation).movedim(-1, 1))
