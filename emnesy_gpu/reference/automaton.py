"""Exact inference on a finite automaton that reads the symbols in order, written to be read.

Symbols z_1 .. z_n have independent priors p_i = softmax(logits[i]) over K values. From state s a value of class c leads
to state t with weight w; after some positions an entry y of the label is seen, with weight o(y | s) of every state.
With P_i(c) the sum of p_i over the values of class c,

    alpha_0(s) = start(s)        alpha_i(t) = o_i(t) sum over edges (s, c, t) of alpha_{i-1}(s) w P_i(c)
    beta_n(s) = 1                beta_{i-1}(s) = sum over edges (s, c, t) of w P_i(c) o_i(t) beta_i(t)
    r_i(c) = sum over edges (s, c, t) of alpha_{i-1}(s) w o_i(t) beta_i(t)

the evidence is sum_s alpha_n(s), and p(z_i = v | y) ~ p_i(v) r_i(class of v): exact, at a cost of O(edges) a position
(Rabiner, "A tutorial on hidden Markov models", 1989, section III). Weights 0 and 1 make a deterministic automaton.

Everything is computed in float64 and in log space. The launch functions have the signatures of
``kernels.cpu.automaton`` and ``kernels.gpu.automaton``; ``tables`` are ``kernels.automaton_tables.AutomatonTables``,
and ``rows`` int32 [batch, M] the row of the emissions for each entry of the label, -1 for codes that do not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.philox import philox_uniforms
from emnesy_gpu.reference.symbols import NEG_INF, draw, log_maxima, log_softmax, log_sums, not_a_prior, result_dtype


class Step(NamedTuple):
    """What one position does: edges, the class of each value, and the log weight that the label gives each state."""

    source: Tensor  # int64 [E]
    klass: Tensor  # int64 [E]
    target: Tensor  # int64 [E]
    log_weight: Tensor  # float64 [E]
    classes: Tensor  # int64 [K]
    log_seen: Tensor  # float64 [batch, S]


def posterior(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], symbols: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [batch, n, K], log evidence [batch] and status [batch]; logits [batch, n, K] in reading order.

    symbols: int64 [n], the symbol that each position reads, in whose order the marginals are; None for reading order.
    """
    log_prior, steps, status = log_softmax(logits), _steps(rows, tables), _status(logits, rows)
    alphas = _forward(log_prior, steps, tables)
    log_evidence = torch.logsumexp(alphas[-1], 1) + AutomatonTables(*tables).log_scale
    log_joint = log_prior.clone()
    beta = torch.zeros_like(alphas[-1])
    for i in reversed(range(len(steps))):
        step = steps[i]
        ahead = (step.log_seen + beta)[:, step.target] + step.log_weight
        log_joint[:, i] += _by_value(alphas[i][:, step.source] + ahead, step)
        beta = log_sums(ahead + _class_log_prior(log_prior[:, i], step)[:, step.klass], step.source, beta)
    status[(status == POSSIBLE) & (log_evidence == NEG_INF)] = IMPOSSIBLE
    possible = (status == POSSIBLE)[:, None, None]
    marginals = torch.where(possible, torch.softmax(log_joint, -1), log_prior.exp())
    log_evidence = torch.where(status == POSSIBLE, log_evidence, NEG_INF)
    dtype = result_dtype(logits)
    return in_order(marginals, symbols).to(dtype), log_evidence.to(dtype), status


def em_gradient(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], scale: float, symbols: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale, log evidence and status."""
    marginals, log_evidence, status = posterior(logits.double(), rows, tables)
    dtype = result_dtype(logits)
    gradient = in_order((log_softmax(logits).exp() - marginals) * scale, symbols)
    return gradient.to(dtype), log_evidence.to(dtype), status


def in_order(values: Tensor, symbols: Tensor | None) -> Tensor:
    """Values [batch, n, K] of positions in the order of the symbols that these read."""
    return values if symbols is None else torch.empty_like(values).index_copy_(1, symbols, values)


def map_assignment(logits: Tensor, rows: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable symbols int64 [batch, n], the log of their prior times weights, and status.

    Maxima of sums of logits replace the sums: in float64 they add up float32 logits without rounding, so that
    assignments of equal probability tie exactly. Of these, the first in the order of values, and then of states, is
    taken, from the first position to the last. Rows that are not possible have the most probable value of every symbol.
    """
    score, steps, status = _scores(logits), _steps(rows, tables), _status(logits, rows)
    start = AutomatonTables(*tables).start.log()
    betas = [torch.zeros(len(logits), len(start), dtype=torch.float64)]
    for i in reversed(range(len(steps))):
        step = steps[i]
        best = torch.stack([score[:, i, step.classes == c].amax(1) for c in range(int(step.classes.max()) + 1)], 1)
        betas.append(log_maxima(_ahead(best, step, betas[-1]), step.source, betas[-1]))
    betas.reverse()
    first = start + betas[0]
    highest = first.amax(1)
    status[(status == POSSIBLE) & (highest == NEG_INF)] = IMPOSSIBLE
    z = score.argmax(-1)
    for row in (status == POSSIBLE).nonzero()[:, 0].tolist():
        state = int(first[row].argmax())
        for i, step in enumerate(steps):
            choices = _choices(score[row, i], step, row, state, betas[i + 1][row])
            _, value, state = min(choices, key=lambda choice: (-choice[0], *choice[1:]))
            z[row, i] = value
    log_joint = highest - torch.logsumexp(score, -1).sum(1) + AutomatonTables(*tables).log_scale
    log_joint = torch.where(status == POSSIBLE, log_joint, NEG_INF)
    return z, log_joint.to(result_dtype(logits)), status


