"""Exact inference over the table of all assignments, written to be read.

N hidden symbols with priors p_i = softmax(logits[i]) over k_i of K values; every assignment z_1 .. z_M has a label.
With Z(y) the assignments that have the label y,

    p(z_m) = prod_i p_i(z_m,i)    p(y) = sum_{m in Z(y)} p(z_m)
    p(z_i = v | y) = sum_{m in Z(y), z_m,i = v} p(z_m) / p(y)

in O(M N) operations a row. Everything is computed in float64 and in log space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.kernels.joint_tables import JointTable
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.philox import philox_uniforms
from emnesy_gpu.reference.enumeration import row_status_given
from emnesy_gpu.reference.symbols import NEG_INF, draw, log_softmax, result_dtype


def posterior(logits: Tensor, label: Tensor, table: JointTable) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals p(z_i = v | y) [batch, N, K], log evidence log p(y) [batch], and the status of each row.

    logits: [batch, N, K]; what they hold for values that a symbol does not have is ignored. label: int64
    [batch, entries]. Rows whose label is impossible get the prior and log evidence -inf.
    """
    log_prior, z = log_softmax(without_padding(logits, table)), assignments(table)
    log_joint = log_prior.gather(2, z.T.expand(len(logits), -1, -1)).sum(1)
    log_joint = torch.where(has_label(label, table), log_joint, NEG_INF)
    log_evidence = torch.logsumexp(log_joint, 1)
    status = status_given(logits, table, log_evidence)
    weights = torch.softmax(log_joint, 1)
    marginals = torch.zeros_like(log_prior).scatter_add(
        2, z.T.expand(len(logits), -1, -1), weights[:, None].expand(-1, z.shape[1], -1)
    )
    possible = status == POSSIBLE
    marginals = torch.where(possible[:, None, None], marginals, log_prior.exp())
    dtype = result_dtype(logits)
    return marginals.to(dtype), torch.where(possible, log_evidence, NEG_INF).to(dtype), status


def em_gradient(logits: Tensor, label: Tensor, table: JointTable, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale, log evidence and status; 0 in rows that are not possible."""
    marginals, log_evidence, status = posterior(logits.double(), label, table)
    gradient = (log_softmax(without_padding(logits, table)).exp() - marginals) * scale
    gradient = torch.where((status == POSSIBLE)[:, None, None], gradient, 0.0)
    dtype = result_dtype(logits)
    return gradient.to(dtype), log_evidence.to(dtype), status


def map_assignment(logits: Tensor, label: Tensor, table: JointTable) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The most probable assignment int64 [batch, N], its log probability under the prior, status, bool: is it POSSIBLE.

    The score of a side is the sum of logit - largest logit of the symbol, in the order of its symbols; that of an
    assignment is the sum of those of its two sides. Ties go to the first assignment. Impossible rows get the most
    probable value of every symbol and -inf.
    """
    padded = without_padding(logits, table).double()
    shifted, z = padded - padded.amax(-1, keepdim=True), assignments(table)
    sides = torch.zeros(2, len(logits), len(z), dtype=torch.float64)
    for i in range(z.shape[1]):
        sides[int(i >= table.n_left)] += shifted[:, i, z[:, i]]
    score = torch.where(has_label(label, table), sides[0] + sides[1], NEG_INF)
    status = status_given(logits, table, score.amax(1))
    possible = status == POSSIBLE
    best = torch.where(possible[:, None], z[score.argmax(1)], padded.argmax(-1))
    log_joint = log_softmax(padded).gather(2, best[..., None]).flatten(1).sum(1)
    return best, torch.where(possible, log_joint, NEG_INF).to(result_dtype(logits)), status, possible


def sample(
    logits: Tensor, label: Tensor, table: JointTable, n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, N] from p(z | y), and status.

    Sample t of row r takes the first word u_0 of Philox-4x32-10 with counter (0, t, first_row + r) and key seed: the
    first assignment whose running sum of weights exceeds u_0 times their total. In impossible rows symbol i is drawn
    from its prior in the same way, with counter (i, t, first_row + r).
    """
    log_prior, z = log_softmax(without_padding(logits, table)), assignments(table)
    log_joint = log_prior.gather(2, z.T.expand(len(logits), -1, -1)).sum(1)
    log_joint = torch.where(has_label(label, table), log_joint, NEG_INF)
    status = status_given(logits, table, log_joint.amax(1))
    drawn = torch.empty(n_samples, *logits.shape[:2], dtype=torch.int64)
    for row in range(len(logits)):
        for t in range(n_samples):
            uniforms = philox_uniforms(logits.shape[1], t, first_row + row, seed)
            if status[row] == POSSIBLE:
                drawn[t, row] = z[draw(log_joint[row].tolist(), uniforms[0][0])]
            else:
                values = [draw(log_prior[row, i].tolist(), uniforms[i][0]) for i in range(logits.shape[1])]
                drawn[t, row] = torch.tensor(values)
    return drawn, status


def assignments(table: JointTable) -> Tensor:
    """All assignments int64 [M, N], in lexicographic order."""
    return torch.cartesian_prod(*[torch.arange(size) for size in table.symbols[:, 0].tolist()]).view(
        -1, len(table.symbols)
    )


def without_padding(logits: Tensor, table: JointTable) -> Tensor:
    """-inf for values that a symbol does not have."""
    return logits.masked_fill(torch.arange(logits.shape[2]) >= table.symbols[:, :1], NEG_INF)


def has_label(label: Tensor, table: JointTable) -> Tensor:
    """Which assignments have the label of each row, bool [batch, M]."""
    if len(table.known) == 0:
        return (table.codes >= table.least_score).T
    is_label = (label[:, None] == table.known).all(-1)
    return is_label[:, table.codes.long()]


def status_given(logits: Tensor, table: JointTable, log_weight: Tensor) -> Tensor:
    """The status of each row, from the total or the largest log weight [batch] of the assignments with its label."""
    return row_status_given(without_padding(logits, table), torch.zeros(len(logits), dtype=torch.int64), log_weight)
