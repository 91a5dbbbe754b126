"""Files of compiled circuits: .sdd, and .nnf of c2d, dsharp and d4."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike

from emnesy_gpu import checks
from emnesy_gpu.circuits.draft import BOTH_LABELS, TRUE_ALONE, Draft
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.readers.lines import read_bytes
from emnesy_gpu.circuits.readers.nnf import add_nnf, parse_nnf
from emnesy_gpu.circuits.readers.sdd import add_sdd, parse_sdd
from emnesy_gpu.circuits.readers.variables import LARGEST_VARIABLE, Symbols, Variables, check_one_hot, make_variables
from emnesy_gpu.circuits.simplify import with_whole_symbols
from emnesy_gpu.errors import CircuitFileError


def read_sdd(
    path: str | PathLike[str],
    symbols: Symbols = "bits",
    *,
    n_symbols: int | None = None,
    free: Iterable[int] = (),
    with_negation: bool = True,
) -> Graph:
    """The circuit of an .sdd file, as the SDD library and PySDD write it; the file of its vtree is not needed.

    Where all symbols are bits and no variable is free, the label says whether the theory holds: 0 or 1. Else it has the
    value 1 alone: the negation of a theory over one-hot symbols needs a compiler, see ``cnf.compile_clauses``.

    Args:
        path: of the file.
        symbols, n_symbols, free: the meaning of the variables, see ``make_variables``.
        with_negation: False leaves out the label 0, for about half the circuit.

    Raises CircuitFileError for what is no such file; ValueError for a theory that is false, and where it does not say
    that the symbols of a map have exactly one value.

    Cost: seconds for a million nodes. Source: Darwiche, "SDD: A new canonical representation of propositional knowledge
    bases" (2011), section 3.
    """
    free = checked_free(free, with_negation)
    file = parse_sdd(*read_bytes(path))
    variables = make_variables(symbols, n_symbols=n_symbols, free=free, largest=file.largest_variable)
    both = with_negation and not free and not variables.one_hot.any()
    draft = Draft(variables.n_symbols, variables.n_values, BOTH_LABELS if both else TRUE_ALONE)
    holds, fails = add_sdd(draft, file, variables)
    del file  # large
    return finish(draft, holds, fails if both else None, variables, str(path))


def read_nnf(
    path: str | PathLike[str],
    symbols: Symbols = "bits",
    *,
    n_symbols: int | None = None,
    free: Iterable[int] = (),
    with_negation: bool = True,
) -> Graph:
    """The circuit of an .nnf file of c2d, dsharp or d4: which of the two formats it has is seen at its first line.

    For a file of d4 over bits the label is 0 or 1, as for ``read_sdd``; else it has the value 1 alone. The file must be
    deterministic and decomposable, as these compilers promise: ``checks`` can tell. Arguments and errors as for
    ``read_sdd``.

    Source: Darwiche, "A compiler for deterministic, decomposable negation normal form" (2002); Lagniez and Marquis,
    "An improved decision-DNNF compiler" (2017).
    """
    free = checked_free(free, with_negation)
    file = parse_nnf(*read_bytes(path))
    variables = make_variables(symbols, n_symbols=n_symbols, free=free, largest=file.largest_variable)
    both = with_negation and file.negatable and not free and not variables.one_hot.any()
    draft = Draft(variables.n_symbols, variables.n_values, BOTH_LABELS if both else TRUE_ALONE)
    holds, fails = add_nnf(draft, file, variables)
    del file  # large
    return finish(draft, holds, fails if both else None, variables, str(path))


def checked_free(free: object, with_negation: object) -> set[int]:
    """The free variables; TypeError or ValueError names an argument that is wrong."""
    checks.is_flag("with_negation", with_negation)
    return set(checks.integers("free", free, 1, LARGEST_VARIABLE))


def finish(draft: Draft, holds: int, fails: int | None, variables: Variables, name: str) -> Graph:
    """The circuit of what was read, checked where symbols are one-hot. Raises ValueError with the name of the file."""
    try:
        graph = draft.theory(holds, fails)
    except ValueError as error:
        raise CircuitFileError(f"{name}: {error}") from error
    if not variables.one_hot.any():
        return graph
    check_one_hot(graph, variables, name)
    return with_whole_symbols(graph)
