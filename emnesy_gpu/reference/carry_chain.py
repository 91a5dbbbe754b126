"""Exact inference on the carry chain of n-digit addition, written to be read.

``n_addends`` numbers of ``n_digits`` base-B digits are added. Position i has digits d_1 .. d_k with
independent priors p_j = softmax(logits[j, i]), a carry-in c from the position to its right and a
carry-out c' to its left, both in 0 .. k-1, and d_1 + ... + d_k + c = s_i + B c', with s_i the known
digit of the sum. Hence the carries form a Markov chain with the transfer matrices

    T_i[c, c'] = f_i(s_i + B c' - c),       f_i = pmf of d_1 + ... + d_k,

and sum-product along the chain gives p(label | logits) and every posterior marginal exactly.
Digit axes run from the most significant position (index 0) to the least (index n_digits - 1).

Everything is computed in float64 and in log space. The launch functions have the signatures of
``kernels.cpu.carry_chain`` and ``kernels.gpu.carry_chain``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu.kernels.status import IMPOSSIBLE, POSSIBLE
from emnesy_gpu.philox import philox_uniforms
from emnesy_gpu.reference.symbols import NEG_INF, draw, log_softmax, result_dtype, row_status


def posterior(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior marginals p(d_j,i = v | label), log evidence log p(label) [batch], and the status of each row.

    logits [batch, n_addends, n_digits, base]; label int64 [batch, n_label_digits], most significant first.
    """
    log_prior = log_softmax(logits)
    status = row_status(logits, label, logits.shape[-1])
    log_evidence, log_joint = sum_product(log_prior, label)
    status[(status == POSSIBLE) & (log_evidence == NEG_INF)] = IMPOSSIBLE
    possible = (status == POSSIBLE)[:, None, None, None]
    marginals = torch.where(possible, torch.softmax(log_joint, -1), log_prior.exp())
    log_evidence = torch.where(status == POSSIBLE, log_evidence, NEG_INF)
    dtype = result_dtype(logits)
    return marginals.to(dtype), log_evidence.to(dtype), status


