"""The EM loop around a PyTorch model and optimizer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from emnesy_gpu import checks
from emnesy_gpu.e_step import posterior
from emnesy_gpu.engines import MAP, Engine, choose_engine
from emnesy_gpu.m_step import em_loss
from emnesy_gpu.problems import Problem


class EM:
    """EM training of a net whose outputs are observed only through a symbolic label (EM-NeSy, arXiv 2606.14463).

    Each ``step`` takes one batch. The E-step computes the posterior over the hidden symbols under the current net;
    the M-step takes ``m_steps`` gradient steps on the cross-entropy against that constant posterior.

    * soft EM: the default. With exact inference and one M-step this is gradient ascent on log p(y | x).
    * hard EM: ``hard=True``; the posterior is one-hot at the jointly most probable assignment.
    * Multi-M: ``m_steps=k`` re-uses one posterior for k gradient steps, each with a fresh forward pass.
    * stochastic (mini-batch) EM: call ``step`` on mini-batches, as any PyTorch loop does.
    * generalised EM: the M-step improves the objective and need not maximise it, so that any optimizer and number of
      steps will do. Batch EM is one ``step`` on the whole data with many M-steps.

    Args:
        model: maps ``x`` to logits [batch, *problem.latent_shape, problem.cardinality]; called once per M-step, so that
            random augmentation inside it differs between them.
        problem: the symbolic component.
        optimizer: over the parameters of the model.
        engine: the E-step strategy; None takes the first that works, as ``em.posterior`` does.
        m_steps: gradient steps per posterior, at least 1.
        hard: use MAP targets; excludes ``engine``.
        scheduler: a learning-rate scheduler, stepped after every optimizer step.

    Raises:
        ValueError: ``m_steps`` below 1, or ``hard`` together with an engine.
        TypeError: an engine that is no ``em.Engine``.
        UnsupportedEngineError: an engine that does not work for the problem.

    Rows whose label is impossible do not move the net. As deterministic as the model, the engine and the optimizer.
    Cost of a step: one E-step, and ``m_steps`` forward and backward passes.

    >>> import torch, emnesy_gpu as em
    >>> _ = torch.manual_seed(0)
    >>> problem = em.Addition(n_digits=1)
    >>> x = torch.eye(10).repeat(8, 1).view(40, 2, 1, 10)           # a one-hot "image" per digit
    >>> label = problem.label(x.argmax(-1))
    >>> model = torch.nn.Linear(10, 10)
    >>> trainer = em.EM(model, problem, torch.optim.Adam(model.parameters(), lr=0.1))
    >>> losses = [trainer.step(x, label)["loss"] for _ in range(50)]
    >>> losses[-1] < 0.5 * losses[0]
    True
    """

    def __init__(
        self,
        model: Callable[[Any], Tensor],
        problem: Problem,
        optimizer: Optimizer,
        engine: Engine[Any] | None = None,
        m_steps: int = 1,
        hard: bool = False,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model must be a function of x that returns logits, got {model!r}")
        checks.is_instance("optimizer", optimizer, Optimizer, "a torch.optim.Optimizer over the parameters")
        checks.is_integer("m_steps", m_steps, 1, None)
        if hard and engine is not None:
            raise ValueError(f"hard=True means engine=em.MAP(): give one of them, got engine={engine!r}")
        self.model, self.problem, self.optimizer = model, problem, optimizer
        self.engine = choose_engine(problem, MAP() if hard else engine)
        self.m_steps, self.scheduler = m_steps, scheduler

    def step(self, x: Any, label: Tensor) -> dict[str, float]:
        """Take one E-step and ``m_steps`` gradient steps on a batch.

        Args:
            x: whatever the model takes.
            label: integers [batch, *problem.label_shape].

        Returns:
            loss: mean of the last M-step, nats. log_evidence: mean over the rows whose label is possible, nats; -inf
            where there are none. possible: the share of these rows. seconds_e, seconds_m: wall time of the E-step, and
            of the M-steps with all forward passes. The clocks synchronise a GPU.

        Raises TypeError and ValueError as ``em.posterior`` does.
        """
        clock = _Clock(label.device)
        logits = self.model(x)
        seconds_forward = clock.lap()
        post = posterior(self.problem, logits, label, self.engine)
        seconds_e = clock.lap()
        loss = self._maximise(logits, post)
        for _ in range(self.m_steps - 1):
            loss = self._maximise(self.model(x), post)
        seconds_m = clock.lap() + seconds_forward
        share = post.possible.float().mean().item()
        evidence = post.log_evidence[post.possible].mean().item() if share > 0 else float("-inf")
        return {
            "loss": loss.item(),
            "log_evidence": evidence,
            "possible": share,
            "seconds_e": seconds_e,
            "seconds_m": seconds_m,
        }

    def _maximise(self, logits: Tensor, post: Any) -> Tensor:
        loss = em_loss(logits, post)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return loss.detach()


class _Clock:
    """A clock of laps, in seconds; each lap ends when the work queued on the device has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.last = self._now()

    def lap(self) -> float:
        before, self.last = self.last, self._now()
        return self.last - before

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
