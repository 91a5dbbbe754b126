"""Rules about strings: patterns, lists of words, brackets."""

from __future__ import annotations

from collections.abc import Iterable

from emnesy_gpu import checks
from emnesy_gpu.automata.regex import checked_alphabet
from emnesy_gpu.problems.automaton import Automaton
from emnesy_gpu.rules.labels import BOTH


def regex(pattern: str, alphabet: str, n_symbols: int, variable_length: bool = False) -> Automaton:
    """Whether a string matches a regular expression as a whole: see ``em.Automaton.from_regex``.

    Label: 1 or 0. States: those of the minimal automaton of the pattern.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.regex("(ab)+", "ab", n_symbols=4).label(torch.tensor([[0, 1, 0, 1], [0, 1, 1, 1]])).tolist()
    [1, 0]
    """
    return Automaton.from_regex(pattern, alphabet, n_symbols, variable_length=variable_length)


def lexicon(words: Iterable[str], alphabet: str, n_symbols: int | None = None) -> Automaton:
    """Whether a string is one of the words.

    Value v of a symbol is the character alphabet[v]. Words of different length make a rule of variable length: it has
    one more value ``pad``, and ``padded`` makes its logits, see ``em.Automaton``. Label: 1 or 0. States: at most the
    different beginnings of words; equal endings are merged.

    Args:
        words: at least one, of characters of the alphabet.
        n_symbols: the length of the string, or the largest one; by default that of the longest word.

    >>> import torch, emnesy_gpu as em
    >>> rule = em.rules.lexicon(["cat", "car", "bat"], alphabet="abcrt")
    >>> post = em.posterior(rule, torch.zeros(1, 3, 5), torch.tensor([1]))
    >>> [round(q, 3) for q in post.marginals[0, 0].tolist()]
    [0.0, 0.333, 0.667, 0.0, 0.0]
    """
    characters = set(checked_alphabet(alphabet))
    given = checks.items("words", words, "strings")
    for word in given:
        checks.is_text("a word of words", word, "a string")
    known = set(given)
    for word in known:
        if not set(word) <= characters:
            raise ValueError(f"words must have characters of the alphabet {alphabet!r} alone, got {word!r}")
    if not any(known):
        raise ValueError("words must have at least one word that is not empty")
    longest = max(map(len, known))
    n = longest if n_symbols is None else n_symbols
    checks.is_integer("n_symbols", n, 1, checks.MOST_SYMBOLS)
    if n < longest:
        raise ValueError(f"n_symbols must be at least {longest}, the length of the longest word, got {n}")
    beginnings = {word[:length] for word in known for length in range(len(word) + 1)}

    def step(read: str, value: int) -> str:
        longer = read + alphabet[value]
        return longer if longer in beginnings else NO_WORD

    return Automaton(
        *(step, "", lambda read: read in known, n, len(alphabet)),
        labels=BOTH,
        variable_length=any(len(word) != n for word in known),
    )


NO_WORD = "\0"
"""The state of ``lexicon`` after a string that begins no word."""


def balanced_brackets(n_symbols: int, kinds: int = 1, max_depth: int | None = None) -> Automaton:
    """Whether brackets of one or more kinds are balanced.

    Value 2 k opens a bracket of kind k, and value 2 k + 1 closes it. Label: 1 or 0. States: the stacks of open
    brackets, kinds^0 + kinds^1 + ... + kinds^depth.

    Args:
        kinds: how many kinds of brackets there are.
        max_depth: a string that opens more brackets within each other has label 0; n // 2 by default, which allows
            everything.

    >>> import torch, emnesy_gpu as em
    >>> em.rules.balanced_brackets(4, kinds=2).label(torch.tensor([[0, 2, 3, 1], [0, 2, 1, 3]])).tolist()  # ([]) ([)]
    [1, 0]
    """
    checks.is_integer("n_symbols", n_symbols, 1, checks.MOST_SYMBOLS)
    checks.is_integer("kinds", kinds, 1, checks.MOST_SYMBOLS // 2)
    deepest = n_symbols // 2 if max_depth is None else max_depth
    checks.is_integer("max_depth", deepest, 0, None)

    def step(stack: tuple[int, ...] | bool, value: int) -> tuple[int, ...] | bool:
        kind, closes = divmod(value, 2)
        if stack is False or (closes and stack[-1:] != (kind,)):  # type: ignore[index]
            return False
        changed = stack[:-1] if closes else (*stack, kind)  # type: ignore[index, misc]
        return changed if len(changed) <= deepest else False

    return Automaton(step, (), lambda stack: stack == (), n_symbols, 2 * kinds, labels=BOTH)
