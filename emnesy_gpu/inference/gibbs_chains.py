"""Posteriors by annealed Gibbs chains, for any problem that counts the constraints that an assignment satisfies."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, float32, float64

from emnesy_gpu.backends import backend_for, kernels_for, small_kernels_for
from emnesy_gpu.inference import weighted_samples
from emnesy_gpu.inference.annealing import annealing_sweeps
from emnesy_gpu.inference.results import Chains, Marginals
from emnesy_gpu.inference.row_parts import in_parts
from emnesy_gpu.inference.settings import Chaining, ChainSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.sampling_plan import ONE, WORD_BITS
from emnesy_gpu.philox import MASK, philox_words

UNIFORM_BITS = 23
"""Bits of a uniform number, so that its product with a sum of at most 2^15 weights of 24 bits has at most 62."""

LARGEST_LOG_PENALTY = 600.0
"""Largest total log penalty, so that the product of its factor and a relative prior does not underflow in float64."""

NANOSECONDS_PER_SYMBOL = 5.0
"""Rough ones: of a symbol of an assignment that is scored in torch."""

MOST_VALUES = 1 << 10
"""Values of a symbol, at most, in chains that run in one kernel on a GPU."""


class Sums(NamedTuple):
    """The sums that chains produce.

    conditionals: int64 [rows, N, K], summed over the recorded sweeps and the chains.
    annealing: int64 [rows, chains], violated constraints summed over the annealing.
    final: int64 [rows, chains], violated constraints at the end.
    """

    conditionals: Tensor
    annealing: Tensor
    final: Tensor


Fused = Callable[[Tensor, Tensor, Tensor, ChainSettings], Sums]
"""A function that runs all sweeps in one kernel.

