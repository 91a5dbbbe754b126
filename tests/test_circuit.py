"""Circuits against brute force by what they mean, counting identities, and derivatives by autograd."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.tables import make_tables
from emnesy_gpu.kernels.cpu import circuit as cpu
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.reference import circuit as reference
from tests.backends import Backend
from tests.circuits import (
    Example,
    all_examples,
    enumerated,
    exactly_graph,
    parity,
    parity_graph,
    permutation_graph,
    random_example,
)

EXAMPLES = all_examples()
NEG_INF = float("-inf")
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


def call(name: str, *arguments):
    return getattr(torch.ops.emnesy_gpu, name)(*arguments)


def drawn_labels(example: Example, batch: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels (-1 where an entry is not given), and rows of the reference."""
    logits, rows = example.draw(batch)
    return logits, rows.long() - 1, rows


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), **TOLERANCE)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_posterior_is_that_of_enumeration(backend: Backend, example: Example) -> None:
    c = example.compiled()
    logits, label, rows = drawn_labels(example)
    expected = enumerated(example, logits, rows)
    marginals, log_evidence, possible = backend.run(
        call, "circuit_posterior", logits, label, tuple(c.tables), c.tape_rows, False, True
    )
    assert torch.equal(possible, expected.log_evidence > NEG_INF)
    assert_close(log_evidence, expected.log_evidence)
    prior = torch.softmax(logits.double(), -1)
    assert_close(marginals, torch.where(possible[:, None, None], expected.marginals, prior))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_gradient_is_that_of_enumeration(backend: Backend, example: Example) -> None:
    c = example.compiled()
    logits, label, rows = drawn_labels(example)
    expected = enumerated(example, logits, rows)
    gradient, log_evidence = backend.run(
        call, "circuit_em_gradient", logits, label, tuple(c.tables), c.tape_rows, True, 0.3, True
    )
    possible = expected.log_evidence > NEG_INF
    difference = 0.3 * (torch.softmax(logits.double(), -1) - expected.marginals)
    assert_close(gradient[possible], difference[possible])
    assert (gradient[~possible] == 0.0).all()
    assert_close(log_evidence, expected.log_evidence)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_map_is_the_best_of_all_assignments(backend: Backend, example: Example) -> None:
    c = example.compiled()
    logits, label, rows = drawn_labels(example)
    expected = enumerated(example, logits, rows)
    z, log_joint, possible = backend.run(call, "circuit_map", logits, label, tuple(c.tables), True)
    best = expected.log_joint.amax(1)
    assert torch.equal(possible, best > NEG_INF)
    assert_close(log_joint, best)
    index = (z[:, None] == example.meanings()[0]).all(-1).long().argmax(1)
    found = expected.log_joint.gather(1, index[:, None])[:, 0]
    assert_close(found[possible], best[possible])
    assert torch.equal(z[~possible], logits.argmax(-1)[~possible])


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_samples_have_the_label_and_are_those_of_the_reference(backend: Backend, example: Example) -> None:
    c = example.compiled()
    logits, label, rows = drawn_labels(example)
    z, status = backend.run(call, "circuit_sample", logits, label, tuple(c.tables), 4, 2**63 - 1, 2**33, True)
    log_joint = enumerated(example, logits, rows).log_joint
    index = (z[:, :, None] == example.meanings()[0]).all(-1).long().argmax(-1)
    scores = log_joint.gather(1, index.T)
    assert (scores[status == POSSIBLE] > NEG_INF).all()
    expected, _ = reference.sample(logits, rows, c.tables, 4, 2**63 - 1, 2**33)
    # A uniform within rounding of a boundary may fall on its other side.
    assert (z != expected).any(-1).sum() <= 1


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example.graph.given], ids=str)
@pytest.mark.parametrize("wide", [False, True])
def test_predictions_are_the_evidence_of_every_label(backend: Backend, example: Example, wide: bool) -> None:
    c = example.compiled(prediction=True)
    logits, _, rows = drawn_labels(example)
    log_p, status = backend.run(call, "circuit_predict", logits, tuple(c.tables), c.tape_rows, wide, True)
    assert (status == POSSIBLE).all()
    columns = []
    for entry, size in enumerate(example.graph.given):
        for value in range(size):
            alone = torch.zeros_like(rows)
            alone[:, entry] = value + 1
            columns.append(enumerated(example, logits, alone).log_evidence)
    assert_close(log_p, torch.stack(columns, 1))


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example.graph.given], ids=str)
def test_assignments_have_the_values_of_their_labels_alone(backend: Backend, example: Example) -> None:
    c, z = example.compiled(prediction=True), example.meanings()[0][:150]
    truth = backend.run(call, "circuit_truth", z, tuple(c.tables), c.tape_rows, example.graph.n_values)
    for row, values in zip(truth, z.tolist(), strict=True):
        label = example.label(tuple(values))
        entries = row.split(list(example.graph.given))
        assert [entry.nonzero().flatten().tolist() for entry in entries] == [[y] for y in label or ()] or (
            label is None and not row.any()
        )


def test_labels_and_logits_that_are_not_allowed(backend: Backend) -> None:
    c = parity(3)

    def posterior(logits: Tensor, label: int) -> None:
        backend.run(
            call, "circuit_posterior", logits, torch.tensor([[0], [label]]), tuple(c.tables), c.tape_rows, False, True
        )

    for code in (2, -2, 2**40):
        with pytest.raises(ValueError, match=rf"label\[1, 0\] must be the code of a label.* got {code}"):
            posterior(torch.zeros(2, 3, 2), code)
    broken = torch.zeros(2, 3, 2)
    broken[1, 2, 0] = float("nan")
    with pytest.raises(ValueError, match=r"logits\[1, 2, 0\] must be finite or -inf, got nan"):
        posterior(broken, 1)
    broken[1, 2] = NEG_INF
    labels = make_tables(parity_graph(3), prediction=True)
    with pytest.raises(ValueError, match=r"logits\[1, 2\] must have at least one finite value"):
        backend.run(call, "circuit_predict", broken, tuple(labels.tables), labels.tape_rows, False, True)


