"""Promises that only a CUDA device can break: streams, devices, graphs, synchronisation, large offsets."""

from __future__ import annotations

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.reference import carry_chain as reference
from tests.cases import Case
from tests.launch_counts import E_STEPS, EStep

pytestmark = pytest.mark.cuda


def drawn(n_digits: int = 15, batch: int = 64):
    logits, label = Case(n_digits, batch=batch).draw()
    return em.Addition(n_digits), logits, label


def every_operator(problem: em.Addition, logits: torch.Tensor, label: torch.Tensor) -> list[torch.Tensor]:
    return [
        em.posterior(problem, logits, label, check=False).marginals,
        em.posterior(problem, logits, label, em.MAP(), check=False).marginals,
        problem.em_gradient(logits, label, 1.0, False)[0],
        em.sample_posterior(problem, logits, label, 2, seed=0, check=False),
    ]


def test_kernels_run_on_the_current_stream() -> None:
    problem, logits, label = drawn()
    expected = every_operator(problem, logits.cuda(), label.cuda())
    stream = torch.cuda.Stream()
    late = torch.zeros_like(logits, device="cuda")
    source, label = logits.cuda(), label.cuda()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        late.copy_(source)
        found = every_operator(problem, late, label)
    stream.synchronize()
    for result, value in zip(found, expected, strict=True):
        assert torch.equal(result, value)


def test_unchecked_operators_do_not_synchronise() -> None:
    problem, logits, label = drawn()
    logits, label = logits.cuda(), label.cuda()
    every_operator(problem, logits, label)
    torch.cuda.set_sync_debug_mode("error")
    try:
        every_operator(problem, logits, label)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_operators_are_captured_by_a_cuda_graph() -> None:
    problem, logits, label = drawn()
    held = torch.zeros_like(logits, device="cuda")
    held_label = label.cuda()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        every_operator(problem, held, held_label)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = every_operator(problem, held, held_label)
    held.copy_(logits)
    graph.replay()
    torch.cuda.synchronize()
    for result, value in zip(results, every_operator(problem, held, held_label), strict=True):
        assert torch.equal(result, value)


@pytest.mark.parametrize("step", [pytest.param(step, id=step.name.replace(" ", "-")) for step in E_STEPS])
def test_every_e_step_is_captured_by_a_cuda_graph(step: EStep) -> None:
    problem = step.problem()
    shape = step.batch, *problem.latent_shape, problem.cardinality
    logits, others = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).cuda()
    label = torch.zeros(step.batch, *problem.label_shape, dtype=torch.int64, device="cuda")
    expected = step.call(problem, others, label)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step.call(problem, logits, label)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step.call(problem, logits, label)
    logits.copy_(others)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_kernels_run_on_the_device_of_the_tensor() -> None:
    problem, logits, label = drawn()
    first = every_operator(problem, logits.to("cuda:0"), label.to("cuda:0"))
    with torch.cuda.device(0):
        second = every_operator(problem, logits.to("cuda:1"), label.to("cuda:1"))
    for a, b in zip(first, second, strict=True):
        assert b.device == torch.device("cuda:1")
        assert torch.equal(a.cpu(), b.cpu())


def test_mixed_devices_are_refused() -> None:
    problem, logits, label = drawn()
    with pytest.raises(ValueError, match="label must be on the device of logits: expected cuda:0, got cpu"):
        em.posterior(problem, logits.cuda(), label)


def test_cuda_equals_cpu_bits_of_samples_and_map() -> None:
    problem, logits, label = drawn()
    assert torch.equal(
        em.sample_posterior(problem, logits, label, 4, seed=3),
        em.sample_posterior(problem, logits.cuda(), label.cuda(), 4, seed=3).cpu(),
    )
    assert torch.equal(
        em.posterior(problem, logits, label, em.MAP()).info["assignment"],
        em.posterior(problem, logits.cuda(), label.cuda(), em.MAP()).info["assignment"].cpu(),
    )


@pytest.mark.slow
def test_offsets_beyond_32_bits() -> None:
    """2^31 logits and more: the last rows lie past what a 32-bit offset reaches."""
    problem = em.Addition(100)
    batch = 2**31 // 2000 + 64
    free, _ = torch.cuda.mem_get_info()
    if free < 3 * 4 * batch * 2000:
        pytest.skip(f"needs {3 * 4 * batch * 2000 / 2**30:.0f} GiB of GPU memory, {free / 2**30:.0f} are free")
    tail, label = Case(100, batch=64).draw()
    logits = torch.zeros(batch, 2, 100, 10, device="cuda")
    logits[-64:] = tail.cuda()
    labels = torch.zeros(batch, 101, dtype=torch.int64, device="cuda")
    labels[-64:] = label.cuda()
    post = em.posterior(problem, logits, labels)
    marginals, log_evidence, _ = reference.posterior(tail, label)
    torch.testing.assert_close(post.marginals[-64:].cpu(), marginals, atol=5e-6, rtol=0)
    torch.testing.assert_close(post.log_evidence[-64:].cpu(), log_evidence, atol=1e-3, rtol=1e-6)


@pytest.mark.parametrize("has_cupy", [True, False])
def test_both_float32_kernels_of_all_different_factors(has_cupy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from emnesy_gpu.kernels.cuda import loader

    if has_cupy and not loader.available():
        pytest.skip("needs CuPy")
    monkeypatch.setattr(loader, "available", lambda: has_cupy)
    problem, label = em.Sudoku(9), torch.arange(5) % 2
    logits = torch.randn(5, 9, 9, 9, generator=torch.Generator().manual_seed(0))
    expected = em.posterior(problem, logits, label, em.BeliefPropagation())
    found = em.posterior(problem, logits.cuda(), label.cuda(), em.BeliefPropagation())
    torch.testing.assert_close(found.marginals.cpu(), expected.marginals, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.log_evidence.cpu(), expected.log_evidence, atol=1e-4, rtol=1e-5)


def test_map_of_a_board_has_the_same_bits_in_any_batch() -> None:
    logits = torch.randn(33, 9, 9, 9, generator=torch.Generator().manual_seed(0)).cuda()
    label = torch.arange(33).cuda() % 2
    together = em.posterior(em.Sudoku(9), logits, label, em.MAP())
    alone = em.posterior(em.Sudoku(9), logits[:1], label[:1], em.MAP())
    assert torch.equal(together.log_evidence[:1], alone.log_evidence)
    assert torch.equal(together.info["assignment"][:1], alone.info["assignment"])
