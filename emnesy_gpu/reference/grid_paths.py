"""Cheapest paths over grids with costs on the cells, and scores of samples of them against a label path.

A path steps to any of the 8 neighbours and costs the sum over its cells, both ends included. Costs are positive
integers. Ties between cheapest paths go to the one that is found by walking back from the goal, always to the first
cell in reading order among the neighbours from which the current cell is reached at the least cost. Cells are
numbered in reading order. Samples of symbols are drawn as in ``reference/abc_sampling.py``, symbol i for cell i.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor, float64, int32

from emnesy_gpu.kernels.sampling_plan import LARGEST_GAIN
from emnesy_gpu.kernels.status import IMPOSSIBLE, INVALID_LABEL, POSSIBLE
from emnesy_gpu.reference import abc_sampling
from emnesy_gpu.reference.symbols import result_dtype, row_status
from emnesy_gpu.reference.weights import relative_weights, sharpness_for

ON_PATH, START, GOAL = 1, 2, 4
"""Bits of the cells of a label."""

LEVELS = 1 << 14
"""Fractions are rounded down to multiples of 1 / LEVELS, and differences of costs are at most LEVELS tenths."""


def shortest_path(costs: Tensor, start: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """The mask of the cheapest path from start to goal, uint8 [batch, H, W] of 0 and 1, and its cost, int32 [batch].

    costs: int32 [batch, H, W], at least 1. start, goal: int32 [batch], numbers of cells.
    """
    batch, height, width = costs.shape
    mask, total = torch.zeros(batch, height * width, dtype=torch.uint8), torch.zeros(batch, dtype=torch.int32)
    for row, cells in enumerate(costs.flatten(1).tolist()):
        path = _path(cells, width, int(start[row]), int(goal[row]))
        mask[row, path] = 1
        total[row] = sum(cells[cell] for cell in path)
    return mask.view(batch, height, width).to(costs.device), total.to(costs.device)


def score(
    thresholds: Tensor,
    costs: Tensor,
    mask: Tensor,
    start: Tensor,
    goal: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> Tensor:
    """The four ``facts`` of every sampled map, int32 [4, batch, n_samples].

    thresholds: int32 [batch, H * W, K - 1]. costs: int32 [K], the cost of each class.
    mask: uint8 [batch, H, W], the label path.
    """
    batch, _, width = mask.shape
    z = abc_sampling.draw(thresholds, n_samples, seed, first_row, first_sample)
    cells, label = costs.long()[z].tolist(), mask.flatten(1).tolist()
    scores = torch.empty(4, batch, n_samples, dtype=torch.int32)
    for row, (first, last) in enumerate(zip(start.tolist(), goal.tolist(), strict=True)):
        for t in range(n_samples):
            path = _path(cells[t][row], width, first, last)
            scores[:, row, t] = torch.tensor(facts(path, cells[t][row], label[row]))
    return scores.to(mask.device)


def facts(path: list[int], costs: list[int], label: list[int]) -> list[int]:
    """The number of cells on both path and label, the length of the path in cells, its cost, and that of the label."""
    label_cost = sum(cost for cost, on_label in zip(costs, label, strict=True) if on_label)
    return [sum(label[cell] for cell in path), len(path), sum(costs[cell] for cell in path), label_cost]


def histogram(thresholds: Tensor, weights: Tensor, seed: int, first_row: int, first_sample: int) -> Tensor:
    """Weights int32 [batch, n_samples] of samples, summed by the value of each symbol, int64 [batch, N, K]."""
    batch, n, k = thresholds.shape[0], thresholds.shape[1], thresholds.shape[2] + 1
    z = abc_sampling.draw(thresholds, weights.shape[1], seed, first_row, first_sample)
    total = torch.zeros(batch, n, k, dtype=torch.int64, device=z.device)
    return total.scatter_add_(-1, z.movedim(0, -1), weights.long()[:, None].expand(batch, n, -1))


def histogram_of_changes(
    thresholds: Tensor,
    costs: Tensor,
    mask: Tensor,
    start: Tensor,
    goal: Tensor,
    weights: Tensor,
    n_samples: int,
    seed: int,
    first_row: int,
    first_sample: int,
) -> Tensor:
    """For each value of each symbol, the sum of the weights of the samples after that change, float64 [batch, N, K].

    weights: float64 [batch, D], the weight of a sample by the number of cells on exactly one of path and label.
    """
    batch, height, width = mask.shape
    n, k = height * width, len(costs)
    z = abc_sampling.draw(thresholds, n_samples, seed, first_row, first_sample)
    table, label = costs.tolist(), mask.flatten(1).tolist()
    total = torch.zeros(batch, n, k, dtype=torch.float64)
    for row, (first, last) in enumerate(zip(start.tolist(), goal.tolist(), strict=True)):
        for t in range(n_samples):
            cells = [table[value] for value in z[t, row].tolist()]
            for i in range(n):
                for value in range(k):
                    changed = [*cells[:i], table[value], *cells[i + 1 :]]
                    shared, length, *_ = facts(_path(changed, width, first, last), changed, label[row])
                    total[row, i, value] += float(weights[row, sum(label[row]) + length - 2 * shared])
    return total.to(mask.device)


def ends(label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Start and goal of a label as cell numbers, int32 [batch], and whether the label is allowed, bool [batch].

    Without marked ends these are the first and the last cell.
    """
    cells = label.flatten(1)
    start, goal = (cells & START) != 0, (cells & GOAL) != 0
    n_starts, n_goals = start.sum(1), goal.sum(1)
    fine = (n_starts == n_goals) & (n_starts <= 1) & ((cells >= 0) & (cells < 2 * GOAL)).all(1)
    first = torch.where(n_starts > 0, start.int().argmax(1), 0)
    last = torch.where(n_goals > 0, goal.int().argmax(1), cells.shape[1] - 1)
    return first.to(int32), last.to(int32), fine


