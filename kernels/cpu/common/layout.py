"""A scratch array holds the tables of a kernel one after the other, each from a row of its own on."""

from __future__ import annotations


def consecutive_rows(sizes: dict[str, int], first: int = 0) -> dict[str, int]:
    """The first row of every table, by its name, and ``total``: the rows up to the end of the last one.

    >>> consecutive_rows({"priors": 4, "messages": 2})
    {'priors': 0, 'messages': 4, 'total': 6}
    """
    rows = {}
    for name, size in sizes.items():
        rows[name] = first
        first += size
    return {**rows, "total": first}
