"""What only the CPU kernels have: lanes, tiles, the error bound of float32, threads and the cache."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from emnesy_gpu.kernels.cpu.carry_chain import launch as carry_chain
from emnesy_gpu.kernels.cpu.carry_chain import probabilities, wide_exponents
from emnesy_gpu.kernels.cpu.common import kernel_cache, parallel, row_driver
from emnesy_gpu.kernels.cpu.common.lane_scratch import KEPT_BYTES, kept_scratch, scratch
from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES, exp_nonpositive, load, store
from emnesy_gpu.kernels.cpu.common.philox import philox
from emnesy_gpu.kernels.cpu.common.row_driver import RECOMPUTE, Combination, Results
from emnesy_gpu.kernels.cpu.common.transpose import LONG, TILE, read_columns, write_columns
from emnesy_gpu.reference import carry_chain as reference
from tests.cases import Case

NEG_INF = float("-inf")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch):
    """Several threads, and no batch too small to be shared among them."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(parallel, "SMALLEST_RANGE", 1)
    yield
    torch.set_num_threads(before)


def recomputed_rows(logits: Tensor, label: Tensor) -> int:
    """How many rows the float32 kernel hands back."""
    marginals, row = torch.empty_like(logits), torch.empty(len(logits))
    status = torch.empty(len(logits), dtype=torch.uint8)
    results = Results(marginals.numpy(), row.numpy(), status.numpy())
    count = probabilities.run(Combination(0.0, 1.0), logits.numpy(), label.numpy(), results)
    assert count == int((status == RECOMPUTE).sum())
    return count


def equal(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@njit
def philox_words(counter, key):
    return philox(counter[0], counter[1], counter[2], counter[3], key)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    assert philox_words(np.array(counter, np.uint64), np.uint64(key[0] | key[1] << 32)) == words


@njit
def exponentials(rows):
    for row in range(len(rows)):
        store(rows, row, exp_nonpositive(load(rows, row)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-7), (np.float64, 4e-16)])
def test_exp_of_lanes(dtype, tolerance):
    rows = scratch(100, dtype)
    rows[:] = -np.random.default_rng(0).uniform(0.0, 87.0, rows.shape)
    rows.flat[:5] = 0.0, -np.inf, np.nan, -1e30, np.finfo(dtype).min
    expected = np.exp(rows.astype(np.longdouble))
    exponentials(rows)
    assert rows.flat[0] == 1.0
    assert np.isnan(rows.flat[2])
    assert (rows.flat[[1, 3, 4]] == 0.0).all()
    assert np.abs(rows.ravel()[5:] / expected.ravel()[5:] - 1.0).max() < tolerance


def test_small_scratch_is_kept_by_its_thread_alone():
    kept = kept_scratch(100)
    assert kept_scratch(50) is kept_scratch(100) is kept
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(kept_scratch, 100).result()
    assert not np.shares_memory(other, kept)
    large = KEPT_BYTES // kept[0].nbytes + 1
    assert len(kept_scratch(large)) == large
    assert not np.shares_memory(kept_scratch(large), kept_scratch(large - 1))
    assert kept_scratch(100) is kept_scratch(large - 1)


@njit
def copy_through_lanes(source, target, lanes, column):
    for row in range(0, len(source), FLOAT32_LANES):
        last = min(row + FLOAT32_LANES, len(source)) - 1
        read_columns(source, row, last, column, source.shape[1] - column, lanes, 0)
        write_columns(target, row, last, column, source.shape[1] - column, lanes, 0)


@pytest.mark.parametrize("rows", [1, TILE, FLOAT32_LANES, 2 * FLOAT32_LANES + 5])
@pytest.mark.parametrize("columns", [1, 7, TILE, 2 * TILE + 3, LONG + 3])
def test_transposition_moves_the_columns_and_nothing_else(rows, columns):
    source = np.random.default_rng(0).normal(size=(rows, columns + 2)).astype(np.float32)
    target = np.full((rows + 3, columns + 2), 7.0, np.float32)
    copy_through_lanes(source, target, scratch(columns + 2 * TILE, np.float32), 2)
    assert (target[:rows, 2:] == source[:, 2:]).all()
    assert (target[rows:] == 7.0).all()
    assert (target[:, :2] == 7.0).all()


@pytest.mark.parametrize("batch", [1, FLOAT32_LANES - 1, FLOAT32_LANES + 1, 2 * FLOAT32_LANES + 3])
@pytest.mark.parametrize("sd", [3.0, 30.0])
def test_row_has_the_same_bits_in_any_batch(batch, sd):
    logits, label = Case(17, batch=batch, sd=sd).draw()
    together = carry_chain.posterior(logits, label)
    for row in range(0, batch, 5):
        alone = carry_chain.posterior(logits[row : row + 1].clone(), label[row : row + 1].clone())
        assert equal(alone, tuple(result[row : row + 1] for result in together))


def test_confident_logits_stay_in_float32():
    logits, label = Case(100, batch=64, sd=8.0).draw()
    assert recomputed_rows(logits, label) == 0


