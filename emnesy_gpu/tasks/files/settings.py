"""What the settings of every training run have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from emnesy_gpu.checks import LARGEST_SEED

S = TypeVar("S", bound="RunSettings")
MOST_THREADS = 1024
PLAIN = {"augment": False, "views": 0, "restarts": 1, "sharpening": 1.0, "sharpened_epochs": 0, "floor": 0.0}
"""What a plain run has in place of the settings of a recipe."""

LONGEST_VALUE = 60
"""Letters of a value that an error shows at most."""


class Range(NamedTuple):
    """Numbers from ``least`` to ``most``, both included."""

    least: float
    most: float = math.inf

    def holds(self, value: Any) -> bool:
        """Whether a number lies in the range."""
        return bool(self.least <= value <= self.most)

    def __str__(self) -> str:
        return f">= {self.least}" if self.most == math.inf else f"in {self.least}..{self.most}"


class OneOf:
    """Some values, and no others."""

    def __init__(self, *values: Any) -> None:
        self.values = values

    def holds(self, value: Any) -> bool:
        """Whether it is one of the values."""
        return value in self.values

    def __str__(self) -> str:
        return f"out of {', '.join(map(str, self.values))}"


class Matching(NamedTuple):
    """Texts that match a regular expression as a whole."""

    pattern: str
    words: str

    def holds(self, value: Any) -> bool:
        """Whether a text matches."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"out of {self.words}"


Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Seed = Annotated[int, Range(0, LARGEST_SEED)]
Threads = Annotated[int, Range(1, MOST_THREADS)]
Share = Annotated[float, Range(0, 1)]
AtLeastZero = Annotated[float, Range(0)]
AboveZero = Annotated[float, Range(math.ulp(0.0))]
DEVICE = Matching(r"cpu|cuda(:\d+)?", "cpu, cuda, cuda:N")
Device = Annotated[str, DEVICE]

NAMES = {int: "an integer", float: "a finite number", bool: "true or false", str: "a text", NoneType: "null"}
"""What the types of settings are called in errors."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that determines the bits of a run on one machine; a task derives its own settings from this class.

    The annotation of a field says which values it takes: ``Annotated`` with a ``Range``, ``OneOf`` or ``Matching``.
    Others raise ValueError, which names the setting, what was expected and what was given.
    """

    plain: bool = field(default=False, kw_only=True)
    """Whether to train by Adam at a constant rate and no more, as most published systems do."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for setting in fields(self):
            _check(setting.name, getattr(self, setting.name), hints[setting.name])

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are written to ``config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """Build settings from ``to_dict``; raises ValueError for a missing, an unknown or a wrong setting."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"settings must be {[setting.name for setting in fields(cls)]}: {error}") from error


def _check(name: str, value: Any, hint: Any) -> None:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not any(_fits(value, *_parts(kind)) for kind in kinds):
        expected = " or ".join(" ".join([NAMES[base], *map(str, limits)]) for base, *limits in map(_parts, kinds))
        raise ValueError(f"{name} must be {expected}, got {repr(value)[:LONGEST_VALUE]}")


def _parts(kind: Any) -> tuple[Any, ...]:
    """Return the type of an annotation, and its limits."""
    return get_args(kind) if get_origin(kind) is Annotated else (kind,)


def _fits(value: Any, base: Any, *limits: Any) -> bool:
    numbers = (int, float) if base is float else (base,)
    sound = type(value) in numbers and (base is not float or math.isfinite(value))
    return sound and all(limit.holds(value) for limit in limits)


def fill_in(options: Mapping[str, Any], recipe: Mapping[str, Any], chosen_by_recipe: Collection[str]) -> dict[str, Any]:
    """Return the options of a train command, with the recipe in place of those that were not given.

    An option that is None counts as not given where ``chosen_by_recipe`` names it. ``threads`` defaults to the number
    that PyTorch uses. The option ``plain`` leaves out what ``PLAIN`` names.
    """
    given = {name: value for name, value in options.items() if value is not None or name not in chosen_by_recipe}
    values = {**recipe, **given, "threads": options["threads"] or torch.get_num_threads()}
    if options.get("plain"):
        values |= {name: value for name, value in PLAIN.items() if name in values}
    return values
