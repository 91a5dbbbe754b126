"""The CUDA C kernel of addition with two addends: compiled for every architecture, and simulated."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs triton")

from emnesy_gpu.kernels import carry_chain_config, launch_config
from emnesy_gpu.kernels.gpu import carry_chain
from emnesy_gpu.kernels.gpu.carry_chain import cuda
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import carry_chain as reference
from profiling import peaks, roofline
from profiling.gpu_simulator import LaunchRecord
from tests.cases import EXTREME, LONG, SMALL, Case, every_kind_of_row
from tests.cuda_c import assembled, needs_nvrtc, ptx, simulate_launches
from tests.static_checks import NVIDIA_ARCHITECTURES
from tests.test_addition import tolerance

pytestmark = needs_nvrtc

WARPS_OF_A_MULTIPROCESSOR = 16
"""At least, by registers: what hides the latency of shuffles and special functions."""

QUICK = [Case(1, 3), Case(3, 16), Case(4, batch=9), Case(15, batch=5), Case(33, 3), Case(100, batch=2)]
FITTING = [case for case in SMALL + LONG + EXTREME if case.n_addends == 2 and case.base <= cuda.MAX_BASE]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[LaunchRecord]:
    """The launch functions take the CUDA C kernel, and that runs in the simulator; the launches so far."""
    monkeypatch.setattr(cuda, "fits", lambda _: True)
    return simulate_launches(monkeypatch)


def require_agreement(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], case: Case, atol: float) -> None:
    torch.testing.assert_close(actual[0].double(), expected[0].double(), atol=atol, rtol=0)
    torch.testing.assert_close(actual[1].double(), expected[1].double(), atol=1e-5 * case.n_digits, rtol=2e-6)
    assert torch.equal(actual[2], expected[2])


@pytest.mark.parametrize(
    "case",
    [*QUICK, Case(15, sd=30.0, hard_zeros=0.3), *[pytest.param(case, marks=pytest.mark.slow) for case in FITTING]],
    ids=str,
)
def test_posterior_and_gradient_agree_with_the_reference(launches: list[LaunchRecord], case: Case) -> None:
    logits, label = case.draw()
    near = tolerance(logits)
    require_agreement(carry_chain.posterior(logits, label), reference.posterior(logits.double(), label), case, near)
    gradient = carry_chain.em_gradient(logits, label, 0.5)
    require_agreement(gradient, reference.em_gradient(logits.double(), label, 0.5), case, near)
    assert len(launches) == 2


@pytest.mark.parametrize("n_digits", [3, 70])
def test_status_codes_and_rows_without_a_posterior(launches: list[LaunchRecord], n_digits: int) -> None:
    logits, label = every_kind_of_row(n_digits)
    expected = [POSSIBLE] + [INVALID_LOGITS] * 3 + [INVALID_LABEL, IMPOSSIBLE, IMPOSSIBLE, POSSIBLE]
    marginals, log_evidence, status = carry_chain.posterior(logits, label)
    assert status.tolist() == expected
    assert log_evidence[1:7].tolist() == [float("-inf")] * 6
    torch.testing.assert_close(marginals[4:7], logits[4:7].softmax(-1), atol=1e-6, rtol=0)
    gradient, _, status = carry_chain.em_gradient(logits, label, 2.0)
    assert status.tolist() == expected
    assert (gradient[4:7] == 0).all()


@pytest.mark.parametrize("n_digits", [3, 15])
def test_a_row_does_not_depend_on_its_batch(launches: list[LaunchRecord], n_digits: int) -> None:
    """Nor on rows of the same warp that are computed with logarithms."""
    logits, label = every_kind_of_row(n_digits)
    logits[0] *= 100
    together = carry_chain.posterior(logits, label)
    for row in (0, 7):
        alone = carry_chain.posterior(logits[row : row + 1], label[row : row + 1])
        assert all(torch.equal(whole[row : row + 1], single) for whole, single in zip(together, alone, strict=True))


def test_messages_that_underflow_are_computed_with_logarithms(launches: list[LaunchRecord]) -> None:
    """Every position alone loses nothing, but what the label asks for is 2^-60 in each, and 2^-900 together."""
    n_digits = 15
    logits = torch.zeros(2, 2, n_digits, 10)
    logits[:, :, :, 0] = 40.0
    label = torch.zeros(2, n_digits + 1, dtype=torch.int64)
    label[0, 1:] = 9
    label[1, 1:] = 8
    label[1, 0] = 1
    results = carry_chain.posterior(logits, label)
    require_agreement(results, reference.posterior(logits.double(), label), Case(n_digits), tolerance(logits))
    assert results[1][1] < -550


def test_logits_that_start_off_a_vector_boundary(launches: list[LaunchRecord]) -> None:
    case = Case(4, batch=3)
    logits, label = case.draw()
    shifted = logits.new_empty(logits.numel() + 1)[1:].view_as(logits).copy_(logits)
    require_agreement(carry_chain.posterior(shifted, label), reference.posterior(logits, label), case, 1e-5)


def modelled(record: LaunchRecord, batch: int, gpu: str) -> tuple[float, str]:
    """The bound that sets the time of a row, in seconds, and its name."""
    limits = roofline.bounds(roofline.count("", "", 80, 0, batch, [record.counters]), peaks.GPUS[gpu])
    limit = max(limits, key=limits.__getitem__)
    return limits[limit], limit


@pytest.mark.parametrize(
    ("n_digits", "instructions"), [(4, 700), (15, 850), (17, 1050), (19, 1000), (32, 860), (100, 1200)]
)
def test_instructions_and_barriers(launches: list[LaunchRecord], n_digits: int, instructions: int) -> None:
    """Per position, on full blocks; the modelled bound is memory."""
    batch = 2 * carry_chain_config.block(n_digits, 10).rows
    carry_chain.posterior(*Case(n_digits, batch=batch).draw())
    (record,) = launches
    assert record.counters.thread_instructions <= instructions * batch * n_digits
    assert record.counters.barriers <= 3 * batch
    assert all(modelled(record, batch, gpu)[1] == "memory" for gpu in ("A100", "H100", "H200", "RTX 5090"))


@pytest.mark.parametrize("arch", NVIDIA_ARCHITECTURES)
@pytest.mark.parametrize(
    ("n_digits", "base"),
    [(15, 10), (100, 10), *[pytest.param(*size, marks=pytest.mark.slow) for size in ((4, 10), (15, 16), (15, 2))]],
)
def test_compiles_for_every_architecture(arch: int, n_digits: int, base: int) -> None:
    """Everything stays in registers, and the registers leave room for enough warps."""
    block = carry_chain_config.block(n_digits, base)
    macros = (("BASE", base), ("DIGITS", n_digits), ("RUN", block.run), ("ROWS", block.rows), ("GRADIENT", 1))
    text = ptx("carry_chain.cu", macros, arch)
    assert "__local_depot" not in text
    assert len(re.findall(r"\bbar\.sync|\bbarrier\.sync", text)) <= 5
    registers, spilled = assembled(text)
    assert spilled == 0
    assert registers * launch_config.WARP * WARPS_OF_A_MULTIPROCESSOR <= launch_config.REGISTERS


@pytest.mark.parametrize("n_digits", [1, 4, 10, 15, 33, 100, 512])
def test_every_position_has_a_thread(n_digits: int) -> None:
    block = carry_chain_config.block(n_digits, 10)
    assert block.rows * n_digits <= block.warps * 32 * block.run
    assert block.warps <= cuda.MAX_WARPS
    assert block.shared_bytes <= 48 * 1024
