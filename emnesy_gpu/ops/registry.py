"""Registration of operators: schema, implementation and shapes of the results from one annotated function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from emnesy_gpu.backends import backend_for, load_kernels
from emnesy_gpu.kernels.cpu.common.parallel import MOST_ON_ONE_THREAD
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

NAMESPACE = "emnesy_gpu"
# A library takes its operators with it when it is deleted.
_library = torch.library.Library(NAMESPACE, "DEF")
NAMES: list[str] = []
"""Every registered operator that has kernels, without the namespace."""

METHODS: list[str] = []
"""Every registered operator that calls a method of a problem."""

BOUNDED_BY_KERNELS = torch.float32, torch.float64
"""Logits of these dtypes; others are converted before kernels see them."""

# By one name each: to look them up takes as long as to ask them.
_innermost_transform = torch._C._functorch.peek_interpreter_stack
_n_function_modes, _n_dispatch_modes = torch._C._len_torch_function_stack, torch._C._len_torch_dispatch_stack
_is_profiled, _is_traced = torch._C._autograd._profiler_enabled, torch._C._is_tracing

Function = Callable[..., Any]


def operator(
    results: Callable[..., Any],
    names: list[str] = NAMES,
    few_rows: Function | None = None,
    only_dispatched: bool = False,
    bounds_logits: bool = False,
) -> Callable[[Function], Function]:
    """Register a function as the operator of its name, for CPU and CUDA tensors alike.

    The schema comes from the annotations. The function chooses the back end by the device of its tensors at each call.
    What is returned calls it at once where nothing else watches (``is_unwatched``), and the operator otherwise.

    Args:
        results: makes uninitialised results of the right shapes and dtypes. Its parameters are the arguments of the
            operator that it needs, by name: see ``emnesy_gpu.ops.results``.
        names: the list that the name is added to.
        few_rows: what CPU kernels try first, given their module and the same arguments with any logits: a short way for
            few rows, which returns None where it does not lead to the end.
        only_dispatched: only where something watches, such as in compiled graphs: where nothing does, problems have
            tried it before they call the operator.
        bounds_logits: CPU kernels bound float32 and float64 logits on their way: a pass would cost a tenth of some.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        names.append(name)
        _library.define(name + torch.library.infer_schema(function, mutates_args=()))
        takes_logits = next(iter(inspect.signature(function).parameters)) == "logits"
        implementation = _of_bounded_logits(function, few_rows, bounds_logits) if takes_logits else function
        direct = implementation
        if takes_logits and only_dispatched:
            direct = _of_bounded_logits(function, None, bounds_logits)
        for key in ("CPU", "CUDA"):
            _library.impl(name, implementation, key)
        torch.library.register_fake(f"{NAMESPACE}::{name}", _fake(function, results), lib=_library)
        return _at_once(direct, getattr(getattr(torch.ops, NAMESPACE), name).default)

    return register


def _at_once(implementation: Function, overload: Function) -> Function:
    """The implementation, without the dispatcher of PyTorch where that would do nothing else: it takes 1 to 5 us."""

    @functools.wraps(implementation)
    def call(first: Tensor, *arguments: Any) -> Any:
        return (implementation if is_unwatched(first) else overload)(first, *arguments)

    return call


def is_unwatched(tensor: Tensor) -> bool:
    """Whether a call on a CPU tensor is a plain one.

    That is without a compiler, a transform of ``torch.func``, a mode, a profiler, tracing, autograd, or a subclass.
    """
    return (
        not is_compiling()
        and type(tensor) is Tensor
        and tensor.is_cpu
        and not tensor.requires_grad
        and _innermost_transform() is None
        and _n_function_modes() == 0
        and _n_dispatch_modes() == 0
        and not _is_profiled()
        and not _is_traced()
    )


def _of_bounded_logits(function: Function, few_rows: Function | None, bounds_logits: bool) -> Function:
    """The function, for logits within +-LARGEST_LOGIT. GPU kernels bound what they load: a pass would cost too much."""

    stem = function.__module__.rpartition(".")[2]

    @functools.wraps(function)
    def call(logits: Tensor, *arguments: Any) -> Any:
        backend = backend_for(logits.device)
        if backend == "cpu" and few_rows is not None:
            found = few_rows(load_kernels("cpu", stem), logits, *arguments)
            if found is not None:
                return found
        is_bounded = backend == "triton" or (backend == "cpu" and bounds_logits and logits.dtype in BOUNDED_BY_KERNELS)
        if not is_bounded:
            logits = bounded(logits)
        return function(logits, *arguments)

    return call


def bounded(logits: Tensor) -> Tensor:
    """Finite logits beyond +-LARGEST_LOGIT become that; on CPUs a copy only where there are any."""
    if logits.is_cpu and not _any_large(logits):
        return logits
    return torch.where(logits.isinf(), logits, logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT))


def _any_large(logits: Tensor) -> bool:
    if logits.dtype == torch.float16 or logits.numel() == 0:
        return False
    plain = logits.is_contiguous() and not torch._C._functorch.is_functorch_wrapped_tensor(logits)
    if plain and backend_for(logits.device) == "cpu" and logits.dtype != torch.bfloat16:
        return bool(load_kernels("cpu", "common.large_logits").any_large(logits))
    parts = logits.reshape(-1).split(MOST_ON_ONE_THREAD) if logits.is_cpu else (logits,)
    return any(bool(((part.abs() > LARGEST_LOGIT) & part.isfinite()).any()) for part in parts)


def _fake(function: Callable[..., Any], results: Callable[..., Any]) -> Callable[..., Any]:
    """The function that tells torch.compile the shapes and dtypes of the results."""
    names = list(inspect.signature(function).parameters)
    wanted = [names.index(name) for name in inspect.signature(results).parameters]
    return lambda *arguments: results(*(arguments[index] for index in wanted))
