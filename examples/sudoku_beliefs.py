"""Fill an unread box of a 9x9 Sudoku by loopy belief propagation.

    python examples/sudoku_beliefs.py

A net reads 72 cells well. The box in the upper left corner is unread: its logits are all equal.
"""

from __future__ import annotations

import torch

import emnesy_gpu as em

CONFIDENCE = 4.0
"""Logit of the right symbol; all others have 0."""


def solved_board() -> torch.Tensor:
    """A valid board, int64 [9, 9] with symbols 0..8."""
    row, column = torch.arange(9).view(9, 1), torch.arange(9).view(1, 9)
    return (row // 3 + 3 * row + column) % 9


def printed(board: torch.Tensor, unread: torch.Tensor) -> str:
    """The board with symbols 1..9, and a dot for each unread cell."""
    symbols = torch.where(unread, 0, board + 1).tolist()
    return "\n".join(" ".join("." if symbol == 0 else str(symbol) for symbol in line) for line in symbols)


def main() -> None:
    problem, board = em.Sudoku(9), solved_board()
    unread = torch.zeros(9, 9, dtype=torch.bool)
    unread[:3, :3] = True
    logits = CONFIDENCE * torch.nn.functional.one_hot(board, 9).float()
    logits[unread] = 0.0

    post = em.posterior(problem, logits[None], torch.tensor([1]), em.BeliefPropagation(iterations=5))
    best = post.marginals[0].argmax(-1)
    print(printed(board, unread), printed(best, torch.zeros_like(unread)), sep="\n\n")
    print(f"\nleast certain cell: {post.marginals[0].amax(-1).min():.2f}")
    print("all symbols are right" if torch.equal(best, board) else "some symbols are wrong")


if __name__ == "__main__":
    main()
