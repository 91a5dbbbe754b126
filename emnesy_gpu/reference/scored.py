"""Samples and Gibbs chains whose assignments are counted by how many constraints they satisfy, in plain torch.

Weights of the values of a symbol, their running sums and the sums of conditionals are integers, so that neither the
order of additions nor the split into parts matters.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, float64

from emnesy_gpu.kernels.score_tables import AUTOMATON, CIRCUIT, FACTORS, LISTED, PATH, SUM, CompiledScore
from emnesy_gpu.philox import MASK, philox_words
from emnesy_gpu.reference.abc_sampling import draw
from emnesy_gpu.reference.grid_paths import ON_PATH, shortest_path
from emnesy_gpu.reference.weights import relative_weights, sharpness_for

LARGEST_WEIGHT, CONDITIONAL_BITS, UNIFORM_BITS = (1 << 24) - 1, 31, 23
"""The weight of the most probable value; bits of a conditional, and of a uniform number."""


def satisfied(score: CompiledScore, z: Tensor, label: Tensor) -> Tensor:
    """How many constraints hold, int64 [samples, batch], in z int64 [samples, batch, n]; label [batch, entries]."""
    if score.kind == SUM:
        found = _equal_digits(z, label, *score.sizes)
    elif score.kind == AUTOMATON:
        found = _equal_entries(z, label, *score.tables)
    elif score.kind == LISTED:
        found = _listed(z, *score.tables)
    elif score.kind == PATH:
        found = _agreeing_cells(z, label, score.tables, *score.sizes)
    elif score.kind == CIRCUIT:
        found = _explained_entries(z, label, score.tables, *score.sizes)
    elif score.kind == FACTORS:
        found = _held_factors(z, label, score.tables, *score.sizes)
    else:
        function = getattr(score.function, "fn", score.function)
        rows = [[function(one, y) for one, y in zip(some.tolist(), label.tolist(), strict=True)] for some in z]  # type: ignore[misc]
        found = torch.tensor(rows, dtype=torch.int64).view(z.shape[:2])
    return found.clamp(0, score.n_constraints)


def _equal_digits(z: Tensor, label: Tensor, n_addends: int, base: int) -> Tensor:
    digits = z.unflatten(-1, (n_addends, -1)).sum(-2)
    carry, equal = torch.zeros_like(z[..., 0]), torch.zeros_like(z[..., 0])
    for place in range(1, label.shape[1] + 1):
        total = carry + digits[..., -place] if place <= digits.shape[-1] else carry
        carry = total // base
        equal += total - carry * base == label[:, -place]
    return equal


def _equal_entries(z: Tensor, label: Tensor, successor: Tensor, place: Tensor, code: Tensor) -> Tensor:
    state, entries = torch.zeros_like(z[..., 0]), []
    for layer, symbol, entry in place.tolist():
        state = successor[layer][state, z[..., symbol]].long()
        if entry >= 0:
            entries.append(code[entry][state])
    found = torch.stack(entries, -1)
    found[state == code.shape[1] - 1] = -1
    return ((found != -1) & ((found == label) | (label == -1))).sum(-1)


def _listed(z: Tensor, scores: Tensor, symbol_sizes: Tensor) -> Tensor:
    index = torch.zeros_like(z[..., 0])
    for i, size in enumerate(symbol_sizes.tolist()):
        index = index * size + z[..., i].clamp(max=size - 1)
    return scores.gather(0, index)


def _agreeing_cells(z: Tensor, label: Tensor, tables: tuple[Tensor, ...], height: int, width: int) -> Tensor:
    costs, start, goal = tables
    maps = costs[z].view(-1, height, width)
    paths, _ = shortest_path(maps, start.repeat(len(z)), goal.repeat(len(z)))
    return (paths.view(z.shape) == label & ON_PATH).sum(-1)


def _explained_entries(z: Tensor, label: Tensor, tables: tuple[Tensor, ...], k: int) -> Tensor:
    """The circuit once for each entry of the label, given alone."""
    head, first, terms = tables
    n_entries, n_codes = label.shape[1], int(head[1])
    given = head[2 : 3 + n_entries].tolist()
    codes = head[3 + n_entries :].view(n_entries, n_codes).long()
    chosen = codes.gather(1, label.T.clamp(-2, n_codes - 3) + 2).T
    hidden = [z[..., i] == v for i in range(z.shape[-1]) for v in range(k)]
    found = torch.zeros_like(z[..., 0])
    for entry in range(n_entries):
        rows = list(hidden)
        for other, size in enumerate(head[2 : 3 + n_entries].diff().tolist()):
            for value in range(size):
                fits = (chosen[:, entry] == 0) | (chosen[:, entry] == value + 1) | (other != entry)
                rows.append(fits.expand_as(hidden[0]))
        assert len(rows) == given[-1]
        rows.append(torch.ones_like(hidden[0]))
        for begin, end in pairwise(first.tolist()):
            both = [rows[left] & rows[right] for left, right in terms[begin:end].tolist()]
            rows.append(torch.stack(both).any(0))
        found += rows[-1]
    return found


def _held_factors(z: Tensor, label: Tensor, tables: tuple[Tensor, ...], k: int, n_entries: int) -> Tensor:
    first, place, successors = tables
    held = torch.zeros_like(z[..., 0])
    for begin, end in pairwise(first.tolist()):
        state = torch.zeros_like(held)
        for symbol, offset, entry, power in place[begin:end].tolist():
            given = label[:, entry] if symbol < 0 else torch.zeros_like(label[:, 0])
            value = z[..., symbol] if symbol >= 0 else (given.clamp(min=0) // power % k).expand_as(held)
            following = successors[offset + state.clamp(min=0) * k + value].long()
            state = torch.where(state < 0, -1, torch.where(given < 0, 0, following))
        held += state >= 0
    if n_entries == 0:
        n = len(first) - 1
        held = torch.where(label[:, 0] == 0, (held < n) * n, held)
    return held


def histogram(
    thresholds: Tensor, label: Tensor, score: CompiledScore, n_samples: int, seed: int, first_row: int
) -> Tensor:
    """Samples counted by score and by the value of each symbol, int64 [batch, n_constraints + 1, n, K].

    thresholds: int32 [batch, n, K - 1], as in ``reference.abc_sampling``, which draws the samples.
    """
    batch, n, k = thresholds.shape[0], thresholds.shape[1], thresholds.shape[2] + 1
    z = draw(thresholds, n_samples, seed, first_row, 0)
    found = torch.zeros(batch, score.n_constraints + 1, n, k, dtype=torch.int64)
    add_to_histogram(found, z, satisfied(score, z, label))
    return found


def add_to_histogram(histogram: Tensor, z: Tensor, satisfied: Tensor) -> Tensor:
    """Add samples to counts by score and by the value of each symbol, int64 [batch, scores, n, K], and return them.

    z: int64 [samples, batch, n]. satisfied: int64 [samples, batch], their scores.
    """
    (samples, batch, n), (_, _, _, k) = z.shape, histogram.shape
    first_of_symbol = torch.arange(0, n * k, k, device=z.device)
    index = (satisfied[..., None] * (n * k) + first_of_symbol + z).movedim(0, 1).reshape(batch, samples * n)
    histogram.flatten(1).scatter_add_(1, index, torch.ones_like(index))
    return histogram


def run_chains(
    prior: Tensor, label: Tensor, factors: Tensor, score: CompiledScore, chains: int, sweeps: int, penalised: bool,
    seed: int, first_row: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Annealed Gibbs chains on p(z) ~ prior(z) factor(violated constraints of z).

    prior: float32 [batch, n, K], relative to the largest entry of each symbol. factors: float64 [annealing + 1,
    n_constraints + 1], of the sweeps; the last row is that of all later ones. Sweep 0 takes no factors, and none do
    unless penalised. The second half of the sweeps is recorded.

    Returns conditionals int64 [batch, n, K], in units of 2^-31 and summed over recorded sweeps and chains, and violated
    constraints int64 [batch, chains], summed over the annealing and at the end.
    """
    batch, n, k = prior.shape
    annealing, burn_in = len(factors) - 1, sweeps // 2
    z = torch.zeros(chains, batch, n, dtype=torch.int64)
    total, before = torch.zeros(batch, n, k, dtype=torch.int64), torch.zeros(chains, batch, dtype=torch.int64)
    for sweep in range(sweeps + 1):
        if 0 < sweep <= annealing:
            before += score.n_constraints - satisfied(score, z, label)
        for i in range(n):
            relative = prior[:, i].expand(chains, batch, k)
            if sweep > 0 and penalised:
                relative = relative * factors[min(sweep, annealing)][_violated(score, z, label, i, k)]
            weights = (relative / relative.amax(-1, keepdim=True) * LARGEST_WEIGHT).round().long()
            running = weights.cumsum(-1)
            uniform = _uniform_bits(i, sweep, chains, batch, seed, first_row)
            threshold = uniform * running[..., -1] >> UNIFORM_BITS
            z[..., i] = (running[..., :-1] <= threshold[..., None]).sum(-1)
            if sweep > burn_in:
                scale = 2.0**CONDITIONAL_BITS / running[..., -1:].float()
                total[:, i] += (weights * scale).round().long().sum(0)
    return total, before.T.contiguous(), (score.n_constraints - satisfied(score, z, label)).T.contiguous()


