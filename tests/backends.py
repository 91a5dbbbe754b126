"""One face for every back end: ``run(function, *args)`` evaluates a public function on it.

The Triton interpreter must be chosen before Triton is imported, so it lives in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

import emnesy_gpu as em

BACKENDS = ["reference", "cpu", "interpreter", pytest.param("cuda", marks=pytest.mark.cuda)]


@dataclass
class Backend:
    """A back end and how precise it is: float32 kernels are compared with the float64 reference."""

    name: str
    call: Callable[..., Any]

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self.call(function, *args, **kwargs)


def forced(name: str) -> Callable[..., Any]:
    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with em.backend(name):
            return function(*args, **kwargs)

    return call


def call_on_cuda(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return move(function(*move(args, "cuda"), **move(kwargs, "cuda")), "cpu")


def move(value: Any, device: str) -> Any:
    """The same nest of tuples, lists, dicts and posteriors with every tensor on the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, em.Posterior):
        return em.Posterior(**move(vars(value), device))
    if isinstance(value, tuple):
        return tuple(move(item, device) for item in value)
    if isinstance(value, list):
        return [move(item, device) for item in value]
    if isinstance(value, dict):
        return {key: move(item, device) for key, item in value.items()}
    return value


@contextmanager
def open_interpreter() -> Iterator[Callable[..., Any]]:
    """A worker process that runs the Triton kernels in Triton's interpreter."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        worker = context.Process(target=serve, args=(there,), daemon=True)
        worker.start()
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before
    there.close()

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        here.send_bytes(pickle.dumps((function, args, kwargs)))
        error, value = pickle.loads(here.recv_bytes())
        if error is not None:
            raise error
        return value

    yield call
    here.close()
    worker.join(timeout=10)


def serve(connection: Connection) -> None:
    """Answer calls until the other side hangs up."""
    torch.set_num_threads(1)
    patch_language_once()
    leave_out_overflow_checks()
    with em.backend("triton"):
        while True:
            try:
                function, args, kwargs = pickle.loads(connection.recv_bytes())
            except EOFError:
                return
            connection.send_bytes(pickle.dumps(outcome(function, args, kwargs)))


def patch_language_once() -> None:
    """Spare the interpreter most of its time: it patches triton.language again at every call of a device function.

    This process does nothing but interpret kernels, so the first patch can stay.
    """
    from triton.runtime import interpreter

    patch, patched = interpreter._patch_lang, set()

    def patch_once(fn: Callable[..., Any]) -> Any:
        if id(fn.__globals__) not in patched:
            patched.add(id(fn.__globals__))
            patch(fn)
        return interpreter._LangPatchScope()

    interpreter._patch_lang = patch_once


def leave_out_overflow_checks() -> None:
    """Up to a third of the interpreter's time: it computes them, but heeds them only in its debug mode."""
    from triton.runtime import interpreter

    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)


def outcome(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Exception | None, Any]:
    try:
        return None, function(*args, **kwargs)
    except Exception as error:
        return error, None