It takes the relative prior float32 [rows, N, K], the label, the factors float64 [annealing + 1, n_constraints + 1] and
the settings.
"""


def gibbs_marginals(
    logits: Tensor, label: Tensor, settings: ChainSettings, score: Score, fused: Fused | None = None
) -> Chains:
    """Marginals from single-site Gibbs chains on p(z) ~ prior(z) exp(-penalty * violations): see ``em.Gibbs``.

    A move scores the assignments with all values of one symbol. Weights, their running sums and the sums of
    conditionals are integers, so that neither the order of additions nor the split into parts matters. Memory: a few
    times SYMBOLS_AT_A_TIME symbols and weights, the sums [batch, N, K], and two integers per chain.

    fused: runs all sweeps in one kernel; None where there is no such kernel. A compiled score has one on a GPU.
    """
    steps, symbols = small_kernels_for("gibbs", logits.device), logits.flatten(1, -2)
    annealing = annealing_sweeps(settings.sweeps)
    compiled = _compiled_chains(symbols, label, score)
    chains = fused or compiled or functools.partial(_in_torch, score, logits.shape[1:-1])

    def some_rows(first: int, last: int) -> tuple[Tensor, ...]:
        part, numbers = slice(first, last), (settings.chains, settings.sweeps, settings.penalty, settings.seed)
        prior, _ = steps.prior(symbols[part], None)
        factors = _factors(annealing, settings.penalty, score.n_constraints, logits.device)
        sums = chains(prior, label[part], factors, Chaining(*numbers, settings.first_row + first))
        found: tuple[Tensor, ...] = steps.results(symbols[part], *sums, settings.penalty / annealing, None)
        return found

    moves = settings.chains * symbols.shape[1:].numel()
    cost = settings.sweeps * symbols.shape[1] * moves * NANOSECONDS_PER_SYMBOL
    fewest = 1 if fused else weighted_samples.SYMBOLS_AT_A_TIME // moves
    at_a_time = _rows_at_a_time(symbols, settings.chains) if compiled is None else max(1, len(symbols))
    marginals, log_evidence, satisfied = in_parts(some_rows, symbols, at_a_time, cost, fewest, score.shared)
    possible = torch.ones_like(log_evidence, dtype=torch.bool)
    return Chains(Marginals(marginals.view(logits.shape), log_evidence, possible), satisfied)


def _rows_at_a_time(symbols: Tensor, chains: int) -> int:
    """The rows whose priors, chains and weights of one symbol are held together."""
    n, k = symbols.shape[1:]
    return max(1, weighted_samples.SYMBOLS_AT_A_TIME // (max(n, k) * chains))


def _compiled_chains(symbols: Tensor, label: Tensor, score: Score) -> Fused | None:
    """Chains on a GPU, in one kernel for a score that is compiled into it."""
    if score.compiled is None or backend_for(symbols.device) != "triton" or symbols.shape[-1] > MOST_VALUES:
        return None
    compiled, kernels = score.compiled(label), kernels_for("scored", symbols.device)
    if compiled is None:
        return None

    def fused(prior: Tensor, label: Tensor, factors: Tensor, settings: ChainSettings) -> Sums:
        entries = label.reshape(len(label), -1 if len(label) else 0).contiguous()
        numbers = settings.chains, settings.sweeps, settings.penalty > 0, settings.seed, settings.first_row
        return Sums(*kernels.run_chains(prior, entries, factors, compiled, *numbers))

    return fused


@functools.lru_cache(maxsize=16)
def _factors(annealing: int, penalty: float, n_constraints: int, device: torch.device) -> Tensor:
    """The factors of 0 .. n_constraints violated constraints, float64 [annealing + 1, n_constraints + 1].

    One row a sweep; the last row is that of all later sweeps. The cache returns the same tensor to all calls.
    """
    penalties = torch.tensor(
        [penalty * (sweep / annealing) for sweep in range(annealing + 1)], dtype=float64, device="cpu"
    )
    violations = torch.arange(n_constraints + 1, dtype=float64, device="cpu")
    return (violations * -penalties[:, None]).clamp_(min=-LARGEST_LOG_PENALTY).exp_().to(device)


def _in_torch(
    score: Score, latent_shape: torch.Size, prior: Tensor, label: Tensor, factors: Tensor, settings: ChainSettings
) -> Sums:
    """Run the chains of some rows in torch, some chains at a time."""
    total = torch.zeros_like(prior, dtype=torch.int64)
    step, violations = max(1, weighted_samples.SYMBOLS_AT_A_TIME // max(prior.shape[1:])), []
    for chain in range(0, settings.chains, step):
        numbers = range(chain, min(chain + step, settings.chains))
        found = _Block(_Rows(prior, label, factors, latent_shape), numbers, settings, score).run()
        total += found.conditionals
        violations.append(found[1:])
    annealing, final = (torch.cat(column, 1) for column in zip(*violations, strict=True))
    return Sums(total, annealing, final)


class _Rows(NamedTuple):
    """What chains of some rows are given; factors: float64 [annealing + 1, n_constraints + 1]."""

    prior: Tensor
    label: Tensor
    factors: Tensor
    latent_shape: torch.Size


class _Block:
    """The state of some chains of some rows: z int64 [chains, rows, N], prior float32 [N, K, 1, rows]."""

    def __init__(self, rows: _Rows, chains: range, settings: ChainSettings, score: Score) -> None:
        n_rows, n, k = rows.prior.shape
        device = rows.prior.device
        self.prior, self.label = rows.prior.permute(1, 2, 0)[:, :, None].contiguous(), rows.label
        self.latent_shape, self.score, self.settings = rows.latent_shape, score, settings
        self.burn_in, self.annealing = settings.sweeps // 2, annealing_sweeps(settings.sweeps)
        self.factors = rows.factors
        self.values = torch.arange(k, device=device)
        self.chains = torch.arange(chains.start, chains.stop, device=device)[:, None]
        self.rows = torch.arange(n_rows, device=device) + settings.first_row
        self.z = torch.zeros(len(chains), n_rows, n, dtype=torch.int64, device=device)

    def run(self) -> Sums:
        total = torch.zeros_like(self.prior[:, :, 0], dtype=torch.int64)
        before = torch.zeros_like(self.z[..., 0])
        for sweep, uniforms in enumerate(self._uniforms()):
            if 0 < sweep <= self.annealing:
                before += self._violated(self.z)
            factors = None
            if sweep > 0 and self.settings.penalty > 0:
                factors = self.factors[min(sweep, self.annealing)]
            for i in range(len(self.prior)):
                weights = self._weights(i, factors)
                running = weights.cumsum(0)
                threshold = uniforms[i] * running[-1] >> UNIFORM_BITS
                self.z[..., i] = (running[:-1] <= threshold).sum(0)
                if sweep > self.burn_in:
                    total[i] += (weights * (2.0**WORD_BITS / running[-1].to(float32))).round_().long().sum(1)
        return Sums(total.permute(2, 0, 1), before.T, self._violated(self.z).T)

    def _weights(self, i: int, factors: Tensor | None) -> Tensor:
        """Weights of the values of symbol i given all other symbols, int64 [K, chains, rows]; the largest is ONE."""
        relative = self.prior[i].expand(-1, *self.z.shape[:2])
        if factors is not None:
            violated = torch.cat([self._violated(self._with_values(i, part)) for part in self._split_values()])
            relative = relative * factors[violated]
        return (relative / relative.amax(0)).mul_(ONE).round_().long()

    def _split_values(self) -> tuple[Tensor, ...]:
        return self.values.split(max(1, weighted_samples.SYMBOLS_AT_A_TIME // max(1, self.z.numel())))

    def _with_values(self, i: int, values: Tensor) -> Tensor:
        """The assignments with each of the values at symbol i, int64 [values, chains, rows, N]."""
        candidates = self.z.expand(len(values), *self.z.shape).clone()
        candidates[..., i] = values[:, None, None]
        return candidates

    def _violated(self, z: Tensor) -> Tensor:
        """Number of violated constraints, int64 [..., rows], from z [..., rows, N]."""
        samples = z.view(prod(z.shape[:-2]), z.shape[-2], *self.latent_shape)
        satisfied = self.score.satisfied(samples, self.label)
        satisfied = weighted_samples.checked_score(satisfied, samples, self.score.n_constraints)
        return (self.score.n_constraints - satisfied).view(z.shape[:-1])

    def _uniforms(self) -> Iterator[Tensor]:
        """Yield for each sweep the uniform numbers int64 [N or more, chains, rows] in 0 .. 2^UNIFORM_BITS - 1.

        They are upper bits of words. Four symbols share the Philox counter (symbol // 4, chain * 2^16 + sweep, row).
        """
        positions = torch.arange(-(-self.z.shape[-1] // 4), device=self.z.device)[:, None, None]
        sweeps = torch.arange(self.settings.sweeps + 1, device=self.z.device)
        words_a_sweep = max(1, 4 * len(positions) * prod(self.z.shape[:2]))
        for some in sweeps.split(max(1, weighted_samples.SYMBOLS_AT_A_TIME // words_a_sweep)):
            counter = positions, self.chains << 16 | some[:, None, None, None], self.rows & MASK, self.rows >> 32
            words = philox_words(torch.broadcast_tensors(*counter), self.settings.seed)
            yield from (torch.stack(words, 2) >> (32 - UNIFORM_BITS)).flatten(1, 2)
