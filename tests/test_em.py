"""The EM loop in the loops of its users: seeds, state, fit, evaluate, and what each option promises."""

from __future__ import annotations

import copy
import io
import itertools
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import emnesy_gpu as em

PROBLEM = em.Addition(1)


class Reader(torch.nn.Module):
    """A linear net over one-hot digits, which returns its logits in some way."""

    def __init__(self, returns: str = "tensor") -> None:
        super().__init__()
        self.linear = torch.nn.Linear(10, 10)
        self.returns = returns

    def forward(self, z: torch.Tensor) -> Any:
        logits = self.linear(torch.nn.functional.one_hot(z, 10).float())
        return {"tensor": logits, "dict": {"logits": logits}, "tuple": (0, logits)}[self.returns]


def batch(seed: int = 0, rows: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.randint(0, 10, (rows, 2, 1), generator=torch.Generator().manual_seed(seed))
    return z, PROBLEM.label(z)


def trainer_of(optimizer: Any = torch.optim.SGD, seed: int = 0, returns: str = "tensor", **options: Any) -> em.EM:
    torch.manual_seed(seed)
    net = Reader(returns)
    names = {"engine", "m_steps", "scheduler"} & options.keys()
    loop = {name: options.pop(name) for name in names}
    return em.EM(net, PROBLEM, optimizer(net.parameters(), lr=0.1), options=em.Options(**options), **loop)


def weights(trainer: em.EM) -> torch.Tensor:
    return trainer.model.linear.weight.detach().clone()


SAMPLERS = [em.ABC(samples=64), em.Gibbs(chains=2, sweeps=4), em.Rejection(samples=64)]


@pytest.mark.parametrize("engine", SAMPLERS, ids=repr)
def test_every_step_draws_other_samples(engine: em.Engine) -> None:
    trainer = trainer_of(engine=engine)
    first, second = (trainer.e_step(*batch()).marginals for _ in range(2))
    assert not torch.equal(first, second)
    assert trainer.steps == 2


@pytest.mark.parametrize("engine", SAMPLERS, ids=repr)
def test_the_same_samples_in_every_step_on_request(engine: em.Engine) -> None:
    trainer = trainer_of(engine=engine, advance_seed=False)
    first, second = (trainer.e_step(*batch()).marginals for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(first, em.posterior(PROBLEM, trainer.model(batch()[0]), batch()[1], engine).marginals)


@pytest.mark.parametrize("engine", SAMPLERS, ids=repr)
def test_two_ranks_draw_the_samples_of_one_large_batch(engine: em.Engine, monkeypatch) -> None:
    z, label = batch()
    whole = trainer_of(engine=engine).e_step(z, label).marginals
    parts = []
    for rank in range(2):
        monkeypatch.setattr("emnesy_gpu.em._rank", lambda rank=rank: rank)
        rows = slice(8 * rank, 8 * rank + 8)
        parts.append(trainer_of(engine=engine).e_step(z[rows], label[rows]).marginals)
    assert torch.equal(torch.cat(parts), whole)


def test_the_samples_of_a_wrapped_engine_advance_too() -> None:
    class Wrapped(em.engines.WrappedEngine):
        pass

    wrapped = Wrapped(em.Gibbs())
    assert wrapped.at_step(1).engine == em.Gibbs().at_step(1)
    exact = Wrapped(em.Exact())
    assert exact.at_step(1) is exact


def test_a_state_goes_on_to_the_bit_from_any_step() -> None:
    def make(seed: int) -> em.EM:
        trainer = trainer_of(torch.optim.Adam, seed, engine=em.Gibbs(chains=2, sweeps=4))
        trainer.scheduler = trainer._gradients.scheduler = torch.optim.lr_scheduler.StepLR(trainer.optimizer, 2)
        return trainer

    whole, cut, resumed = make(0), make(0), make(1)
    for step in range(6):
        whole.step(*batch(step))
        if step < 3:
            cut.step(*batch(step))
    file = io.BytesIO()
    torch.save(cut.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in range(3, 6):
        resumed.step(*batch(step))
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.steps == resumed.steps == 6


def test_a_state_with_other_parts_is_refused() -> None:
    with pytest.raises(ValueError, match="state must have the entries steps, model, optimizer, got steps"):
        trainer_of().load_state_dict({"steps": 1})


def test_e_step_and_m_step_make_a_step() -> None:
    whole, parts = trainer_of(), trainer_of()
    metrics = whole.step(*batch())
    z, label = batch()
    by_parts = parts.m_step(z, parts.e_step(z, label))
    assert torch.equal(weights(whole), weights(parts))
    assert by_parts == {name: metrics[name] for name in by_parts}


def test_accumulated_gradients_are_those_of_one_large_batch() -> None:
    z, label = batch(rows=16)
    whole, parts = trainer_of(), trainer_of(accumulate=2)
    whole.step(z, label)
    before = weights(parts)
    parts.step(z[:8], label[:8])
    assert torch.equal(weights(parts), before)
    parts.step(z[8:], label[8:])
    torch.testing.assert_close(weights(parts), weights(whole))


def test_gradients_are_clipped_and_their_norm_is_known() -> None:
    free, clipped = trainer_of(), trainer_of(clip=0.01)
    before = weights(free)
    norm = free.step(*batch())["gradient_norm"]
    assert clipped.step(*batch())["gradient_norm"] == norm > 0.01
    torch.testing.assert_close(weights(clipped) - before, (weights(free) - before) * 0.01 / norm, atol=1e-6, rtol=1e-3)


def test_a_scaler_does_not_change_the_step() -> None:
    plain, scaled = trainer_of(), trainer_of(scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert plain.step(*batch())["gradient_norm"] == pytest.approx(scaled.step(*batch())["gradient_norm"])
    torch.testing.assert_close(weights(plain), weights(scaled))
    assert "scaler" in scaled.state_dict()


def test_lbfgs_evaluates_the_loss_against_one_posterior() -> None:
    z, label = batch(rows=64)
    trainer = trainer_of(torch.optim.LBFGS)
    evidence = [trainer.step(z, label)["log_evidence"] for _ in range(20)]
    assert evidence[-1] > evidence[0] + 0.5
    with pytest.raises(ValueError, match="accumulate must be 1 for LBFGS"):
        trainer_of(torch.optim.LBFGS, accumulate=2)


def test_a_plateau_scheduler_sees_the_loss_of_each_epoch() -> None:
    trainer = trainer_of()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, patience=0, threshold=1e9)
    trainer = em.EM(trainer.model, PROBLEM, trainer.optimizer, scheduler=plateau)
    trainer.step(*batch())
    assert plateau.last_epoch == 0
    metrics = trainer.fit([batch(0), batch(1)], epochs=3)
    assert plateau.last_epoch == 3
    assert metrics["learning_rate"] < trainer.optimizer.defaults["lr"]


def test_a_teacher_takes_the_e_step() -> None:
    trainer = trainer_of()
    teacher = AveragedModel(trainer.model)
    updates = []

    def update(trainer: em.EM, metrics: dict[str, float]) -> None:
        teacher.update_parameters(trainer.model)
        updates.append(metrics["loss"])

    options = em.Options(teacher=teacher, callbacks=[update])
    trainer = em.EM(trainer.model, PROBLEM, trainer.optimizer, options=options)
    with torch.no_grad():
        teacher.module.linear.weight.mul_(3.0)
    expected = em.posterior(PROBLEM, teacher(batch()[0]), batch()[1])
    assert torch.equal(trainer.e_step(*batch()).marginals, expected.marginals)
    trainer.step(*batch())
    assert len(updates) == 1
    assert not any(weight.grad is not None for weight in teacher.parameters())
    assert "teacher" in trainer.state_dict()


@pytest.mark.parametrize(
    ("returns", "where"), [("dict", "logits"), ("tuple", 1), ("dict", lambda output: output["logits"])]
)
def test_the_model_may_return_its_logits_among_other_things(returns: str, where: Any) -> None:
    plain, other = trainer_of(), trainer_of(returns=returns, logits=where)
    plain.step(*batch())
    other.step(*batch())
    assert torch.equal(weights(plain), weights(other))
    with pytest.raises(TypeError, match=r"must return logits.*say where the logits are, em.Options\(logits="):
        trainer_of(returns=returns).step(*batch())


def test_backward_is_the_function_that_is_given() -> None:
    losses = []

    def backward(loss: torch.Tensor) -> None:
        losses.append(loss)
        loss.backward()

    plain, other = trainer_of(m_steps=2), trainer_of(m_steps=2, backward=backward)
    plain.step(*batch())
    other.step(*batch())
    assert len(losses) == 2
    assert torch.equal(weights(plain), weights(other))


def test_metrics_are_finite_where_every_label_is_impossible() -> None:
    z, _ = batch(rows=4)
    trainer = trainer_of(impossible="skip")
    before = weights(trainer)
    metrics = trainer.step(z, torch.tensor([[1, 9]]).expand(4, 2))
    assert all(map(math.isfinite, metrics.values()))
    assert (metrics["possible"], metrics["impossible"], metrics["log_evidence"]) == (0.0, 4.0, 0.0)
    assert torch.equal(weights(trainer), before)


def test_metrics_have_what_the_engine_says() -> None:
    metrics = trainer_of(engine=em.ABC(samples=64)).step(*batch())
    assert 0 < metrics["info/ess"] <= 64
    assert metrics["learning_rate"] == 0.1


def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return map(batch, itertools.count())


def test_fit_takes_finite_and_endless_loaders(caplog) -> None:
    whole, by_epochs, by_steps = (trainer_of() for _ in range(3))
    for step in (0, 1, 2, 0, 1, 2):
        whole.step(*batch(step))
    loader = [batch(0), batch(1), batch(2)]
    with caplog.at_level(logging.INFO, "emnesy_gpu"):
        by_epochs.fit(loader, epochs=2)
    assert [record.getMessage()[:15] for record in caplog.records] == ["epoch 1, step 3", "epoch 2, step 6"]
    by_steps.fit(loader, steps=6)
    assert torch.equal(weights(whole), weights(by_epochs))
    assert torch.equal(weights(whole), weights(by_steps))
    stream = trainer_of()
    assert stream.fit(endless(), steps=5)["possible"] == 1.0
    assert stream.steps == 5


def test_fit_refuses_what_it_cannot_do() -> None:
    for arguments in ({}, {"epochs": 1, "steps": 1}):
        with pytest.raises(ValueError, match="give one of epochs and steps"):
            trainer_of().fit([batch()], **arguments)
    with pytest.raises(ValueError, match="the loader gave no batch"):
        trainer_of().fit(iter([batch()]), epochs=2)


def test_evaluate_does_not_touch_the_model() -> None:
    trainer = trainer_of(engine=em.ABC(samples=64))
    trainer.model.train()
    before = copy.deepcopy(trainer.state_dict())

    def right(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        assert not trainer.model.training
        return (PROBLEM.label(logits.argmax(-1)) == label).all(1)

    found = trainer.evaluate([batch(0), batch(1, rows=4)], score=right)
    assert 0.0 <= found["score"] <= 1.0
    assert found["log_evidence"] < 0
    assert trainer.model.training
    assert str(before) == str(trainer.state_dict())


STATM = Path("/proc/self/statm")


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="needs the memory of a process as Linux tells it")
def test_memory_is_flat_over_ten_thousand_steps() -> None:
    trainer = trainer_of(torch.optim.Adam, engine=em.ABC(samples=16))
    repeated = itertools.cycle([batch(rows=4)])
    trainer.fit(repeated, steps=1000)
    before = int(STATM.read_text().split()[1])
    trainer.fit(repeated, steps=10_000)
    grown = int(STATM.read_text().split()[1]) - before
    assert grown * os.sysconf("SC_PAGE_SIZE") < 2**22  # 400 bytes a step: one tensor that is kept takes more
    assert trainer.steps == 11_000


MISTAKES = [
    (lambda: em.Options(accumulate=0), ValueError, "accumulate must be an integer >= 1, got 0"),
    (lambda: em.Options(clip=-1.0), ValueError, "clip must be a finite number >= 0, got -1.0"),
    (lambda: em.Options(backward=3), TypeError, "backward must be a function or None, got 3"),
    (lambda: em.Options(impossible="no"), ValueError, "impossible must be one of prior, skip, inf, raise, got 'no'"),
    (lambda: trainer_of(accumulate=2, m_steps=2), ValueError, "accumulate must be 1 where m_steps is more than 1"),
]


@pytest.mark.parametrize(("call", "error", "message"), MISTAKES)
def test_wrong_options(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
