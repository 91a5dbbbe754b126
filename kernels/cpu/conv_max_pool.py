"""A convolution under a 2 x 2 max pool on CPU tensors: of every pool only the winner passes a gradient on.

So the gradients cost a quarter of those of the convolution alone, or less where a rectifier follows. A winner is the
index of the largest of four outputs, in the order top left, top right, bottom left, bottom right; of equal ones the
first. NO_WINNER stands for a pool that the rectifier sets to 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emnesy_gpu.kernels.cpu.common.compile import kernel, lane_function
from emnesy_gpu.kernels.cpu.common.lanes import (
    FLOAT32_LANES,
    filled,
    load,
    load_at,
    multiply_add,
    store,
    store_at,
)
from emnesy_gpu.kernels.cpu.common.parallel import for_rows

POOL = 2
NO_WINNER = POOL * POOL

IMAGES_AT_A_TIME = 8
"""Images whose gradients are summed together."""

WINNERS_APART = 8
"""An addition to numbers that were just written waits for them: winners so far apart are mostly of different images."""

HALF = FLOAT32_LANES // 2
NANOSECONDS_PER_POOL, NANOSECONDS_PER_CONVOLUTION, NANOSECONDS_PER_GRADIENT = 0.5, 5.0, 5.0


class Packing(NamedTuple):
    """Sizes of a packed image, see ``packed_shape``."""

    size: int  # of a kernel
    fold: int  # rows of a kernel in one row of weights
    channels: int
    height: int
    width: int
    pooled_width: int


class Sums(NamedTuple):
    """The gradients."""

    images: np.ndarray  # [n, channels, height, width]
    weight_rows: np.ndarray  # [blocks, rows, FLOAT32_LANES]
    bias: np.ndarray  # [blocks, out_channels, FLOAT32_LANES]
    of_images: bool  # whether those of the images are wanted


class Workspace(NamedTuple):
    """The scratch arrays of a block of images."""

    packed: np.ndarray  # float32 [IMAGES_AT_A_TIME * stride]
    packed_grad: np.ndarray  # like packed
    starts: np.ndarray  # int64: where the patches of the winners begin in packed
    values: np.ndarray  # float32: their gradients
    corners: np.ndarray  # int64 [n_pools, 5]: see corners_of_pools
    stride: int  # numbers from one image to the next


def pooled_convolution(images: Tensor, weight: Tensor, bias: Tensor, rectify: bool) -> tuple[Tensor, Tensor]:
    """Maxima over 2 x 2 pools of a convolution, with ``rectify`` at least 0, and the winners.

    Args:
        images: float32 [n, channels, height, width].
        weight, bias: float32 [out_channels, channels, size, size], [out_channels]; no padding.

    Returns float32 and uint8 [n, out_channels, pooled_height, pooled_width]. NaN wins.
    """
    n, channels, height, width = images.shape
    out_channels, _, size, _ = weight.shape
    shape = n, out_channels, (height - size + 1) // POOL, (width - size + 1) // POOL
    pooled, winners = images.new_empty(shape), torch.empty(shape, dtype=torch.uint8, device="cpu")
    floor = np.float32(0.0 if rectify else -np.inf)
    # oneDNN leaves most of the machine idle where there is one channel.
    tensors: tuple[Tensor, ...]
    if channels == 1 and width <= FLOAT32_LANES:
        rows, cost = convolve_rows, NANOSECONDS_PER_CONVOLUTION
        tensors = images, weight, bias, pooled, winners
    else:
        rows, cost = pool_rows, NANOSECONDS_PER_POOL
        tensors = _outputs_under_pools(images, weight, bias).flatten(2), pooled.flatten(1), winners.flatten(1)
    arrays = [tensor.contiguous().numpy() for tensor in tensors]

    def work(first: int, last: int) -> None:
        rows(*arrays, floor, first, last)

    for_rows(work, n, 1, cost * shape[1] * shape[2] * shape[3])
    return pooled, winners


def _outputs_under_pools(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[n, 4, out_channels, pooled_height, pooled_width].

    They are channels of a convolution with stride 2, whose kernels are the given one shifted by 0 or 1 pixels in y
    and in x.
    """
    out_channels, channels, size, _ = weight.shape
    shifted = weight.new_zeros(POOL, POOL, out_channels, channels, size + 1, size + 1)
    for y in range(POOL):
        for x in range(POOL):
            shifted[y, x, :, :, y : y + size, x : x + size] = weight
    outputs = F.conv2d(images, shifted.flatten(0, 2), bias.repeat(POOL * POOL), stride=POOL)
    return outputs.unflatten(1, (POOL * POOL, out_channels))


