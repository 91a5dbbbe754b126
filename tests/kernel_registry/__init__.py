"""Every launch that the GPU proofs are made with: one module per stem, each with a list ENTRIES, joined here.

An entry is compiled for every architecture and held to its budgets (tests/kernel_budgets.json), and its values are
compared with the reference, interpreted and simulated. A new stem adds a module with lines such as

    ENTRIES = [Entry("my_stem", "posterior", "n=4", partial(draw, n=4)), ...]

and `python -m tests.kernel_budgets --write my_stem` records its budgets. Nothing else has to be edited.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.kernel_registry.entry import Entry


def _entries() -> list[Entry]:
    stems = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "entry")
    return [entry for stem in stems for entry in importlib.import_module(f"{__name__}.{stem}").ENTRIES]


ENTRIES = _entries()

__all__ = ["ENTRIES", "Entry"]
