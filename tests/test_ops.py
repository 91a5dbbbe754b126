"""Promises about the operators: registration, compilation, constants, strides, and clear errors."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu.ops import METHODS, NAMES
from tests.cases import Case
from tests.circuits import parity
from tests.factor_graphs import draw, loops

OPS = torch.ops.emnesy_gpu


def sum_arguments(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    logits, label = Case(3, batch=3).draw()
    return logits.to(dtype), label


def board_arguments(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return logits.to(dtype), torch.tensor([1, 0, 1])


BOARD = em.Sudoku(4)
TABLES = BOARD.tables(torch.device("cpu"))
CIRCUIT = BOARD._circuit_on(torch.device("cpu"))
GRAPH = (TABLES.groups, BOARD.serial_phases)
SCORES = BOARD._score_tables_on(torch.device("cpu"))
NEIGHBOURS = (TABLES.neighbours, TABLES.reverse, TABLES.order, [16])
SUM_OPS = {
    "carry_chain_posterior": (True,),
    "carry_chain_em_gradient": (0.5, True),
    "carry_chain_map": (True,),
    "carry_chain_sample": (2, 7, 0, True),
}
BOARD_OPS = {
    "enumeration_posterior": (TABLES.assignments, list(CIRCUIT.tables), CIRCUIT.tape_rows, True),
    "enumeration_em_gradient": (TABLES.assignments, list(CIRCUIT.tables), CIRCUIT.tape_rows, 0.5, True),
    "enumeration_map": (TABLES.assignments, TABLES.pairs, True),
    "enumeration_sample": (TABLES.assignments, list(CIRCUIT.tables), 2, 7, 0, True),
    "all_different_belief_propagation": (TABLES.neighbours, *GRAPH, 2, 0.0, 0.0, False, True),
    "all_different_map": (*GRAPH, TABLES.pairs, True),
    "not_equal_belief_propagation": (*NEIGHBOURS, 2, 0.0, 0.0, False, True),
    "abc_sampling_posterior": (
        *(SCORES.members, SCORES.incident, *SCORES.exponents["exponential", True]),
        *(2.0, 0.0, 50, 7, 0, True),
    ),
    "gibbs_marginals": (
        *(SCORES.memberships, TABLES.neighbours, SCORES.n_groups, SCORES.most_conflicts),
        *(2, 4, 2.0, 7, 0, True),
    ),
}
RULE = em.rules.compare(2, base=4)
AUTOMATON_OPS = {
    "automaton_posterior": ([], True),
    "automaton_em_gradient": ([], 0.5, True),
    "automaton_map": (True,),
    "automaton_sample": (2, 7, 0, True),
}
PARITY, PARITY_LABELS = parity(3), parity(3, prediction=True)
CIRCUIT_OPS = {
    "circuit_posterior": (PARITY.tape_rows, False, True),
    "circuit_em_gradient": (PARITY.tape_rows, False, 0.5, True),
    "circuit_map": (True,),
    "circuit_sample": (2, 7, 0, True),
}
LOGITS_OPS = {"abc_sampling_draw": (5, 7, 0, 0)}
MAPS = em.ShortestPath(3, 3)
COSTS = MAPS._integer_costs(torch.device("cpu"))
MAP_OPS = {"grid_paths_posterior": (COSTS, MAPS.unit, "cells", "exponential", 1.0, 0.0, 40, 7, 0, False, True)}
FACTORS = loops()
FACTOR_TABLES = FACTORS.tables(torch.device("cpu")).to_list()
FACTOR_OPS = {
    "factor_graph_belief_propagation": (FACTOR_TABLES, 2, 0.0, "serial", 0.0, False, True),
    "factor_graph_map": (FACTOR_TABLES, True),
}
ALL = FACTOR_OPS | SUM_OPS | BOARD_OPS | AUTOMATON_OPS | CIRCUIT_OPS | LOGITS_OPS | MAP_OPS
ALL |= {"grid_paths_shortest_path": (), "circuit_predict": (PARITY_LABELS.tape_rows, False, True)}
ALL |= {"circuit_truth": (PARITY_LABELS.tape_rows, 2)}


def map_arguments(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    return logits.to(dtype), MAPS.label(logits.argmax(-1))


def rule_arguments(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    logits = torch.randn(3, 2, 2, 4, generator=torch.Generator().manual_seed(0))
    return RULE._inputs(logits.to(dtype), torch.tensor([0, 2, -1]))


def circuit_arguments(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    logits = torch.randn(3, 3, 2, generator=torch.Generator().manual_seed(0))
    return logits.to(dtype), torch.tensor([[0], [1], [-1]]), list(PARITY.tables)


def arguments(op: str, dtype: torch.dtype = torch.float32):
    if op == "grid_paths_shortest_path":
        ends = torch.zeros(2, dtype=torch.int32)
        return COSTS[torch.arange(18).view(2, 3, 3) % 5], ends, ends + 8
    if op == "circuit_truth":
        return (torch.tensor([[0, 1, 1], [1, 1, 1]]), list(PARITY_LABELS.tables), *ALL[op])
    if op == "circuit_predict":
        return (circuit_arguments(dtype)[0], list(PARITY_LABELS.tables), *ALL[op])
    if op in AUTOMATON_OPS | CIRCUIT_OPS:
        return (*(rule_arguments if op in AUTOMATON_OPS else circuit_arguments)(dtype), *ALL[op])
    if op in FACTOR_OPS:
        return (*draw(FACTORS, 3, dtype=dtype), *ALL[op])
    inputs = (sum_arguments if op in SUM_OPS else map_arguments if op in MAP_OPS else board_arguments)(dtype)
    return (*(inputs[:1] if op in LOGITS_OPS else inputs), *ALL[op])


@pytest.mark.parametrize("op", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck(op: str, dtype: torch.dtype) -> None:
    torch.library.opcheck(getattr(OPS, op).default, arguments(op, dtype))


def test_every_registered_operator_is_checked() -> None:
    registered = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if "emnesy_gpu::" in name}
    assert registered == set(NAMES) | set(METHODS)
    assert set(ALL) == set(NAMES)


def step_with_posterior(model, problem, x, label):
    logits = model(x)
    loss = em.em_loss(logits, em.posterior(problem, logits, label))
    loss.backward()
    return loss


def step_with_fused_loss(model, problem, x, label):
    loss = em.fused_em_loss(problem, model(x), label)
    loss.backward()
    return loss


STEPS = [
    (step_with_posterior, em.Addition(2)),
    (step_with_fused_loss, em.Addition(2)),
    (step_with_posterior, em.Sudoku(4)),
    (step_with_fused_loss, em.Sudoku(4)),
    (step_with_posterior, em.Sudoku(9)),
]


@pytest.mark.parametrize(("step", "problem"), STEPS)
def test_a_training_step_compiles_without_a_graph_break(step, problem: em.Problem) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(7, problem.cardinality)
    x = torch.randn(4, *problem.latent_shape, 7)
    label = problem.label(torch.randint(0, problem.cardinality, (4, *problem.latent_shape)))
    expected = step(model, problem, x, label)
    gradient = model.weight.grad.clone()
    model.zero_grad()

    def loss_of(x, label):
        logits = model(x)
        if step is step_with_fused_loss:
            return em.fused_em_loss(problem, logits, label)
        return em.em_loss(logits, em.posterior(problem, logits, label))

    torch._dynamo.reset()
    loss = torch.compile(loss_of, fullgraph=True, backend="aot_eager")(x, label)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(model.weight.grad, gradient)


def test_checks_raise_inside_a_compiled_graph() -> None:
    problem = em.Addition(2)
    compiled = torch.compile(
        lambda logits, label: em.posterior(problem, logits, label).marginals, fullgraph=True, backend="aot_eager"
    )
    with pytest.raises(ValueError, match=r"label\[0, 1\] must be a digit in 0..9, got 11"):
        compiled(torch.zeros(1, 2, 2, 10), torch.tensor([[0, 11, 0]]))


def test_results_are_constants(backend) -> None:
    logits, label = Case(2, base=4, batch=2).draw()
    logits.requires_grad_()
    problem = em.Addition(2, base=4)
    for engine in (em.Exact(), em.MAP()):
        post = backend.run(em.posterior, problem, logits, label, engine)
        assert not post.marginals.requires_grad
        assert not post.log_evidence.requires_grad
    assert not backend.run(em.sample_posterior, problem, logits, label, 1, seed=0).requires_grad


def test_an_empty_batch(backend) -> None:
    problem = em.Addition(3)
    logits, label = torch.zeros(0, 2, 3, 10), torch.zeros(0, 4, dtype=torch.int64)
    post = backend.run(em.posterior, problem, logits, label)
    assert post.marginals.shape == logits.shape
    assert post.log_evidence.shape == post.possible.shape == (0,)
    assert backend.run(em.posterior, problem, logits, label, em.MAP()).marginals.shape == logits.shape
    assert backend.run(em.sample_posterior, problem, logits, label, 2, seed=0).shape == (2, 0, 2, 3)
    assert backend.run(fused_value, problem, logits, label) == 0


def fused_value(problem, logits, label) -> float:
    logits = logits.detach().clone().requires_grad_()
    loss = em.fused_em_loss(problem, logits, label)
    loss.backward()
    assert logits.grad.shape == logits.shape
    return loss.item()


def strided(logits: torch.Tensor, how: str) -> torch.Tensor:
    """The same values under other strides or at another alignment."""
    if how == "transposed":
        return logits.transpose(1, 3).contiguous().transpose(1, 3)
    if how == "sliced":
        return torch.stack([logits, logits], -1)[..., 0]
    storage = torch.empty(logits.numel() + 1)
    view = storage[1:].view(logits.shape)
    return view.copy_(logits)


@pytest.mark.parametrize("how", ["transposed", "sliced", "misaligned"])
def test_strides_do_not_matter(backend, how: str) -> None:
    logits, label = Case(5).draw()
    expected = backend.run(em.posterior, em.Addition(5), logits, label)
    post = backend.run(em.posterior, em.Addition(5), strided(logits, how), strided_label(label))
    assert torch.equal(post.marginals, expected.marginals)


def strided_label(label: torch.Tensor) -> torch.Tensor:
    return label.t().contiguous().t()


def test_expanded_inputs(backend) -> None:
    logits, label = Case(5, batch=1).draw()
    expected = backend.run(em.posterior, em.Addition(5), logits, label)
    post = backend.run(em.posterior, em.Addition(5), logits.expand(4, -1, -1, -1), label.expand(4, -1))
    assert torch.equal(post.marginals, expected.marginals.expand(4, -1, -1, -1))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_integer_labels_of_any_width(dtype: torch.dtype) -> None:
    logits, label = Case(3).draw()
    expected = em.posterior(em.Addition(3), logits, label)
    assert torch.equal(em.posterior(em.Addition(3), logits, label.to(dtype)).marginals, expected.marginals)


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


LABEL = torch.zeros(2, 4, dtype=torch.int64)

MISTAKES = [
    ([1.0], LABEL, TypeError, "logits must be a torch.Tensor, got list"),
    (zeros(2, 2, 3, 10).int(), LABEL, TypeError, "logits must have one of the dtypes float32.*got int32"),
    (zeros(2, 2, 3, 10), LABEL.float(), TypeError, "label must have one of the dtypes int64.*got float32"),
    (zeros(2, 2, 3, 9), LABEL, ValueError, r"logits must have shape \[batch, 2, 3, 10\], got \[2, 2, 3, 9\]"),
    (zeros(2, 3, 10), LABEL, ValueError, r"logits must have shape \[batch, 2, 3, 10\], got \[2, 3, 10\]"),
    (zeros(2, 2, 3, 10), LABEL[:, :3], ValueError, r"label must have shape \[batch, 4\], got \[2, 3\]"),
    (zeros(3, 2, 3, 10), LABEL, ValueError, "batch size of logits: expected 3, got 2"),
    (zeros(2, 2, 3, 10), LABEL.to("meta"), ValueError, "label must be on the device of logits: expected cpu, got meta"),
]


@pytest.mark.parametrize(("logits", "label", "error", "message"), MISTAKES)
def test_wrong_arguments(logits, label, error, message) -> None:
    for function in (em.posterior, em.fused_em_loss, lambda *args: em.sample_posterior(*args, 1, seed=0)):
        with pytest.raises(error, match=message):
            function(em.Addition(3), logits, label)


VALUES = [
    ("nan", r"logits\[1, 0, 1, 3\] must be finite or -inf, got nan"),
    ("inf", r"logits\[1, 0, 1, 3\] must be finite or -inf, got inf"),
    ("empty", r"logits\[1, 0, 1\] must have at least one finite value, got -inf for every value"),
    ("large digit", r"label\[1, 1\] must be a digit in 0..3, got 4"),
    ("negative digit", r"label\[1, 0\] must be a digit in 0..3, got -1"),
    ("huge digit", r"label\[1, 2\] must be a digit in 0..3, got 9223372036854775807"),
]


def spoilt(kind: str, n_addends: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    logits, label = Case(2, base=4, n_addends=n_addends, batch=3).draw()
    if kind in ("nan", "inf"):
        logits[1, 0, 1, 3] = float(kind)
    elif kind == "empty":
        logits[1, 0, 1] = float("-inf")
    else:
        column, digit = {"large digit": (1, 4), "negative digit": (0, -1), "huge digit": (2, 2**63 - 1)}[kind]
        label[1, column] = digit
    return logits, label


@pytest.mark.parametrize(("kind", "message"), VALUES)
@pytest.mark.parametrize("n_addends", [2, 3])
def test_wrong_values(backend, kind: str, message: str, n_addends: int) -> None:
    logits, label = spoilt(kind, n_addends)
    problem = em.Addition(2, base=4, n_addends=n_addends)
    calls = [
        lambda: backend.run(em.posterior, problem, logits, label),
        lambda: backend.run(em.posterior, problem, logits, label, em.MAP()),
        lambda: backend.run(em.fused_em_loss, problem, logits, label),
        lambda: backend.run(em.sample_posterior, problem, logits, label, 1, seed=0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("kind", [kind for kind, _ in VALUES])
@pytest.mark.parametrize("n_addends", [2, 3])
def test_unchecked_values_stay_in_their_row(backend, kind: str, n_addends: int) -> None:
    logits, label = spoilt(kind, n_addends)
    problem = em.Addition(2, base=4, n_addends=n_addends)
    good = [0, 2]
    expected = backend.run(em.posterior, problem, logits[good], label[good])
    post = backend.run(em.posterior, problem, logits, label, check=False)
    assert torch.equal(post.marginals[good], expected.marginals)
    assert not post.possible[1]
    z = backend.run(em.sample_posterior, problem, logits, label, 1, seed=0, check=False)
    best = backend.run(em.posterior, problem, logits, label, em.MAP(), check=False)
    for digits in (z, best.info["assignment"]):
        assert ((digits >= 0) & (digits < 4)).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, r"n_digits must be an integer in 1\.\.1048576, got 0"),
        ((2.0,), TypeError, r"n_digits must be an integer in 1\.\.1048576, got 2.0"),
        ((2, 33), ValueError, "base must be an integer in 2..32, got 33"),
        ((2, 10, 5), ValueError, "n_addends must be an integer in 2..4, got 5"),
    ],
)
def test_wrong_problem(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        em.Addition(*arguments)


def test_wrong_engine() -> None:
    @runtime_checkable
    class OddProblem(Protocol):
        def no_such_inference(self) -> None: ...

    class Odd(em.Engine):
        asks = OddProblem

        def infer(self, problem, logits, label, check):
            raise AssertionError("no problem supports this engine")

    with pytest.raises(em.UnsupportedEngineError, match=r"engines that do: em.Exact\(\), .*em.MAP\(\)"):
        em.posterior(em.Addition(1), torch.zeros(1, 2, 1, 10), torch.zeros(1, 2, dtype=torch.int64), Odd())
    with pytest.raises(TypeError, match="engine must be an Engine"):
        em.posterior(em.Addition(1), torch.zeros(1, 2, 1, 10), torch.zeros(1, 2, dtype=torch.int64), "exact")


def test_wrong_backend() -> None:
    with pytest.raises(ValueError, match="backend must be one of"), em.backend("gpu"):
        pass
