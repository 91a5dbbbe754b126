"""How ``em.EM`` takes gradient steps: its options, and the steps themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from emnesy_gpu import checks
from emnesy_gpu.reduction import IMPOSSIBLE_ROWS

Callback = Callable[[Any, dict[str, float]], Any]


@dataclass(frozen=True)
class Options:
    """What ``em.EM`` does differently where a training loop asks for it; each option stands for itself.

    Args:
        logits: where the logits are in what the model returns: a key of a dict, an index of a tuple, or a function of
            the result. None: the model returns them.
        teacher: a net of its own for the E-step, such as a ``torch.optim.swa_utils.AveragedModel`` of the model. It
            gets no gradient, and a callback updates it. None: the model itself.
        backward: computes the gradients of a loss, such as ``accelerator.backward``; None: ``loss.backward()``.
        scaler: a ``torch.amp.GradScaler``.
        clip: the largest norm of the gradient of all parameters; None: any.
        accumulate: batches of ``step`` to an optimizer step, whose gradients are averaged. An epoch may end between
            two optimizer steps; its last gradients then belong to the next one.
        callbacks: functions (trainer, metrics), called in their order after each ``step``.
        impossible: what the loss does with rows whose label is impossible: see ``em.em_loss``.
        check: verify the values of logits and labels: see ``em.posterior``.
        advance_seed: new samples in every step. False: the seed of the engine in every step.
        rows_before: how many rows of this step are on ranks of ``torch.distributed`` before this one, so that samples
            do not depend on the number of ranks. None: as many as here on each of them.

    Raises TypeError and ValueError for options of wrong types or out of range.

    >>> import torch, emnesy_gpu as em
    >>> class Net(torch.nn.Linear):
    ...     def forward(self, x):
    ...         return {"logits": super().forward(x)}
    >>> net, problem, x = Net(10, 10), em.Addition(n_digits=1), torch.eye(10)[torch.tensor([[[2], [3]]])]
    >>> options = em.Options(logits="logits", clip=1.0, impossible="skip")
    >>> trainer = em.EM(net, problem, torch.optim.SGD(net.parameters(), lr=0.1), options=options)
    >>> trainer.step(x, problem.label(x.argmax(-1)))["possible"]
    1.0
    """

    logits: str | int | Callable[[Any], Tensor] | None = None
    teacher: Callable[[Any], Any] | None = None
    backward: Callable[[Tensor], Any] | None = None
    scaler: torch.amp.GradScaler | None = None
    clip: float | None = None
    accumulate: int = 1
    callbacks: Sequence[Callback] = ()
    impossible: str = "prior"
    check: bool = True
    advance_seed: bool = True
    rows_before: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        is_place = isinstance(self.logits, (str, int)) and not isinstance(self.logits, bool)
        if self.logits is not None and not is_place and not callable(self.logits):
            raise TypeError(f"logits must be a key, an index, a function or None, got {self.logits!r}")
        for name in ("teacher", "backward", "rows_before"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a function or None, got {value!r}")
        if self.clip is not None:
            checks.is_number("clip", self.clip, 0.0)
        checks.is_integer("accumulate", self.accumulate, 1, None)
        checks.is_one_of("impossible", self.impossible, IMPOSSIBLE_ROWS)
        checks.is_flag("check", self.check)
        checks.is_flag("advance_seed", self.advance_seed)
        if self.scaler is not None and not hasattr(self.scaler, "unscale_"):
            raise TypeError(f"scaler must be a torch.amp.GradScaler or None, got {self.scaler!r}")
        for callback in checks.items("callbacks", self.callbacks, "functions"):
            checks.is_function("a callback of callbacks", callback)

    def logits_of(self, output: Any) -> Tensor:
        """The logits in what a model returned; TypeError where there are none."""
        if callable(self.logits):
            output = self.logits(output)
        elif self.logits is not None:
            output = output[self.logits]
        if not isinstance(output, Tensor):
            hint = ": say where the logits are, em.Options(logits=...)" if isinstance(output, (Mapping, tuple)) else ""
            raise TypeError(f"the model must return logits, a torch.Tensor, got {type(output).__name__}{hint}")
        return output


class GradientSteps:
    """Gradient steps of an optimizer under the options: see ``take``.

    loss, norm: of the last call, tensors without a gradient.
    """

    def __init__(self, optimizer: Optimizer, scheduler: LRScheduler | None, options: Options) -> None:
        if options.accumulate > 1 and isinstance(optimizer, LBFGS):
            raise ValueError("accumulate must be 1 for LBFGS, which evaluates one loss several times")
        self.optimizer, self.scheduler, self.options = optimizer, scheduler, options
        self.pending = 0
        self.loss = self.norm = torch.zeros(())

    def take(self, loss_of: Callable[[], Tensor]) -> None:
        """Take one step on a loss, or add its gradient to those of a step to come."""
        begins, self.pending = self.pending == 0, (self.pending + 1) % self.options.accumulate
        ends = self.pending == 0

        def closure() -> Tensor:
            loss = loss_of()
            if begins:
                self.optimizer.zero_grad(set_to_none=True)
            self._add_gradients(loss / self.options.accumulate)
            self.loss = loss.detach()
            if ends:
                self._clip()
            return loss

        if not ends:
            closure()
            return
        if self.options.scaler is None:
            self.optimizer.step(closure)  # type: ignore[arg-type]
        else:
            closure()
            self.options.scaler.step(self.optimizer)
            self.options.scaler.update()
        if self.scheduler is not None and not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()

    def end_epoch(self, loss: float) -> None:
        """Tell a ReduceLROnPlateau the mean loss of an epoch."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(loss)

    @property
    def learning_rate(self) -> float:
        """That of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _add_gradients(self, loss: Tensor) -> None:
        if self.options.scaler is not None:
            loss = self.options.scaler.scale(loss)
        if self.options.backward is None:
            loss.backward()
        else:
            self.options.backward(loss)

    def _clip(self) -> None:
        if self.options.scaler is not None:
            self.options.scaler.unscale_(self.optimizer)
        parameters = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        norm = get_total_norm([weight.grad for weight in parameters if weight.grad is not None])
        self.norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of the shards of FSDP
        if self.options.clip is not None:
            clip_grads_with_norm_(parameters, self.options.clip, self.norm)
