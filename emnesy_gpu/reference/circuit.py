"""Exact inference on a circuit of sums and products, written to be read.

Symbols z_1 .. z_n have independent priors p_i = softmax(logits[i]) over K values. Row r of the circuit has a value V_r:
p_i(v) for the leaf (i, v); for the leaf (m, y) of the label 1 where entry m is y or is not given, else 0; 1 for the
constant; and for a node

    V_r = sum over its terms (a, b) of V_a V_b

The parts of a sum exclude each other and the rows of a product share no symbol (the circuit is deterministic and
decomposable), so the value of the root is the evidence Z = p(label | x). With D_r = dZ / dV_r, which is

    D_root = 1        D_a = sum over the terms (a, b) of a node r of D_r V_b

the posterior is

    p(z_i = v | label) = p_i(v) D_(i,v) / Z + p_i(v) (1 - sum_u p_i(u) D_(i,u) / Z)

where the last factor is the share of Z whose parts do not mention the symbol: there it keeps its prior (Darwiche, "A
differential approach to inference in Bayesian networks", 2003, section 4, for the derivatives). The factor is exactly 0
for symbols that every part mentions. The evidence of one entry of the label alone is D_(m,y), as every part mentions
one value of each entry.

Everything is computed in float64 and in log space. The launch functions have the signatures of ``kernels.cpu.circuit``
and ``kernels.gpu.circuit``; ``tables`` are ``kernels.circuit_tables.CircuitTables``, and ``rows`` int32 [batch, M] is 0
where an entry of the label is not given, v + 1 for its value v, -1 for a code that does not exist. ``tape_rows`` and
``wide`` are for those back ends alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from emnesy_gpu.kernels.circuit_tables import CircuitTables, certain_logits
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, INVALID_LOGITS, POSSIBLE
from emnesy_gpu.philox import uniforms_at
from emnesy_gpu.reference.symbols import (
    NEG_INF,
    draw,
    log_maxima,
    log_softmax,
    log_sums,
    not_a_prior,
    result_dtype,
)


def posterior(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals [batch, n, K], log evidence [batch] and status [batch]; logits [batch, n, K]."""
    t, log_prior, status = CircuitTables(*tables), log_softmax(logits), _status(logits, rows)
    values = _values(_leaves(log_prior, rows, t), t, log_sums)
    log_evidence = values[:, -1]
    status[(status == POSSIBLE) & (log_evidence == NEG_INF)] = IMPOSSIBLE
    shift = log_evidence.masked_fill(log_evidence == NEG_INF, 0.0)[:, None, None]
    log_derivative = _log_derivatives(values, t)[:, : log_prior.shape[1:].numel()].view_as(log_prior)
    mentioning = (log_prior + log_derivative - shift).exp()
    rest = (1.0 - mentioning.sum(-1, keepdim=True)).clamp_min(0.0) * (t.mentioned == 0)[:, None]
    possible = (status == POSSIBLE)[:, None, None]
    marginals = torch.where(possible, mentioning + rest * log_prior.exp(), log_prior.exp())
    log_evidence = torch.where(status == POSSIBLE, log_evidence, NEG_INF)
    dtype = result_dtype(logits)
    return marginals.to(dtype), log_evidence.to(dtype), status