def test_codes_stand_for_values(backend: Backend) -> None:
    """Parity named by the codes 7 and 3."""
    c = make_tables(parity_graph(3), codes=[{7: 0, 3: 1}])
    logits, label = torch.randn(3, 3, 2), torch.tensor([[7], [3], [-1]])
    found = backend.run(call, "circuit_posterior", logits, label, tuple(c.tables), c.tape_rows, False, True)
    rows = torch.tensor([[1], [2], [0]], dtype=torch.int32)
    expected = reference.posterior(logits.double(), rows, c.tables, c.tape_rows, False)
    assert_close(found[0], expected[0])


def log_count(graph: Graph) -> float:
    """The log of the number of assignments that satisfy a circuit without a label."""
    c = make_tables(graph)
    logits = torch.zeros(1, graph.n_symbols, graph.n_values, dtype=torch.float64)
    _, log_evidence, _ = cpu.posterior(logits, torch.zeros(1, 0, dtype=torch.int32), c.tables, c.tape_rows, False)
    return float(log_evidence) + graph.n_symbols * math.log(graph.n_values)


def test_uniform_symbols_count_assignments() -> None:
    assert log_count(permutation_graph(8, 8, labelled=False)) == pytest.approx(math.log(math.factorial(8)), abs=1e-12)
    assert log_count(permutation_graph(3, 9, labelled=False)) == pytest.approx(math.log(9 * 8 * 7), abs=1e-12)
    assert log_count(exactly_graph(10, 100)) == pytest.approx(math.log(math.comb(100, 10)), abs=1e-11)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_marginals_of_the_reference_are_derivatives_of_the_log_evidence(example: Example) -> None:
    """p(z_i = v | label) = p_i(v) + d log Z / d logits, by autograd through the values in linear space."""
    c = example.compiled()
    logits, _, rows = drawn_labels(example)
    leaf = logits.double().requires_grad_()
    z = evidence(example.graph, leaf, rows)
    possible = z > 0.0
    (derivative,) = torch.autograd.grad(z[possible].log().sum() + 0.0 * leaf.sum(), leaf)
    marginals, log_evidence, _ = reference.posterior(logits.double(), rows, c.tables, c.tape_rows, False)
    expected = torch.softmax(leaf.detach(), -1) + derivative
    torch.testing.assert_close(marginals[possible], expected[possible], rtol=0, atol=1e-14)
    torch.testing.assert_close(log_evidence, z.detach().log(), rtol=0, atol=1e-13)


def evidence(graph: Graph, logits: Tensor, rows: Tensor) -> Tensor:
    """Z [batch], node by node."""
    values = list(torch.softmax(logits, -1).flatten(1).T)
    for entry, size in enumerate(graph.given):
        values += [((rows[:, entry] == 0) | (rows[:, entry] == v + 1)).double() for v in range(size)]
    values.append(torch.ones(len(logits), dtype=torch.float64))
    for first, last in zip(graph.first[:-1].tolist(), graph.first[1:].tolist(), strict=True):
        terms = zip(graph.left[first:last].tolist(), graph.right[first:last].tolist(), strict=True)
        values.append(torch.stack([values[a] * values[b] for a, b in terms]).sum(0))
    return values[-1]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3)),
    seed=st.integers(0, 2**31),
    sd=st.sampled_from([0.5, 4.0, 40.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    zeros=st.sampled_from([0.0, 0.3]),
)
def test_random_diagrams(sizes, seed, sd, dtype, zeros) -> None:
    n, k, states, labels = sizes
    example = random_example(n, k, states, max(labels, 1), seed)
    if example is None:
        return
    c = example.compiled()
    logits, rows = example.draw(5, sd, seed)
    logits = logits.to(dtype)
    logits[..., 1:][torch.rand(logits[..., 1:].shape) < zeros] = NEG_INF
    expected = enumerated(example, logits, rows)
    marginals, log_evidence, status = cpu.posterior(logits, rows, c.tables, c.tape_rows, False)
    possible = expected.log_evidence > NEG_INF
    assert torch.equal(status == POSSIBLE, possible)
    assert_close(log_evidence, expected.log_evidence)
    assert_close(marginals[possible], expected.marginals[possible])
    _, log_joint, _ = cpu.map_assignment(logits, rows, c.tables)
    assert_close(log_joint, expected.log_joint.amax(1))


def test_a_hard_zero_removes_a_value() -> None:
    """Where the first of three different symbols is known, the posterior is that of the other two without its value."""
    c = make_tables(permutation_graph(3, 3, labelled=False))
    logits = torch.randn(1, 3, 3, dtype=torch.float64)
    logits[0, 0, 1:] = NEG_INF
    marginals, _, _ = cpu.posterior(logits, torch.zeros(1, 0, dtype=torch.int32), c.tables, c.tape_rows, False)
    assert marginals[0, 0, 1:].tolist() == [0.0, 0.0]
    assert marginals[0, 0, 0].item() == pytest.approx(1.0, abs=1e-15)
    assert (marginals[0, 1:, 0] == 0.0).all()
    odds = (logits[0, 1, 1] + logits[0, 2, 2] - logits[0, 1, 2] - logits[0, 2, 1]).sigmoid()
    torch.testing.assert_close(marginals[0, 1, 1], odds)
