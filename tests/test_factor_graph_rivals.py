"""What others compute on factor graphs agrees where it must: exact marginals on trees, and flooding sweeps on loops."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.baselines import factor_graph_peers as peers
from emnesy_gpu.baselines.factor_graph_torch import Pairs, beliefs
from emnesy_gpu.benchmarks.factor_graph import SWEEPS, Model, bipartite, calls, code, cycle, errors, grid, inputs, tree
from emnesy_gpu.benchmarks.factor_graph import roster as counted
from emnesy_gpu.benchmarks.measure import medians_in_turns
from profiling import code_error_rates
from profiling.factor_graph_rivals import CELLS, METHODS, compare_sweeps

CPU, ROOT = torch.device("cpu"), Path(__file__).parents[1]
TOLERANCE = 1e-5
SMALL = {"grid": lambda: grid(3, 3), "cycle": lambda: cycle(5, 2), "bipartite": lambda: bipartite(4)}
SMALL |= {"tree": lambda: tree(7, 3), "roster": lambda: counted(4, 2)}


def logits_of(found: Model, rows: int = 3) -> torch.Tensor:
    shape = rows, found.graph.n_variables, found.graph.cardinality
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def flooding(found: Model, logits: torch.Tensor, sweeps: int = SWEEPS, damping: float = 0.0) -> em.Posterior:
    engine = em.BeliefPropagation(sweeps, damping, schedule="flooding")
    return em.posterior(found.graph, logits, torch.ones(len(logits), dtype=torch.int64), engine)


@pytest.mark.parametrize("name", SMALL)
def test_plain_torch_agrees_with_the_reference(name: str) -> None:
    found = SMALL[name]()
    logits = logits_of(found)
    with em.backend("reference"):
        expected = flooding(found, logits).marginals
    torch.testing.assert_close(beliefs([found.factors], logits, SWEEPS), expected, rtol=0, atol=TOLERANCE)


def test_plain_torch_agrees_with_the_reference_on_parities() -> None:
    found, logits, label = code(), *inputs("code-504", 2, CPU)[1:3]
    with em.backend("reference"):
        engine = em.BeliefPropagation(2, schedule="flooding")
        expected = em.posterior(found.graph, logits.double(), label, engine).marginals
    torch.testing.assert_close(beliefs([found.factors], logits.double(), 2), expected, rtol=0, atol=1e-9)


def test_sweeps_are_timed_without_the_call_around_them(capsys: pytest.CaptureFixture[str]) -> None:
    compare_sweeps(["tree-63-of-3/1"], turns=1)
    *_, line = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\| tree-63-of-3/1 \| -?\d+\.\d\d \| -?\d+\.\d\d \|", line)


def test_every_method_of_the_benchmark_agrees_with_the_others() -> None:
    found = errors(*inputs("tree-63-of-3", 1, CPU))
    assert set(found) >= {"fused", "fused serial", "torch"}
    assert max(found.values()) < TOLERANCE


@pytest.mark.parametrize("name", ["grid", "cycle", "bipartite", "tree"])
def test_pgmax_agrees_on_the_same_schedule(name: str) -> None:
    pytest.importorskip("pgmax")
    found = SMALL[name]()
    logits = logits_of(found)
    run = peers.pgmax(found.factors, found.graph.n_variables, SWEEPS)
    torch.testing.assert_close(run(logits), flooding(found, logits).marginals, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("package", "run"), [("pgmpy", peers.pgmpy), ("pyagrum", peers.pyagrum)])
def test_exact_packages_agree_on_trees(package: str, run) -> None:
    pytest.importorskip(package)
    found = tree(7, 3)
    logits = logits_of(found).double()
    expected = em.posterior(found.graph, logits, torch.ones(3, dtype=torch.int64)).marginals
    marginals = run(found.factors, found.graph.n_variables, found.graph.cardinality)(logits)
    torch.testing.assert_close(marginals.double(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("package", ["pgmax", "pgmpy", "pyagrum"])
def test_the_examples_of_the_page_give_the_same_here_and_there(package: str) -> None:
    pytest.importorskip(package)
    if package == "pgmax":
        peers.give_jax_its_old_names()
    page = (ROOT / "docs" / "factor_graphs.md").read_text()
    theirs = next(block for block in re.finditer(r"```py\n(.*?)```", page, re.DOTALL) if package in block[1])
    ours = re.compile(r"```python\n(.*?)```", re.DOTALL).search(page, theirs.end())
    assert ours is not None
    namespace: dict[str, Any] = {"torch": torch, "em": em}
    exec(ours[1], namespace)
    exec(theirs[1], namespace)
    np.testing.assert_allclose(np.asarray(namespace["ours"]), np.asarray(namespace["theirs"]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("package", ["pgmpy", "pyagrum"])
def test_loopy_beliefs_are_not_taken_for_exact_ones(package: str) -> None:
    """On a loop of strong tables the packages and belief propagation differ: a test of the test."""
    pytest.importorskip(package)
    weights = torch.tensor([[9.0, 1.0], [1.0, 9.0]])
    scopes = torch.tensor([[0, 1], [1, 2], [0, 2]])
    graph = em.FactorGraph(3, 2)
    graph.add(em.factors.pairwise(weights), scopes.numpy())
    found = Model(graph, Pairs(scopes, weights))
    logits = logits_of(found)
    exact = getattr(peers, package)(found.factors, 3, 2)(logits)
    assert (exact - flooding(found, logits).marginals).abs().max() > 1e-2


def test_ldpc_decodes_the_same_words() -> None:
    pytest.importorskip("ldpc")
    graph, logits, label, factors = inputs("code-504", 64, CPU)
    bits, sweeps = peers.ldpc(factors.scopes, graph.n_variables, 50)(logits)
    ours = em.posterior(graph, logits, label, em.BeliefPropagation(50, schedule="flooding")).marginals.argmax(-1)
    assert (bits.any(1) != ours.any(1)).sum() <= 1
    assert 1 < sweeps.double().mean() < 30


def test_medians_time_the_methods_that_exist() -> None:
    found = calls(*inputs("tree-63-of-3", 1, CPU))
    times = medians_in_turns({"fused": found["fused"]})
    assert set(times) <= set(METHODS)
    assert times["fused"] > 0.0
    assert all(cell.batch >= 1 for cell in CELLS.values())


def test_no_two_checks_of_the_code_share_two_bits() -> None:
    checks = code_error_rates.code(504, torch.Generator().manual_seed(1))
    assert (checks.flatten().bincount() == 3).all()
    shared = (checks[:, None, :, None] == checks[None, :, None, :]).sum((2, 3))
    assert (shared.diagonal() == 6).all()
    assert torch.triu(shared, 1).max() == 1


def test_an_error_rate_of_8000_bits_is_the_published_one() -> None:
    engine = em.BeliefPropagation(code_error_rates.PUBLISHED_SWEEPS, schedule="flooding")
    graph = code_error_rates.graph_of(code_error_rates.PUBLISHED_BITS)
    counts = code_error_rates.decode(graph, 1.4, 128, engine, seed=1)
    assert abs(counts.words - code_error_rates.PUBLISHED[1.4][1]) < 0.15  # three deviations of 128 words


def test_the_error_rates_fall_with_the_noise(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(sys, "argv", ["code_error_rates.py", "200", str(tmp_path / "curve.png")])
    code_error_rates.main()
    wrong = [float(value) for value in re.findall(r"wrong words (\S+),", capsys.readouterr().out)]
    assert wrong[0] > wrong[1] > wrong[2] > wrong[-1]
    # 0.27 in longer runs.
    assert 0.15 < wrong[1] < 0.45
    assert (tmp_path / "curve.png").stat().st_size > 0