def score_columns(score: str, weighting: str, facts: Tensor, mask: Tensor, unit: int) -> tuple[Tensor, Tensor]:
    """The column that counts each sample, with the best score in the last one, and whether its path is the label.

    facts: int32 [4, batch, samples], see ``facts``. The score "cells" compares the
    cells of path and label, "cost" the cost of the label with that of the cheapest path.
    """
    shared, length, path_cost, label_cost = facts.long()
    union = mask.flatten(1).sum(1)[:, None] + length - shared
    differing, equal = union - shared, union == shared
    if weighting == "exact":
        return equal.long(), equal
    if score == "cells":
        fraction = (shared * LEVELS) // union
        if weighting == "fraction":
            return fraction, equal
        return 2 * mask.shape[1] * mask.shape[2] - differing, equal
    path_cost, label_cost = path_cost // unit, label_cost // unit
    if weighting == "fraction":
        fraction = torch.where(label_cost > path_cost, path_cost * LEVELS // label_cost.clamp_min(1), LEVELS)
        return fraction, equal
    return LEVELS - (label_cost - path_cost).clamp(0, LEVELS), equal


def posterior(
    logits: Tensor,
    label: Tensor,
    costs: Tensor,
    unit: int,
    how: tuple[str, str],
    exponents: Tensor,
    numbers: tuple[int, float, float],
    seed: int,
    first_row: int,
    rao_blackwell: bool = False,
) -> tuple[Tensor, ...]:
    """Marginals [batch, N, K]; log evidence, status, effective sample size, sharpness, samples with the label [batch].

    logits: [batch, N, K]. label: int64 [batch, H, W]. costs: int32 [K]. unit, how: see ``score_columns``.
    exponents: float64 [columns], log weights at sharpness 1. numbers: samples, sharpness, target size or 0.
    rao_blackwell: every sample counts for all values of each symbol, with the weight that it has after that change.
    """
    n_samples, sharpness, target_ess = numbers
    (start, goal, fine), mask = ends(label), (label & ON_PATH).to(torch.uint8)
    thresholds = abc_sampling.thresholds(logits)
    found = score(thresholds, costs, mask, start, goal, n_samples, seed, first_row, 0)
    column, equal = score_columns(*how, found, mask, unit)
    counts = torch.zeros(len(logits), len(exponents), dtype=torch.int64)
    counts.scatter_add_(1, column, torch.ones_like(column))
    levels = torch.full((len(logits),), sharpness, dtype=float64)
    if target_ess > 0 and len(counts) > 0:
        levels = torch.stack([sharpness_for(exponents, row, target_ess) for row in counts])
    weights, best = relative_weights(exponents, counts, levels)
    number, integers = (counts * weights).sum(1), (weights * ((1 << 24) - 1)).round().to(int32)
    sums = histogram(thresholds, integers.gather(1, column), seed, first_row, 0).double()
    if rao_blackwell:
        by_difference = (exponents * levels[:, None] - best[:, None]).clamp(max=LARGEST_GAIN).exp().flip(1)
        changes = histogram_of_changes(
            thresholds, costs, mask, start, goal, by_difference, n_samples, seed, first_row, 0
        )
        sums = changes * torch.softmax(logits.double(), -1)
    status = torch.where(fine, row_status(logits, label.new_ones(len(logits)), 2), INVALID_LABEL).to(torch.uint8)
    status = torch.where((status == POSSIBLE) & (number == 0), IMPOSSIBLE, status).to(torch.uint8)
    possible = status == POSSIBLE
    marginals = torch.where(possible[:, None, None], sums / sums.sum(-1, keepdim=True), torch.softmax(logits, -1))
    log_evidence = torch.where(possible, number.log() + best - counts.sum(1).double().log(), float("-inf"))
    size, dtype = number.square() / (counts * weights.square()).sum(1).clamp_min(1e-300), result_dtype(logits)
    rows = (part.to(dtype) for part in (size, levels))
    return marginals.to(dtype), log_evidence.to(dtype), status, *rows, equal.sum(1)


def _path(costs: list[int], width: int, start: int, goal: int) -> list[int]:
    """The cells from goal to start, by Dijkstra's algorithm."""
    neighbours = [_neighbours(cell, width, len(costs)) for cell in range(len(costs))]
    distance = {start: costs[start]}
    queue = [(costs[start], start)]
    while queue:
        reached, cell = heapq.heappop(queue)
        if reached > distance[cell]:
            continue
        for other in neighbours[cell]:
            if reached + costs[other] < distance.get(other, reached + costs[other] + 1):
                distance[other] = reached + costs[other]
                heapq.heappush(queue, (distance[other], other))
    path = [goal]
    while path[-1] != start:
        path.append(min(neighbours[path[-1]], key=lambda cell: (distance[cell], cell)))
    return path


def _neighbours(cell: int, width: int, n: int) -> list[int]:
    row, column = divmod(cell, width)
    return [
        r * width + q
        for r in range(max(row - 1, 0), min(row + 2, n // width))
        for q in range(max(column - 1, 0), min(column + 2, width))
        if (r, q) != (row, column)
    ]
