"""Cheapest paths over maps of terrain: the hidden symbols are the classes of the cells, the label is the path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.backends import backend_for
from emnesy_gpu.errors import UnsupportedEngineError
from emnesy_gpu.inference import gibbs_chains
from emnesy_gpu.inference.constants import constant
from emnesy_gpu.inference.results import Chains, Weighted
from emnesy_gpu.inference.row_parts import in_parts, rows_of_a_part
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.score_tables import PATH, CompiledScore
from emnesy_gpu.ops.grid_paths import (
    checked_ends,
    costs_of_classes,
    grid_paths_posterior,
    grid_paths_shortest_path,
    round_costs,
    run_gibbs_chains,
)
from emnesy_gpu.ops.registry import is_unwatched
from emnesy_gpu.problems.opaque import opaque
from emnesy_gpu.problems.problem import Problem
from emnesy_gpu.problems.symbols import shaped_like
from emnesy_gpu.reference.grid_paths import GOAL, ON_PATH, START

TERRAIN = (0.8, 1.2, 5.3, 7.7, 9.2)
"""Costs of the Warcraft maps: grass, earth, forest, water, rock."""

MAX_SIDE = 40
"""Largest number of cells along a side of a map."""

MAX_VALUES = 32
"""Largest number of classes of a cell."""

SCORES = ("cells", "cost")
"""What the weight of a sample compares: the cells of two paths, or their costs."""

DEFAULT_WEIGHTING = "exponential"
"""The weighting of ``em.ABC`` for paths where none is given."""

Cell = tuple[int, int] | Tensor | None


class ShortestPath(Problem):
    """A map of height x width cells of unknown classes, known by its cheapest path from one corner to the other.

    A path steps to any of the 8 neighbours; its cost is the sum over its cells, both ends included, in exact tenths.
    Ties between cheapest paths go to the one that Dijkstra's algorithm finds when it takes cells of equal distance in
    reading order: walking back from the goal, every step goes to the first cell in reading order among the neighbours
    at the least distance from the start. (A cell of cost 0 costs less than anything else, but more than nothing.) The
    rule is the same on every back end. It is that of the Warcraft maps (Vlastelica et al., ICLR 2020), in exact
    arithmetic.

    p(y | x) = sum_z prod_i p(z_i | x) [label(z) = y] has no closed form: inference is by samples, with ``em.ABC``,
    ``em.Rejection`` or ``em.Gibbs``. The weight of a sampled map compares its own cheapest path p with the label y:

        exponential (the default)    w = exp(-sharpness |p xor y|), the number of cells on exactly one of them
        fraction                     w = (|p and y| / |p or y|) ** sharpness

    Both tend to the exact posterior as the sharpness grows, if the samples suffice. A sharpness set by
    ``em.ABC(target_ess=8)`` learns well. With score="cost" the weights compare costs on the sampled map instead,
    exp(-sharpness (cost(y) - cost(p))) and (cost(p) / cost(y)) ** sharpness, at most 1 for a y that is no path. Their
    limit is "y is one of the cheapest paths", which favours maps with many of these: training on it merges classes.
    (Fractions are rounded down to multiples of 2^-14, differences of costs are at most 1638.4.) ``em.Gibbs`` counts the
    cells of p xor y as conflicts, with either score, and solves a map for each class of each cell in every sweep.

    Args:
        height: rows of cells, 2..40.
        width: columns of cells, 2..40; None for a square.
        costs: the cost of each class, a multiple of 0.1, at least 0.
        score: what the weights compare: "cells" or "cost".

    Attributes:
        latent_shape: ``(height, width)``.
        cardinality: ``len(costs)``.
        label_shape: ``(height, width)``: a mask of the cells on the path, uint8. Paths that do not lead from the first
            to the last cell have their ends marked in it: see ``with_ends``.

    Labels that are no path, or no cheapest path of any map, are allowed, and have the same weights. Where every weight
    is 0 (for ``em.Rejection`` without a hit) ``possible`` is False and the marginals are the prior. Deterministic given
    the seeds. Cost: O(height * width) per sample and sweep over the map, with about 6 sweeps; memory constant in the
    samples.

    Raises TypeError and ValueError for sizes, costs or a score that are not allowed.

    >>> import torch, emnesy_gpu as em
    >>> problem = em.ShortestPath(3, 3)
    >>> z = torch.tensor([[0, 4, 0], [0, 4, 0], [0, 0, 0]])               # a wall of rock in grass
    >>> problem.label(z).tolist()
    [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    >>> logits = 2.0 * torch.nn.functional.one_hot(z, 5)[None]
    >>> post = em.posterior(problem, logits, problem.label(z)[None], em.ABC(samples=2000, sharpness=1.0))
    >>> bool(post.marginals[0, 1, 0, 0] > torch.softmax(logits, -1)[0, 1, 0, 0])
    True
    """

    def __init__(
        self, height: int, width: int | None = None, costs: Sequence[float] = TERRAIN, score: str = "cells"
    ) -> None:
        width = height if width is None else width
        checks.is_integer("height", height, 2, MAX_SIDE)
        checks.is_integer("width", width, 2, MAX_SIDE)
        checks.is_one_of("score", score, SCORES)
        self.height, self.width, self.score = height, width, score
        self.costs = checks.numbers("costs", costs, 0.0)
        self.unit, keys = _integer_costs(self.costs, height * width)
        self.cardinality = len(self.costs)
        self.latent_shape = self.label_shape = (height, width)
        self._keys = {torch.device("cpu"): torch.tensor(keys, dtype=torch.int32, device="cpu")}

    @property
    def settings(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width, "costs": self.costs, "score": self.score}

    def __repr__(self) -> str:
        return f"ShortestPath(height={self.height}, width={self.width})"

    def label(self, z: Tensor, start: Cell = None, goal: Cell = None) -> Tensor:
        """The cheapest path of every map: int64 [..., height, width] -> uint8 mask of the same shape.

        Args:
            z: the class of every cell.
            start, goal: (row, column) for all maps, or integers [..., 2] with one of them for each map; None for the
                first and the last cell. If either is given, the mask has marked ends: see ``with_ends``.

        Raises TypeError and ValueError for a wrong dtype or shape and for classes or cells that do not exist.
        """
        maps = self._maps(z)
        first, last = self._cell("start", start, z, 0), self._cell("goal", goal, z, -1)
        mask, _ = grid_paths_shortest_path(maps, first, last)
        mask = shaped_like(mask, z)
        return mask if start is None and goal is None else self.with_ends(mask, start, goal)

    def cheapest_path(self, costs: Tensor, start: Cell = None, goal: Cell = None, check: bool = True) -> Tensor:
        """The cheapest path on maps of any costs, such as a net predicts: float [..., height, width] -> uint8 mask.

        Costs are rounded to multiples of the largest cost of their map divided by about 2^31 / (height * width).
        Negative costs count as 0. Ends and errors: as for ``label``, but the mask has no marked ends.

        Args:
            costs: of every cell.
            start, goal: as for ``label``.
            check: raise ValueError for a cost that is NaN or +inf, outside compiled graphs and ``torch.func.vmap``;
                waits for a GPU. Without it the path over such a map is unspecified.
        """
        checks.is_flag("check", check)
        checks.is_tensor("costs", costs)
        checks.has_dtype("costs", costs, checks.FLOAT_DTYPES)
        if tuple(costs.shape[-2:]) != self.latent_shape:
            raise ValueError(f"costs must have shape [..., {self.height}, {self.width}], got {list(costs.shape)}")
        first, last = self._cell("start", start, costs, 0), self._cell("goal", goal, costs, -1)
        maps = rounded_costs(costs, check).reshape(-1, *self.latent_shape)
        mask, _ = grid_paths_shortest_path(maps, first, last)
        return shaped_like(mask, costs)

    def with_ends(self, mask: Tensor, start: Cell = None, goal: Cell = None) -> Tensor:
        """Labels with marked ends, uint8 [..., height, width]: 1 on the path, +2 at its start, +4 at its goal.

        Every engine reads the start and the goal of a row from its label. A piece of a cheapest path is the cheapest
        path between its own ends, ties included. So a window of a large map that holds a piece, with marked ends, is a
        row of a smaller problem.

        Args:
            mask: integers [..., height, width], 0 and 1.
            start, goal: as for ``label``.

        Raises TypeError and ValueError for a wrong dtype or shape and for values or cells that do not exist.
        """
        self._check_symbols("mask", mask, n_values=2)
        cells = mask.reshape(-1, self.height * self.width).to(torch.uint8)
        first, last = self._cell("start", start, mask, 0), self._cell("goal", goal, mask, -1)
        cells = cells.scatter_add(1, first.long()[:, None], torch.full_like(cells[:, :1], START))
        cells = cells.scatter_add(1, last.long()[:, None], torch.full_like(cells[:, :1], GOAL))
        return cells.view(mask.shape)

    def path_cost(self, label: Tensor, z: Tensor) -> Tensor:
        """The cost of a path, a label with or without marked ends, on a map z: int64 [...], in tenths.

        A path is optimal where this equals the cost of ``label(z)``: the metric "cost optimality". Raises TypeError and
        ValueError for a wrong dtype or shape and for values out of range.
        """
        self._check_symbols("label", label, n_values=8)
        self._check_symbols("z", z)
        tenths = torch.tensor([round(10 * cost) for cost in self.costs], device=z.device)
        return (tenths[z.long()] * (label & ON_PATH)).flatten(-2).sum(-1)

    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        return self._weighted(logits, label, settings, check, rao_blackwell=False)

    def rao_blackwell_marginals(
        self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool
    ) -> Weighted:
        weighting = settings.weighting or DEFAULT_WEIGHTING
        if self.score != "cells" or weighting != "exponential":
            raise UnsupportedEngineError(
                'rao_blackwell works for em.ShortestPath with weighting "exponential" and score "cells", got weighting '
                f"{weighting!r} and score {self.score!r}"
            )
        return self._weighted(logits, label, settings, check, rao_blackwell=True)

    def _weighted(
        self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool, rao_blackwell: bool
    ) -> Weighted:
        if settings.scope == "local":
            raise ValueError(
                'em.ShortestPath takes samples with scope "global" only, got "local": a path depends on all cells'
            )
        results = grid_paths_posterior(
            logits,
            label,
            self._integer_costs(logits.device),
            self.unit,
            self.score,
            settings.weighting or DEFAULT_WEIGHTING,
            float(settings.sharpness),
            settings.target_ess or 0.0,
            settings.samples,
            settings.seed,
            settings.first_row,
            rao_blackwell,
            check,
        )
        return Weighted.from_operator(results, settings.samples)

    @opaque
    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        start, goal = checked_ends(logits, label, check)
        if backend_for(logits.device) == "triton":
            return gibbs_chains.gibbs_marginals(logits, label, settings, self._compiled_score(start, goal))

        def facts_of(first: int, last: int) -> tuple[Tensor, ...]:
            rows = slice(first, last)
            return (torch.cat([(label[rows] & ON_PATH).flatten(1), start[rows, None], goal[rows, None]], 1),)

        (facts,) = in_parts(facts_of, logits, rows_of_a_part(logits), float(math.prod(self.latent_shape)))
        fused = self._fused_chains if backend_for(logits.device) == "cpu" else None
        score = Score(self._agreeing_cells, math.prod(self.latent_shape))
        return gibbs_chains.gibbs_marginals(logits, facts, settings, score, fused)

    def _compiled_score(self, start: Tensor, goal: Tensor) -> Score:
        """The score that chains on a GPU compute, of labels from start to goal, int32 [batch]."""
        n_cells, bordered = self.height * self.width, (self.height + 2) * (self.width + 2)
        tables = self._integer_costs(start.device), start, goal
        compiled = CompiledScore(PATH, n_cells, tables, self.latent_shape, scratch=2 * bordered)
        return Score(self._agreeing_cells, n_cells, compiled=lambda _: compiled)

    def _fused_chains(
        self, prior: Tensor, facts: Tensor, factors: Tensor, settings: ChainSettings
    ) -> gibbs_chains.Sums:
        mask, start, goal = self._parts(facts)
        maps = self._integer_costs(prior.device), mask.view(-1, *self.latent_shape), start, goal
        numbers = settings.chains, settings.sweeps, settings.seed, settings.first_row
        return gibbs_chains.Sums(*run_gibbs_chains(prior, factors, *maps, settings.penalty > 0, *numbers))

    @staticmethod
    def _parts(facts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split facts [batch, N + 2] into the mask uint8 [batch, N], start and goal int32 [batch]."""
        return facts[:, :-2].to(torch.uint8), facts[:, -2].to(torch.int32), facts[:, -1].to(torch.int32)

    def _agreeing_cells(self, z: Tensor, facts: Tensor) -> Tensor:
        """Number of cells [samples, batch] on both path and label or on neither; z [samples, batch, height, width]."""
        mask, start, goal = self._parts(facts)
        maps = self._integer_costs(z.device)[z].flatten(0, 1)
        paths, _ = grid_paths_shortest_path(maps, start.repeat(len(z)), goal.repeat(len(z)))
        return (paths.view(*z.shape[:2], -1) == mask).sum(-1)

    def _integer_costs(self, device: torch.device) -> Tensor:
        """The cost of each class as the kernels take it, int32 [K] on a device, copied there once."""
        if device not in self._keys:
            self._keys[device] = self._keys[torch.device("cpu")].to(device)
        return self._keys[device]

    def _maps(self, z: Tensor) -> Tensor:
        """The integer costs of maps of classes, int32 [maps, height, width]; raises where z is not allowed."""
        if is_unwatched(z) and z.dtype is torch.int64 and z.shape[-2:] == self.latent_shape and _on_cpu(z):
            found = costs_of_classes(z, self._integer_costs(z.device))
            if found is not None:
                return found
        self._check_symbols("z", z)
        return self._integer_costs(z.device).take(z.long()).view(-1, *self.latent_shape)

    def _check_symbols(self, name: str, symbols: Tensor, n_values: int | None = None) -> None:
        n_values = self.cardinality if n_values is None else n_values
        checks.is_tensor(name, symbols)
        checks.has_dtype(name, symbols, checks.INTEGER_DTYPES)
        if tuple(symbols.shape[-2:]) != self.latent_shape:
            raise ValueError(f"{name} must have shape [..., {self.height}, {self.width}], got {list(symbols.shape)}")
        if symbols.numel() == 0:
            return
        least, largest = map(int, symbols.aminmax())
        if least < 0 or largest >= n_values:
            raise ValueError(f"{name} must hold values in 0..{n_values - 1}, got {least}..{largest}")

    def _cell(self, name: str, cell: Cell, maps: Tensor, default: int) -> Tensor:
        """The number of the cell in reading order for each map, int32 [maps]; by default the first or last cell."""
        if cell is None:
            number = 0 if default == 0 else self.height * self.width - 1
            return constant((number,), torch.int32, maps.device).expand(math.prod(maps.shape[:-2]))
        try:
            cell = torch.as_tensor(cell, device=maps.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be a row and a column, or a tensor of these, got {cell!r}") from error
        checks.has_dtype(name, cell, checks.INTEGER_DTYPES)
        if cell.shape not in ((2,), (*maps.shape[:-2], 2)):
            raise ValueError(f"{name} must have shape [2] or {[*maps.shape[:-2], 2]}, got {list(cell.shape)}")
        row, column = cell.long().expand(*maps.shape[:-2], 2).reshape(-1, 2).unbind(1)
        if bool(((row < 0) | (row >= self.height) | (column < 0) | (column >= self.width)).any()):
            raise ValueError(f"{name} must be a cell of a {self.height} x {self.width} map, got {cell.tolist()}")
        return (row * self.width + column).to(torch.int32)


def _on_cpu(tensor: Tensor) -> bool:
    return backend_for(tensor.device) == "cpu"


def rounded_costs(costs: Tensor, check: bool = False) -> Tensor:
    """The costs of each map as proportional positive integers, int32 [..., height, width], whose sum is below 2^31."""
    costs = costs.detach() if costs.requires_grad else costs
    if is_unwatched(costs) and _on_cpu(costs):
        rounded, sound = round_costs(costs)
    else:
        rounded, sound = _rounded_by_torch(costs), not (check and _may_wait(costs)) or bool((costs < math.inf).all())
    if check and not sound:
        at = (~(costs < math.inf)).nonzero()[0].tolist()
        raise ValueError(f"costs[{', '.join(map(str, at))}] must be finite, got {float(costs[tuple(at)])}")
    return rounded


def _rounded_by_torch(costs: Tensor) -> Tensor:
    positive = costs.double().clamp_min(0.0)
    levels = (2**31 - 1) // (costs.shape[-2] * costs.shape[-1])
    shares = positive / positive.amax((-2, -1), keepdim=True)
    return (shares * levels).nan_to_num(0.0).round().clamp(1, levels).to(torch.int32)


def _may_wait(tensor: Tensor) -> bool:
    """Whether Python may look at what a tensor holds."""
    return not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _integer_costs(costs: tuple[float, ...], n_cells: int) -> tuple[int, list[int]]:
    """The unit, which is a tenth in the integer costs of the kernels, and the positive integer cost of each class.

    Without classes of cost 0 the unit is 1. With them it exceeds the number of cells, and a cost of 0 becomes 1.
    """
    if not 2 <= len(costs) <= MAX_VALUES:
        raise ValueError(f"costs must have 2..{MAX_VALUES} entries, got {len(costs)}")
    for index, cost in enumerate(costs):
        if not 0.0 <= cost < float("inf") or abs(10 * cost - round(10 * cost)) > 1e-6 * max(cost, 1.0):
            raise ValueError(f"costs[{index}] must be a multiple of 0.1 and at least 0, got {cost}")
    tenths = [round(10 * cost) for cost in costs]
    unit = 1 if min(tenths) > 0 else 1 << n_cells.bit_length()
    if unit * max(tenths) * n_cells >= 2**31:
        largest = (2**31 - 1) // (unit * n_cells) / 10
        raise ValueError(f"costs must be at most {largest} on a map of {n_cells} cells, got {max(costs)}")
    return unit, [max(unit * cost, 1) for cost in tenths]
