"""Labels as users have them: other types, numbers, rows without a label, several labels, binary logits, more axes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

import emnesy_gpu as em
from tests.readme_matrix import PROBLEMS

PROBLEM = em.Addition(2)


def drawn(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(rows, 2, 2, 10, generator=torch.Generator().manual_seed(0))
    return logits, PROBLEM.label(logits.argmax(-1))


def drawn_for(problem: em.Problem, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the labels of the likeliest symbols; of a factor graph always label 1, which has an answer."""
    logits = torch.randn(rows, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(0))
    z = logits.argmax(-1)
    return logits, torch.ones(rows, dtype=torch.int64) if isinstance(problem, em.FactorGraph) else problem.label(z)


@pytest.mark.parametrize(
    "convert",
    [
        lambda label: label.numpy(),
        lambda label: label.tolist(),
        *(lambda label, dtype=dtype: label.to(dtype) for dtype in (torch.uint16, torch.uint32, torch.uint64)),
        *(lambda label, dtype=dtype: label.numpy().astype(dtype) for dtype in (np.int8, np.uint16, np.uint64)),
    ],
)
def test_labels_of_other_types_are_converted_on_request(convert) -> None:
    logits, label = drawn()
    assert torch.equal(em.as_label(convert(label)), label)
    if not isinstance(convert(label), torch.Tensor) or convert(label).dtype != torch.int64:
        with pytest.raises(TypeError, match=r"label must .*em\.as_label converts labels"):
            em.posterior(PROBLEM, logits, convert(label))


def test_bools_are_labels_of_boards() -> None:
    assert em.as_label(np.array([True, False])).tolist() == em.as_label(torch.tensor([True, False])).tolist() == [1, 0]


@pytest.mark.parametrize("values", [np.zeros(2), torch.zeros(2), ["a"]], ids=str)
def test_what_is_no_integer_is_no_label(values) -> None:
    with pytest.raises(TypeError, match="values must be integers or bools, got"):
        em.as_label(values)


def test_numbers_that_int64_does_not_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"below 2\*\*63"):
        em.as_label(np.array([2**63], np.uint64))
    with pytest.raises(ValueError, match=r"labelled must have shape \[4\], got \[3\]"):
        em.as_label([1, 2, 3, 4], labelled=[True] * 3)


def test_sums_are_encoded_as_digits() -> None:
    problem = em.Addition(17)
    z = torch.randint(0, 10, (5, 2, 17), generator=torch.Generator().manual_seed(0))
    label = problem.label(z)
    numbers = [int("".join(map(str, row))) for row in label.tolist()]
    assert max(numbers) > 10**17
    assert torch.equal(problem.encode(torch.tensor(numbers)), label)
    assert torch.equal(em.Addition(40).encode([10**40 + 7])[0, [0, -1]], torch.tensor([1, 7]))
    several = torch.tensor(numbers)[:4].view(2, 2)
    assert torch.equal(problem.encode(several), label[:4].unflatten(0, (2, 2)))
    assert torch.equal(em.Addition(30).encode(several).flatten(0, 1), em.Addition(30).encode(numbers[:4]))
    for wrong in (-1, 1000):
        for sums in ([5, wrong], torch.tensor([5, wrong])):
            with pytest.raises(ValueError, match=rf"numbers\[1\] must be an integer in 0\.\.999, got {wrong}"):
                PROBLEM.encode(sums)


NUMBERS = em.Addition(2, label="number")


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize(
    "engine",
    [em.Exact(), em.ABC(samples=64), em.Gibbs(1, 2), em.Rejection(64), em.MAP(), em.Partial(em.Exact())],
    ids=repr,
)
def test_integer_sums_are_labels_of_every_engine(engine: em.Engine) -> None:
    logits, label = drawn()
    sums = NUMBERS.label(logits.argmax(-1))
    assert sums.tolist() == [int("".join(map(str, row))) for row in label.tolist()]
    found, expected = em.posterior(NUMBERS, logits, sums, engine), em.posterior(PROBLEM, logits, label, engine)
    assert all(map(torch.equal, tree_leaves(found), tree_leaves(expected)))


