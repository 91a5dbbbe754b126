"""The table of docs/your_own_rule.md: what its ten rules compile to, and what a row costs on one core of a CPU.

python -m tests.rule_table prints it. The code of the linked pages makes the rules. The microseconds are the CPU time
of the exact posterior of a batch of 256 rows with random logits and the labels of random symbols: the median of the
calls.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import emnesy_gpu as em

PAGE = Path(__file__).parent.parent / "docs" / "your_own_rule.md"
ROW = re.compile(r"^\| (\d+) (\[.*?\]\((.*?)\)) \| (.*?) \| (\d+) \| (\d+) \| ([\d.]+) \|$", re.MULTILINE)
"""Number, name with its link, the link alone, code, states, edges, microseconds."""

BATCH = 256
LEAST_RUNS = 15
LEAST_SECONDS = 0.5


def rules_of_the_page() -> dict[int, em.Automaton]:
    """Number -> rule, made by the code of its page, which calls it ``rule``."""
    return {int(number): _rule_of(PAGE.parent / link) for number, _name, link, *_ in ROW.findall(PAGE.read_text())}


def _rule_of(page: Path) -> em.Automaton:
    torch.manual_seed(0)
    namespace: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, page.name, "exec"), namespace)
    rule: em.Automaton = namespace["rule"]
    return rule


def microseconds(rule: em.Automaton) -> float:
    """Of CPU time, for one row."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, *rule.latent_shape, rule.cardinality, generator=generator)
    label = rule.label(torch.randint(0, rule.cardinality, (BATCH, *rule.latent_shape), generator=generator))
    seconds = statistics.median(process_times(lambda: em.posterior(rule, logits, label)))
    return seconds / BATCH * 1e6


def process_times(call: Callable[[], object], runs: int = LEAST_RUNS, least: float = LEAST_SECONDS) -> list[float]:
    """CPU seconds of so many calls or more, until they sum to ``least``; the first call does not count."""
    call()
    seconds: list[float] = []
    while len(seconds) < runs or sum(seconds) < least:
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return seconds


def table() -> str:
    rules = rules_of_the_page()
    lines = ["| rule | code | states | edges | microseconds a row |", "|---|---|---|---|---|"]
    for number, name, _link, code, *_ in ROW.findall(PAGE.read_text()):
        rule = rules[int(number)]
        cells = [f"{number} {name}", code, rule.n_states, rule.n_edges, f"{microseconds(rule):.2g}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
