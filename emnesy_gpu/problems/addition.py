"""Addition of numbers written as hidden digits: the label is their sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.inference import gibbs_chains, weighted_samples
from emnesy_gpu.inference.results import Chains, MapAssignment, Marginals, Weighted, is_possible
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.score_tables import SUM, CompiledScore
from emnesy_gpu.ops.carry_chain import (
    carry_chain_em_gradient,
    carry_chain_map,
    carry_chain_posterior,
    carry_chain_sample,
)
from emnesy_gpu.problems.opaque import opaque
from emnesy_gpu.problems.problem import Problem

MAX_BASE = 32
MAX_ADDENDS = 4
"""Largest sizes; the kernels hold tables of ``base`` values and ``n_addends`` carries per position."""

MOST_DIGITS = 1 << 20
"""More would be a mistake: one row of logits alone takes gigabytes."""


class Addition(Problem):
    """The sum of ``n_addends`` numbers of ``n_digits`` base-``base`` digits, observed digit by digit.

    p(y | x) = sum_z prod_i p(z_i | x) [label(z) = y] is a Markov chain over the carries, so that exact inference is
    cheap: marginals and evidence by sum-product, the most probable digits by max-product, samples by forward filtering
    and backward sampling. Everything is deterministic given the seeds. A label that no digits add up to is impossible.
    Cost per row: at most O(n_digits * n_addends^2 * base^2), for two addends O(n_digits * base). Source: EM-NeSy (arXiv
    2606.14463), the MNIST addition experiment.

    Args:
        n_digits: digits per number, at least 1.
        base: 2 to 32.
        n_addends: 2 to 4.

    Attributes:
        latent_shape: ``(n_addends, n_digits)``, most significant digit first.
        cardinality: ``base``.
        label_shape: ``(n_label_digits,)``, as many digits as the largest sum has: ``n_digits + 1`` for two addends.

    Raises TypeError and ValueError for sizes that are no integers or out of range.

    >>> import torch
    >>> problem = Addition(n_digits=2)
    >>> problem.label(torch.tensor([[9, 5], [1, 7]])).tolist()      # 95 + 17 = 112
    [1, 1, 2]
    """

    conversion = "problem.encode turns numbers into digits"

    def __init__(self, n_digits: int, base: int = 10, n_addends: int = 2) -> None:
        for name, value, low, high in (
            ("n_digits", n_digits, 1, MOST_DIGITS),
            ("base", base, 2, MAX_BASE),
            ("n_addends", n_addends, 2, MAX_ADDENDS),
        ):
            checks.is_integer(name, value, low, high)
        self.n_digits, self.base, self.n_addends = n_digits, base, n_addends
        self.latent_shape = (n_addends, n_digits)
        self.cardinality = base
        largest_carry = n_addends * (base**n_digits - 1) // base**n_digits
        self.n_label_digits = n_digits + _count_digits(largest_carry, base)
        self.label_shape = (self.n_label_digits,)

    @property
    def settings(self) -> dict[str, Any]:
        return {"n_digits": self.n_digits, "base": self.base, "n_addends": self.n_addends}

    def __repr__(self) -> str:
        return f"Addition(n_digits={self.n_digits}, base={self.base}, n_addends={self.n_addends})"

    def label(self, z: Tensor) -> Tensor:
        """The digits of the sum: int64 [..., n_addends, n_digits] -> [..., n_label_digits], most significant first.

        Raises TypeError and ValueError for a wrong dtype or shape and for digits outside 0..base-1.
        """
        checks.is_tensor("z", z)
        checks.has_dtype("z", z, checks.INTEGER_DTYPES)
        if tuple(z.shape[-2:]) != self.latent_shape:
            expected = ", ".join(["...", *map(str, self.latent_shape)])
            raise ValueError(f"z must have shape [{expected}], got {list(z.shape)}")
        if bool(((z < 0) | (z >= self.base)).any()):
            raise ValueError(f"z must hold digits in 0..{self.base - 1}, got {int(z.min())}..{int(z.max())}")
        return torch.stack(list(self._digits_of_sum(z.long())), -1).flip(-1)

    def encode(self, numbers: Tensor | Iterable[int]) -> Tensor:
        """The labels of sums that are given as numbers: [...] -> int64 [..., n_label_digits].

        Args:
            numbers: an integer tensor with any axes, which holds numbers of 18 digits; or integers of Python, of any
                size, as a list.

        Raises TypeError for other types, and ValueError for numbers below 0 or with more digits than a label.

        >>> import torch, emnesy_gpu as em
        >>> em.Addition(n_digits=2).encode(torch.tensor([112, 7])).tolist()
        [[1, 1, 2], [0, 0, 7]]
        """
        largest = self.base**self.n_label_digits - 1
        if isinstance(numbers, Tensor):
            checks.has_dtype("numbers", numbers, checks.INTEGER_DTYPES)
            rest = numbers.long()
            wrong = ((rest < 0) | (rest > min(largest, checks.LARGEST_SEED))).nonzero().tolist()
            if wrong:
                at = ", ".join(map(str, wrong[0]))
                checks.is_integer(f"numbers[{at}]", int(rest[tuple(wrong[0])]), 0, largest)
            digits = []
            for _ in range(self.n_label_digits):
                digits.append(rest % self.base)
                rest = rest // self.base
            return torch.stack(digits[::-1], -1)
        rows = []
        for index, number in enumerate(numbers):
            checks.is_integer(f"numbers[{index}]", number, 0, largest)
            rows.append([number // self.base**place % self.base for place in range(self.n_label_digits)][::-1])
        return torch.tensor(rows, dtype=torch.int64).view(-1, self.n_label_digits)

    def _digits_of_sum(self, z: Tensor) -> Iterator[Tensor]:
        """Yield the digits of the sum, the least significant first."""
        carry = torch.zeros_like(z[..., 0, 0])
        for place in range(1, self.n_label_digits + 1):
            total = sum(z[..., -place].unbind(-1), carry) if place <= self.n_digits else carry
            carry = total // self.base
            yield total - carry * self.base

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        return Marginals.from_operator(carry_chain_posterior(logits, label, check))

    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        digits, log_joint, status = carry_chain_map(logits, label, check)
        return MapAssignment(digits, log_joint, is_possible(status))

    @opaque
    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        """See ``WeightedProblem``: every digit of the sum is a constraint."""
        if settings.scope == "local":
            raise ValueError('scope must be "global" for em.Addition, got "local": a digit affects several of the sum')
        if check:
            self._check_values(logits, label)
        return weighted_samples.weighted_marginals(logits, label, settings, self._score)

    @opaque
    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        if check:
            self._check_values(logits, label)
        return gibbs_chains.gibbs_marginals(logits, label, settings, self._score)

    def _check_values(self, logits: Tensor, label: Tensor) -> None:
        weighted_samples.check_values(logits, label, self.base, f"a digit in 0..{self.base - 1}")

    @property
    def _score(self) -> Score:
        compiled = CompiledScore(SUM, self.n_label_digits, sizes=(self.n_addends, self.base))
        return Score(self._equal_digits, self.n_label_digits, compiled=lambda label: compiled)

    def _equal_digits(self, z: Tensor, label: Tensor) -> Tensor:
        """How many digits of the sum of z [samples, batch, *latent_shape] are those of the label."""
        columns = label.flip(-1).unbind(-1)
        equal = torch.zeros_like(z[..., 0, 0])
        for digit, column in zip(self._digits_of_sum(z), columns, strict=True):
            equal += digit == column
        return equal

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        digits, _ = carry_chain_sample(logits, label, n_samples, seed, first_row, check)
        return digits

    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        gradient, log_evidence, _ = carry_chain_em_gradient(logits, label, scale, check)
        return gradient, log_evidence


def _count_digits(value: int, base: int) -> int:
    count = 1
    while value >= base:
        value //= base
        count += 1
    return count
