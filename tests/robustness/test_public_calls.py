"""Every public function and constructor, with one argument changed: the error names it, or the call is sound."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import emnesy_gpu as em
from emnesy_gpu import baselines, factors, logic, rules
from emnesy_gpu.errors import CircuitFileError, GraphFileError
from tests.robustness.public_calls import SOUND
from tests.robustness.wrong_calls import VALUES

NOT_CALLED = {
    *("em.Engine", "em.Problem", "em.UnsupportedEngineError", "em.InferenceWarning", "em.register_sharding"),
    *("em.Posterior", "em.Marginals", "em.Explanation"),
    *("logic.Expression", "logic.Formula", "logic.Symbol", "logic.Symbols", "logic.Told"),
}
"""Base classes, errors, results that users read, and a function without arguments."""


STEPPING = ("Automaton", "Automaton step_at", "Automaton cardinalities", "compile_rule")

OTHER_WORDS = {
    **{f"em.{name} start": "step" for name in STEPPING},
    "em.ABC kernel": "weighting",
    **{f"em.EM.{name} loader": r"label|embedding()" for name in ("fit", "fit steps", "evaluate")},
    "em.EM.evaluate score": "converted to an index|positional",  # what the function itself raises
    "em.Circuit.from_program start": "step|label(inf)",
    "em.Circuit.from_cnf clauses": "clause",
    "em.Circuit.from_predicate holds": "holds|one element tensors",  # what the function itself raises
    "em.FactorGraph cardinality": "cardinalities",
    **{f"logic.Formula {sign} other": "operand" for sign in "&|^"},
    "logic.Symbol.index value": "symbol z",
    "logic.Symbol.is_in values": "symbol z",
    "logic.regular rule": "pattern",
    "logic.table rows": "symbol z",
}
"""What an error says in place of the name of the argument, which holds other things: steps, formulas, terms."""


VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def named(name: str) -> Any:
    """The public function or class with a name such as "rules.parity"."""
    return functools.reduce(getattr, name.removeprefix("em.").split("."), em)


def public() -> Iterator[str]:
    for module in (em, logic, baselines):
        prefix = module.__name__.rpartition(".")[2].replace("emnesy_gpu", "em")
        for name in module.__all__:
            if callable(getattr(module, name)):
                yield f"{prefix}.{name}"
    for module in (rules, factors):
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                yield f"{module.__name__.rpartition('.')[2]}.{name}"
    for kind in (em.Automaton, em.Circuit, em.FactorGraph):
        for name, value in vars(kind).items():
            if isinstance(value, classmethod) and not name.startswith("_"):
                yield f"em.{kind.__name__}.{name}"


def test_every_public_function_has_a_sound_call() -> None:
    again = {f"em.{name}" for name in baselines.__all__}  # the same functions under a shorter name
    assert set(public()) - again - NOT_CALLED - set(SOUND) == set()


def names_it(error: Exception, call: str, argument: str, value: Any) -> bool:
    """Whether an error names the argument, in the singular too, or a file that cannot be read."""
    words = [argument, argument.removesuffix("s"), *OTHER_WORDS.get(f"{call} {argument}", argument).split("|")]
    of_file = isinstance(error, (CircuitFileError, GraphFileError)) and str(value) in str(error)
    return of_file or any(word in str(error) for word in words)


def outcome(call: str, **changed: Any) -> Exception | None:
    """The error of a call, None for a result."""
    function, arguments = SOUND[call]
    try:
        function(**{**arguments, **changed})
    except Exception as error:
        return error
    return None


def is_fine(error: Exception | None, call: str, argument: str, value: Any) -> bool:
    """Whether a call has a result, or an error that says what is wrong with the argument."""
    if error is None or argument == "x":  # what the model of the user takes
        return True
    if isinstance(error, TimeoutError):
        return argument == "time_limit"
    return isinstance(error, (TypeError, ValueError)) and names_it(error, call, argument, value)


@pytest.mark.parametrize("call", SOUND)
def test_odd_arguments_are_named(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some values are folders
    arguments = SOUND[call].arguments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not str(arguments.get("path", "")).startswith("no."):  # of files that do not exist
            assert outcome(call) is None
        for argument in arguments:
            errors = [(value, outcome(call, **{argument: value})) for value in VALUES]
            assert [found for found in errors if not is_fine(found[1], call, argument, found[0])] == []
            assert any(error is not None for _, error in errors), argument


def test_every_parameter_has_a_sound_argument() -> None:
    arguments: dict[str, set[str]] = {}
    for call, (_, given) in SOUND.items():
        arguments.setdefault(call.partition(" ")[0], set()).update(given)
    for name in {name for name in public() if name in arguments}:
        parameters = inspect.signature(named(name)).parameters.values()
        assert {each.name for each in parameters if each.kind not in VARIADIC} <= arguments[name], name


FLAGS = [(call, name) for call, (_, given) in SOUND.items() for name, value in given.items() if type(value) is bool]


@pytest.mark.parametrize(("call", "name"), FLAGS)
@pytest.mark.parametrize("value", [None, 0, 1, "no", np.True_, torch.tensor(True), np.ones(2, bool)], ids=repr)
def test_flags_are_true_or_false(call: str, name: str, value: Any) -> None:
    error = outcome(call, **{name: value})
    assert isinstance(error, TypeError)
    assert f"{name} must be True" in str(error)
    assert f"got {value!r}" in str(error)
