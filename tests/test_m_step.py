"""Losses and the EM loop."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad, jacfwd, jacrev, vjp, vmap
from torch.utils._pytree import tree_leaves

import emnesy_gpu as em
from tests.cases import Case
from tests.readme_matrix import PROBLEMS


def drawn(n_digits: int = 3):
    logits, label = Case(n_digits).draw()
    return em.Addition(n_digits), logits.requires_grad_(), label


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions(reduction: str) -> None:
    problem, logits, label = drawn()
    rows = em.fused_em_loss(problem, logits, label, reduction="none")
    post = em.posterior(problem, logits, label)
    torch.testing.assert_close(rows, -post.log_evidence)
    expected = {"mean": rows.mean(), "sum": rows.sum(), "none": rows}[reduction]
    torch.testing.assert_close(em.fused_em_loss(problem, logits, label, reduction), expected)
    torch.testing.assert_close(em.bp_std_loss(problem, logits, label, reduction), expected)
    per_row = em.em_loss(logits, post, "none")
    expected = {"mean": per_row.mean(), "sum": per_row.sum(), "none": per_row}[reduction]
    torch.testing.assert_close(em.em_loss(logits, post, reduction), expected)


def test_unknown_reduction() -> None:
    problem, logits, label = drawn()
    post = em.posterior(problem, logits, label)
    for loss in (
        lambda: em.em_loss(logits, post, "median"),
        lambda: em.fused_em_loss(problem, logits, label, "median"),
        lambda: em.bp_std_loss(problem, logits, label, "median"),
    ):
        with pytest.raises(ValueError, match="reduction must be one of mean, sum, none, got 'median'"):
            loss()


def test_upstream_gradient_and_weights() -> None:
    problem, logits, label = drawn()
    weights = torch.tensor([0.0, 1.0, -2.0, 0.5, 3.0])
    (em.fused_em_loss(problem, logits, label, "none") * weights).sum().backward()
    unweighted, _ = problem.em_gradient(logits.detach(), label, 1.0, True)
    torch.testing.assert_close(logits.grad, unweighted * weights[:, None, None, None])


@pytest.mark.parametrize(
    ("problem", "engine"),
    [
        (em.Sudoku(4), em.BeliefPropagation()),
        (em.ShortestPath(3, 3), em.ABC(samples=64)),
        (em.Addition(2), em.MAP()),
        (em.Addition(2), em.Exact()),
        (em.Addition(2), em.Partial(em.Exact())),
    ],
    ids=repr,
)
def test_the_fused_loss_of_an_engine_has_the_gradient_of_its_em_loss(problem: em.Problem, engine: em.Engine) -> None:
    logits = torch.randn(4, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(0))
    label = problem.label(logits.roll(1, 0).argmax(-1))
    leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    post = em.posterior(problem, logits, label, engine)
    em.em_loss(other, post, "sum").backward()
    rows = em.fused_em_loss(problem, leaf, label, "none", engine=engine)
    rows.sum().backward()
    torch.testing.assert_close(leaf.grad, other.grad)
    torch.testing.assert_close(rows.detach(), -post.log_evidence)


def test_a_problem_without_exact_inference_asks_for_an_engine() -> None:
    problem = em.ShortestPath(3, 3)
    inputs = torch.randn(1, 3, 3, 5), torch.ones(1, 3, 3, dtype=torch.uint8)
    with pytest.raises(em.UnsupportedEngineError, match=r"no exact EM gradient: .*Give an engine"):
        em.fused_em_loss(problem, *inputs)
    with pytest.raises(em.UnsupportedEngineError, match=r"em.Exact\(\) does not work for"):
        em.fused_em_loss(problem, *inputs, engine=em.Exact())


def test_a_kept_graph_gives_the_same_gradient_again() -> None:
    problem, logits, label = drawn()
    loss = em.fused_em_loss(problem, logits, label)
    first, second, last = (
        torch.autograd.grad(2.0 * loss, logits, retain_graph=kept)[0] for kept in (True, True, False)
    )
    assert torch.equal(first, second)
    assert torch.equal(first, last)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, logits)


def test_a_batch_of_upstream_gradients_takes_one_graph() -> None:
    problem, logits, label = drawn()
    rows = em.fused_em_loss(problem, logits, label, "none")
    (batched,) = torch.autograd.grad(rows, logits, torch.eye(len(rows)), is_grads_batched=True)
    expected, _ = problem.em_gradient(logits.detach(), label, 1.0, True)
    torch.testing.assert_close(batched, torch.stack([row[:, None, None, None] * expected for row in torch.eye(5)]))


def test_the_gradient_has_no_derivative() -> None:
    problem, logits, label = drawn()
    (gradient,) = torch.autograd.grad(em.fused_em_loss(problem, logits, label), logits, create_graph=True)
    assert not gradient.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_gradients_have_the_dtype_of_the_logits(dtype: torch.dtype) -> None:
    logits, label = Case(3).draw()
    problem = em.Addition(3)
    fused, stepwise = (logits.to(dtype).requires_grad_() for _ in range(2))
    em.fused_em_loss(problem, fused, label).backward()
    em.em_loss(stepwise, em.posterior(problem, stepwise, label)).backward()
    assert fused.grad.dtype == stepwise.grad.dtype == dtype
    torch.testing.assert_close(fused.grad, stepwise.grad, atol=1e-2, rtol=0)


def test_impossible_rows_and_hard_zeros_give_zero_not_nan() -> None:
    problem, logits, label = em.Addition(2), torch.randn(2, 2, 2, 10), torch.tensor([[1, 1, 1], [2, 0, 0]])
    logits[0, 0, 0, 4] = float("-inf")
    logits.requires_grad_()
    em.em_loss(logits, em.posterior(problem, logits, label)).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[1] == 0).all()
    assert logits.grad[0, 0, 0, 4] == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_impossible_rows_are_skipped_or_infinite_or_an_error(reduction: str) -> None:
    problem, logits, label = em.Addition(1), torch.randn(3, 2, 1, 10), torch.tensor([[0, 7], [1, 9], [1, 2]])
    post = em.posterior(problem, logits, label)
    good = post.possible
    assert good.tolist() == [True, False, True]
    for loss_of in (
        lambda logits, label, **options: em.fused_em_loss(problem, logits, label, reduction, **options),
        lambda logits, label, **options: em.em_loss(logits, em.posterior(problem, logits, label), reduction, **options),
    ):
        leaf = logits.clone().requires_grad_()
        skipped = loss_of(leaf, label, impossible="skip")
        skipped.sum().backward()
        expected = loss_of(logits[good], label[good])
        assert torch.equal(leaf.grad[1], torch.zeros(2, 1, 10))
        torch.testing.assert_close(skipped[good] if reduction == "none" else skipped, expected)
        assert loss_of(logits, label, impossible="inf").isinf().sum() == 1
        with pytest.raises(ValueError, match="the label of row 1 is impossible, 1 of 3 rows in all"):
            loss_of(logits, label, impossible="raise")
        with pytest.raises(ValueError, match="impossible must be one of prior, skip, inf, raise, got 'no'"):
            loss_of(logits, label, impossible="no")
        assert torch.isfinite(loss_of(logits[1:2], label[1:2], impossible="skip")).all()


@pytest.mark.parametrize(
    "problem",
    [em.Addition(2), em.Sudoku(4), em.BlackBox(label=lambda z: z.sum(-1), latent_shape=(3,), cardinality=3)],
    ids=repr,
)
def test_func_transforms_of_the_fused_loss_are_those_of_em_loss(problem: em.Problem) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, *problem.latent_shape, problem.cardinality, generator=generator)
    label = problem.label(logits.roll(1, 0).argmax(-1))

    def fused(logits, label):
        return em.fused_em_loss(problem, logits, label)

    expected = torch.stack([grad(stepwise)(*rows, problem) for rows in zip(logits, label, strict=True)])
    each = torch.stack([grad(fused)(*rows) for rows in zip(logits, label, strict=True)])
    torch.testing.assert_close(each, expected)
    torch.testing.assert_close(vmap(grad(fused))(logits, label), expected)
    torch.testing.assert_close(grad(lambda logits: vmap(fused)(logits, label).sum())(logits), expected)
    swapped = vmap(grad(fused), in_dims=(1, 0))(logits.transpose(0, 1), label)
    torch.testing.assert_close(swapped, expected)
    rows = jacrev(lambda logits: em.fused_em_loss(problem, logits, label[0], "none"))(logits[0])
    torch.testing.assert_close(rows.sum(0), expected[0] * len(rows))
    _, pull = vjp(lambda logits: fused(logits, label[0]), logits[0])
    torch.testing.assert_close(pull(torch.tensor(2.0))[0], 2.0 * expected[0])
    one_label = vmap(fused, in_dims=(0, None))(logits, label[0])
    torch.testing.assert_close(one_label[1], fused(logits[1], label[0]))


SMALL = [em.Exact(), em.BeliefPropagation(2), em.MAP(), em.ABC(8), em.Gibbs(1, 2), em.Rejection(8)]


@pytest.mark.filterwarnings("ignore::emnesy_gpu.errors.InferenceWarning")
@pytest.mark.parametrize("name", PROBLEMS)
def test_vmap_and_grad_take_both_losses_of_every_engine_on_every_problem(name: str) -> None:
    problem = PROBLEMS[name]
    logits = torch.randn(3, 4, *problem.latent_shape, problem.cardinality, generator=torch.Generator().manual_seed(0))
    label = torch.ones(3, 4, dtype=torch.int64)  # of factor graphs
    if not isinstance(problem, em.FactorGraph):
        label = problem.label(logits.roll(1, 0).argmax(-1))
    for engine in [engine for engine in SMALL if engine.supports(problem)]:
        post = em.posterior(problem, logits, label, engine)
        expected = torch.where(post.possible[..., None, None], (logits.softmax(-1) - post.marginals).flatten(2, -2), 0)
        for loss in (
            lambda logits, label, engine=engine: em.em_loss(
                logits, em.posterior(problem, logits, label, engine), "sum"
            ),
            lambda logits, label, engine=engine: em.fused_em_loss(problem, logits, label, "sum", engine=engine),
        ):
            for gradient in (
                vmap(grad(loss))(logits, label),
                grad(lambda logits, loss=loss: vmap(loss)(logits, label).sum())(logits),
            ):
                torch.testing.assert_close(gradient.flatten(2, -2), expected)
        mapped = vmap(lambda logits, label, engine=engine: em.posterior(problem, logits, label, engine))(logits, label)
        assert all(map(torch.equal, tree_leaves(mapped), tree_leaves(post)))


def test_a_posterior_under_vmap_takes_one_label_nested_maps_and_forward_derivatives() -> None:
    problem, logits, label = em.Addition(2), torch.randn(3, 4, 2, 2, 10), torch.tensor([[0, 1, 2]] * 4)
    expected = em.posterior(problem, logits, label.expand(3, 4, 3)).marginals
    assert torch.equal(vmap(lambda logits: em.posterior(problem, logits, label).marginals)(logits), expected)
    second = vmap(lambda logits: em.posterior(problem, logits, label).marginals, in_dims=1)(logits.transpose(0, 1))
    assert torch.equal(second, expected)
    nested = vmap(vmap(lambda logits: em.posterior(problem, logits[None], label[:1]).marginals[0]))(logits)
    assert torch.equal(nested, expected)
    forward, backward = (jac(lambda logits: stepwise(logits, label, problem))(logits[0]) for jac in (jacfwd, jacrev))
    torch.testing.assert_close(forward, backward)
    with pytest.raises(ValueError, match=r"logits\[0, 0, 0, 0\] must be finite or -inf, got nan"):
        vmap(lambda logits: em.posterior(problem, logits, label))(logits * torch.nan)


@pytest.mark.parametrize("problem", [em.Addition(2), em.Sudoku(4), em.rules.parity(3)], ids=repr)
def test_samples_under_vmap_are_those_of_one_batch(problem: em.Problem) -> None:
    logits = torch.randn(2, 3, 4, *problem.latent_shape, problem.cardinality)
    label = problem.label(logits.argmax(-1))

    def draw(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return em.sample_posterior(problem, logits, label, 5, seed=1)

    expected = draw(logits, label)
    assert torch.equal(vmap(draw, out_dims=1)(logits, label), expected)
    assert torch.equal(vmap(vmap(draw, out_dims=1), out_dims=1)(logits, label), expected)
    assert torch.equal(
        vmap(draw, in_dims=(0, None), out_dims=1)(logits, label[0]), draw(logits, label[:1].expand_as(label))
    )


def stepwise(logits, label, problem):
    return em.em_loss(logits, em.posterior(problem, logits, label))


def test_shape_mismatch() -> None:
    problem, logits, label = drawn()
    post = em.posterior(problem, logits, label)
    with pytest.raises(ValueError, match=r"logits must have the shape of the posterior \[5, 2, 3, 10\]"):
        em.em_loss(logits[:2], post)


class Digits(torch.nn.Module):
    """A linear net over one-hot digits, the easiest perception task there is."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(10, 10)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.nn.functional.one_hot(z, 10).float())


