"""Cheapest paths over grids with costs on the cells, and scores of samples of them against a label path.

A path steps to any of the 8 neighbours and costs the sum over its cells, both ends included. Costs are positive
integers. Ties between cheapest paths go to the one that is found by walking back from the goal, always to the first
cell in reading order among the neighbours from which the current cell is reached at the least cost. Cells are
numbered in reading order. Samples of symbols are drawn as in ``reference/abc_sampling.py``, symbol i for cell i.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from emnesy_gpu.reference import abc_sampling


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
