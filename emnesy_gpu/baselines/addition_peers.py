"""Addition in DeepProbLog, whose program is grounded and compiled for a query, and evaluated for the beliefs of a net.

Raises ModuleNotFoundError where the package is not installed: ``pip install "emnesy_gpu[competitors]"``.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

PROGRAM = """
nn(net, [X], Y, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) :: digit(X, Y).
number([], N, N).
number([X | Rest], N, Result) :- digit(X, Y), More is 10 * N + Y, number(Rest, More, Result).
sum(Xs, Ys, Z) :- number(Xs, 0, X), number(Ys, 0, Y), Z is X + Y.
"""


class Answer(NamedTuple):
    """What one query gave.

    marginals: [2, n, 10], the gradient of the log evidence. log_evidence: []. ground, compiled: seconds that the
    program and its circuit took when this sum was asked for the first time. evaluated: seconds of the circuit and its
    gradient.
    """

    marginals: Tensor
    log_evidence: Tensor
    ground: float
    compiled: float
    evaluated: float


class _Beliefs(nn.Module):
    """In place of a net: what stands for an image is its log beliefs."""

    def forward(self, log_beliefs: Tensor) -> Tensor:
        return log_beliefs.exp()


def deepproblog(n_digits: int) -> Callable[[Tensor, int], Answer]:
    """Return exact inference on the sum of two numbers: (logits [2, n_digits, 10], sum) -> what the query gives."""
    model, network, engines, query = (
        importlib.import_module(f"deepproblog.{name}") for name in ("model", "network", "engines", "query")
    )
    logic = importlib.import_module("problog.logic")
    images: dict[tuple[object, ...], Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "addition.pl"
        program.write_text(PROGRAM)
        solver = model.Model(str(program), [network.Network(_Beliefs(), "net", batching=True)])
    solver.set_engine(engines.ExactEngine(solver), cache=True)
    solver.add_tensor_source("images", images)
    shown = [logic.Term("tensor", logic.Term("images", logic.Constant(i))) for i in range(2 * n_digits)]
    numbers = logic.list2term(shown[:n_digits]), logic.list2term(shown[n_digits:])

    def run(logits: Tensor, total: int) -> Answer:
        log_beliefs = torch.log_softmax(logits.detach(), -1).requires_grad_()
        images.update({(logic.Constant(i),): row for i, row in enumerate(log_beliefs.flatten(0, 1))})
        (found,) = solver.solve([query.Query(logic.Term("sum", *numbers, logic.Constant(total)))])
        start = time.perf_counter()
        (evidence,) = found.result.values()
        (marginals,) = torch.autograd.grad(evidence.log(), log_beliefs)
        evaluated = found.eval_time + time.perf_counter() - start
        return Answer(marginals, evidence.detach().log(), found.ground_time, found.compile_time, evaluated)

    return run
