"""The table of tasks, where a new task is announced."""

from __future__ import annotations

from emnesy_gpu.tasks.addition.task import ADDITION
from emnesy_gpu.tasks.formula.task import FORMULA
from emnesy_gpu.tasks.puzzle.task import PUZZLE
from emnesy_gpu.tasks.rules.task import RULES
from emnesy_gpu.tasks.sudoku.task import SUDOKU
from emnesy_gpu.tasks.task import Task
from emnesy_gpu.tasks.warcraft.task import WARCRAFT

TASKS: dict[str, Task] = {task.name: task for task in (ADDITION, SUDOKU, WARCRAFT, RULES, FORMULA, PUZZLE)}
"""Name -> task, in the order of commands and tables."""
