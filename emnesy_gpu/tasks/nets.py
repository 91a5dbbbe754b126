"""The perception net of the MNIST benchmarks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from emnesy_gpu.tasks.augmentation import Warp

AVERAGING_POWER = 4


class ConvMaxPool(nn.Conv2d):
    """``Conv2d`` and ``MaxPool2d(2)`` at once: nearly twice as fast on a CPU for one input channel.

    The four outputs under one pool are four channels of a convolution with stride 2, whose kernels are the given one
    shifted by 0 or 1 pixels in x and in y; the pool is a maximum over these channels.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Float [n, in_channels, height, width] -> [n, out_channels, pooled_height, pooled_width]."""
        shifts = [(dx, 1 - dx, dy, 1 - dy) for dy in (0, 1) for dx in (0, 1)]
        kernels = torch.cat([F.pad(self.weight, shift) for shift in shifts])
        assert self.bias is not None
        outputs = F.conv2d(images, kernels, self.bias.repeat(4), stride=2)
        return outputs.unflatten(1, (4, -1)).amax(1)


def lenet(n_classes: int = 10) -> nn.Sequential:
    """The LeNet that every published system on MNIST addition uses: 44,426 weights for 10 classes.

    Float [n, 1, 28, 28] -> logits [n, n_classes].
    """
    layers = nn.Sequential(
        ConvMaxPool(1, 6, kernel_size=5),
        nn.ReLU(),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, n_classes),
    )
    return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def running_average(net: nn.Module) -> AveragedModel:
    """A copy of ``net`` whose weights follow the mean of the net's recent weights; call ``update_parameters``.

    Polynomial-decay averaging (Shamir and Zhang 2013): step t enters with weight 4 / (t + 4), so that the average
    always looks back over about a quarter of the steps so far.
    """

    def average(averaged: Tensor, current: Tensor, n_averaged: Tensor | int) -> Tensor:
        return averaged.lerp(current, AVERAGING_POWER / (n_averaged + AVERAGING_POWER))

    return AveragedModel(net, avg_fn=average)


class ImageReader(nn.Module):
    """Symbol logits from raw images: uint8 [..., 28, 28] -> [..., n_classes], the net applied to every image.

    In training mode every call warps the images anew.

    Args:
        net: logits from normalised images.
        mean, deviation: of the training pixels, in units of 255.
        warp: the augmentation of training images, or None.
        generator: CPU randomness for the warp.
    """

    def __init__(
        self, net: nn.Module, mean: float, deviation: float, warp: Warp | None, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.net, self.mean, self.deviation = net, mean, deviation
        self.warp, self.generator = warp, generator

    def forward(self, pixels: Tensor) -> Tensor:
        images = pixels.reshape(-1, 1, *pixels.shape[-2:]).float() / 255
        if self.training and self.warp is not None:
            images = self.warp(images, self.generator)
        images = ((images - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        return self.net(images).unflatten(0, pixels.shape[:-2])