def _violated(score: CompiledScore, z: Tensor, label: Tensor, i: int, k: int) -> Tensor:
    """Violated constraints with each value at symbol i, int64 [chains, batch, K]."""
    columns = []
    for value in range(k):
        changed = z.clone()
        changed[..., i] = value
        columns.append(score.n_constraints - satisfied(score, changed, label))
    return torch.stack(columns, -1)


def _uniform_bits(i: int, sweep: int, chains: int, batch: int, seed: int, first_row: int) -> Tensor:
    """Uniform integers below 2^23, int64 [chains, batch]: the upper bits of the word of symbol i."""
    chain, row = torch.arange(chains)[:, None], torch.arange(batch) + first_row
    counter = torch.broadcast_tensors(torch.tensor(i // 4), chain << 16 | sweep, row & MASK, row >> 32)
    return philox_words(counter, seed)[i % 4] >> (32 - UNIFORM_BITS)  # type: ignore[arg-type]


def weighted_posterior(
    logits: Tensor, histogram: Tensor, exponents: Tensor, n_samples: int, sharpness: float, target_ess: float
) -> tuple[Tensor, ...]:
    """Marginals, log evidence, whether possible, effective sample size, sharpness, share of samples with the label.

    histogram: int64 [batch, scores, n, K]. exponents: float64 [scores], log weights at sharpness 1, -inf for weight 0.
    target_ess: replaces the sharpness by the largest one in 2^-10..2^20 with this effective sample size, or 0, where it
    is above 0.
    """
    dtype, counts = torch.promote_types(logits.dtype, torch.float32), histogram[:, :, 0].sum(-1)
    levels = torch.full((len(logits),), sharpness, dtype=float64)
    if target_ess > 0:
        levels = torch.stack([sharpness_for(exponents, row, target_ess) for row in counts]) if len(counts) else levels
    weights, best = relative_weights(exponents, counts, levels)
    number = (counts * weights).sum(1)
    possible = number > 0
    size = number.square() / (counts * weights.square()).sum(1).clamp_min(1e-300)
    log_evidence = torch.where(possible, number.log() + best - counts.sum(1).double().log(), float("-inf"))
    weighted = torch.einsum("bs,bsnk->bnk", weights, histogram.double())
    prior = torch.softmax(logits.double(), -1)
    marginals = torch.where(possible[:, None, None], weighted / weighted.sum(-1, keepdim=True), prior)
    acceptance = counts[:, -1].double() / n_samples
    return (
        *(x.to(dtype) for x in (marginals, log_evidence)),
        possible,
        *(x.to(dtype) for x in (size, levels, acceptance)),
    )