def em_gradient(logits: Tensor, label: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """The EM gradient (softmax(logits) - posterior) * scale, log evidence and status.

    It is the gradient of -scale * log p(label): EM-NeSy (arXiv 2606.14463), Theorem 3.1.
    """
    marginals, log_evidence, status = posterior(logits.double(), label)
    dtype = result_dtype(logits)
    gradient = (log_softmax(logits).exp() - marginals) * scale
    return gradient.to(dtype), log_evidence.to(dtype), status


def split_label(label: Tensor, n_digits: int, base: int) -> tuple[Tensor, Tensor]:
    """The digits s_i [batch, n_digits] and the carry out of the most significant position [batch]."""
    extra = label.shape[1] - n_digits
    carry_out = torch.zeros_like(label[:, 0])
    for digit in label[:, :extra].unbind(1):
        carry_out = carry_out * base + digit
    return label[:, extra:], carry_out


def convolve(f: Tensor, g: Tensor) -> Tensor:
    """Convolution over the last axis in log space, log sum_a exp(f[a] + g[u - a]) for every u."""
    terms = f.new_full((*f.shape[:-1], f.shape[-1], f.shape[-1] + g.shape[-1] - 1), NEG_INF)
    for a in range(f.shape[-1]):
        terms[..., a, a : a + g.shape[-1]] = f[..., a, None] + g
    return torch.logsumexp(terms, -2)


def pmf_of_sum(log_priors: list[Tensor]) -> Tensor:
    """Log pmf of the sum of independent digits; the empty sum is 0 with certainty."""
    total = log_priors[0].new_zeros((*log_priors[0].shape[:-1], 1))
    for log_prior in log_priors:
        total = convolve(total, log_prior)
    return total


def pick(log_pmf: Tensor, value: Tensor) -> Tensor:
    """The entries log_pmf[..., value], -inf where the value lies outside the support."""
    inside = (value >= 0) & (value < log_pmf.shape[-1])
    picked = log_pmf.gather(-1, value.clamp(0, log_pmf.shape[-1] - 1))
    return picked.masked_fill(~inside, NEG_INF)


def carry_states(n_addends: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Carry-in and carry-out of all k * k transitions, each [k * k]; the carry-out varies fastest."""
    carries = torch.arange(n_addends, device=device)
    return carries.repeat_interleave(n_addends), carries.repeat(n_addends)


def transfer_matrices(log_prior: Tensor, digits: Tensor) -> Tensor:
    """The transfer matrices log T [batch, n_digits, carry-in, carry-out]."""
    _, k, _, base = log_prior.shape
    carry_in, carry_out = carry_states(k, log_prior.device)
    total = digits[..., None] + base * carry_out - carry_in
    log_pmf = pmf_of_sum(list(log_prior.unbind(1)))
    return pick(log_pmf, total).view(*digits.shape, k, k)


def messages(log_transfer: Tensor, carry_out: Tensor) -> tuple[Tensor, Tensor]:
    """Forward messages log alpha [batch, n, k] over the carry into each position, and log beta over the carry out."""
    batch, n, k, _ = log_transfer.shape
    alpha = log_transfer.new_full((batch, n, k), NEG_INF)
    beta = alpha.clone()
    alpha[:, n - 1, 0] = 0.0
    for i in range(n - 1, 0, -1):
        alpha[:, i - 1] = torch.logsumexp(alpha[:, i, :, None] + log_transfer[:, i], 1)
    states = torch.arange(k, device=carry_out.device)
    beta[:, 0] = torch.where(carry_out[:, None] == states, 0.0, NEG_INF)
    for i in range(n - 1):
        beta[:, i + 1] = torch.logsumexp(log_transfer[:, i] + beta[:, i, None, :], 2)
    return alpha, beta


def sum_product(log_prior: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Log evidence log p(label) [batch], and log p(digit = v, label) [batch, n_addends, n_digits, base]."""
    _, k, n, base = log_prior.shape
    digits, top_carry = split_label(label, n, base)
    log_transfer = transfer_matrices(log_prior, digits)
    alpha, beta = messages(log_transfer, top_carry)
    log_pair = alpha[..., :, None] + beta[..., None, :]
    log_evidence = torch.logsumexp((log_pair + log_transfer)[:, 0].flatten(1), -1)

    carry_in, carry_out = carry_states(k, log_prior.device)
    value = torch.arange(base, device=log_prior.device)
    log_joint = torch.empty_like(log_prior)
    for j in range(k):
        others = pmf_of_sum([log_prior[:, m] for m in range(k) if m != j])
        rest = digits[..., None, None] + base * carry_out[:, None] - carry_in[:, None] - value
        log_rest = pick(others, rest.flatten(2)).view(*digits.shape, k * k, base)
        weight = log_pair.flatten(2)[..., None] + log_rest
        log_joint[:, j] = log_prior[:, j] + torch.logsumexp(weight, 2)
    return log_evidence, log_joint


def map_assignment(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The jointly most probable digits given the label, and log p(digits | logits), by max-product.

    Ties are broken at the most significant position first: the smallest carry-in, then the smallest d_1, d_2, ...
    """
    scores = logits.double()
    log_prior = log_softmax(logits)
    status = row_status(logits, label, logits.shape[-1])
    dtype = result_dtype(logits)
    digits = logits.argmax(-1)
    log_joint = logits.new_full((len(logits),), NEG_INF, dtype=torch.float64)
    for row in range(len(logits)):
        if status[row] == POSSIBLE:
            path = viterbi(scores[row], label[row])
            if path is None:
                status[row] = IMPOSSIBLE
            else:
                digits[row] = path
                log_joint[row] = log_prior[row].gather(-1, path[..., None]).sum()
    return digits, log_joint.to(dtype), status


def suffix_max(scores: Tensor) -> list[Tensor]:
    """The best scores h_j(r) of digits with d_j + ... + d_k = r, for j = 1 .. k; scores [k, base] of one position."""
    tables = [scores[-1]]
    for row in scores.flip(0)[1:]:
        after = tables[0]
        table = row.new_full((len(row) + len(after) - 1,), NEG_INF)
        for d in range(len(row)):
            window = table[d : d + len(after)]
            torch.maximum(window, row[d] + after, out=window)
        tables.insert(0, table)
    return tables


def at(table: Tensor, index: int) -> float:
    """The entry of a table, -inf outside it."""
    return float(table[index]) if 0 <= index < len(table) else NEG_INF


def viterbi(scores: Tensor, label: Tensor) -> Tensor | None:
    """The digits [n_addends, n_digits] of one row with the largest sum of scores; None for an impossible label."""
    k, n, base = scores.shape
    digits, top_carry = split_label(label[None], n, base)
    tables = [suffix_max(scores[:, i]) for i in range(n)]
    best = [[0.0] + [NEG_INF] * (k - 1)]
    for i in range(n - 1, -1, -1):
        step = [[at(tables[i][0], int(digits[0, i]) + base * out - c) for out in range(k)] for c in range(k)]
        best.append([max(best[-1][c] + step[c][out] for c in range(k)) for out in range(k)])
    carry = int(top_carry)
    if carry >= k or best[n][carry] == NEG_INF:
        return None
    path = torch.empty(k, n, dtype=torch.int64)
    for i in range(n):
        total = int(digits[0, i]) + base * carry
        before = best[n - 1 - i]
        carry = first_argmax([before[c] + at(tables[i][0], total - c) for c in range(k)])
        path[:, i] = split_sum(scores[:, i], tables[i], total - carry)
    return path


def split_sum(scores: Tensor, tables: list[Tensor], remainder: int) -> Tensor:
    """The lexicographically first digits among the best ones that add up to the remainder."""
    k, base = scores.shape
    chosen = []
    for j in range(k - 1):
        d = first_argmax([float(scores[j, v]) + at(tables[j + 1], remainder - v) for v in range(base)])
        chosen.append(d)
        remainder -= d
    return torch.tensor([*chosen, remainder])


def first_argmax(values: list[float]) -> int:
    """The first index of the largest value."""
    return values.index(max(values))


def sample(logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int) -> tuple[Tensor, Tensor]:
    """Independent exact samples from p(digits | label), int64 [n_samples, batch, n_addends, n_digits], and status.

    They are drawn by forward filtering and backward sampling. The uniform numbers of sample t at position i of row r
    are the four words of Philox-4x32-10 with counter (i, t, r) and key seed: the first draws the carry-in given the
    carry-out, the others the digits d_1 .. d_{k-1}; the last digit is what remains. Impossible rows are drawn from the
    prior, with one word per addend.
    """
    batch, k, n, base = logits.shape
    log_prior = log_softmax(logits)
    _, _, status = posterior(logits.double(), label)
    digits, top_carry = split_label(label, n, base)
    alpha, _ = messages(transfer_matrices(log_prior, digits), top_carry)
    drawn = torch.empty(n_samples, batch, k, n, dtype=torch.int64)
    for row in range(batch):
        for t in range(n_samples):
            uniforms = philox_uniforms(n, t, first_row + row, seed)
            if status[row] == POSSIBLE:
                drawn[t, row] = sample_row(log_prior[row], alpha[row], digits[row], int(top_carry[row]), uniforms)
            else:
                drawn[t, row] = sample_prior(log_prior[row], uniforms)
    return drawn, status


def sample_row(log_prior: Tensor, alpha: Tensor, digits: Tensor, carry: int, uniforms: list[list[float]]) -> Tensor:
    """One joint sample [n_addends, n_digits], drawn from the most significant position downwards."""
    k, n, base = log_prior.shape
    drawn = torch.empty(k, n, dtype=torch.int64)
    for i in range(n):
        suffix = [pmf_of_sum(list(log_prior[j:, i])) for j in range(k)]
        total = int(digits[i]) + base * carry
        carry = draw([float(alpha[i, c]) + at(suffix[0], total - c) for c in range(k)], uniforms[i][0])
        remainder = total - carry
        for j in range(k - 1):
            log_weights = [float(log_prior[j, i, v]) + at(suffix[j + 1], remainder - v) for v in range(base)]
            drawn[j, i] = draw(log_weights, uniforms[i][j + 1])
            remainder -= int(drawn[j, i])
        drawn[k - 1, i] = remainder
    return drawn


def sample_prior(log_prior: Tensor, uniforms: list[list[float]]) -> Tensor:
    """One sample [n_addends, n_digits] from the prior."""
    k, n, _ = log_prior.shape
    return torch.tensor([[draw(log_prior[j, i].tolist(), uniforms[i][j]) for i in range(n)] for j in range(k)])