@pytest.mark.parametrize("n", [4, 15, 100])
@pytest.mark.parametrize("sd", [20.0, 30.0, 60.0])
def test_what_float32_keeps_is_right(n, sd):
    logits, label = Case(n, batch=64, sd=sd, seed=n).draw()
    marginals, log_evidence, status = carry_chain.posterior(logits, label)
    expected, expected_evidence, expected_status = reference.posterior(logits.double(), label)
    assert torch.equal(status, expected_status)
    torch.testing.assert_close(marginals.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_evidence.double(), expected_evidence, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sd", [1e3, 1e4])
def test_contradicted_logits_are_recomputed(sd):
    logits, label = Case(15, batch=64, sd=sd).draw()
    assert recomputed_rows(logits, label) == 64
    marginals, _, _ = carry_chain.posterior(logits, label)
    torch.testing.assert_close(marginals.double(), reference.posterior(logits.double(), label)[0], rtol=0, atol=1e-6)


def detour(length: int) -> tuple[Tensor, Tensor]:
    """Every digit of the sum is 5. Without carries each position costs 10 nats; with a carry between the first
    and the last of them it costs none, but both its ends cost 95, more than float32 can hold."""
    logits = torch.full((1, 2, length + 2, 10), NEG_INF)
    logits[:, 0, 1:-1, [2, 7]] = torch.tensor([-5.0, 0.0])
    logits[:, 1, 1:-1, [3, 7]] = torch.tensor([-5.0, 0.0])
    logits[:, 0, -1, [2, 8]] = torch.tensor([0.0, -95.0])
    logits[:, 1, -1, [3, 7]] = 0.0
    logits[:, 0, 0, 2] = 0.0
    logits[:, 1, 0, [3, 2]] = torch.tensor([0.0, -95.0])
    return logits, torch.tensor([[0] + [5] * (length + 2)])


def test_two_missing_transfers_on_one_path_are_noticed():
    logits, label = detour(20)
    assert recomputed_rows(logits, label) == 1
    marginals, _, _ = carry_chain.posterior(logits, label)
    assert marginals[0, 0, 5, 7] > 0.99


@pytest.mark.parametrize("name", ["impossible", "label", "logits"])
def test_rows_without_a_posterior_are_handed_back(name):
    logits, label = Case(3, batch=40).draw()
    if name == "impossible":
        logits[7, :, 1, 1:] = NEG_INF
        label[7, 2] = 5
    elif name == "label":
        label[7, 0] = 2**62
    else:
        logits[7, 1, 2, 3] = float("nan")
    assert recomputed_rows(logits, label) == 1
    status = carry_chain.posterior(logits, label)[2]
    assert status.nonzero().tolist() == [[7]]


def test_scratch_does_not_grow_with_the_batch():
    assert probabilities.layout(2, 1000, 10).total * FLOAT32_LANES * 4 < 4 << 20


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 1000])
@pytest.mark.parametrize("block", [1, 32])
def test_ranges_cover_every_row_once(threads, rows, block):
    ranges = []
    parallel.for_rows(lambda first, last: ranges.append((first, last)), rows, block, 1e6)
    ranges.sort()
    assert [row for first, last in ranges for row in range(first, last)] == list(range(rows))
    assert all(first % block == 0 for first, _ in ranges)
    assert len(ranges) > 1 or rows <= block


def test_error_in_any_range_reaches_the_caller(threads):
    def fail(first: int, last: int) -> None:
        if last == 100:
            raise MemoryError("last range")

    with pytest.raises(MemoryError, match="last range"):
        parallel.for_rows(fail, 100, 1, 1e6)


def everything(logits: Tensor, label: Tensor) -> tuple[Tensor, ...]:
    return (
        *carry_chain.posterior(logits, label),
        *carry_chain.em_gradient(logits, label, 0.3),
        *carry_chain.map_assignment(logits, label),
        *carry_chain.sample(logits, label, 2, 5, 11),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_threads_change_no_bit(request, monkeypatch, dtype):
    monkeypatch.setattr(row_driver, "MOST_ON_ONE_THREAD", 5000)
    logits, label = Case(9, batch=150, sd=25.0).draw()
    logits = logits.to(dtype)
    monkeypatch.setattr(parallel.torch, "get_num_threads", lambda: 1)
    alone = everything(logits, label)
    monkeypatch.undo()
    request.getfixturevalue("threads")
    assert equal(everything(logits, label), alone)


def test_several_callers_at_once(threads):
    cases = [Case(n, batch=100 + n, seed=n) for n in range(1, 9)]
    inputs = [case.draw() for case in cases]
    expected = [everything(*pair) for pair in inputs]
    with ThreadPoolExecutor(len(cases)) as pool:
        for _ in range(3):
            results = pool.map(lambda pair: everything(*pair), inputs)
            assert all(equal(result, wanted) for result, wanted in zip(results, expected, strict=True))


def exit_code_of_equality(logits: Tensor, label: Tensor, expected: tuple[Tensor, ...]) -> None:
    os._exit(0 if equal(everything(logits, label), expected) else 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_computes_too(threads):
    logits, label = Case(4, batch=200).draw()
    expected = everything(logits, label)
    child = multiprocessing.get_context("fork").Process(target=exit_code_of_equality, args=(logits, label, expected))
    child.start()
    child.join(timeout=60)
    stuck = child.is_alive()
    child.kill()
    assert not stuck
    assert child.exitcode == 0


def test_stamp_of_the_cache_changes_with_any_file(tmp_path):
    folder = tmp_path / "cpu"
    files = [
        tmp_path / "status.py",
        tmp_path / "logits.py",
        tmp_path / "factor_graph_tables.py",
        folder / "black_box.py",
        folder / "carry_chain" / "rows.py",
    ]
    files[-1].parent.mkdir(parents=True)
    for file in files:
        file.write_text("A = 1")
    stamps = [kernel_cache.sources_stamp(folder)]
    for file in files:
        file.write_text("A = 10")
        stamps.append(kernel_cache.sources_stamp(folder))
    assert len(set(stamps)) == len(stamps)


@pytest.mark.parametrize("module", [probabilities, wide_exponents])
def test_cached_code_depends_on_every_file_of_the_folder(module):
    stamp = module.sum_product._cache._cache_file._source_stamp
    assert stamp[1] == kernel_cache.sources_stamp()
