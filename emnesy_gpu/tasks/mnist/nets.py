"""The perception nets of the MNIST benchmarks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from emnesy_gpu.backends import load_kernels
from emnesy_gpu.tasks.core.distributed import Part
from emnesy_gpu.tasks.mnist.augmentation import Warp

WEIGHTS_IN_A_ROW = 32
"""Most weights in a row of a kernel over all input channels that the CPU kernel can hold."""


class ConvMaxPool(nn.Conv2d):
    """``Conv2d``, ``MaxPool2d(2)`` and, with ``relu``, ``ReLU`` in one module: about twice as fast on a CPU.

    float32 on a CPU takes a kernel that computes gradients at the winners of the pools alone (of equal outputs the
    first wins), and sums them in an order that does not depend on the number of threads. Anything else takes the three
    operations of torch.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, relu: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.relu = relu
        self.fits_kernel = in_channels * kernel_size <= WEIGHTS_IN_A_ROW

    def forward(self, images: Tensor) -> Tensor:
        """Map float [n, in_channels, height, width] to [n, out_channels, pooled_height, pooled_width]."""
        single = images.dtype == self.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if self.fits_kernel and single and images.device.type == "cpu":
            return _ConvMaxPool.apply(images, self.weight, self.bias, self.relu)  # type: ignore[no-any-return]
        pooled = F.max_pool2d(super().forward(images), 2)
        return pooled.relu() if self.relu else pooled


class _ConvMaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        pooled, winners = load_kernels("cpu", "conv_max_pool").pooled_convolution(images, weight, bias, relu)
        ctx.save_for_backward(images, weight, winners)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        images, weight, winners = ctx.saved_tensors
        kernels = load_kernels("cpu", "conv_max_pool")
        return *kernels.gradients(images, weight, winners, grad, ctx.needs_input_grad[0]), None


def lenet(n_classes: int = 10) -> nn.Sequential:
    """Return the LeNet that every published system on MNIST addition uses: 44,426 weights for 10 classes.

    Float [n, 1, 28, 28] -> logits [n, n_classes].
    """
    layers = {
        "0": ConvMaxPool(1, 6, kernel_size=5, relu=True),
        "2": ConvMaxPool(6, 16, kernel_size=5, relu=True),
        "5": nn.Flatten(),
        "6": nn.Linear(256, 120),
        "7": nn.ReLU(),
        "8": nn.Linear(120, 84),
        "9": nn.ReLU(),
        "10": nn.Linear(84, n_classes),
    }
    # The names of the layers are those of checkpoints, from when pools and rectifiers were layers of their own.
    return nn.Sequential(OrderedDict(layers)).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def deep_net(n_classes: int = 10) -> nn.Sequential:
    """Return a net of four convolutions, three with batch normalisation: 150,858 weights for 10 classes.

    Float [n, 1, 28, 28] -> logits [n, n_classes].
    """
    return nn.Sequential(
        ConvMaxPool(1, 32, kernel_size=5, relu=True),
        *_normalised_convolution(32, 64, padding=1),
        *_normalised_convolution(64, 64, padding=1),
        nn.MaxPool2d(2),
        *_normalised_convolution(64, 128, padding=0),
        nn.Flatten(),
        nn.Linear(2048, n_classes),
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _normalised_convolution(in_channels: int, out_channels: int, padding: int) -> list[nn.Module]:
    # The shift of the normalisation takes the place of a bias.
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=padding, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]


BUILDERS = {"lenet": lenet, "deep": deep_net}
"""Name in the settings of a run -> what makes the net for a number of classes."""


class ImageReader(nn.Module):
    """A model from raw images uint8 [..., 28, 28] to logits [..., n_classes], with the net applied to every image.

    In training mode every call warps the images anew.

    Args:
        net: logits from normalised images.
        mean, deviation: of the training pixels, in units of 255.
        warp: the augmentation of training images, or None.
        generator: CPU randomness for the warp.

    Attributes:
        part: which part of a batch the images are: they get their warps of the whole batch. None: all.
    """

    def __init__(
        self, net: nn.Module, mean: float, deviation: float, warp: Warp | None, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.net, self.mean, self.deviation = net, mean, deviation
        self.warp, self.generator = warp, generator
        self.part: Part | None = None

    def forward(self, pixels: Tensor) -> Tensor:
        images = self.prepare(pixels, self.warp if self.training else None, self.generator)
        return self.net(images).unflatten(0, pixels.shape[:-2])

    def prepare(self, pixels: Tensor, warp: Warp | None, generator: torch.Generator) -> Tensor:
        """Return what the net is given: float [n, 1, 28, 28], normalised; ``warp`` applies in any mode."""
        images = pixels.reshape(-1, 1, *pixels.shape[-2:]).float() / 255
        if warp is not None:
            images = warp(images, generator, self.part)
        return ((images - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
