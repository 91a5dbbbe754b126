"""The three forms of a rule that a black box is given by: a label, a label in plain Python, or a score.

Each form answers two questions: how many constraints do samples satisfy, and, where all assignments can be tried,
which of them have the label of a row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import prod
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference import joint_table, weighted_samples
from emnesy_gpu.problems.label_codes import DistinctRows, LabelCodes

CACHED_SCORES = 1 << 26
"""Booleans of ``ScoreRule`` that are kept between calls, one for each assignment and label."""


class Symbols:
    """The hidden symbols of a row: their shape, and the number of values of each in row-major order."""

    def __init__(self, latent_shape: tuple[int, ...], sizes: tuple[int, ...]) -> None:
        self.latent_shape, self.sizes = latent_shape, sizes
        self._on_gpu: dict[torch.device, Tensor] = {}

    def at_most(self, limit: int) -> bool:
        """Whether there are so few assignments."""
        total = 1
        for size in self.sizes:
            total *= size
            if total > limit:
                return False
        return True

    def assignments(self, device: torch.device) -> Tensor:
        """All assignments as samples of one row, int64 [M, 1, *latent_shape]."""
        return joint_table.assignments(self.sizes, device).view(-1, 1, *self.latent_shape)

    def parts(self, device: torch.device, rows: int) -> tuple[Tensor, ...]:
        """The same in parts that a function of the user is given for so many rows.

        Those of a GPU, which has room for larger parts, are made once, and the function must not write to them.
        """
        most, per_assignment = weighted_samples.SYMBOLS_AT_A_TIME, max(1, rows * len(self.sizes))
        if device.type == "cpu":
            return self.assignments(device).split(max(1, most // per_assignment))
        if device not in self._on_gpu:
            self._on_gpu[device] = self.assignments(device)
        return self._on_gpu[device].split(max(1, most * weighted_samples.ROOM_ON_GPU // per_assignment))


class Labelled(NamedTuple):
    """Which assignments have a label, for kernels; see ``emnesy_gpu.kernels.joint_tables``."""

    codes: Tensor
    known: Tensor
    least_score: int = 1


class Rule(Protocol):
    """What a black box asks of its rule. name: that of the argument by which it is given."""

    name: str
    function: Callable[..., Any]
    n_constraints: int

    def label(self, z: Tensor) -> Tensor:
        """Labels [..., *label_shape] of int64 [..., *latent_shape]."""
        ...

    def satisfied(self, z: Tensor, label: Tensor) -> Tensor:
        """How many constraints hold, int64 [samples, batch], in z [samples, batch, *latent_shape]."""
        ...

    def has_label(self, label: Tensor, may_wait: bool) -> Tensor:
        """The assignments that have the label, bool [batch, M]; may_wait: a GPU may be synchronised."""
        ...

    def labelled(self, label: Tensor, may_wait: bool) -> Labelled:
        """The same for kernels on a GPU. What does not depend on the label is made once."""
        ...


class LabelRule:
    """A torch function of the symbols. Its constraints are the entries of the label."""

    name = "label"

    def __init__(self, function: Callable[[Tensor], Tensor], symbols: Symbols, label_shape: tuple[int, ...]) -> None:
        self.function, self.symbols, self.label_shape = function, symbols, label_shape
        self.n_constraints = prod(label_shape)
        if self.n_constraints < 1:
            raise ValueError(f"label_shape must have at least one entry, got {label_shape}")
        self._distinct: dict[torch.device, DistinctRows] = {}

    def label(self, z: Tensor) -> Tensor:
        return self.function(z)

    def satisfied(self, z: Tensor, label: Tensor) -> Tensor:
        return (self._checked_label(z) == label).reshape(*z.shape[:2], self.n_constraints).sum(-1)

    def has_label(self, label: Tensor, may_wait: bool) -> Tensor:
        distinct = self._distinct_labels(label.device)
        return distinct.codes == distinct.find(label.reshape(len(label), self.n_constraints))[:, None]

    def labelled(self, label: Tensor, may_wait: bool) -> Labelled:
        distinct = self._distinct_labels(label.device)
        return Labelled(distinct.short_codes, distinct.rows)

    def _distinct_labels(self, device: torch.device) -> DistinctRows:
        """The labels of all assignments, computed once for each device."""
        if device not in self._distinct:
            parts = [self._checked_label(z).reshape(len(z), self.n_constraints) for z in self.symbols.parts(device, 1)]
            self._distinct[device] = DistinctRows(torch.cat(parts).long())
        return self._distinct[device]

    def _checked_label(self, z: Tensor) -> Tensor:
        found = self.function(z)
        checks.is_tensor("label(z)", found)
        checks.has_dtype("label(z)", found, (torch.bool, *checks.INTEGER_DTYPES))
        if found.shape != (*z.shape[:2], *self.label_shape):
            raise ValueError(f"label(z) must have shape {[*z.shape[:2], *self.label_shape]}, got {list(found.shape)}")
        return found


class PythonRule:
    """A Python function of one assignment, a tuple of integers; labels are known by their codes."""

    name = "python_label"

    def __init__(
        self,
        function: Callable[[tuple[int, ...]], Hashable],
        symbols: Symbols,
        label_shape: tuple[int, ...],
        enumerable: bool,
    ) -> None:
        if label_shape:
            raise ValueError(f"label_shape must be () with python_label, whose labels are codes, got {label_shape}")
        self.function, self.symbols, self.enumerable = function, symbols, enumerable
        self.n_constraints = 1
        self._known: LabelCodes | None = None if enumerable else LabelCodes(None)
        self._tables: dict[torch.device, Tensor] = {}
        self._distinct: dict[torch.device, DistinctRows] = {}

    @property
    def known(self) -> LabelCodes:
        """The codes of labels. Where all assignments can be tried, the first call tries them."""
        if self._known is None:
            labels = [self.function(z) for z in self._tuples(self.symbols.assignments(torch.device("cpu")))]
            self._known = LabelCodes(labels)
            codes = [self._known.code(label) for label in labels]
            self._tables[torch.device("cpu")] = torch.tensor(codes, dtype=torch.int64, device="cpu")
        return self._known

    def label(self, z: Tensor) -> Tensor:
        """The codes int64 [...] of z [..., *latent_shape]."""
        symbols = z.flatten(z.dim() - len(self.symbols.latent_shape)).long()
        if self.enumerable:
            return self._table(z.device)[joint_table.index_of(symbols, self.symbols.sizes)]
        distinct, index = torch.unique(symbols.view(-1, symbols.shape[-1]), dim=0, return_inverse=True)
        codes = [self.known.code(self.function(one)) for one in self._tuples(distinct)]
        return torch.tensor(codes, dtype=torch.int64, device=z.device)[index].view(symbols.shape[:-1])

    def satisfied(self, z: Tensor, label: Tensor) -> Tensor:
        return (self.label(z) == label).long()

    def has_label(self, label: Tensor, may_wait: bool) -> Tensor:
        return self._table(label.device) == label[:, None]

    def labelled(self, label: Tensor, may_wait: bool) -> Labelled:
        if label.device not in self._distinct:
            self._distinct[label.device] = DistinctRows(self._table(label.device)[:, None])
        distinct = self._distinct[label.device]
        return Labelled(distinct.short_codes, distinct.rows)

    def _table(self, device: torch.device) -> Tensor:
        """The codes of all assignments, int64 [M]."""
        if device not in self._tables:
            assert self.known
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]

    def _tuples(self, z: Tensor) -> list[tuple[int, ...]]:
        return [tuple(one) for one in z.reshape(len(z), -1).tolist()]


class ScoreRule:
    """A torch function that counts the satisfied constraints of samples given the label of their row."""

    name = "score"

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], symbols: Symbols, n_constraints: int) -> None:
        self.function, self.symbols, self.n_constraints = function, symbols, n_constraints
        self._cached: OrderedDict[Any, Tensor] = OrderedDict()

    def label(self, z: Tensor) -> Tensor:
        raise UnsupportedInference("this em.BlackBox is given by a score: it does not know the label of an assignment")

    def satisfied(self, z: Tensor, label: Tensor) -> Tensor:
        return weighted_samples.checked_score(self.function(z, label), z, self.n_constraints)

    def has_label(self, label: Tensor, may_wait: bool) -> Tensor:
        if len(label) == 0 or (not may_wait and label.device.type != "cpu"):
            return self._evaluate(label)
        distinct, index = torch.unique(label.reshape(len(label), -1), dim=0, return_inverse=True)
        keys = [(label.device, *row) for row in distinct.tolist()]
        missing = [i for i, key in enumerate(keys) if key not in self._cached]
        found = {key: self._cached[key] for key in keys if key in self._cached}
        if missing:
            rows = self._evaluate(distinct[missing].view(-1, *label.shape[1:]))
            found |= {keys[i]: row.clone() for i, row in zip(missing, rows, strict=True)}
        self._keep(found)
        return torch.stack([found[key] for key in keys])[index]

    def labelled(self, label: Tensor, may_wait: bool) -> Labelled:
        """Scores as the function gives them, where it is called once; else flags of 0 and 1."""
        known = label.new_empty(0, 0)
        parts = () if may_wait else self.symbols.parts(label.device, len(label))
        if len(parts) == 1:
            z = parts[0].expand(-1, len(label), *self.symbols.latent_shape)
            score = weighted_samples.checked_form(self.function(z, label), z)
            return Labelled(score.contiguous(), known, self.n_constraints)
        return Labelled(self.has_label(label, may_wait).T.contiguous(), known)

    def _evaluate(self, label: Tensor) -> Tensor:
        """bool [batch, M], by the function, for some assignments at a time."""
        parts = []
        for z in self.symbols.parts(label.device, len(label)):
            samples = z.expand(-1, len(label), *self.symbols.latent_shape)
            parts.append((self.satisfied(samples, label) == self.n_constraints).T)
        return torch.cat(parts, 1)

    def _keep(self, found: dict[Any, Tensor]) -> None:
        """Keep what fits, the labels that were used last."""
        for key, row in found.items():
            self._cached[key] = row
            self._cached.move_to_end(key)
        while len(self._cached) * prod(self.symbols.sizes) > CACHED_SCORES:
            self._cached.popitem(last=False)