def test_integer_sums_are_labels_of_losses_samples_and_the_loop() -> None:
    logits, label = drawn(6)
    sums = NUMBERS.label(logits.argmax(-1))
    for baseline in (em.fused_em_loss, em.bp_std_loss, em.baselines.top_k_proofs_loss):
        assert torch.equal(baseline(NUMBERS, logits, sums), baseline(PROBLEM, logits, label))
    samples = em.sample_posterior(NUMBERS, logits, sums, 5, 0)
    assert torch.equal(samples, em.sample_posterior(PROBLEM, logits, label, 5, 0))
    told, expected = (em.explain(*row) for row in ((NUMBERS, logits[:1], sums[:1]), (PROBLEM, logits[:1], label[:1])))
    assert torch.equal(told.posterior, expected.posterior)
    weights = torch.tensor([[0.5, 0.5]] * 3)
    several = em.posterior_of_labels(NUMBERS, logits[:3], sums.view(3, 2), weights)
    expected = em.posterior_of_labels(PROBLEM, logits[:3], label.view(3, 2, 3), weights)
    assert torch.equal(several.marginals, expected.marginals)
    z = em.baselines.AdditionExplanations(NUMBERS)(logits, sums, samples=3)
    assert (NUMBERS.label(z) == sums).any()
    em.baselines.ANeSI(NUMBERS, samples=3)(logits, sums)
    net = torch.nn.Linear(10, 10)
    trainer = em.EM(net, NUMBERS, torch.optim.SGD(net.parameters(), lr=0.1))
    assert trainer.step(logits.unflatten(0, (2, 3)), sums.view(2, 3))["possible"] == 1.0


@pytest.mark.parametrize("engine", [em.Exact(), em.ABC(samples=16)], ids=repr)
def test_integer_sums_compile(engine: em.Engine) -> None:
    logits, _ = drawn()
    sums = NUMBERS.label(logits.argmax(-1))

    def step(logits: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
        post = em.posterior(NUMBERS, logits, sums, engine)
        return em.em_loss(logits, post) + em.fused_em_loss(NUMBERS, logits, sums)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(logits, sums), step(logits, sums))
    with pytest.raises(ValueError, match=r"label\[0.* must be"):
        compiled(logits, sums + 1000)


def test_integer_sums_have_up_to_eighteen_digits() -> None:
    largest, z = em.Addition(17, label="number"), torch.full((1, 2, 17), 9)
    assert largest.label(z).tolist() == [2 * (10**17 - 1)]
    assert em.posterior(largest, torch.zeros(1, 2, 17, 10), largest.label(z)).mode().tolist() == z.tolist()
    assert largest.encode([10**17, 7]).tolist() == [10**17, 7]
    assert em.Addition(62, base=2, label="number").label(torch.ones(2, 62, dtype=torch.int64)).item() == 2**63 - 2
    for sizes in ({"n_digits": 18}, {"n_digits": 63, "base": 2}):
        with pytest.raises(ValueError, match="n_digits must give sums that int64 holds with label='number', got"):
            em.Addition(**sizes, label="number")


@pytest.mark.parametrize("wrong", [-1, 1000, 2**62])
def test_integer_sums_out_of_range_are_an_error(wrong: int) -> None:
    logits, _ = drawn(2)
    for call in (em.posterior, em.fused_em_loss, lambda *given: em.posterior(*given, em.Gibbs(1, 1))):
        with pytest.raises(ValueError, match=rf"label\[1\] must be a sum in 0\.\.999, got {wrong}"):
            call(NUMBERS, logits, torch.tensor([5, wrong]))
    assert em.posterior(NUMBERS, logits, torch.tensor([5, wrong]), check=False).marginals.isfinite().all()
    assert not em.posterior(NUMBERS, logits, torch.tensor([5, 999])).possible[1]


@pytest.mark.parametrize("engine", [em.Exact(), em.ABC(samples=64), em.MAP()], ids=repr)
def test_rows_without_a_label_keep_the_prior_and_do_not_move_the_net(engine: em.Engine) -> None:
    logits, label = drawn()
    some = em.as_label(label, labelled=[True, False, True, False])
    post = em.posterior(PROBLEM, logits, some, em.Partial(engine))
    expected = em.posterior(PROBLEM, logits, label, engine)
    labelled = torch.tensor([0, 2])
    assert torch.equal(post.marginals[labelled], expected.marginals[labelled])
    assert torch.equal(post.log_evidence[labelled], expected.log_evidence[labelled])
    assert post.log_evidence[[1, 3]].tolist() == [0.0, 0.0]
    assert post.possible.all()
    leaf = logits.clone().requires_grad_()
    em.em_loss(leaf, post).backward()
    assert leaf.grad[[1, 3]].abs().max() < 1e-7


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_takes_rows_without_a_label(name: str) -> None:
    problem = PROBLEMS[name]
    logits, label = drawn_for(problem, 2)
    label = em.as_label(label, labelled=[True, False])
    default = em.engines.choose_engine(problem, None)
    post = em.posterior(problem, logits, label, em.Partial(default))
    torch.testing.assert_close(post.marginals[1], logits[1].softmax(-1))
    assert post.possible[1]
    assert post.log_evidence[1] == 0


