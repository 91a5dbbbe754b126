"""Orders in which the symbols of a formula may be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from emnesy_gpu.circuits.orders import Order, by_breadth, by_force

if TYPE_CHECKING:
    from emnesy_gpu.logic.formulas import Formula


def orders(formula: Formula) -> Iterator[tuple[str, Order]]:
    """The order of the symbols, and others that bring those closer that one constraint mentions."""
    index = {symbol.number: place for place, symbol in enumerate(formula.symbols)}
    scopes = [sorted(index[number] for number in scope) for scope in _scopes(formula)]
    given = list(range(len(index)))
    tried = [given]
    yield "as given", given
    for name, order in (("by force", by_force(scopes, len(index))), ("by breadth", by_breadth(scopes, len(index)))):
        if order not in tried:
            tried.append(order)
            yield name, order


def _scopes(formula: Formula) -> list[frozenset[int]]:
    """The symbols of each constraint of more than one."""
    found, waiting = [], [formula]
    while waiting:
        part = waiting.pop()
        inner = getattr(part, "parts", None) or ([part.part] if hasattr(part, "part") else [])
        waiting += inner
        if not inner or all(len(child.mentioned) == 1 for child in inner):
            found.append(frozenset(part.mentioned))
    return [scope for scope in found if len(scope) > 1]
