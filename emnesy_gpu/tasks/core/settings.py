"""What the settings of every training run have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import torch

S = TypeVar("S", bound="RunSettings")


@dataclass(frozen=True)
class RunSettings:
    """Everything that determines the bits of a run on one machine; a task derives its own settings from this class."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as they are written to ``config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """Build settings from ``to_dict``; raises ValueError for a missing or an unknown setting."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"settings must be {[field.name for field in fields(cls)]}: {error}") from error


def fill_in(options: Mapping[str, Any], recipe: Mapping[str, Any], chosen_by_recipe: Collection[str]) -> dict[str, Any]:
    """Return the options of a train command, with the recipe in place of those that were not given.

    An option that is None counts as not given where ``chosen_by_recipe`` names it. ``threads`` defaults to the number
    that PyTorch uses.
    """
    given = {name: value for name, value in options.items() if value is not None or name not in chosen_by_recipe}
    return {**recipe, **given, "threads": options["threads"] or torch.get_num_threads()}