def test_weighted_labels_mix_posteriors_by_their_evidence() -> None:
    logits, label = drawn()
    labels = torch.stack([label, label.roll(1, 0), torch.tensor([1, 9, 9]).expand(4, 3)], 1)
    weights = torch.tensor([0.6, 0.3, 0.1]).expand(4, 3)
    post = em.posterior_of_labels(PROBLEM, logits, labels, weights)
    each = [em.posterior(PROBLEM, logits, labels[:, index]) for index in range(3)]
    joint = torch.stack([p.log_evidence.exp() * w for p, w in zip(each, (0.6, 0.3, 0.1), strict=True)], 1)
    expected = sum(joint[:, index, None, None, None] * each[index].marginals for index in range(3))
    torch.testing.assert_close(post.marginals, expected / joint.sum(1)[:, None, None, None])
    torch.testing.assert_close(post.log_evidence, joint.sum(1).log())
    torch.testing.assert_close(post.info["label"], joint / joint.sum(1, keepdim=True))


def test_rows_whose_labels_are_all_impossible_keep_the_prior() -> None:
    logits, label = drawn()
    impossible = torch.tensor([1, 9, 9]).expand(4, 1, 3)
    for labels, weights in ((impossible, torch.ones(4, 1)), (label[:, None], torch.zeros(4, 1))):
        post = em.posterior_of_labels(PROBLEM, logits, labels, weights)
        assert not post.possible.any()
        torch.testing.assert_close(post.marginals, logits.softmax(-1))
        assert (post.info["label"] == 0).all()


@pytest.mark.parametrize("weights", [torch.tensor([[-1.0]] * 4), torch.tensor([[torch.nan]] * 4)], ids=str)
def test_wrong_weights(weights: torch.Tensor) -> None:
    logits, label = drawn()
    with pytest.raises(ValueError, match="weights must be finite and at least 0"):
        em.posterior_of_labels(PROBLEM, logits, label[:, None], weights)
    with pytest.raises(ValueError, match=r"weights and labels must have shapes \[4, L\] .* got \[4\]"):
        em.posterior_of_labels(PROBLEM, logits, label[:, None], torch.ones(4))


def test_logits_of_a_sigmoid_are_those_of_two_values() -> None:
    rule = em.rules.parity(3)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    em.fused_em_loss(rule, em.binary_logits(logits), torch.tensor([0, 1, 0, 1])).backward()
    post = em.posterior(rule, em.binary_logits(logits), torch.tensor([0, 1, 0, 1]))
    torch.testing.assert_close(logits.grad, (logits.sigmoid() - post.marginals[..., 1]) / 4)


def test_more_leading_axes_come_back() -> None:
    logits, label = drawn(6)
    flat = em.posterior(PROBLEM, logits, label, em.ABC(samples=32))
    post = flat.unflatten((3, 2))
    assert post.marginals.shape == (3, 2, 2, 2, 10)
    assert post.info["ess"].shape == post.possible.shape == (3, 2)
    assert torch.equal(post.marginals.flatten(0, 1), flat.marginals)


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("name", PROBLEMS)
def test_more_leading_axes_are_rows_of_every_problem(name: str) -> None:
    problem = PROBLEMS[name]
    engines = (em.Exact(), em.BeliefPropagation(2), em.ABC(samples=8))
    engine = next(engine for engine in engines if engine.supports(problem))
    logits, label = drawn_for(problem, 6)
    flat, leaf = (logits.clone().requires_grad_() for _ in range(2))
    expected = em.posterior(problem, flat, label, engine)
    found = em.posterior(problem, leaf.unflatten(0, (2, 3)), label.unflatten(0, (2, 3)), engine)
    assert found.marginals.shape == (2, 3, *expected.marginals.shape[1:])
    assert torch.equal(found.marginals.flatten(0, 1), expected.marginals)
    assert torch.equal(found.log_evidence.flatten(), expected.log_evidence)
    losses = [
        (em.em_loss(leaf.unflatten(0, (2, 3)), found), em.em_loss(flat, expected)),
        (
            em.fused_em_loss(problem, leaf.unflatten(0, (2, 3)), label.unflatten(0, (2, 3)), engine=engine),
            em.fused_em_loss(problem, flat, label, engine=engine),
        ),
    ]
    for ours, theirs in losses:
        torch.testing.assert_close(ours, theirs)
        (ours + theirs).backward()
        torch.testing.assert_close(leaf.grad, flat.grad)


def test_losses_and_samples_have_the_leading_axes() -> None:
    logits, label = drawn(6)
    inputs = logits.unflatten(0, (2, 3)), label.unflatten(0, (2, 3))
    assert em.fused_em_loss(PROBLEM, *inputs, "none").shape == (2, 3)
    assert em.em_loss(inputs[0], em.posterior(PROBLEM, *inputs), "none").shape == (2, 3)
    z = em.sample_posterior(PROBLEM, *inputs, n_samples=5, seed=0)
    assert torch.equal(z, em.sample_posterior(PROBLEM, logits, label, n_samples=5, seed=0).unflatten(1, (2, 3)))
    net = torch.nn.Linear(10, 10)
    metrics = em.EM(net, PROBLEM, torch.optim.SGD(net.parameters(), lr=0.1)).step(*inputs)
    assert (metrics["possible"], metrics["impossible"]) == (1.0, 0.0)