def gradients(
    images: Tensor, weight: Tensor, winners: Tensor, grad: Tensor, of_images: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of the sum of ``grad * pooled``: of the images (None unless asked for), the weight and the bias.

    Args:
        images: float32 [n, channels, height, width].
        weight: float32 [out_channels, channels, size, size], of a convolution without padding;
            size * channels <= FLOAT32_LANES.
        winners, grad: uint8 and float32 [n, out_channels, pooled_height, pooled_width].

    The sums over images are taken in one order whatever the number of threads.
    """
    n, channels, *_ = images.shape
    out_channels, _, size, _ = weight.shape
    fold = size if size * size * channels <= FLOAT32_LANES else 1
    by_row = (out_channels, size // fold, size, fold, channels)
    weight_rows = weight.new_zeros(out_channels * (size // fold), FLOAT32_LANES)
    n_weights = size * fold * channels
    split = weight.unflatten(2, (size // fold, fold)).permute(0, 2, 4, 3, 1)
    weight_rows[:, :n_weights] = split.reshape(len(weight_rows), n_weights)
    blocks = -(-n // IMAGES_AT_A_TIME)
    grad_rows = weight.new_zeros(blocks, *weight_rows.shape)
    grad_bias = weight.new_zeros(blocks, out_channels, FLOAT32_LANES)
    grad_images = torch.empty_like(images, memory_format=torch.contiguous_format) if of_images else images[:0]
    tensors = images, weight_rows, winners.flatten(2), grad.flatten(2)
    inputs = [tensor.contiguous().numpy() for tensor in tensors]
    sums = Sums(grad_images.numpy(), grad_rows.numpy(), grad_bias.numpy(), of_images)
    packing = Packing(size, fold, channels, images.shape[2], images.shape[3], grad.shape[3])

    def work(first: int, last: int) -> None:
        gradient_rows(*inputs, sums, packing, first, last)

    for_rows(work, n, IMAGES_AT_A_TIME, winners[0].numel() * NANOSECONDS_PER_GRADIENT if n else 0.0)
    grad_weight = grad_rows.sum(0)[:, :n_weights].reshape(by_row).permute(0, 4, 1, 3, 2).reshape(weight.shape)
    return grad_images if of_images else None, grad_weight, grad_bias.sum((0, 2))


@kernel
def pool_rows(outputs, pooled, winners, floor, first, last):
    """Images first .. last - 1."""
    for image in range(first, last):
        for i in range(pooled.shape[1]):
            pooled[image, i], winners[image, i] = best_of_four(
                outputs[image, 0, i], outputs[image, 1, i], outputs[image, 2, i], outputs[image, 3, i], floor
            )


@lane_function
def best_of_four(top_left, top_right, bottom_left, bottom_right, floor):
    """The largest of four outputs and the floor, and its index."""
    best, winner = better(top_left, 0, floor, np.uint8(NO_WINNER))
    best, winner = better(top_right, 1, best, winner)
    best, winner = better(bottom_left, 2, best, winner)
    return better(bottom_right, 3, best, winner)


@lane_function
def better(value, corner, best, winner):
    """The best so far and its index, with one more value; NaN is better than all before."""
    larger = (value > best) | (value != value)
    return value if larger else best, np.uint8(corner) if larger else winner


@kernel
def convolve_rows(images, weight, bias, pooled, winners, floor, first, last):
    """Images first .. last - 1 of one channel, at most FLOAT32_LANES wide; two output channels at a time.

    The even columns of a row fill half the lanes, and those of the next row the other half; so do the odd columns.
    So the four outputs under a pool are two numbers of two lanes.
    """
    height = images.shape[2]
    out_channels = len(weight)
    _, _, pooled_height, pooled_width = pooled.shape
    width = height * HALF + FLOAT32_LANES
    even, odd = np.zeros(width, np.float32), np.zeros(width, np.float32)
    outputs = np.empty((4, FLOAT32_LANES), np.float32)
    # Results of whole lanes, since LLVM does not vectorise loops as short as a row of pools.
    best, winner = np.empty((2, HALF), np.float32), np.empty((2, HALF), np.uint8)
    for image in range(first, last):
        split_columns(images[image, 0], even, odd)
        for y in range(pooled_height):
            for channel in range(0, out_channels, 2):
                other = min(channel + 1, out_channels - 1)
                convolve(even, odd, y, weight[channel, 0], weight[other, 0], bias[channel], bias[other], outputs)
                for c in range(2):
                    left, right = outputs[2 * c], outputs[2 * c + 1]
                    for x in range(HALF):
                        best[c, x], winner[c, x] = best_of_four(
                            left[x], right[x], left[HALF + x], right[HALF + x], floor
                        )
                for x in range(pooled_width):
                    pooled[image, channel, y, x], winners[image, channel, y, x] = best[0, x], winner[0, x]
                    pooled[image, other, y, x], winners[image, other, y, x] = best[1, x], winner[1, x]


@lane_function
def split_columns(image, even, odd):
    """Even and odd columns of an image [height, width], HALF numbers for each row."""
    height, width = image.shape
    for y in range(height):
        for x in range(width // 2):
            even[y * HALF + x] = image[y, 2 * x]
            odd[y * HALF + x] = image[y, 2 * x + 1]
        if width % 2:
            even[y * HALF + width // 2] = image[y, width - 1]


@lane_function
def convolve(even, odd, y, weight, other_weight, bias, other_bias, outputs):
    """Rows of outputs: left and right under the pools of row y for one weight, then for the other."""
    left, right = filled(even, bias), filled(even, bias)
    other_left, other_right = filled(even, other_bias), filled(even, other_bias)
    size = len(weight)
    for k in range(size):
        row = (POOL * y + k) * HALF
        for x in range(size):
            under_left = load_at(odd if x % 2 else even, row + x // 2)
            under_right = load_at(even if x % 2 else odd, row + (x + 1) // 2)
            left = multiply_add(under_left, weight[k, x], left)
            right = multiply_add(under_right, weight[k, x], right)
            other_left = multiply_add(under_left, other_weight[k, x], other_left)
            other_right = multiply_add(under_right, other_weight[k, x], other_right)
    store(outputs, 0, left)
    store(outputs, 1, right)
    store(outputs, 2, other_left)
    store(outputs, 3, other_right)


@lane_function
def packed_shape(packing):
    """The shape of a packed image: a pixel also holds those below it, so what a row of weights meets is contiguous."""
    return packing.height - packing.fold + 1, packing.width, packing.fold, packing.channels


@lane_function
def empty_workspace(packing, n_pools):
    """For images of that packing with so many pools a channel; packed images are followed by a whole vector."""
    height, width, fold, channels = packed_shape(packing)
    row = width * fold * channels
    stride = height * row + FLOAT32_LANES
    return Workspace(
        np.zeros(IMAGES_AT_A_TIME * stride, np.float32),
        np.empty(IMAGES_AT_A_TIME * stride, np.float32),
        np.empty(IMAGES_AT_A_TIME * n_pools + 1, np.int64),
        np.empty(IMAGES_AT_A_TIME * n_pools + FLOAT32_LANES, np.float32),
        corners_of_pools(n_pools, packing.pooled_width, fold * channels, row),
        stride,
    )


@kernel
def gradient_rows(images, weight_rows, winners, grad, sums, packing, first, last):
    """Images first .. last - 1, IMAGES_AT_A_TIME; ``fold`` rows of a kernel lie in one row of weights."""
    workspace = empty_workspace(packing, grad.shape[2])
    packed, packed_grad, stride = workspace.packed, workspace.packed_grad, workspace.stride
    shape, size = packed_shape(packing), stride - FLOAT32_LANES
    for block in range(first // IMAGES_AT_A_TIME, -(-last // IMAGES_AT_A_TIME)):
        begin = block * IMAGES_AT_A_TIME
        end = min(begin + IMAGES_AT_A_TIME, last)
        for image in range(begin, end):
            start = (image - begin) * stride
            pack(images[image], packed[start : start + size].reshape(shape))
        if sums.of_images:
            packed_grad[:] = 0
        for channel in range(grad.shape[1]):
            active = 0
            for image in range(begin, end):
                start = (image - begin) * stride
                active = add_winners(winners[image, channel], grad[image, channel], start, active, workspace)
            add_values(workspace.values, active, sums.bias[block], channel)
            add_channel(weight_rows, channel, active, packing, workspace, sums.weight_rows[block], sums.of_images)
        if sums.of_images:
            for image in range(begin, end):
                start = (image - begin) * stride
                unpack(packed_grad[start : start + size].reshape(shape), sums.images[image])


@lane_function
def add_channel(weight_rows, channel, active, packing, workspace, grad_rows, of_images):
    """Gradients of one output channel: of its rows of weights, and into the packed images where they are wanted."""
    kernel_rows, packed_row = packing.size // packing.fold, packing.width * packing.fold * packing.channels
    packed, starts, values = workspace.packed, workspace.starts, workspace.values
    for k in range(kernel_rows):
        row = channel * kernel_rows + k
        add_patches(packed, starts, values, active, k * packed_row, grad_rows, row)
        if of_images:
            add_weights(weight_rows, row, starts, values, active, k * packed_row, workspace.packed_grad)


@lane_function
def corners_of_pools(n_pools, pooled_width, pixel, packed_row):
    """Where the four patches of every pool begin in a packed image: [n_pools, 5], the last column for NO_WINNER."""
    corners = np.zeros((n_pools, NO_WINNER + 1), np.int64)
    for i in range(n_pools):
        y = i // pooled_width
        for winner in range(NO_WINNER):
            row, column = POOL * y + winner // POOL, POOL * (i - y * pooled_width) + winner % POOL
            corners[i, winner] = row * packed_row + column * pixel
    return corners


@lane_function
def pack(image, packed):
    """An image [channels, height, width] into its packed form."""
    height, width, fold, channels = packed.shape
    for y in range(height):
        for k in range(fold):
            for channel in range(channels):
                for x in range(width):
                    packed[y, x, k, channel] = image[channel, y + k, x]


@lane_function
def unpack(packed, image):
    """The sum of all numbers of the packed form that stand for a pixel, for every pixel."""
    height, width, fold, channels = packed.shape
    image[:] = 0
    for y in range(height):
        for k in range(fold):
            for channel in range(channels):
                for x in range(width):
                    image[channel, y + k, x] += packed[y, x, k, channel]


@lane_function
def add_winners(winners, grad, start, active, workspace):
    """Append where the patches of the winners [n_pools] begin, and their gradients; the new number of them."""
    corners, starts, values = workspace.corners, workspace.starts, workspace.values
    for i in range(len(winners)):
        winner = winners[i]
        starts[active] = start + corners[i, winner]
        values[active] = grad[i]
        active += winner != NO_WINNER
    return active


@lane_function
def add_values(values, active, grad_bias, channel):
    """Gradient of a bias, spread over lanes."""
    values[active : active + FLOAT32_LANES] = 0
    total = load(grad_bias, channel)
    for i in range(0, active, FLOAT32_LANES):
        total += load_at(values, i)
    store(grad_bias, channel, total)


@lane_function
def add_patches(packed, starts, values, active, shift, grad_rows, row):
    """Gradient of one row of weights: the sum of value times what it met."""
    total = load(grad_rows, row)
    for i in range(active):
        total = multiply_add(load_at(packed, starts[i] + shift), values[i], total)
    store(grad_rows, row, total)


@lane_function
def add_weights(weight_rows, row, starts, values, active, shift, packed_grad):
    """Gradient of the images: value times a row of weights, added where the row was."""
    weights = load(weight_rows, row)
    for begin in range(WINNERS_APART):
        for i in range(begin, active, WINNERS_APART):
            start = starts[i] + shift
            store_at(packed_grad, start, multiply_add(weights, values[i], load_at(packed_grad, start)))
