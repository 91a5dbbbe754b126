"""Bayesian networks and UAI files: what they say, and one-line errors for everything else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import emnesy_gpu as em
from emnesy_gpu.errors import GraphFileError
from tests.factor_graphs import assignments, enumerate_posterior

MARKOV = """MARKOV
3
2 2 3
c a comment
2
2 0 1
3 0 1 2

4
 1.0 0.5
 0.25 2e-1
12
 0.1 0.2 0.3 0.4 0.5 0.6
 0.7 0.8 0.9 1.0 1.1 0
"""
BAYES = "BAYES\n3\n2 2 2\n3\n1 0\n1 1\n3 1 0 2\n2 0.8 0.2\n2 0.7 0.3\n8 1 0 0.2 0.8 0.1 0.9 0.01 0.99\n"


def test_a_markov_file_has_its_partition_function() -> None:
    graph = em.FactorGraph.from_uai(MARKOV)
    z = assignments(graph)
    z = z[(z[:, :2] < 2).all(1)]
    first = torch.tensor([[1.0, 0.5], [0.25, 0.2]], dtype=torch.float64)
    second = torch.tensor([*range(1, 12), 0], dtype=torch.float64).view(2, 2, 3) / 10
    expected = first[z[:, 0], z[:, 1]] * second[z[:, 0], z[:, 1], z[:, 2]]
    torch.testing.assert_close(graph.log_weight(z).exp(), expected)


def test_a_bayes_file_is_the_network_of_its_tables() -> None:
    wet = [[[1.0, 0.0], [0.2, 0.8]], [[0.1, 0.9], [0.01, 0.99]]]
    tables = {0: ([], [0.8, 0.2]), 1: ([], [0.7, 0.3]), 2: ([1, 0], wet)}
    network, from_file = em.FactorGraph.from_conditional_tables(2, tables), em.FactorGraph.from_uai(BAYES)
    logits = torch.zeros(1, 3, 2)
    for graph in (network, from_file):
        post = em.posterior(graph, logits, torch.tensor([1]))
        assert graph.is_tree
        assert post.log_evidence.item() == pytest.approx(-3 * math.log(2), abs=1e-6)  # probabilities have sum 1
        torch.testing.assert_close(post.marginals.double(), enumerate_posterior(network, logits)[0], atol=1e-6, rtol=0)


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "model.uai"
    path.write_text(MARKOV)
    for source in (path, str(path)):
        assert em.FactorGraph.from_uai(source).n_factors == 2
    with pytest.raises(GraphFileError, match=r"missing\.uai cannot be read: No such file"):
        em.FactorGraph.from_uai(tmp_path / "missing.uai")


def test_a_table_without_variables_scales_the_evidence() -> None:
    graph = em.FactorGraph.from_uai("MARKOV\n1\n2\n2\n0\n1 0\n1 3.0\n2 1 1\n")
    post = em.posterior(graph, torch.zeros(1, 1, 2), torch.tensor([1]))
    assert post.log_evidence.exp().item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MARKOV", "MARKVO", "line 1: a file must start with MARKOV or BAYES, got 'MARKVO'"),
        ("3\n2 2 3", "3\n2 2 x", "line 3: the cardinality of variable 2 must be an integer in 1..65536, got 'x'"),
        ("3\n2 2 3", "3\n2 0 3", "line 3: the cardinality of variable 1 must be an integer in 1..65536, got '0'"),
        ("MARKOV\n3\n", "MARKOV\n999999\n", "line 2: there must be 999999 cardinalities"),
        ("2 0 1", "2 0 7", "line 6: the scope of table 0 must be an integer in 0..2, got '7'"),
        ("2 0 1", "2 0 0", r"line 6: the scope of table 0 names a variable twice: \[0, 0\]"),
        ("4\n 1.0", "5\n 1.0", "table 0 must have 4 numbers, one for each assignment of its scope, got 5"),
        ("0.25", "-0.25", "line 11: table 0 must have finite numbers >= 0, got '-0.25'"),
        ("0.25", "nan", "line 11: table 0 must have finite numbers >= 0, got 'nan'"),
        ("1.1 0\n", "1.1\n", "table 1 must have 12 numbers, but 11 words are left: is the file cut off"),
        ("1.1 0\n", "1.1 0 9\n", "line 14: the file goes on after table 1"),
        (" 1.0 0.5\n 0.25 2e-1", " 0 0 0 0", "table 0 must have a number above 0"),
    ],
)
def test_files_that_are_wrong_are_named_with_their_line(old: str, new: str, message: str) -> None:
    assert old in MARKOV
    with pytest.raises(GraphFileError, match=f"text, .*{message}") as raised:
        em.FactorGraph.from_uai(MARKOV.replace(old, new, 1))
    assert "\n" not in str(raised.value)


def test_bayes_files_must_have_conditional_tables() -> None:
    with pytest.raises(GraphFileError, match=r"table 0 must have rows of sum 1, p\(value \| parents\), got 0.9"):
        em.FactorGraph.from_uai(BAYES.replace("0.8 0.2\n", "0.7 0.2\n"))
    with pytest.raises(GraphFileError, match="each table must be that of another variable"):
        em.FactorGraph.from_uai(BAYES.replace("3 1 0 2\n", "3 2 0 1\n"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_refused_in_one_line(data: st.DataObject) -> None:
    words = MARKOV.split(" ")
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(words) - 1))
        words[index] = data.draw(st.sampled_from(["", "\0", "9" * 30, "-1", "1e400", "\n", "é", "2", "0 0"]))
    errors = []
    try:
        em.FactorGraph.from_uai(" ".join(words) + "\n")
    except GraphFileError as error:
        errors.append(str(error))
    assert all("\n" not in error for error in errors)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({0: ([1], [[1, 0], [0, 1]]), 1: ([0], [[1, 0], [0, 1]])}, r"must not form a cycle, but those of \[0, 1\] do"),
        ({0: ([], [0.5, 0.4]), 1: ([], [1, 0])}, "the table of variable 0 must have rows of sum 1"),
        ({5: ([], [0.5, 0.5])}, "variables in 0..0 as keys, got 5"),
        ({0: ([], [0.5, 0.5]), 1: ([0], [0.5, 0.5])}, r"the table has the shape \(2,\)"),
    ],
)
def test_wrong_networks_are_named(tables, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        em.FactorGraph.from_conditional_tables(2, tables)
