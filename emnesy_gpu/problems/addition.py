"""Addition of numbers written as hidden digits: the label is their sum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import load_kernels
from emnesy_gpu.inference import gibbs_chains, weighted_samples
from emnesy_gpu.inference.results import Chains, MapAssignment, Marginals, Weighted
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.score_tables import SUM, CompiledScore
from emnesy_gpu.ops.carry_chain import (
    carry_chain_em_gradient,
    carry_chain_map,
    carry_chain_posterior,
    carry_chain_sample,
)
from emnesy_gpu.problems.few_rows import FewRows, with_few_rows
from emnesy_gpu.problems.opaque import opaque
from emnesy_gpu.problems.problem import Problem

MAX_BASE = 32
MAX_ADDENDS = 4
"""Largest sizes; the kernels hold tables of ``base`` values and ``n_addends`` carries per position."""

MOST_DIGITS = 1 << 20
"""More would be a mistake: one row of logits alone takes gigabytes."""


LABEL_FORMS = ("digits", "number")


class Addition(Problem):
    """The sum of ``n_addends`` numbers of ``n_digits`` base-``base`` digits, observed digit by digit or as a number.

    p(y | x) = sum_z prod_i p(z_i | x) [label(z) = y] is a Markov chain over the carries, so that exact inference is
    cheap: marginals and evidence by sum-product, the most probable digits by max-product, samples by forward filtering
    and backward sampling. Everything is deterministic given the seeds. A label that no digits add up to is impossible.
    Cost per row: at most O(n_digits * n_addends^2 * base^2), for two addends O(n_digits * base). Source: EM-NeSy (arXiv
    2606.14463), the MNIST addition experiment.

    Args:
        n_digits: digits per number, at least 1.
        base: 2 to 32.
        n_addends: 2 to 4.
        label: "digits": a label is the digits of the sum. "number": it is the sum itself, an integer, where int64 holds
            every number of as many digits, which is up to 18 of base 10. ``encode`` makes either of numbers.

    Attributes:
        latent_shape: ``(n_addends, n_digits)``, most significant digit first.
        cardinality: ``base``.
        n_label_digits: as many digits as the largest sum has: ``n_digits + 1`` for two addends.
        label_shape: ``(n_label_digits,)``, or ``()`` for numbers.

    Raises TypeError and ValueError for sizes that are no integers or out of range, and for another kind of label.

    >>> import torch
    >>> problem = Addition(n_digits=2)
    >>> problem.label(torch.tensor([[9, 5], [1, 7]])).tolist()      # 95 + 17 = 112
    [1, 1, 2]
    >>> Addition(n_digits=2, label="number").label(torch.tensor([[9, 5], [1, 7]])).item()
    112
    """

    conversion = 'problem.encode turns numbers into digits, and label="number" takes them as they are'

    def __init__(self, n_digits: int, base: int = 10, n_addends: int = 2, label: str = "digits") -> None:
        for name, value, low, high in (
            ("n_digits", n_digits, 1, MOST_DIGITS),
            ("base", base, 2, MAX_BASE),
            ("n_addends", n_addends, 2, MAX_ADDENDS),
        ):
            checks.is_integer(name, value, low, high)
        checks.is_one_of("label", label, LABEL_FORMS)
        self.n_digits, self.base, self.n_addends, self.takes_numbers = n_digits, base, n_addends, label == "number"
        self.latent_shape = (n_addends, n_digits)
        self.cardinality = base
        largest_carry = n_addends * (base**n_digits - 1) // base**n_digits
        self.n_label_digits = n_digits + _count_digits(largest_carry, base)
        self.label_shape = () if self.takes_numbers else (self.n_label_digits,)
        if self.takes_numbers and self.base**self.n_label_digits - 1 > checks.LARGEST_SEED:
            raise ValueError(
                f"n_digits must give sums that int64 holds with label='number', got {self.n_label_digits} digits: "
                "label='digits' takes any"
            )

    @property
    def settings(self) -> dict[str, Any]:
        sizes = {"n_digits": self.n_digits, "base": self.base, "n_addends": self.n_addends}
        return sizes | {"label": "number"} if self.takes_numbers else sizes

    def __repr__(self) -> str:
        return f"Addition({', '.join(f'{name}={value!r}' for name, value in self.settings.items())})"

    def label(self, z: Tensor) -> Tensor:
        """The sum: int64 [..., n_addends, n_digits] -> its digits [..., n_label_digits], most significant first.

        With label="number" the sum itself [...].

        Raises TypeError and ValueError for a wrong dtype or shape and for digits outside 0..base-1.
        """
        checks.is_tensor("z", z)
        checks.has_dtype("z", z, checks.INTEGER_DTYPES)
        if tuple(z.shape[-2:]) != self.latent_shape:
            expected = ", ".join(["...", *map(str, self.latent_shape)])
            raise ValueError(f"z must have shape [{expected}], got {list(z.shape)}")
        if bool(((z < 0) | (z >= self.base)).any()):
            raise ValueError(f"z must hold digits in 0..{self.base - 1}, got {int(z.min())}..{int(z.max())}")
        digits = list(self._digits_of_sum(z.long()))
        if self.takes_numbers:
            return sum((digit * self.base**place for place, digit in enumerate(digits)), torch.zeros_like(digits[0]))
        return torch.stack(digits, -1).flip(-1)

    def encode(self, numbers: Tensor | Iterable[int]) -> Tensor:
        """The labels of sums that are given as numbers: [...] -> int64 [..., n_label_digits].

        With label="number" the numbers themselves [...].

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
            return rest if self.takes_numbers else self._split(rest)
        sums = checks.items("numbers", numbers, "an integer tensor, or integers")
        for index, number in enumerate(sums):
            checks.is_integer(f"numbers[{index}]", number, 0, largest)
        if self.takes_numbers:
            return torch.tensor(sums, dtype=torch.int64)
        places = range(self.n_label_digits - 1, -1, -1)
        rows = [[number // self.base**place % self.base for place in places] for number in sums]
        return torch.tensor(rows, dtype=torch.int64).view(-1, self.n_label_digits)

    def digits_of(self, label: Tensor, check: bool = False) -> Tensor:
        """The digits [batch, n_label_digits] of labels [batch, *label_shape]: of numbers, or as they are.

        A number with more digits has a first digit that is none. With check it raises ValueError, but in compiled
        graphs, where what reads the digits raises it.
        """
        if not self.takes_numbers:
            return label
        if check and not torch.compiler.is_compiling():
            largest = self.base**self.n_label_digits - 1
            wrong = ((label < 0) | (label > largest)).nonzero()
            if len(wrong) > 0:
                row = int(wrong[0])
                remedy = ": em.Partial takes rows without a label" if int(label[row]) == -1 else ""
                raise ValueError(f"label[{row}] must be a sum in 0..{largest}, got {int(label[row])}{remedy}")
        return self._split(label)

    def _split(self, numbers: Tensor) -> Tensor:
        """The digits [..., n_label_digits] of numbers, the first one with all that is left."""
        digits = []
        for _ in range(self.n_label_digits - 1):
            digits.append(numbers % self.base)
            numbers = numbers // self.base
        return torch.stack([*digits, numbers], -1).flip(-1)

    def _digits_of_sum(self, z: Tensor) -> Iterator[Tensor]:
        """Yield the digits of the sum, the least significant first."""
        carry = torch.zeros_like(z[..., 0, 0])
        for place in range(1, self.n_label_digits + 1):
            total = sum(z[..., -place].unbind(-1), carry) if place <= self.n_digits else carry
            carry = total // self.base
            yield total - carry * self.base

    def _few_rows(self) -> FewRows:
        call = load_kernels("cpu", "carry_chain").call_of(self.n_label_digits, *self.latent_shape, self.base)
        return FewRows(call, Addition._with_digits if self.takes_numbers else None)

    def _with_digits(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return logits, self._split(label)

    @with_few_rows(_few_rows)
    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        return Marginals(*carry_chain_posterior(logits, self.digits_of(label, check), check))

    def _few_rows_of_map(self) -> FewRows:
        call = load_kernels("cpu", "carry_chain").map_call_of(self.n_label_digits, *self.latent_shape, self.base)
        return FewRows(call, Addition._with_digits if self.takes_numbers else None)

    @with_few_rows(_few_rows_of_map)
    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        return MapAssignment(*carry_chain_map(logits, self.digits_of(label, check), check))

    @opaque
    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        """See ``WeightedProblem``: every digit of the sum is a constraint."""
        if settings.scope == "local":
            raise ValueError('scope must be "global" for em.Addition, got "local": a digit affects several of the sum')
        label = self.digits_of(label, check)
        if check:
            self._check_values(logits, label)
        return weighted_samples.weighted_marginals(logits, label, settings, self._score)

    @opaque
    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        label = self.digits_of(label, check)
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
        digits, _ = carry_chain_sample(logits, self.digits_of(label, check), n_samples, seed, first_row, check)
        return digits

    @with_few_rows(_few_rows)
    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        return carry_chain_em_gradient(logits, self.digits_of(label, check), scale, check)


def _count_digits(value: int, base: int) -> int:
    count = 1
    while value >= base:
        value //= base
        count += 1
    return count