def test_leading_axes_that_differ_are_an_error() -> None:
    logits, label = drawn(6)
    with pytest.raises(ValueError, match=r"label must have shape \[2, 3, 3\], got \[3, 2, 3\]"):
        em.posterior(PROBLEM, logits.unflatten(0, (2, 3)), label.unflatten(0, (3, 2)))
    with pytest.raises(ValueError, match=r"label must have shape \[2, 3, 3\], got \[6, 3\]"):
        em.fused_em_loss(PROBLEM, logits.unflatten(0, (2, 3)), label)
    impossible = torch.tensor([[0, 1, 2], [1, 9, 9]]).expand(2, 2, 3)
    with pytest.raises(ValueError, match="the label of row 0, 1 is impossible, 2 of 4 rows in all"):
        em.fused_em_loss(PROBLEM, torch.zeros(2, 2, 2, 2, 10), impossible, impossible="raise")


PARITY = em.rules.parity(3)
SHAPES = [
    (PARITY, (4, 3), (4,), r"logits must have shape \[batch, 3, 2\], got \[4, 3\]: em.binary_logits makes them"),
    (PARITY, (6, 4, 3), (6, 4), r"logits must have shape .*: em.binary_logits makes them"),
    (PROBLEM, (2, 2, 10), (3,), r"logits must have shape .*: logits\[None\] is a batch"),
    (PROBLEM, (4, 10, 2, 2), (4, 3), r"logits must have shape .*: logits.movedim\(1, -1\)"),
    (PROBLEM, (4, 40), (4, 3), r"logits must have shape .*: logits.unflatten\(1, \(2, 2, 10\)\)"),
    (PROBLEM, (4, 3, 2), (4, 3), r"logits must have shape \[batch, 2, 2, 10\], got \[4, 3, 2\]$"),
    (PROBLEM, (4, 2, 2, 10), (4,), r"label must have shape \[batch, 3\], got \[4\]: problem.encode turns numbers"),
    (PROBLEM, (2, 3, 2, 2, 10), (2, 3), r"label must have shape .*: problem.encode turns numbers"),
    (PROBLEM, (4, 2, 2, 10), (4, 2, 2), r"label must have shape .*: problem.label\(z\)"),
    (PROBLEM, (4, 2, 2, 10), (4, 5, 3), r"label must have shape .*: em.posterior_of_labels takes"),
    (PROBLEM, (4, 2, 2, 10), (4, 2), r"label must have shape \[batch, 3\], got \[4, 2\]$"),
    (PARITY, (4, 3, 2), (4, 1), r"label must have shape .*: label.squeeze\(-1\)"),
    (PARITY, (1, 3, 2), (), r"label must have shape .*: label\[None\] is a batch"),
]


@pytest.mark.parametrize(("problem", "logits", "label", "message"), SHAPES)
def test_wrong_shapes_name_the_conversion_that_helps(problem: em.Problem, logits, label, message: str) -> None:
    inputs = torch.zeros(logits), torch.zeros(label, dtype=torch.int64)
    for call in (em.posterior, em.fused_em_loss):
        with pytest.raises(ValueError, match=message):
            call(problem, *inputs)


def test_wrong_types_of_labels_name_the_conversion_that_helps() -> None:
    logits, label = drawn()
    with pytest.raises(TypeError, match=r"got float32: label.long\(\) has integers"):
        em.posterior(PROBLEM, logits, label.float())
    with pytest.raises(ValueError, match=r"must be a digit in 0\.\.9, got -1: em.Partial takes rows without a label"):
        em.posterior(PROBLEM, logits, em.as_label(label, labelled=[True, False, True, True]))


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_batch_without_rows_is_one_of_every_engine(name: str) -> None:
    """As a rank has it whose part of a batch is empty."""
    problem = PROBLEMS[name]
    logits = torch.zeros(0, *problem.latent_shape, problem.cardinality)
    label = torch.zeros(0, *problem.label_shape, dtype=torch.int64)
    engines = (em.Exact(), em.BeliefPropagation(2), em.ABC(8), em.Gibbs(1, 2), em.Rejection(8), em.MAP())
    for engine in [engine for engine in engines if engine.supports(problem)]:
        for each in (engine, em.Partial(engine)):
            post = em.posterior(problem, logits, label, each)
            assert (post.marginals.shape, post.possible.shape) == (logits.shape, (0,))
            leaf = logits.clone().requires_grad_()
            em.fused_em_loss(problem, leaf, label, "sum", engine=each).backward()
            assert leaf.grad.shape == logits.shape
