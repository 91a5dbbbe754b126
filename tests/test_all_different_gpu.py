"""The GPU kernels of belief propagation with all-different factors: Triton and CUDA C, simulated and interpreted.

tests/kernel_registry/all_different.py has the cases that every Triton kernel is compared on; here is what is special.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="needs triton")

import emnesy_gpu as em
from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.cuda import loader
from emnesy_gpu.kernels.gpu.all_different import cuda
from emnesy_gpu.kernels.gpu.all_different import launch as all_different
from emnesy_gpu.kernels.gpu.all_different.subsets import SPREAD, places
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.reference import all_different as reference
from profiling import peaks, roofline
from profiling.gpu_simulator import LaunchRecord, Options, simulated_gpu, simulated_triton
from tests.boards import filled_board, soft_logits
from tests.cuda_c import assembled, needs_nvrtc, ptx, simulate_launches
from tests.graphs import sudoku_groups
from tests.static_checks import NVIDIA_ARCHITECTURES

NEG_INF = float("-inf")
REGISTERS_OF_A_BLOCK = 1 << 16
RESULTS = "marginals", "log evidence", "status", "sweeps", "change"


def board(size: int, batch: int, gain: float = 2.0) -> tuple[Tensor, Tensor]:
    logits = soft_logits(filled_board(size).expand(batch, size, size), gain, seed=size).flatten(1, 2)
    return logits, torch.ones(batch, dtype=torch.int64)


def compare(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float = 2e-5) -> None:
    for name, mine, theirs in zip(RESULTS, actual, expected, strict=True):
        problem = partial("{}: {}".format, name)
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance, msg=problem)


def simulated(*arguments: Any, options: Options = Options(counters=False)) -> tuple[Tensor, ...]:  # noqa: B008
    with simulated_triton(80, options):
        return all_different.belief_propagation(*arguments)


@pytest.fixture
def cuda_c(monkeypatch: pytest.MonkeyPatch) -> list[LaunchRecord]:
    """The launch function takes the CUDA C kernel, and that runs in the simulator; the launches so far."""
    monkeypatch.setattr(cuda, "fits", lambda *_: True)
    return simulate_launches(monkeypatch)


def mixed_rows() -> tuple[Tensor, Tensor]:
    """4 x 4 boards: ordinary, with an invalid logit, an invalid label, label 0 that is certain, and no solution."""
    logits, label = board(4, 5)
    logits[1, 3, 2] = float("nan")
    label[2] = 7
    logits[3] = 8.0 * torch.nn.functional.one_hot(torch.arange(16) // 4, 4)
    label[3] = 0
    logits[4, :2, 1:] = NEG_INF
    return logits, label


def require_mixed_outcome(results: tuple[Tensor, ...], arguments: tuple[Any, ...]) -> None:
    expected = reference.belief_propagation(*arguments)
    assert results[2].tolist() == [POSSIBLE, INVALID_LOGITS, INVALID_LABEL, POSSIBLE, IMPOSSIBLE]
    assert results[1][3:].tolist() == [NEG_INF, NEG_INF]
    assert results[3].tolist() == [2, 0, 0, 0, 0]
    valid = torch.tensor([0, 2, 3, 4])
    compare(tuple(r[valid] for r in results), tuple(r[valid] for r in expected))


def test_status_codes_and_labels_that_are_certain() -> None:
    arguments = (*mixed_rows(), sudoku_groups(4), [4, 4, 4], 2, 0.0, 0.0, False)
    require_mixed_outcome(simulated(*arguments), arguments)


def test_one_board_in_the_interpreter(interpreter: Callable[..., Any]) -> None:
    arguments = (*board(4, 1), sudoku_groups(4), [4, 4, 4], 1, 0.0, 0.0, False)
    compare(interpreter(all_different.belief_propagation, *arguments), reference.belief_propagation(*arguments))


def test_too_many_values() -> None:
    logits, label = torch.zeros(1, 13, 13), torch.ones(1, dtype=torch.int64)
    groups = torch.arange(13, dtype=torch.int32)[None]
    with pytest.raises(ValueError, match=r'at most 12 values, got 13.*factors="pairwise"'):
        all_different.belief_propagation(logits, label, groups, [1], 1, 0.0, 0.0, False)


@needs_nvrtc
@pytest.mark.parametrize("maximise", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_cuda_c_agrees_with_the_reference(cuda_c: list[LaunchRecord], maximise: bool) -> None:
    arguments = (*board(4, 3), sudoku_groups(4), [4, 4, 4], 3, 0.2, 0.0, maximise)
    compare(simulated(*arguments), reference.belief_propagation(*arguments))
    assert len(cuda_c) == 1


@needs_nvrtc
def test_cuda_c_status_codes(cuda_c: list[LaunchRecord]) -> None:
    arguments = (*mixed_rows(), sudoku_groups(4), [4, 4, 4], 2, 0.0, 0.0, False)
    require_mixed_outcome(simulated(*arguments), arguments)


@needs_nvrtc
def test_cuda_c_flooding_tolerance_and_extreme_logits(cuda_c: list[LaunchRecord]) -> None:
    logits, label = board(4, 3)
    logits *= torch.tensor([1.0, 4.0, 3000.0])[:, None, None]
    arguments = (logits, label, sudoku_groups(4), [12], 12, 0.5, 1e-2, False)
    results = simulated(*arguments)
    compare(results, reference.belief_propagation(*arguments))
    assert 0 < results[3].min() < results[3].max()


@needs_nvrtc
def test_cuda_c_rows_do_not_depend_on_their_batch(cuda_c: list[LaunchRecord]) -> None:
    logits, label = board(4, 3)
    rest = (sudoku_groups(4), [4, 4, 4], 2, 0.0, 0.0, False)
    together, alone = simulated(logits, label, *rest), simulated(logits[2:], label[2:], *rest)
    assert all(torch.equal(whole[2:], single) for whole, single in zip(together, alone, strict=True))


@needs_nvrtc
@pytest.mark.parametrize("n_values", [3, 9, pytest.param(12, marks=pytest.mark.slow)])
def test_cuda_c_groups_smaller_than_the_number_of_values(cuda_c: list[LaunchRecord], n_values: int) -> None:
    groups = torch.tensor([[0, 1, 2], [3, 4, -1], [0, 3, 5], [5, 6, -1]], dtype=torch.int32)
    logits = torch.randn(2, 8, n_values, generator=torch.Generator().manual_seed(0))
    label = torch.ones(2, dtype=torch.int64)
    arguments = (logits, label, groups, [2, 2], 2, 0.1, 0.0, False)
    with simulated_triton(80), pytest.MonkeyPatch.context() as patch:
        # The launch for rows without digits left has none to do; K = 9 and 12 would take long to compile for it.
        patch.setattr(all_different, "launch_triton", lambda *_: None)
        results = all_different.belief_propagation(*arguments)
    compare(results, reference.belief_propagation(*arguments))


def per_factor(run: Callable[[int], Any]) -> Any:
    """What one more sweep over two 9 x 9 boards costs per update of a factor."""
    none, one = run(0), run(1)
    return tuple((b - a) / (27 * 2) for a, b in zip(none, one, strict=True))


@needs_nvrtc
def test_cuda_c_instructions_and_bank_conflicts(cuda_c: list[LaunchRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    """2304 transitions, three times, are 6,900 multiply-adds; the rest finds operands and sums over lanes."""
    monkeypatch.setattr(all_different, "launch_triton", lambda *_: None)

    def run(sweeps: int) -> tuple[float, ...]:
        simulated(*board(9, 2), sudoku_groups(9), [9, 9, 9], sweeps, 0.0, 0.0, False)
        counters = cuda_c[-1].counters
        limits = roofline.bounds(roofline.count("", "", 80, 0, 1, [counters]), peaks.GPUS["H100"])
        shared = counters.shared
        return counters.thread_instructions, shared.wavefronts, shared.bank_conflicts, *limits.values()

    instructions, wavefronts, conflicts, *seconds = per_factor(run)
    assert instructions <= 100_000
    assert wavefronts <= 1_050
    assert conflicts <= 240
    assert 27 * max(seconds) <= 125e-9  # of a sweep over a board, modelled


@pytest.mark.slow
def test_triton_instructions() -> None:
    def run(sweeps: int) -> tuple[int]:
        with simulated_triton(80, Options(checks=False)) as gpu:
            all_different.belief_propagation(*board(9, 2), sudoku_groups(9), [9, 9, 9], sweeps, 0.0, 0.0, False)
        return (gpu.launches[1].counters.thread_instructions,)

    assert per_factor(run)[0] <= 215_000


@needs_nvrtc
@pytest.mark.parametrize("arch", NVIDIA_ARCHITECTURES)
@pytest.mark.parametrize("n_values", [9, 4, 12])
def test_cuda_c_compiles_for_every_architecture(arch: int, n_values: int) -> None:
    """Everything stays in registers, where local memory would show as a depot in the PTX, and the block fits."""
    macros = (("VALUES", n_values), ("MAXIMISE", 0))
    text = ptx("all_different.cu", macros, arch)
    assert "__local_depot" not in text
    registers, spilled = assembled(text)
    assert spilled == 0
    n_warps = launch_config.all_different_block(n_values**2, 3 * n_values, n_values, n_values, n_values).warps
    assert registers * 32 * n_warps <= REGISTERS_OF_A_BLOCK


@pytest.mark.parametrize("n_values", [4, 9, 12])
def test_places_in_shared_memory(n_values: int) -> None:
    """A permutation of the subsets, by size, with at most 1.6 times the wavefronts that 32 banks make necessary."""
    words = places(n_values, torch.device("cpu")) // 4
    assert sorted(words.tolist()) == list(range(1 << n_values))
    first, wavefronts, least = 0, 0, 0
    for size in range(n_values + 1):
        count = torch.tensor([bin(s).count("1") == size for s in range(1 << n_values)]).sum()
        for start in range(first, first + int(count), 32):
            banks = words[start : min(start + 32, first + int(count))] % 32
            wavefronts += int(banks.bincount().max())
            least += 1
        first += int(count)
    assert wavefronts <= 1.6 * least


def test_places_are_those_of_the_source() -> None:
    (spread,) = re.findall(r"spread\[\] = \{([\d, ]+)\}", loader.source("all_different.cu"))
    assert tuple(map(int, spread.split(","))) == SPREAD


@pytest.mark.parametrize("n_values", [2, 4, 9, 12])
def test_a_row_fits_in_shared_memory(n_values: int) -> None:
    config = launch_config.all_different_block(n_values**2, 3 * n_values, n_values, n_values, n_values)
    assert config.warps >= 1
    assert config.shared_bytes <= 99 * 1024


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ModuleNotFoundError, match=r"need CuPy.*emnesy_gpu\[cuda12\]"):
        loader.launch("all_different.cu", "belief_propagation", (), 1, 32, 0, ())


@pytest.mark.slow
def test_map_of_a_large_board_has_the_same_bits_in_any_batch() -> None:
    """Simulated with all that torch does around the search; two cells of the board are open."""
    board = filled_board(9)
    logits = torch.randn(2, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    logits += 30 * torch.nn.functional.one_hot(board, 9)
    logits[:, 0, :2] -= 30 * torch.nn.functional.one_hot(board[0, :2], 9)
    label = torch.ones(2, dtype=torch.int64)
    with simulated_gpu(80, Options(counters=False)):
        together = em.posterior(em.Sudoku(9), logits, label, em.MAP())
        alone = em.posterior(em.Sudoku(9), logits[1:], label[1:], em.MAP())
    expected = em.posterior(em.Sudoku(9), logits, label, em.MAP())
    assert torch.equal(alone.log_evidence, together.log_evidence[1:])
    assert torch.equal(alone.marginals, together.marginals[1:])
    assert torch.equal(together.info["assignment"], expected.info["assignment"])
    assert torch.equal(together.info["assignment"], board.expand(2, 9, 9))
