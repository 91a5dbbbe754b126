"""What exact rules share: labels of any hashable type as integer codes, and the engines that sample."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.automata.labels import by_code, checked_label
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.score_tables import CompiledScore
from emnesy_gpu.problems.scored import ScoredProblem
from emnesy_gpu.problems.symbols import checked_symbols

NOT_GIVEN = -1
"""The code of a label, or of an entry of it, that is not known."""


class CodedRule(ScoredProblem):
    """A rule whose label has one or more entries, each an integer code.

    Attributes:
        labels: the labels in the order of their codes, None for codes between them that no label has; where the label
            has entries, a tuple of such lists.
    """

    labels: Any
    any_label = NOT_GIVEN

    def _set_codes(self, codes: list[dict[Any, int]], *, has_entries: bool) -> None:
        """codes: label -> code for each entry."""
        self._codes = codes
        self.label_shape = (len(codes),) if has_entries else ()
        names = [by_code(entry) for entry in codes]
        self.labels = tuple(names) if has_entries else names[0]

    def encode(self, labels: Iterable[Any]) -> Tensor:
        """The codes of labels, int64 [batch] or [batch, entries]; None for what is not given.

        Raises ValueError for a label that the rule does not know.

        >>> import emnesy_gpu as em
        >>> rule = em.Automaton(lambda s, v: max(s, v), 0, lambda s: "abc"[s], n_symbols=4, cardinality=3)
        >>> rule.labels, rule.encode(["b", None, "a"]).tolist()
        (['a', 'b', 'c'], [1, -1, 0])
        """
        each = checks.items("labels", labels, "a list of labels")
        if not self.label_shape:
            return torch.tensor([self._code(label, 0) for label in each], dtype=torch.int64)
        rows = [checks.items(f"labels[{index}]", row, "a list of entries") for index, row in enumerate(each)]
        for index, row in enumerate(rows):
            if len(row) != len(self._codes):
                raise ValueError(f"labels[{index}] must have {len(self._codes)} entries, got {len(row)}")
        codes = [[self._code(entry, position) for position, entry in enumerate(row)] for row in rows]
        return torch.tensor(codes, dtype=torch.int64).view(-1, len(self._codes))

    def _code(self, label: Any, entry: int) -> int:
        if label is None:
            return NOT_GIVEN
        if checked_label(label, "labels") not in self._codes[entry]:
            known = list(self._codes[entry])
            raise ValueError(f"no state has the label {label!r}; known labels are {known[:10]}, {len(known)} in all")
        return self._codes[entry][label]

    def label(self, z: Tensor) -> Tensor:
        """The codes of the labels: int64 [..., *latent_shape] -> [..., *label_shape]; -1 where the rule forbids z.

        Raises TypeError and ValueError for a wrong dtype or shape and for values outside 0..cardinality-1;
        UnsupportedInference where the label is not a function of the symbols (weighted tables, noisy labels).
        """
        entries = self._entries(checked_symbols(z, self.latent_shape, self.cardinality))
        return entries if self.label_shape else entries[..., 0]

    def _host_tables(self) -> Iterable[Tensor]:
        """The tables of the rule on the CPU."""
        raise NotImplementedError

    def _key(self) -> Hashable:
        codes = tuple(tuple(entry.items()) for entry in self._codes)
        tables = tuple((tuple(table.shape), table.numpy().tobytes()) for table in self._host_tables())
        return self.latent_shape, self.cardinality, self.label_shape, codes, tables

    def _entries(self, symbols: Tensor) -> Tensor:
        """Codes int64 [..., M] of symbols int64 [..., n], NOT_GIVEN where the rule forbids them."""
        raise NotImplementedError

    @property
    def _score(self) -> Score:
        return Score(self._right_entries, len(self._codes), compiled=self._compiled_score)

    _compiled_score: Callable[[Tensor], CompiledScore | None] | None = None
    """The score for kernels, from labels [batch, *label_shape]; None for a rule that has none."""

    def _right_entries(self, z: Tensor, label: Tensor) -> Tensor:
        """How many entries of the label z [samples, batch, *latent_shape] explains.

        Those not given count too, unless the rule forbids z.
        """
        found = self._entries(z.flatten(2))
        wanted = label.reshape(len(label), len(self._codes))
        return ((found != NOT_GIVEN) & ((found == wanted) | (wanted == NOT_GIVEN))).sum(-1)
