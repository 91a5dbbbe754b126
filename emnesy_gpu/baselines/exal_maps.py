"""EXAL on maps: classes of cells that keep the cheapest path, proposed without looking at the net."""

from __future__ import annotations

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.baselines.beliefs import check_row_loss, log_beliefs
from emnesy_gpu.baselines.path_loss import ends_of_labels
from emnesy_gpu.problems import ShortestPath
from emnesy_gpu.reduction import reduce
from emnesy_gpu.reference.grid_paths import ON_PATH


def path_exal_loss(
    problem: ShortestPath,
    logits: Tensor,
    label: Tensor,
    reduction: str = "mean",
    moves: int = 300,
    first_moves: int = 100,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean of -log p_c(v) over the moves of a Markov chain of maps that all have the label.

    EXAL (Verreet et al., arXiv 2408.08133) samples maps with the cheapest path of the label by a chain, which begins
    with the cheapest class on the path and the dearest elsewhere. A move proposes a uniform class v for a uniform cell
    c, and is kept if the cheapest path stays that of the label. Each kept pair (c, v) after the first moves is an
    example for the net. The chain does not look at the net: it samples classes under a uniform prior, and most moves
    are kept, so that an example says little.

    Args:
        problem: an ``em.ShortestPath``.
        logits: float [batch, height, width, cardinality], differentiable. label: as for ``em.posterior``; values are
            not checked.
        reduction: "mean" or "sum" over the batch, "none" for [batch].
        moves, first_moves: proposals for each row that count, and before them.
        generator: of the moves, on the device of the logits; None takes torch's default. Equal states give equal
            losses.

    Returns:
        The loss in nats; 0 for a row that keeps no move.

    Raises:
        TypeError: another problem, and wrong dtypes.
        ValueError: wrong shapes, no moves, and an unknown reduction. Cost: one cheapest path a move and row.

    >>> import torch, emnesy_gpu as em
    >>> problem, label = em.ShortestPath(3), torch.eye(3, dtype=torch.uint8)[None]
    >>> loss = em.baselines.path_exal_loss(problem, torch.zeros(1, 3, 3, 5), label)
    >>> round(loss.item(), 4)                                                         # log 5: the net knows nothing
    1.6094
    """
    checks.is_instance("problem", problem, ShortestPath, "an em.ShortestPath")
    checks.is_integer("moves", moves, 1, checks.MOST_SYMBOLS)
    checks.is_integer("first_moves", first_moves, 0, checks.MOST_SYMBOLS)
    check_row_loss(problem, logits, label)
    examples = kept_moves(problem, label, moves, first_moves, generator).to(logits.dtype)
    total = examples.flatten(1).sum(1).clamp(min=1)
    return reduce(-(examples * log_beliefs(logits)).flatten(1).sum(1) / total, reduction)


def kept_moves(
    problem: ShortestPath,
    label: Tensor,
    moves: int,
    first_moves: int,
    generator: torch.Generator | None,
    window: int | None = None,
) -> Tensor:
    """How often each class of each cell was kept: int64 [batch, height, width, cardinality].

    With a window, moves are of the ``window`` x ``window`` cells at the first corner alone.
    """
    height, width = label.shape[1:]
    columns = min(width, window or width)
    cells, classes = min(height, window or height) * columns, problem.cardinality
    costs = torch.tensor(problem.costs)
    path, (start, goal) = label & ON_PATH, ends_of_labels(problem, label)
    z = torch.where(path == 1, int(costs.argmin()), int(costs.argmax())).to(torch.uint8)
    kept = torch.zeros(*label.shape, classes, dtype=torch.int64, device=label.device)
    row = torch.arange(len(label), device=label.device)
    for move in range(first_moves + moves):
        cell, value = (
            torch.randint(most, (len(label),), generator=generator, device=label.device) for most in (cells, classes)
        )
        place = (row, cell // columns, cell % columns)
        before = z[place]
        z[place] = value.to(z.dtype)
        found = problem.label(z, start, goal) & ON_PATH
        stays = (found == path).flatten(1).all(1)
        z[place] = torch.where(stays, z[place], before)
        if move >= first_moves:
            kept[(*place, value)] += stays
    return kept
