"""The table of docs/circuits.md: the size of its ten circuits, and what a row costs on one core of a CPU.

python -m tests.circuit_table prints it, in some minutes. The code of the page makes the circuits. What the columns mean
is on the page. KLay and PySDD take part where they are installed.
"""

from __future__ import annotations

import ast
import os
import re
import statistics
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import circuit_torch
from emnesy_gpu.benchmarks.circuit import log_label_leaves
from emnesy_gpu.circuits.compilers.with_pysdd import conjunction
from profiling.multi_label import generated_rules
from tests.rule_table import process_times

PAGE = Path(__file__).parent.parent / "docs" / "circuits.md"
ROW = re.compile(r"^\| (\d+) (.*?) \| (\d+) \| (\d+) \|", re.MULTILINE)
"""Number, name, edges, models."""

BATCH = 256
RUNS_OF_OTHERS = 3
SUDOKU_SECONDS = 60.0
COLUMNS = "circuit", "edges", "models", "compile s", "us a row", "torch", "KLay", "PySDD"


class Page(NamedTuple):
    """names: what the code of the page defines. seconds: CPU time of each circuit, with that
    of compilers."""

    names: dict[str, Any]
    seconds: dict[int, float]

    @property
    def circuits(self) -> dict[int, em.Circuit]:
        return self.names["circuits"]


def code() -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))


def run_page() -> Page:
    """Run the code of the page, one statement after the other."""
    page = Page({"circuits": {}}, {})
    for statement in ast.parse(code()).body:
        start = sum(os.times()[:4])
        exec(compile(ast.Module([statement], []), PAGE.name, "exec"), page.names)
        for number in page.circuits.keys() - page.seconds.keys():
            page.seconds[number] = sum(os.times()[:4]) - start
    return page


def models(circuit: em.Circuit) -> int:
    """The assignments with label 1, or, where the label has many entries, with any."""
    return circuit.model_count(None if circuit.label_shape else 1)


def inputs(circuit: em.Circuit) -> tuple[Tensor, Tensor]:
    """Random logits, and label 1, or that of random symbols where the label has many entries."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, *circuit.latent_shape, circuit.cardinality, generator=generator)
    z = torch.randint(0, circuit.cardinality, (BATCH, *circuit.latent_shape), generator=generator)
    return logits, circuit.label(z) if circuit.label_shape else circuit.encode([1] * BATCH)


def sdd_file(clauses: list[list[int]], folder: Path) -> Path:
    """An .sdd file of clauses over bits, and its .vtree."""
    from pysdd.sdd import SddManager, Vtree

    order = list(range(1, 1 + max(abs(literal) for clause in clauses for literal in clause)))
    manager = SddManager.from_vtree(Vtree(var_count=len(order), var_order=order, vtree_type="balanced"))
    path = folder / "theory.sdd"
    conjunction(manager, clauses, manager.true(), order).save(str(path).encode())
    manager.vtree().save(str(path.with_suffix(".vtree")).encode())
    return path


def others(page: Page, number: int, logits: Tensor, label: Tensor) -> dict[str, Callable[[], object]]:
    """The log evidence and its gradient by other programs."""
    graph, leaves = page.circuits[number].graph, log_label_leaves(page.circuits[number], label)
    found = {"torch": circuit_torch.torch_levels(graph, leaves)}
    if find_spec("klay"):
        found["KLay"] = circuit_torch.klay_torch(graph, leaves)
    clauses = {9: [[-child, parent] for parent, child in page.names["arrows"]], 10: generated_rules()}
    if number in clauses and find_spec("pysdd"):
        with tempfile.TemporaryDirectory() as folder:
            found["PySDD"] = circuit_torch.pysdd(sdd_file(clauses[number], Path(folder)))
    return {name: lambda run=run: run(logits) for name, run in found.items()}


def row(page: Page, number: int, name: str) -> list[str]:
    circuit = page.circuits[number]
    logits, label = inputs(circuit)
    own = statistics.median(process_times(lambda: em.posterior(circuit, logits, label)))
    cells = [f"{number} {name}", str(circuit.n_edges), str(models(circuit)), f"{page.seconds[number]:.2f}"]
    cells.append(f"{float(f'{own / BATCH * 1e6:.2g}'):g}")
    times = {}
    for other, call in others(page, number, logits, label).items():
        times[other] = statistics.median(process_times(call, RUNS_OF_OTHERS, 0.0))
    return cells + [f"x {times[other] / own:.0f}" if other in times else "-" for other in COLUMNS[-3:]]


def sudoku_of_9(page: Page) -> str:
    try:
        em.Circuit.from_cnf(page.names["clauses"], page.names["symbols"], compiler="sdd", time_limit=SUDOKU_SECONDS)
    except TimeoutError as error:
        return str(error)
    return "there is a circuit"


def main() -> None:
    page = run_page()
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for number, name, *_ in ROW.findall(PAGE.read_text()):
        print("| " + " | ".join(row(page, int(number), name)) + " |", flush=True)
    print(f"\nSudoku 9x9: {sudoku_of_9(page)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
