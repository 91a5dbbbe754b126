"""The op table of docs/layout.md, from the registered operators and the files that carry their stem.

python -m tests.op_table prints it.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from emnesy_gpu.ops import NAMES

ROOT = Path(__file__).parent.parent
COLUMNS = {
    "GPU kernel": "kernels/gpu",
    "CPU kernel": "kernels/cpu",
    "operator": "emnesy_gpu/ops",
    "reference": "emnesy_gpu/reference",
}
"""Heading -> the folder that has one file or folder for every stem."""

EXERCISED = {
    "carry_chain": ("test_addition", "test_bench_addition"),
    "enumeration": ("test_enumeration_kernels", "test_bench_sudoku"),
    "all_different": ("test_sudoku", "test_bench_sudoku"),
    "not_equal": ("test_not_equal_cpu", "test_bench_sudoku"),
    "abc_sampling": ("test_abc", "test_bench_sampling"),
    "gibbs": ("test_gibbs", "test_bench_sampling"),
    "grid_paths": ("test_shortest_path", "test_bench_shortest_path"),
}
"""Stem -> its first test, which names the stem, and its benchmark; by default test_<stem> and test_bench_<stem>."""

WITHOUT_OPERATOR = {
    "black_box", "conv_max_pool", "given_label", "joint_table", "label_digits", "label_rows", "map_marginals", "scored",
}  # fmt: skip
"""Stems without a registered operator: of functions of problems or the user, of a net, and of small steps."""


def stem_of(op: str) -> str:
    """The stem that begins the name of an operator: the name of its module in emnesy_gpu/ops.

    >>> stem_of("carry_chain_posterior")
    'carry_chain'
    """
    found = [path.stem for path in (ROOT / "emnesy_gpu" / "ops").glob("*.py") if op.startswith(f"{path.stem}_")]
    if not found:
        raise LookupError(f"{op!r} must begin with the name of a module in emnesy_gpu/ops")
    return max(found, key=len)


def path_of(folder: str, stem: str) -> str:
    """The folder or the file of a stem, relative to the root; raises FileNotFoundError if there is none."""
    if (ROOT / folder / stem).is_dir():
        return f"{folder}/{stem}/"
    if (ROOT / folder / f"{stem}.py").is_file():
        return f"{folder}/{stem}.py"
    raise FileNotFoundError(f"{stem!r} needs {folder}/{stem}/ or {folder}/{stem}.py")


def kernel_stems() -> set[str]:
    """The stems that have a kernel on any back end."""
    found = [path for back_end in ("gpu", "cpu") for path in (ROOT / "kernels" / back_end).iterdir()]
    return {path.stem for path in found if not path.name.startswith("__")} - {"common"}


def rows() -> list[list[str]]:
    """One row an operator, sorted: its name, then its files."""
    return [[op, *_files(stem_of(op))] for op in sorted(NAMES)]


def _files(stem: str) -> list[str]:
    tests = [f"tests/{name}.py" for name in EXERCISED.get(stem, (f"test_{stem}", f"test_bench_{stem}"))]
    return [*(path_of(folder, stem) for folder in COLUMNS.values()), *tests]


def table() -> str:
    """The files of every stem as a Markdown table; those in emnesy_gpu bear its name, and need no column."""
    headings = ["stem", "operators", "`kernels/gpu/`", "`kernels/cpu/`", "test", "benchmark"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for stem, group in groupby(rows(), lambda row: stem_of(row[0])):
        same = list(group)
        gpu, cpu, _operator, _reference, *tests = same[0][1:]
        shown = [
            gpu.removeprefix("kernels/gpu/"),
            cpu.removeprefix("kernels/cpu/"),
            *(Path(test).name for test in tests),
        ]
        names = ", ".join(row[0].removeprefix(f"{stem}_") for row in same)
        lines.append(f"| `{stem}` | {names} | " + " | ".join(f"`{file}`" for file in shown) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