def em_gradient(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale, log evidence and status."""
    marginals, log_evidence, status = posterior(logits.double(), rows, tables, tape_rows, wide)
    dtype = result_dtype(logits)
    gradient = (log_softmax(logits).exp() - marginals) * scale
    return gradient.to(dtype), log_evidence.to(dtype), status


def map_assignment(logits: Tensor, rows: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable symbols int64 [batch, n], the log of their prior, and status.

    Maxima replace the sums, and leaves are logits less the largest one of their symbol: so a symbol that is not
    mentioned is again a factor 1. Walking from the root, the first term that reaches the value of its node is taken;
    symbols that no chosen term mentions take their most probable value, the smallest of those. Rows that are not
    possible have the most probable value of every symbol.
    """
    t, log_prior, status = CircuitTables(*tables), log_softmax(logits), _status(logits, rows)
    clean = torch.where(not_a_prior(logits), 0.0, logits.double())
    values = _values(_leaves(clean - clean.amax(-1, keepdim=True), rows, t), t, log_maxima)
    status[(status == POSSIBLE) & (values[:, -1] == NEG_INF)] = IMPOSSIBLE
    walker, z = Walker.of(t), clean.argmax(-1)
    for row in (status == POSSIBLE).nonzero()[:, 0].tolist():
        value = values[row].tolist()

        def first_best(node: int, terms: list[tuple[int, int]], value=value) -> int:
            return next(j for j, (a, b) in enumerate(terms) if value[a] + value[b] == value[node])

        walker.assign(z[row], first_best)
    log_joint = log_prior.gather(-1, z[..., None])[..., 0].sum(-1)
    log_joint = torch.where(status == POSSIBLE, log_joint, NEG_INF)
    return z, log_joint.to(result_dtype(logits)), status


def sample(
    logits: Tensor, rows: Tensor, tables: Sequence[Tensor], n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, n] from the posterior, and status; from the prior where that fails.

    Walking from the root, a node with several terms draws one in proportion to its value, in the order of the circuit,
    by word 0 of the Philox counter (draws[node], sample, row). Symbols that no chosen term mentions are drawn from
    their prior, in the order of the values, by word 0 of the counter (symbol, sample, row).
    """
    t, log_prior, status = CircuitTables(*tables), log_softmax(logits), _status(logits, rows)
    values = _values(_leaves(log_prior, rows, t), t, log_sums)
    status[(status == POSSIBLE) & (values[:, -1] == NEG_INF)] = IMPOSSIBLE
    walker, draws = Walker.of(t), t.draws.tolist()
    z = torch.full((n_samples, *logits.shape[:2]), -1, dtype=torch.int64)
    for row in range(len(logits)):
        value = values[row].tolist()
        for s in range(n_samples):

            def drawn(node: int, terms: list[tuple[int, int]], value=value, sample=s, number=first_row + row) -> int:
                if len(terms) == 1:
                    return 0
                uniform = uniforms_at(draws[node - walker.n_fixed], sample, number, seed)[0]
                return draw([value[a] + value[b] for a, b in terms], uniform)

            if status[row] == POSSIBLE:
                walker.assign(z[s, row], drawn)
            for i in (z[s, row] < 0).nonzero()[:, 0].tolist():
                z[s, row, i] = draw(log_prior[row, i].tolist(), uniforms_at(i, s, first_row + row, seed)[0])
    return z, status


def predict(logits: Tensor, tables: Sequence[Tensor], tape_rows: int, wide: bool) -> tuple[Tensor, Tensor]:
    """log p(entry = value | x) [batch, sum of given], entry by entry, and status.

    It is the log evidence of a label with one entry given alone, for each value of each entry.
    """
    t, log_prior = CircuitTables(*tables), log_softmax(logits)
    none = torch.zeros(len(logits), len(t.given) - 1, dtype=torch.int32)
    status = _status(logits, none)
    values = _values(_leaves(log_prior, none, t), t, log_sums)
    status[(status == POSSIBLE) & (values[:, -1] == NEG_INF)] = IMPOSSIBLE
    log_p = _log_derivatives(values, t)[:, int(t.given[0]) : int(t.given[-1])]
    log_p = torch.where((status == POSSIBLE)[:, None], log_p, NEG_INF)
    return log_p.to(result_dtype(logits)), status


def truth(z: Tensor, tables: Sequence[Tensor], tape_rows: int, n_values: int) -> Tensor:
    """Whether each assignment z int64 [batch, n] has each value of each entry of the label, bool [batch, sum of given].

    It is where log p(entry = value | x) is above -inf for logits that are certain of z.
    """
    return predict(certain_logits(z, n_values), tables, tape_rows, False)[0] > NEG_INF


class Walker(NamedTuple):
    """A circuit as lists, to be walked from the root."""

    n_values: int
    n_hidden: int  # leaves of symbols
    n_fixed: int  # rows before the nodes
    terms: list[list[tuple[int, int]]]  # of each node

    @classmethod
    def of(cls, t: CircuitTables) -> Walker:
        pairs = list(zip(t.left.tolist(), t.right.tolist(), strict=True))
        first = t.first.tolist()
        terms = [pairs[start:stop] for start, stop in pairwise(first)]
        n_hidden = int(t.given[0])
        return cls(n_hidden // max(len(t.mentioned), 1), n_hidden, int(t.given[-1]) + 1, terms)

    def assign(self, z: Tensor, choose: Callable[[int, list[tuple[int, int]]], int]) -> None:
        """Write the values of the symbols that the chosen terms mention into z [n].

        choose: (row of a node, its terms) -> the index of one of them.
        """
        stack = [self.n_fixed + len(self.terms) - 1]
        while stack:
            row = stack.pop()
            if row < self.n_hidden:
                z[row // self.n_values] = row % self.n_values
            elif row >= self.n_fixed:
                terms = self.terms[row - self.n_fixed]
                stack += terms[choose(row, terms)]


def _status(logits: Tensor, rows: Tensor) -> Tensor:
    status = torch.full((len(logits),), POSSIBLE, dtype=torch.uint8)
    status[not_a_prior(logits).flatten(1).any(1)] = INVALID_LOGITS
    status[(rows < 0).any(1)] = INVALID_LABEL
    return status


def _leaves(log_prior: Tensor, rows: Tensor, t: CircuitTables) -> Tensor:
    """Logarithms of all leaves and of the constant [batch, leaves + 1]."""
    parts = [log_prior.flatten(1)]
    for entry, size in enumerate(t.given.diff().tolist()):
        row = rows[:, entry, None]
        parts.append(torch.where((row <= 0) | (row == torch.arange(size) + 1), 0.0, NEG_INF).double())
    return torch.cat([*parts, log_prior.new_zeros(len(log_prior), 1)], 1)


def _levels(t: CircuitTables) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Of each level, leaves first: rows of its nodes, and left row, right row and parent of each term."""
    n_fixed, parent = int(t.given[-1]) + 1, torch.repeat_interleave(torch.arange(len(t.draws)), t.first.diff())
    for start, stop in pairwise(t.node_levels.tolist()):
        terms = slice(int(t.first[start]), int(t.first[stop]))
        nodes = slice(n_fixed + start, n_fixed + stop)
        yield nodes, t.left[terms].long(), t.right[terms].long(), n_fixed + parent[terms]


def _values(leaves: Tensor, t: CircuitTables, reduce: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Logarithms of all rows [batch, rows]; reduce: log_sums or log_maxima."""
    values = torch.cat([leaves, leaves.new_full((len(leaves), len(t.draws)), NEG_INF)], 1)
    for nodes, left, right, parent in _levels(t):
        values[:, nodes] = reduce(values[:, left] + values[:, right], parent - nodes.start, values[:, nodes])
    return values


def _log_derivatives(values: Tensor, t: CircuitTables) -> Tensor:
    """log D of all rows [batch, rows]."""
    found = torch.full_like(values, NEG_INF)
    found[:, -1] = 0.0
    for _, left, right, parent in reversed(list(_levels(t))):
        above = found[:, parent]
        terms = torch.cat([above + values[:, right], above + values[:, left]], 1)
        found = torch.logaddexp(found, log_sums(terms, torch.cat([left, right]), found))
    return found
