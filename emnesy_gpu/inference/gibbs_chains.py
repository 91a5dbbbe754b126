"""Posteriors by annealed Gibbs chains for any problem that can tell how much of a label an assignment explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import Tensor, float32, float64

from emnesy_gpu.inference import weighted_samples
from emnesy_gpu.inference.importance import ONE, WORD_BITS
from emnesy_gpu.ops.gibbs import annealed_evidence, relative_prior
from emnesy_gpu.philox import MASK, philox_words
from emnesy_gpu.problems.problem import Chains, GibbsSettings, Marginals

UNIFORM_BITS = 23
"""Of a uniform number: its product with a sum of at most 2^15 weights has 62 bits."""

LARGEST_EXPONENT = 600.0
"""Violations count up to this log weight: a product with a relative prior does not underflow in float64."""

Sums = tuple[Tensor, Tensor, Tensor]
"""Of conditionals int64 [rows, N, K], of violations over annealing, and violations at the end [rows, chains]."""

Fused = Callable[[Tensor, Tensor, Tensor, GibbsSettings], Sums]
"""(relative prior float32 [rows, N, K], label, factors float64 [annealing + 1, n_constraints + 1], settings)."""

Scored = tuple[tuple[int, ...], weighted_samples.Satisfied, int]
"""Latent shape, what counts satisfied constraints, and how many there are."""


def gibbs_marginals(
    logits: Tensor,
    label: Tensor,
    settings: GibbsSettings,
    satisfied: weighted_samples.Satisfied,
    n_constraints: int,
    fused: Fused | None = None,
) -> Chains:
    """Single-site Gibbs chains on p(z) ~ prior(z) exp(-penalty * violated constraints): see ``em.Gibbs``.

    A move scores all assignments that differ in one symbol alone. Weights, their running sums and the sums of
    conditionals are integers, so that neither the order of additions nor the split into chunks matters. Memory: that
    of a few CHUNKs of symbols and weights, of the sums [batch, N, K], and of two integers per chain. fused: what runs
    all sweeps in one kernel, if there is one.
    """
    prior = relative_prior(logits.flatten(1, -2))
    if fused is not None:
        factors = torch.stack([_factors(sweep, settings, n_constraints) for sweep in range(_annealing(settings) + 1)])
        total, annealing, final = fused(prior, label, factors, settings)
    else:
        total, annealing, final = _by_chunks(prior, label, settings, (logits.shape[1:-1], satisfied, n_constraints))
    dtype = torch.promote_types(logits.dtype, float32)
    marginals = (total.double() / total.sum(-1, keepdim=True)).to(dtype).view(logits.shape)
    log_evidence = annealed_evidence(annealing, settings.penalty, settings.sweeps).to(dtype)
    possible = torch.ones_like(log_evidence, dtype=torch.bool)
    return Chains(Marginals(marginals, log_evidence, possible), (final == 0).to(dtype).mean(1))


def _annealing(settings: GibbsSettings) -> int:
    """The sweeps over which the penalty grows."""
    return max(settings.sweeps // 2, 1)


def _factors(sweep: int, settings: GibbsSettings, n_constraints: int) -> Tensor:
    """Of 0 .. n_constraints violations, float64."""
    penalty = settings.penalty * min(sweep / _annealing(settings), 1.0)
    violations = torch.arange(n_constraints + 1, dtype=float64)
    return (violations * -penalty).clamp_(min=-LARGEST_EXPONENT).exp_()


def _by_chunks(prior: Tensor, label: Tensor, settings: GibbsSettings, problem: Scored) -> Sums:
    step = max(1, weighted_samples.CHUNK // (max(prior.shape[1:]) * settings.chains))
    parts = [
        _some_rows(prior[row : row + step], label[row : row + step], row, settings, problem)
        for row in range(0, max(len(prior), 1), step)
    ]
    total, annealing, final = (torch.cat(column) for column in zip(*parts, strict=True))
    return total, annealing, final


def _some_rows(prior: Tensor, label: Tensor, row: int, settings: GibbsSettings, problem: Scored) -> Sums:
    total = torch.zeros_like(prior, dtype=torch.int64)
    step, violations = max(1, weighted_samples.CHUNK // max(prior.shape[1:])), []
    for chain in range(0, settings.chains, step):
        chains = range(chain, min(chain + step, settings.chains))
        found, *violated = _Block(prior, label, row, chains, settings, problem).run()
        total += found
        violations.append(violated)
    annealing, final = (torch.cat(column, 1) for column in zip(*violations, strict=True))
    return total, annealing, final


class _Block:
    """Some chains of some rows; z int64 [chains, rows, N], prior float32 [N, K, 1, rows]."""

    def __init__(
        self, prior: Tensor, label: Tensor, row: int, chains: range, settings: GibbsSettings, problem: Scored
    ) -> None:
        rows, n, k = prior.shape
        self.prior, self.label = prior.permute(1, 2, 0)[:, :, None].contiguous(), label
        self.latent_shape, self.satisfied, self.n_constraints = problem
        self.settings, self.burn_in, self.annealing = settings, settings.sweeps // 2, _annealing(settings)
        self.values = torch.arange(k, device=prior.device)
        self.chains = torch.tensor(chains, device=prior.device)[:, None]
        self.rows = torch.arange(rows, device=prior.device) + (settings.first_row + row)
        self.z = torch.zeros(len(chains), rows, n, dtype=torch.int64, device=prior.device)

    def run(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same as of ``_some_rows``, of these chains."""
        total = torch.zeros_like(self.prior[:, :, 0], dtype=torch.int64)
        before = torch.zeros_like(self.z[..., 0])
        for sweep, uniforms in enumerate(self._uniforms()):
            if 0 < sweep <= self.annealing:
                before += self._violated(self.z)
            factors = None
            if sweep > 0 and self.settings.penalty > 0:
                factors = _factors(sweep, self.settings, self.n_constraints).to(self.z.device)
            for i in range(len(self.prior)):
                weights = self._weights(i, factors)
                running = weights.cumsum(0)
                threshold = uniforms[i] * running[-1] >> UNIFORM_BITS
                self.z[..., i] = (running[:-1] <= threshold).sum(0)
                if sweep > self.burn_in:
                    total[i] += (weights * (2.0**WORD_BITS / running[-1])).round_().long().sum(1)
        return total.permute(2, 0, 1), before.T, self._violated(self.z).T

    def _weights(self, i: int, factors: Tensor | None) -> Tensor:
        """Of the values of symbol i given all others, in units of 1 / ONE of the largest: int64 [K, chains, rows]."""
        relative = self.prior[i].expand(-1, *self.z.shape[:2])
        if factors is not None:
            violated = torch.cat([self._violated(self._with_values(i, part)) for part in self._split_values()])
            relative = relative * factors[violated]
        return (relative / relative.amax(0)).mul_(ONE).round_().long()

    def _split_values(self) -> tuple[Tensor, ...]:
        return self.values.split(max(1, weighted_samples.CHUNK // max(1, self.z.numel())))

    def _with_values(self, i: int, values: Tensor) -> Tensor:
        candidates = self.z.expand(len(values), *self.z.shape).clone()
        candidates[..., i] = values[:, None, None]
        return candidates

    def _violated(self, z: Tensor) -> Tensor:
        """int64 [..., rows] from [..., rows, N]."""
        samples = z.view(prod(z.shape[:-2]), z.shape[-2], *self.latent_shape)
        score = weighted_samples.checked_score(self.satisfied(samples, self.label), samples, self.n_constraints)
        return (self.n_constraints - score).view(z.shape[:-1])

    def _uniforms(self) -> Iterator[Tensor]:
        """Of every sweep int64 [at least N, chains, rows], in 0 .. 2^UNIFORM_BITS - 1: the upper bits of the words.

        Four symbols share the Philox counter (symbol // 4, chain * 2^16 + sweep, row).
        """
        positions = torch.arange(-(-self.z.shape[-1] // 4), device=self.z.device)[:, None, None]
        sweeps = torch.arange(self.settings.sweeps + 1, device=self.z.device)
        for some in sweeps.split(max(1, weighted_samples.CHUNK // max(1, 4 * len(positions) * prod(self.z.shape[:2])))):
            counter = positions, self.chains << 16 | some[:, None, None, None], self.rows & MASK, self.rows >> 32
            words = philox_words(torch.broadcast_tensors(*counter), self.settings.seed)
            yield from (torch.stack(words, 2) >> (32 - UNIFORM_BITS)).flatten(1, 2)
