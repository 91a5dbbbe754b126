"""A puzzle as a problem for EM: the label of a board is its clues."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.inference.results import Beliefs, MapAssignment, Marginals
from emnesy_gpu.inference.settings import LoopySettings
from emnesy_gpu.problems.symbols import checked_symbols
from emnesy_gpu.tasks.puzzle.kinds import Clue, Puzzle


class PuzzleProblem(em.Problem):
    """The cells of a puzzle, given its clues: loopy belief propagation on a factor graph.

    The graph is the same for all boards. Each symbol of a clue is a variable of its own, and a factor over the cells of
    a group and its clue allows what fits together. A label gives each of these variables its value, by logits.

    The label is int64 [1 + symbols of clues]: whether all rules hold, and the symbols group by group. Symbols of groups
    that break a rule are 0. The posterior is that of valid boards: label[..., 0] must be 1.
    """

    def __init__(self, puzzle: Puzzle) -> None:
        n_cells, self.cardinality = len(puzzle.cells), len(puzzle.digits)
        self.latent_shape = (n_cells,)
        self.cells = [torch.tensor(groups.cells) for groups in puzzle.groups]
        arities = [cells.shape[1] for cells in self.cells]
        self.tables = [
            clue_table(groups.clue, self.cardinality, arity)
            for groups, arity in zip(puzzle.groups, arities, strict=True)
        ]
        sizes = [table[..., 1:].flatten(0, -2).amax(0) + 1 for table in self.tables]
        self.sizes = torch.cat([size.repeat(len(cells)) for size, cells in zip(sizes, self.cells, strict=True)])
        self.label_shape = (1 + len(self.sizes),)
        self.graph = em.FactorGraph(n_cells + len(self.sizes), [self.cardinality] * n_cells + self.sizes.tolist())
        self._add_factors(puzzle)

    def _add_factors(self, puzzle: Puzzle) -> None:
        first = self.latent_shape[0]
        for groups, cells, table in zip(puzzle.groups, self.cells, self.tables, strict=True):
            clues = torch.arange(first, first + len(cells) * (table.shape[-1] - 1)).view(len(cells), -1)
            first += clues.numel()
            values = product(range(self.cardinality), repeat=cells.shape[1])
            fitting = [(*z, *clue) for z in values if (clue := groups.clue(z)) is not None]
            self.graph.add(em.factors.allowed(fitting), torch.cat([cells, clues], 1).numpy())

    def label(self, z: Tensor) -> Tensor:
        """Whether all rules hold, and the clues."""
        symbols = checked_symbols(z, self.latent_shape, self.cardinality)
        found = []
        for cells, table in zip(self.cells, self.tables, strict=True):
            found.append(table.to(z.device)[symbols[..., cells].unbind(-1)])
        holds = torch.cat([one[..., 0] for one in found], -1).amin(-1, keepdim=True)
        return torch.cat([holds, *(one[..., 1:].flatten(-2) for one in found)], -1)

    def loopy_marginals(self, logits: Tensor, label: Tensor, settings: LoopySettings, check: bool) -> Beliefs:
        """As ``em.FactorGraph`` does, given the clues."""
        arguments = self._with_clues(logits, label, check)
        marginals, sweeps, change = self.graph.loopy_marginals(*arguments, settings, check)
        n_cells, of_cells = self.latent_shape[0], marginals.marginals
        return Beliefs(Marginals(of_cells[:, :n_cells, : self.cardinality], *marginals[1:]), sweeps, change)

    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """As ``em.FactorGraph`` does, given the clues."""
        best = self.graph.map_assignment(*self._with_clues(logits, label, check), check)
        return best._replace(assignment=best.assignment[:, : self.latent_shape[0]])

    def _with_clues(self, logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor]:
        """Logits of all variables of the graph, and its label."""
        holds, clues = label[:, 0], label[:, 1:]
        if check:
            wrong = (holds[:, None] != 1) | (clues < 0) | (clues >= self.sizes.to(label.device))
            if wrong.any():
                row = int(wrong.any(1).nonzero()[0, 0])
                raise ValueError(f"label[{row}] must be that of a valid board, got {label[row].tolist()}")
        k = self.graph.cardinality
        known = torch.where(F.one_hot(clues, k).bool(), 0.0, -torch.inf).to(logits.dtype)
        padded = F.pad(logits, (0, k - self.cardinality), value=-torch.inf)
        return torch.cat([padded, known], 1), holds


def clue_table(clue: Clue, n_values: int, arity: int) -> Tensor:
    """The clue of all values of a group: int64 [n_values, ..., n_values, 1 + symbols], whether it exists first."""
    clues = [clue(values) for values in product(range(n_values), repeat=arity)]
    length = max(len(one) for one in clues if one is not None)
    rows = [(0,) * (1 + length) if one is None else (1, *one) for one in clues]
    return torch.tensor(rows).view(*[n_values] * arity, 1 + length)
