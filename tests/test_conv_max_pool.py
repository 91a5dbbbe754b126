"""The convolution under a pool on the CPU, its gradients, and LeNet made of it, against the operations of torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from emnesy_gpu.kernels.cpu import conv_max_pool
from emnesy_gpu.kernels.cpu.common import parallel
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES
from emnesy_gpu.tasks.mnist import nets
from emnesy_gpu.tasks.mnist.nets import ConvMaxPool, lenet

# Sums of a few hundred products of normal numbers in float32.
ATOL = 2e-4


def layer(channels: int, out_channels: int, size: int, relu: bool = True, seed: int = 0) -> ConvMaxPool:
    torch.manual_seed(seed)
    return ConvMaxPool(channels, out_channels, size, relu)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_gradients(convolve: ConvMaxPool, images: Tensor, dtype: torch.dtype, of_images: bool = True) -> list[Tensor]:
    """Outputs, and the gradients of the images, the weight and the bias; float64 is computed by torch."""
    images = images.to(dtype).requires_grad_(of_images)
    weight, bias = (tensor.detach().to(dtype).requires_grad_() for tensor in (convolve.weight, convolve.bias))
    outputs = torch.func.functional_call(convolve, {"weight": weight, "bias": bias}, images)
    grad = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    return [outputs, *torch.autograd.grad(outputs, [images, weight, bias] if of_images else [weight, bias], grad)]


def require_close(convolve: ConvMaxPool, images: Tensor, of_images: bool = True) -> None:
    mine = with_gradients(convolve, images, torch.float32, of_images)
    expected = with_gradients(convolve, images, torch.float64, of_images)
    for left, right in zip(mine, expected, strict=True):
        assert left.dtype == torch.float32
        torch.testing.assert_close(left.double(), right, rtol=1e-4, atol=ATOL)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(
    ("channels", "out_channels", "size", "height", "width"),
    [
        (1, 6, 5, 28, 28),
        (6, 16, 5, 12, 12),
        (2, 5, 3, 9, 14),
        (3, 4, 1, 4, 5),
        (32, 2, 1, 2, 2),
        (1, 1, 4, 5, 6),
        (1, 3, 2, 7, 32),
        (1, 3, 2, 7, 33),
    ],
)
def test_agrees_with_torch_in_double_precision(channels, out_channels, size, height, width, relu):
    convolve = layer(channels, out_channels, size, relu)
    require_close(convolve, draw(19, channels, height, width))
    require_close(convolve, draw(19, channels, height, width), of_images=False)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 20),
    channels=st.integers(1, 6),
    out_channels=st.integers(1, 5),
    size=st.integers(1, 5),
    extra=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    relu=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_any_shape(n, channels, out_channels, size, extra, relu, seed):
    images = draw(n, channels, size + extra[0], size + extra[1], seed=seed)
    require_close(layer(channels, out_channels, size, relu, seed), images)


def test_the_first_of_equal_outputs_wins():
    convolve = layer(1, 1, 1, relu=False)
    nn.init.ones_(convolve.weight)
    nn.init.zeros_(convolve.bias)
    image = torch.tensor([[[[1.0, 2.0, 3.0, 3.0], [2.0, 2.0, 3.0, 3.0]]]], requires_grad=True)
    outputs = convolve(image)
    (grad,) = torch.autograd.grad(outputs.sum(), image)
    assert outputs.tolist() == [[[[2.0, 3.0]]]]
    assert grad.tolist() == [[[[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]


def test_the_rectifier_passes_nothing_at_zero():
    images, weight, bias = torch.zeros(3, 1, 4, 4), torch.ones(2, 1, 3, 3), torch.tensor([0.0, -1.0])
    pooled, winners = conv_max_pool.pooled_convolution(images, weight, bias, rectify=True)
    assert (pooled == 0).all()
    assert (winners == conv_max_pool.NO_WINNER).all()
    gradients = conv_max_pool.gradients(images + 1, weight, winners, torch.ones(pooled.shape), True)
    assert all((gradient == 0).all() for gradient in gradients)


def test_nan_is_not_hidden():
    images = draw(2, 1, 6, 6)
    images[1, 0, 3, 3] = float("nan")
    outputs = layer(1, 2, 3)(images)
    assert not outputs[0].isnan().any()
    assert outputs[1].isnan().all()


def test_strides_do_not_matter():
    convolve = layer(3, 4, 3)
    images = draw(5, 3, 8, 9)
    expected = with_gradients(convolve, images, torch.float32)
    strided = torch.empty(9, 8, 5, 2, 3)[:, :, :, 0].permute(2, 3, 1, 0).copy_(images)
    for same in (strided, images.contiguous(memory_format=torch.channels_last)):
        for left, right in zip(with_gradients(convolve, same, torch.float32), expected, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "width"), [(1, 28), (6, 12)])
def test_bits_do_not_depend_on_the_number_of_threads(channels, width, monkeypatch):
    monkeypatch.setattr(parallel, "SMALLEST_RANGE", 1)
    threads = torch.get_num_threads()
    images, weight, bias = draw(53, channels, width, width), draw(16, channels, 5, 5), draw(16)
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            pooled, winners = conv_max_pool.pooled_convolution(images, weight, bias, rectify=True)
            results.append((pooled, *conv_max_pool.gradients(images, weight, winners, pooled, True)))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(left, right) for left, right in zip(result, results[0], strict=True))


def test_one_image_is_read_alike_in_any_batch():
    convolve, images = layer(6, 16, 5), draw(11, 6, 12, 12)
    torch.testing.assert_close(convolve(images[4:5]), convolve(images)[4:5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_what_the_kernel_does_not_take_is_left_to_torch(autocast, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("the kernel was called")

    monkeypatch.setattr(conv_max_pool, "pooled_convolution", refuse)
    with torch.autocast("cpu", enabled=autocast):
        if autocast:
            assert layer(2, 3, 3)(draw(2, 2, 6, 6)).dtype == torch.bfloat16
        else:
            assert layer(2, 3, 3).double()(draw(2, 2, 6, 6).double()).dtype == torch.float64
            assert layer(FLOAT32_LANES + 1, 1, 1)(draw(1, FLOAT32_LANES + 1, 2, 2)).shape == (1, 1, 1, 1)
            with pytest.raises(AssertionError, match="was called"):
                layer(2, 3, 3)(draw(2, 2, 6, 6))


def test_the_net_knows_what_the_kernel_holds():
    assert nets.WEIGHTS_IN_A_ROW == FLOAT32_LANES


def plain_lenet() -> nn.Sequential:
    """LeNet of torch's layers, one by one."""
    convolutions = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
    linear = nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)
    first, second = ([convolution, nn.Sequential(nn.MaxPool2d(2), nn.ReLU())] for convolution in convolutions)
    return nn.Sequential(*first, *second, nn.Identity(), nn.Flatten(), *linear)


def test_lenet_starts_and_learns_like_the_plain_net(tmp_path: Path):
    made = []
    for build in (plain_lenet, lenet):
        torch.manual_seed(3)
        made.append(build())
    plain, fast = made
    assert {name: value.tolist() for name, value in fast.state_dict().items()} == {
        name: value.tolist() for name, value in plain.state_dict().items()
    }
    torch.save(plain.state_dict(), tmp_path / "net.pt")
    fast.load_state_dict(torch.load(tmp_path / "net.pt"))
    images, classes = draw(40, 1, 28, 28), torch.arange(40) % 10
    for net in made:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(net(images), classes).backward()
            optimizer.step()
    # Outputs that nearly tie may have another winner after rounding; the weights move by about 0.02.
    for left, right in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-4)
