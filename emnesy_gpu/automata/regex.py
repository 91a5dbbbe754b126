"""Regular expressions as step functions, by the package interegular."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any


def regex_step(pattern: str, alphabet: str) -> tuple[Callable[[Any, int], Any], Any, Callable[[Any], int]]:
    """step(state, value), the start and label(state): 1 where all that was read matches, 0 where not.

    Values are indices of characters in the alphabet. None is a state here: from it nothing matches any more. Raises
    ValueError for a pattern that cannot be read, ModuleNotFoundError without interegular.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a string, got {pattern!r}")
    interegular = _interegular()
    for char in _literals(pattern):
        if char not in alphabet:
            raise ValueError(f"pattern {pattern!r} names {char!r}, which is not in the alphabet {alphabet!r}")
    from interegular.fsm import anything_else

    try:
        machine = interegular.parse_pattern(pattern).to_fsm().reduce()
    except Exception as error:  # its errors of parsing and of unsupported syntax have no common base
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"pattern must be a regular expression that interegular reads, got {pattern!r}: {reason}"
        ) from error
    # Characters that the pattern does not name go by one symbol of the machine.
    symbols = [machine.alphabet[char if char in machine.alphabet else anything_else] for char in alphabet]

    def step(state: tuple[Any], value: int) -> tuple[Any]:
        return (machine.map.get(state[0], {}).get(symbols[value]),)

    return step, (machine.initial,), lambda state: int(state[0] in machine.finals)


def _literals(pattern: str) -> list[str]:
    """The characters that stand for themselves, outside of classes.

    >>> _literals("a[bc]+\\\\d(?:x|y){2,3}")
    ['a', 'x', 'y']
    """
    rest = re.sub(r"\\.|\[\^?\]?(?:\\.|[^]])*\]|\{[\d,]*\}|\(\?[:=!]|\(\?P<\w+>", "", pattern)
    return [char for char in rest if char not in ".^$*+?()|{}[]"]


def _interegular() -> ModuleType:
    try:
        import interegular
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'regular expressions need interegular: pip install "interegular>=0.3.3", or "emnesy_gpu[regex]"',
            name="interegular",
        ) from error
    return interegular  # type: ignore[no-any-return]


def checked_alphabet(alphabet: str) -> str:
    """Raises TypeError and ValueError for what is no string of different characters."""
    if not isinstance(alphabet, str):
        raise TypeError(f"alphabet must be a string of different characters, got {type(alphabet).__name__}")
    if not alphabet or len(set(alphabet)) < len(alphabet):
        raise ValueError(f"alphabet must be a string of different characters, at least one, got {alphabet!r}")
    return alphabet
