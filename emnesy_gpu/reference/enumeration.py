"""Exact inference over a list of valid assignments, written to be read.

N hidden symbols with priors p_i = softmax(logits[i]) over K values; "valid" means that the assignment is one of a
list z_1 .. z_M (the 288 grids of a 4 x 4 Sudoku). Then

    p(z_m) = prod_i p_i(z_m,i)     p(valid) = sum_m p(z_m)     p(z_i = v | valid) = sum_{m: z_m,i = v} p(z_m) / p(valid)

in O(M N) operations a row. Everything is computed in float64 and in log space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.philox import philox_uniforms
from emnesy_gpu.reference.symbols import NEG_INF, draw, log_softmax, result_dtype, row_status


def posterior(logits: Tensor, label: Tensor, assignments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Marginals p(z_i = v | valid) [batch, N, K], log evidence log p(valid) [batch], and the status of each row.

    logits: [batch, N, K]. label: int64 [batch], 0 or 1 (0 makes no difference here).
    assignments: uint8 [M, N], distinct, at least one.
    Rows in which every assignment has probability 0 get the prior and log evidence -inf.
    """
    log_prior = log_softmax(logits)
    log_joint = sums(log_prior, assignments)
    log_evidence = torch.logsumexp(log_joint, 1)
    status = row_status_given(logits, label, log_evidence)
    weights = torch.softmax(log_joint, 1)
    members = torch.nn.functional.one_hot(assignments.long(), logits.shape[2]).double()
    marginals = torch.einsum("bm,miv->biv", weights, members)
    possible = status == POSSIBLE
    marginals = torch.where(possible[:, None, None], marginals, log_prior.exp())
    log_evidence = torch.where(possible, log_evidence, NEG_INF)
    dtype = result_dtype(logits)
    return marginals.to(dtype), log_evidence.to(dtype), status


def em_gradient(logits: Tensor, label: Tensor, assignments: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """(softmax(logits) - posterior) * scale, log evidence and status; 0 in rows that are not possible."""
    marginals, log_evidence, status = posterior(logits.double(), label, assignments)
    gradient = (log_softmax(logits).exp() - marginals) * scale
    gradient = torch.where((status == POSSIBLE)[:, None, None], gradient, 0.0)
    dtype = result_dtype(logits)
    return gradient.to(dtype), log_evidence.to(dtype), status


def map_assignment(logits: Tensor, label: Tensor, assignments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable assignment int64 [batch, N], its log probability under the prior [batch], and status.

    Scores are sums of logits in the order of the symbols; ties go to the lowest index in the list. Impossible rows get
    the most probable value of every symbol and -inf.
    """
    log_prior, score = log_softmax(logits), sums(logits.double(), assignments)
    status = row_status_given(logits, label, torch.logsumexp(score, 1))
    possible = status == POSSIBLE
    best = torch.where(possible[:, None], assignments[score.argmax(1)].long(), logits.argmax(-1))
    log_joint = log_prior.gather(2, best[..., None]).flatten(1).sum(1)
    return best, torch.where(possible, log_joint, NEG_INF).to(result_dtype(logits)), status


def sample(
    logits: Tensor, label: Tensor, assignments: Tensor, n_samples: int, seed: int, first_row: int
) -> tuple[Tensor, Tensor]:
    """Independent samples int64 [n_samples, batch, N] from p(z | valid), and status.

    Sample t of row r takes the first word u_0 of Philox-4x32-10 with counter (0, t, first_row + r) and key seed: the
    first assignment whose running sum of weights exceeds u_0 times their total. In impossible rows symbol i is drawn
    from its prior in the same way, with counter (i, t, first_row + r).
    """
    batch, n, _ = logits.shape
    log_prior = log_softmax(logits)
    log_joint = sums(log_prior, assignments)
    status = row_status_given(logits, label, torch.logsumexp(log_joint, 1))
    drawn = torch.empty(n_samples, batch, n, dtype=torch.int64)
    for row in range(batch):
        for t in range(n_samples):
            uniforms = philox_uniforms(n, t, first_row + row, seed)
            if status[row] == POSSIBLE:
                drawn[t, row] = assignments[draw(log_joint[row].tolist(), uniforms[0][0])]
            else:
                drawn[t, row] = torch.tensor([draw(log_prior[row, i].tolist(), uniforms[i][0]) for i in range(n)])
    return drawn, status


def sums(scores: Tensor, assignments: Tensor) -> Tensor:
    """The sum of scores sum_i scores[i, z_m,i] of every assignment, [batch, M]."""
    total = scores.new_zeros(len(scores), len(assignments))
    for i in range(scores.shape[1]):
        total += scores[:, i, assignments[:, i].long()]
    return total


def row_status_given(logits: Tensor, label: Tensor, log_weight: Tensor) -> Tensor:
    """The status of each row, from the total or the largest log weight [batch] of its valid assignments."""
    status = row_status(logits, label, 2)
    status[(status == POSSIBLE) & (log_weight == NEG_INF)] = IMPOSSIBLE
    return status