def sample(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, n] from the posterior, and status; from the prior where that fails.

    Backward filtering, then sampling from the first position to the last: the value and the next state are drawn
    together, in the order of the values, then of the states, by word 0 of the Philox counter (position, sample, row).
    The state before position 0, where there is more than one, is drawn by word 1 of position 0.
    """
    log_prior, steps, status = log_softmax(logits), _steps(rows, tables), _status(logits, rows)
    start = AutomatonTables(*tables).start.log()
    betas = [torch.zeros(len(logits), len(start), dtype=torch.float64)]
    for i in reversed(range(len(steps))):
        step = steps[i]
        ahead = _ahead(_class_log_prior(log_prior[:, i], step), step, betas[-1])
        betas.append(log_sums(ahead, step.source, betas[-1]))
    betas.reverse()
    status[(status == POSSIBLE) & (torch.logsumexp(start + betas[0], 1) == NEG_INF)] = IMPOSSIBLE
    z = torch.zeros(n_samples, *logits.shape[:2], dtype=torch.int64)
    for row in range(len(logits)):
        for t in range(n_samples):
            uniforms = philox_uniforms(len(steps), t, first_row + row, seed)
            if status[row] != POSSIBLE:
                z[t, row] = torch.tensor(
                    [draw(p.tolist(), u[0]) for p, u in zip(log_prior[row], uniforms, strict=True)]
                )
                continue
            state = draw((start + betas[0][row]).tolist(), uniforms[0][1])
            for i, step in enumerate(steps):
                choices = sorted(
                    _choices(log_prior[row, i], step, row, state, betas[i + 1][row]), key=lambda choice: choice[1:]
                )
                chosen = draw([score for score, _, _ in choices], uniforms[i][0])
                _, z[t, row, i], state = choices[chosen]
    return z, status


def _steps(rows: Tensor, tables: Sequence[Tensor]) -> list[Step]:
    t = AutomatonTables(*tables)
    unseen = torch.zeros(len(rows), len(t.start), dtype=torch.float64)
    steps = []
    for index, entry in zip(t.layer.tolist(), t.entry.tolist(), strict=True):
        first = t.out_first[index].long()
        edges = slice(int(first[0]), int(first[-1]))
        source = torch.repeat_interleave(torch.arange(len(first) - 1), first.diff())
        log_seen = unseen if entry < 0 else t.emissions[entry][rows[:, entry].long().clamp_min(0)].log()
        numbers = t.out_class[edges].long(), t.out_target[edges].long()
        steps.append(Step(source, *numbers, t.out_weight[edges].log(), t.classes[index].long(), log_seen))
    return steps


def _status(logits: Tensor, rows: Tensor) -> Tensor:
    status = torch.full((len(logits),), POSSIBLE, dtype=torch.uint8)
    status[not_a_prior(logits).flatten(1).any(1)] = INVALID_LOGITS
    status[(rows < 0).any(1)] = INVALID_LABEL
    return status


def _scores(logits: Tensor) -> Tensor:
    """Logits in float64; zeros where they are no prior."""
    return torch.where(not_a_prior(logits), 0.0, logits.double())


def _forward(log_prior: Tensor, steps: list[Step], tables: Sequence[Tensor]) -> list[Tensor]:
    """log alpha_i for i = 0 .. n, [batch, S] each."""
    start = AutomatonTables(*tables).start.log()
    alphas = [start.expand(len(log_prior), -1)]
    for i, step in enumerate(steps):
        along = alphas[-1][:, step.source] + step.log_weight + _class_log_prior(log_prior[:, i], step)[:, step.klass]
        alphas.append(log_sums(along, step.target, alphas[-1]) + step.log_seen)
    return alphas


def _class_log_prior(log_prior: Tensor, step: Step) -> Tensor:
    """log P_i [batch, C] from log p_i [batch, K]."""
    n_classes = int(step.classes.max()) + 1
    parts = [torch.logsumexp(log_prior[:, step.classes == c], 1) for c in range(n_classes)]
    return torch.stack(parts, 1)


def _by_value(log_terms: Tensor, step: Step) -> Tensor:
    """log r_i of the class of each value [batch, K] from the terms of the edges [batch, E]; -inf without a class."""
    n_classes = int(step.classes.max()) + 1
    like = log_terms.new_zeros(len(log_terms), n_classes)
    by_class = log_sums(log_terms, step.klass, like)
    return torch.where(step.classes >= 0, by_class[:, step.classes.clamp_min(0)], NEG_INF)


def _ahead(log_class: Tensor, step: Step, beta: Tensor) -> Tensor:
    """Log of what an edge and all after it weigh, [batch, E], from the log of what each class weighs [batch, C]."""
    return log_class[:, step.klass] + step.log_weight + (step.log_seen + beta)[:, step.target]


def _choices(log_prior: Tensor, step: Step, row: int, state: int, beta: Tensor) -> list[tuple[float, int, int]]:
    """(score, value, next state) of every way on from a state of one row."""
    ways = []
    for edge in (step.source == state).nonzero()[:, 0].tolist():
        target = int(step.target[edge])
        ahead = float(step.log_weight[edge] + (step.log_seen[row, target] + beta[target]))
        for value in (step.classes == step.klass[edge]).nonzero()[:, 0].tolist():
            ways.append((float(log_prior[value]) + ahead, value, target))
    return ways