@pytest.mark.parametrize("options", [{}, {"hard": True}, {"m_steps": 3}, {"engine": em.Exact()}], ids=str)
def test_em_learns_digits_from_sums_alone(options: dict) -> None:
    torch.manual_seed(1)
    problem, model = em.Addition(1), Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    trainer = em.EM(model, problem, optimizer, **options)
    z = torch.randint(0, 10, (256, 2, 1))
    history = [trainer.step(z, problem.label(z)) for _ in range(150)]
    assert history[-1]["log_evidence"] > history[0]["log_evidence"]
    if not options.get("hard"):
        assert (model(z).argmax(-1) == z).float().mean() > 0.9
    assert history[0].keys() >= {"loss", "log_evidence", "possible", "seconds_e", "seconds_m"}
    assert history[0]["possible"] == 1.0


def test_multi_m_uses_one_posterior_and_steps_the_scheduler() -> None:
    problem, model = em.Addition(1), Digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    trainer = em.EM(model, problem, optimizer, m_steps=3, scheduler=scheduler)
    z = torch.randint(0, 10, (16, 2, 1))
    reference = Digits()
    reference.load_state_dict(model.state_dict())
    trainer.step(z, problem.label(z))
    assert scheduler.get_last_lr() == [0.125]

    post = em.posterior(problem, reference(z), problem.label(z))
    for rate in (1.0, 0.5, 0.25):
        loss = em.em_loss(reference(z), post)
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter -= rate * gradient
    torch.testing.assert_close(model.linear.weight, reference.linear.weight)


def test_wrong_trainer_options() -> None:
    model = Digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="m_steps must be an integer >= 1, got 0"):
        em.EM(model, em.Addition(1), optimizer, m_steps=0)
    with pytest.raises(ValueError, match=r"hard=True means engine=em\.MAP"):
        em.EM(model, em.Addition(1), optimizer, engine=em.Exact(), hard=True)
