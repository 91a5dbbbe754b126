"""One posterior for a person to read: prior, label, marginals, and the most probable assignments."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.e_step import posterior
from emnesy_gpu.engines import A_PROBLEM, MAP, Engine, Exact, choose_engine
from emnesy_gpu.palette import new_figure
from emnesy_gpu.problems import Problem

__all__ = ["Explanation", "explain"]

MOST_SYMBOLS, MOST_VALUES = 40, 3
"""Symbols in the table, and values of each."""

LEAST_FIXED = 5e-5
"""Smaller probabilities would be 0.0000 with four places, and are shown with an exponent."""

NARROWEST_BARS = 5
"""Width of the bars of assignments, in columns of values: their figures need it."""

LEAST_SHOWN = 0.005
"""Smaller probabilities are left out of the table."""


@dataclass(frozen=True)
class Explanation:
    """One row of a posterior; ``print`` shows it as a table, and ``plot`` as a picture.

    Attributes:
        problem: its ``repr``.
        label: int64 [*label_shape].
        prior, posterior: probabilities [*latent_shape, cardinality]; equal where the label is impossible.
        log_evidence: log p(y | x) in nats, or the estimate of the engine; -inf for an impossible label.
        assignments: int64 [n, *latent_shape], the most probable ones with the label, best first, n <= k.
        probabilities: float64 [n], p(z | y, x) of each; they sum to at most 1.
        note: what the engine is, and why assignments are missing where they are.
    """

    problem: str
    label: Tensor
    prior: Tensor
    posterior: Tensor
    log_evidence: float
    assignments: Tensor
    probabilities: Tensor
    note: str

    def __str__(self) -> str:
        lines = [f"{self.problem}, label {_values(self.label)}", f"log p(label) = {self.log_evidence:.4f}; {self.note}"]
        names = list(itertools.islice(self._symbols(), MOST_SYMBOLS))
        rows = [("symbol", "before", "given the label")]
        for name, before, after in zip(names, self.prior.flatten(0, -2), self.posterior.flatten(0, -2), strict=False):
            rows.append((name, _best(before), _best(after)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        hidden = self.posterior.shape[:-1].numel() - len(names)
        lines += [f"... and {hidden} more symbols"] if hidden else []
        if len(self.assignments):
            lines.append("most probable assignments:")
        for assignment, probability in zip(self.assignments, self.probabilities.tolist(), strict=True):
            shown = f"{probability:.4f}" if probability >= LEAST_FIXED else f"{probability:<6.0e}"
            lines.append(f"  {shown}  {_values(assignment)}")
        return "\n".join(lines)

    def plot(self, figure: Any = None) -> Any:
        """Draw prior and posterior, a row per symbol and a column per value, and the assignments as bars.

        figure: a figure of matplotlib; None makes one. Returns it. Raises ModuleNotFoundError without matplotlib, and
        TypeError for what is no figure.
        """
        if figure is not None:
            checks.has_method("figure", figure, "subplots", "a figure of matplotlib")
        n_symbols, n_values = self.posterior.shape[:-1].numel(), self.posterior.shape[-1]
        shown = len(self.assignments)
        if figure is None:
            figure = new_figure(3.2 + 0.5 * n_values + 3.2 * bool(shown), max(2.6, 1.4 + 0.3 * max(n_symbols, shown)))
        widths = (n_values, n_values, max(0.8 * n_values, NARROWEST_BARS))[: 3 if shown else 2]
        axes = figure.subplots(1, len(widths), width_ratios=widths)
        for ax, beliefs, title in zip(axes, (self.prior, self.posterior), ("before", "given the label"), strict=False):
            image = ax.imshow(beliefs.flatten(0, -2).cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
            ax.set(title=title, xlabel="value", xticks=range(n_values), yticks=[])
        axes[0].set(ylabel="symbol")
        if n_symbols <= MOST_SYMBOLS:
            axes[0].set_yticks(range(n_symbols), list(self._symbols()))
        figure.colorbar(image, ax=list(axes[:2]), label="probability")
        if shown:
            self._draw_assignments(axes[2])
        figure.suptitle(f"{self.problem}, label {_values(self.label)}: p = {_number(self.log_evidence)}")
        return figure

    def _draw_assignments(self, ax: Any) -> None:
        words = [_values(one) for one in self.assignments]
        bars = ax.barh(range(len(words)), self.probabilities.cpu().numpy(), color="#0072B2")
        ax.bar_label(bars, [f"{share:.2g}" for share in self.probabilities.tolist()], padding=2, fontsize=8)
        ax.set_yticks(range(len(words)), words, fontsize=8)
        ax.set(title="most probable together", xlabel="probability", ylim=(len(words) - 0.4, -0.6))
        ax.set_xlim(0, 1.25 * float(self.probabilities.max()))
        ax.yaxis.tick_right()

    def _symbols(self) -> Iterator[str]:
        return (f"z[{','.join(map(str, index))}]" for index in itertools.product(*map(range, self.prior.shape[:-1])))


def explain(
    problem: Problem,
    logits: Tensor,
    label: Tensor,
    row: int = 0,
    k: int = 5,
    engine: Engine[Any] | None = None,
) -> Explanation:
    """Explain the posterior of one row: what was believed, what the label says, and which assignments remain.

        p(z | y, x) = p(z, y | x) / p(y | x)     the k largest, by k - 1 divisions of the set of assignments

    The set without its best assignment z* is divided by the first symbol that differs from z*, and ``em.MAP`` finds the
    best of each part (Lawler, "A procedure for computing the k best solutions to discrete optimization problems",
    1972). The list is exact where ``em.Exact`` and ``em.MAP`` work: addition, automata, circuits, trees, and whatever
    can be listed. Elsewhere it is empty, and the note says so.

    Args:
        problem, logits, label, engine: as for ``em.posterior``.
        row: of the batch; negative ones count from the end.
        k: assignments to list, at least 0.

    Raises TypeError and ValueError as ``em.posterior`` does, and ValueError for a row that is not there. An impossible
    label has log evidence -inf, the prior as posterior, and no assignments. Deterministic; ties are broken by value.
    Cost: k calls of ``em.MAP`` with a row for each symbol, in float64.

    >>> import torch, emnesy_gpu as em
    >>> told = em.explain(em.Addition(n_digits=1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 2]]), k=2)
    >>> print(told)
    Addition(n_digits=1, base=10, n_addends=2), label 0 2
    log p(label) = -3.5066; em.Exact() is exact
    symbol  before                   given the label
    z[0,0]  0: 0.10 1: 0.10 2: 0.10  0: 0.33 1: 0.33 2: 0.33
    z[1,0]  0: 0.10 1: 0.10 2: 0.10  0: 0.33 1: 0.33 2: 0.33
    most probable assignments:
      0.3333  0 | 2
      0.3333  1 | 1
    """
    checks.is_instance("problem", problem, Problem, A_PROBLEM)
    logits, label = problem.checked(logits, label)
    checks.is_integer("row", row, -len(logits), len(logits) - 1)
    checks.is_integer("k", k, 0, sys.maxsize)
    row %= len(logits)
    one, its_label = logits[row : row + 1].double(), label[row : row + 1]
    engine = choose_engine(problem, engine)
    post = posterior(problem, one, its_label, engine)
    note, found = f"{engine!r} is {'exact' if isinstance(engine, Exact) else 'approximate'}", []
    if not (Exact().supports(problem) and MAP().supports(problem)):
        note += "; no assignments: they are listed where em.Exact() and em.MAP() work"
    elif not bool(post.possible):
        note += "; the label is impossible"
    else:
        evidence = float(posterior(problem, one, its_label, Exact()).log_evidence)
        found = [(z, value - evidence) for z, value in itertools.islice(_best_first(problem, one, its_label), k)]
    return Explanation(
        repr(problem),
        its_label[0],
        torch.softmax(one[0], -1),
        post.marginals[0],
        float(post.log_evidence),
        torch.stack([z for z, _ in found]) if found else label.new_zeros(0, *problem.latent_shape),
        torch.tensor([value for _, value in found], dtype=torch.float64).exp(),
        note,
    )


def _best_first(problem: Problem, logits: Tensor, label: Tensor) -> Iterator[tuple[Tensor, float]]:
    """Yield assignments with the label and their log p(z, y | x), best first; logits: [1, *latent_shape, cardinality].

    Every entry of the heap is the best assignment of a part, which its logits describe: -inf forbids a value.
    """
    normaliser = logits.logsumexp(-1).sum()
    heap: list[tuple[float, tuple[int, ...], Tensor, Tensor]] = []

    def add(parts: Tensor) -> None:
        if not len(parts):
            return
        best = posterior(problem, parts, label.expand(len(parts), *label.shape[1:]), MAP())
        scores = best.log_evidence + parts.logsumexp(-1).flatten(1).sum(1) - normaliser
        for part, z, score, possible in zip(parts, best.info["assignment"], scores, best.possible, strict=True):
            if possible:
                heapq.heappush(heap, (-float(score), tuple(z.flatten().tolist()), z, part))

    add(logits)
    while heap:
        negative, _, z, part = heapq.heappop(heap)
        yield z, -negative
        add(_without(part, z))


def _without(part: Tensor, z: Tensor) -> Tensor:
    """Divide the assignments of a part other than z by the first symbol that differs, [parts, *latent_shape, K]."""
    flat, values = part.flatten(0, -2), z.flatten()
    n = len(flat)
    known = torch.nn.functional.one_hot(values, flat.shape[-1]).bool()
    before = torch.arange(n, device=flat.device)[None] < torch.arange(n, device=flat.device)[:, None]
    parts = flat.masked_fill(~known & before[..., None], -torch.inf)
    at = torch.eye(n, dtype=torch.bool, device=flat.device)
    parts = parts.masked_fill(known & at[..., None], -torch.inf)
    left = (parts > -torch.inf).any(-1).all(-1)
    return parts[left].unflatten(1, z.shape)


def _best(beliefs: Tensor) -> str:
    """The most probable values of a symbol, in words."""
    order = beliefs.argsort(descending=True, stable=True)[:MOST_VALUES].tolist()
    return " ".join(f"{value}: {beliefs[value]:.2f}" for value in order if beliefs[value] >= LEAST_SHOWN)


def _values(tensor: Tensor) -> str:
    """The entries of a tensor: blanks between the last axis, bars between rows."""
    if tensor.dim() < 2:
        return " ".join(map(str, tensor.reshape(-1).tolist()))
    return " | ".join(map(_values, tensor))


def _number(log_evidence: float) -> str:
    return f"{torch.tensor(log_evidence, dtype=torch.float64).exp():.3g}"
