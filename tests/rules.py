"""Rules with their meaning in plain Python, and brute force over all assignments that uses the meaning alone."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

import emnesy_gpu as em

TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}
"""float32 marginals, and log evidence of a few symbols."""

Meaning = Callable[[tuple[int, ...]], Any]
"""z in row-major order -> the label, None where the rule forbids z, {label: probability}, or a list of entries."""


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), **TOLERANCE)


@dataclass(frozen=True, eq=False)
class Rule:
    """A problem and what it says."""

    name: str
    problem: em.Automaton
    meaning: Meaning

    def __str__(self) -> str:
        return self.name

    @functools.cached_property
    def assignments(self) -> Tensor:
        """int64 [M, n] in lexicographic order."""
        n = math.prod(self.problem.latent_shape)
        return torch.tensor(list(itertools.product(range(self.problem.cardinality), repeat=n)))

    @functools.cached_property
    def meanings(self) -> list[Any]:
        return [self.meaning(tuple(z)) for z in self.assignments.tolist()]

    def likelihood(self, label: Tensor) -> Tensor:
        """p(label | z), float64 [batch, M]."""
        rows = [[self._likelihood(meaning, row) for meaning in self.meanings] for row in label.tolist()]
        return torch.tensor(rows, dtype=torch.float64)

    def _likelihood(self, meaning: Any, code: Any) -> float:
        if meaning is None:
            return 0.0
        if isinstance(meaning, list):
            pairs = zip(meaning, code, self.problem.labels, strict=True)
            return float(all(c == -1 or names[c] == entry for entry, c, names in pairs))
        if code == -1:
            return 1.0
        name = self.problem.labels[code]
        return float(meaning.get(name, 0.0)) if isinstance(meaning, dict) else float(meaning == name)

    def log_joint(self, logits: Tensor, label: Tensor) -> Tensor:
        """log p(z, label | logits), float64 [batch, M]; differentiable."""
        log_prior = torch.log_softmax(logits.double(), -1).flatten(1, -2)
        index = self.assignments.expand(len(logits), -1, -1)[..., None]
        log_p = log_prior[:, None].expand(-1, len(self.assignments), -1, -1).gather(-1, index)[..., 0].sum(-1)
        return log_p + self.likelihood(label).log()

    def marginals(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior marginals, the prior where the label is impossible, and log evidence: float64."""
        log_joint = self.log_joint(logits, label)
        log_evidence = log_joint.logsumexp(1)
        possible = log_evidence > -torch.inf
        weights = (log_joint - torch.where(possible, log_evidence, 0.0)[:, None]).exp()
        one_hot = torch.nn.functional.one_hot(self.assignments, self.problem.cardinality).double()
        found = torch.einsum("bm,mnk->bnk", weights, one_hot).view(logits.shape)
        prior = torch.softmax(logits.double(), -1)
        return torch.where(possible.view(-1, *[1] * (logits.dim() - 1)), found, prior), log_evidence

    def draw(self, batch: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
        """float32 logits and the codes of labels that occur, the last one not given."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, *self.problem.latent_shape, self.problem.cardinality)
        occurring = [meaning for meaning in self.meanings if meaning is not None]
        picks = torch.randint(0, len(occurring), (batch,), generator=generator).tolist()
        labels = [_some_label(occurring[pick]) for pick in picks]
        label = self.problem.encode(labels)
        label[-1] = -1
        return torch.randn(shape, generator=generator) * 1.5, label


def _some_label(meaning: Any) -> Any:
    return max(meaning, key=meaning.get) if isinstance(meaning, dict) else meaning


def counted(values: set[int]) -> Callable[[tuple[int, ...]], int]:
    return lambda z: sum(v in values for v in z)


def number(digits: tuple[int, ...], base: int) -> int:
    return functools.reduce(lambda left, digit: base * left + digit, digits, 0)


def matches(pattern: str, alphabet: str) -> Meaning:
    """Values beyond the alphabet stand for no symbol."""
    return lambda z: int(bool(re.fullmatch(pattern, text_of(z, alphabet))))


def text_of(z: tuple[int, ...], alphabet: str) -> str:
    return "".join(alphabet[v] for v in z if v < len(alphabet))


def balanced(z: tuple[int, ...]) -> bool:
    text = "".join("()[]{}"[v] for v in z)
    while "()" in text or "[]" in text or "{}" in text:
        text = text.replace("()", "").replace("[]", "").replace("{}", "")
    return not text


def value_of(digits: tuple[int, ...], operators: str, one_alphabet: bool = False, pad: int = -1) -> Meaning:
    """By Python's own parser; the value pad is no symbol."""
    first_operator = len(digits) if one_alphabet else 0

    def meaning(z: tuple[int, ...]) -> Fraction | None:
        text, kinds = "", []
        for i, v in enumerate(z):
            if v == pad:
                continue
            v -= first_operator if i % 2 else 0
            if not 0 <= v < (len(operators) if i % 2 else len(digits)):
                return None
            text += operators[v] if i % 2 else f"Fraction({digits[v]})"
            kinds.append(i % 2)
        if len(kinds) % 2 == 0 or kinds != [i % 2 for i in range(len(kinds))]:
            return None
        try:
            return Fraction(eval(text))
        except ZeroDivisionError:
            return None

    return meaning


def comparison(z: tuple[int, ...]) -> str:
    first, second = z[: len(z) // 2], z[len(z) // 2 :]
    return "<" if first < second else ">" if first > second else "="


def noisy_or(z: tuple[int, ...]) -> dict[bool, float]:
    off = 0.9 * 0.5 ** sum(z)
    return {True: 1.0 - off, False: off}


def running_parity(z: tuple[int, ...]) -> list[int]:
    return [total % 2 for total in itertools.accumulate(z)]


WORDS = ("ab", "abc", "cab", "a")
SNAKE = (0, 1, 2, 5, 4, 3)
SIZES = (3, 2, 4)

HELPERS = [
    Rule("parity", em.rules.parity(4, 3), lambda z: sum(z) % 2),
    Rule("count", em.rules.count(4, 4, [1, 3]), counted({1, 3})),
    Rule("exactly", em.rules.exactly(4, 3, [0, 2], 2), lambda z: counted({0, 2})(z) == 2),
    Rule("at_least", em.rules.at_least(4, 3, [0, 2], 3), lambda z: counted({0, 2})(z) >= 3),
    Rule("at_most", em.rules.at_most(4, 3, [0, 2], 1), lambda z: counted({0, 2})(z) <= 1),
    Rule("never exactly", em.rules.exactly(2, 3, [1], 3), lambda z: False),
    Rule("weighted_sum", em.rules.weighted_sum([2, 0, 5], 4), lambda z: 2 * z[0] + 5 * z[2]),
    Rule("negative weights", em.rules.weighted_sum([2, -1, -3], 4), lambda z: 2 * z[0] - z[1] - 3 * z[2]),
    Rule("modulo", em.rules.modulo(3, 7, base=6), lambda z: number(z, 6) % 7),
    Rule("maximum", em.rules.maximum(3, 6), max),
    Rule("minimum", em.rules.minimum(3, 6), min),
    Rule("sorted_order", em.rules.sorted_order(4, 4), lambda z: list(z) == sorted(z)),
    Rule("strict order", em.rules.sorted_order(3, 4, strict=True), lambda z: list(z) == sorted(set(z))),
    Rule("all_different", em.rules.all_different(3, 5), lambda z: len(set(z)) == 3),
    Rule("too many to differ", em.rules.all_different(4, 3), lambda z: False),
    Rule(
        "lexicon",
        em.rules.lexicon(["abc", "abd", "cab"], "abcd"),
        lambda z: text_of(z, "abcd") in {"abc", "abd", "cab"},
    ),
    Rule("lexicon of lengths", em.rules.lexicon(WORDS, "abc"), lambda z: text_of(z, "abc") in WORDS),
    Rule("compare", em.rules.compare(2, base=4), comparison),
    Rule("balanced_brackets", em.rules.balanced_brackets(6), balanced),
    Rule("kinds of brackets", em.rules.balanced_brackets(4, kinds=2), balanced),
    Rule("formula of 3", em.rules.formula(3, digits=(1, 2, 3)), value_of((1, 2, 3), "+-*/")),
    Rule("formula of 5", em.rules.formula(5, digits=(0, 1, 2), operators="-*/"), value_of((0, 1, 2), "-*/")),
    Rule(
        "formula in one alphabet",
        em.rules.formula(3, digits=(0, 1, 2), operators="+/", one_alphabet=True),
        value_of((0, 1, 2), "+/", one_alphabet=True),
    ),
    Rule(
        "formula of lengths",
        em.rules.formula(5, digits=(0, 2), operators="-/", one_alphabet=True, variable_length=True),
        value_of((0, 2), "-/", one_alphabet=True, pad=4),
    ),
]

MODES = [
    Rule(
        "some forbidden",
        em.Automaton(lambda s, v: None if s == v else v, 9, lambda s: None if s == 2 else s % 2, 4, 4),
        lambda z: None if z[-1] == 2 or any(a == b for a, b in itertools.pairwise(z)) else z[-1] % 2,
    ),
    Rule(
        "noisy labels",
        em.Automaton(lambda s, v: s + v, 0, lambda s: {True: 1.0 - 0.9 * 0.5**s, False: 0.9 * 0.5**s}, 4, 2),
        noisy_or,
    ),
    Rule(
        "output",
        em.Automaton(lambda s, v: (s + v) % 2, 0, output=lambda s: s, n_symbols=3, cardinality=3),
        running_parity,
    ),
    Rule(
        "output at odd positions",
        em.Automaton(
            step_at=lambda s, v, i: (s + v) % 3,
            output=lambda s, i: s if i % 2 else None,
            n_symbols=4,
            cardinality=3,
        ),
        lambda z: [sum(z[:2]) % 3, sum(z) % 3],
    ),
    Rule(
        "output that forbids",
        em.Automaton(lambda s, v: v, None, output=lambda s: "ab"[s] if s < 2 else None, n_symbols=3, cardinality=3),
        lambda z: None if 2 in z else ["ab"[v] for v in z],
    ),
    Rule(
        "cardinalities",
        em.Automaton(step_at=lambda s, v, i: s + v, label=lambda s: s, cardinalities=SIZES),
        lambda z: sum(z) if all(v < size for v, size in zip(z, SIZES, strict=True)) else None,
    ),
    Rule(
        "a snake through a board",
        em.Automaton(
            lambda s, v: None if s == v == 1 else v, 0, lambda s: s, cardinality=2, latent_shape=(2, 3), order=SNAKE
        ),
        lambda z: None if any(z[a] and z[b] for a, b in itertools.pairwise(SNAKE)) else z[3],
    ),
    Rule(
        "variable length",
        em.Automaton(lambda s, v: (2 * s + v) % 3, 0, lambda s: s, 4, 2, variable_length=True),
        lambda z: number(tuple(v for v in z if v < 2), 2) % 3,
    ),
    Rule(
        "variable length by position",
        em.Automaton(
            step_at=lambda s, v, i: s + (i + 1) * v, label=lambda s: s, cardinalities=(2, 3, 2), variable_length=True
        ),
        lambda z: None if z[0] == 2 or z[2] == 2 else sum((i + 1) * v for i, v in enumerate(z) if v < 3),
    ),
    Rule("labels that nobody has", em.Automaton(max, 0, lambda s: s, 2, 2, labels=[5]), max),
]

RULES = HELPERS + MODES
