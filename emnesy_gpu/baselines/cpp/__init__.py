"""E-steps in plain C++, compiled at run time by the compiler of the system: a baseline for the cost of small batches.

``e_steps.cpp`` is what one writes in C++ without a posterior engine. Each function takes contiguous float32 tensors on
the CPU and returns what the first results of ``em.posterior`` hold.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

COMPILERS = ("g++", "clang++", "c++")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fPIC", "-std=c++17")
SOURCE = Path(__file__).with_name("e_steps.cpp")


@functools.cache
def compiler() -> str | None:
    """The first C++ compiler of this machine; None without one."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled functions; raises RuntimeError without a compiler, and CalledProcessError where it fails."""
    found = compiler()
    if found is None:
        raise RuntimeError(f"the baselines in C++ need a compiler: install one of {', '.join(COMPILERS)}")
    with tempfile.TemporaryDirectory() as folder:
        compiled, linked = Path(folder, "e_steps.o"), Path(folder, "e_steps.so")
        # Linked without the flags: with -ffast-math GCC before 13 adds code that turns denormals off in the process.
        for arguments in (
            (*FLAGS, "-c", str(SOURCE), "-o", str(compiled)),
            ("-shared", str(compiled), "-o", str(linked)),
        ):
            subprocess.run([found, *arguments], check=True, capture_output=True)
        return ctypes.CDLL(str(linked))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def addition(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Marginals and log evidence [batch], for two numbers of decimal digits: logits [batch, 2, n, 10]."""
    marginals, log_evidence = torch.empty_like(logits), torch.empty(len(logits))
    sizes = len(logits), logits.shape[2]
    library().addition(_at(logits), _at(label), *sizes, _at(marginals), _at(log_evidence))
    return marginals, log_evidence


def enumeration(logits: Tensor, assignments: Tensor) -> tuple[Tensor, Tensor]:
    """Marginals and log evidence [batch], for a list of valid assignments uint8 [M, N]; logits [batch, N, K]."""
    marginals, log_evidence = torch.empty_like(logits), torch.empty(len(logits))
    sizes = len(logits), len(assignments), *logits.shape[1:]
    library().enumeration(_at(logits), _at(assignments), *sizes, _at(marginals), _at(log_evidence))
    return marginals, log_evidence


def belief_propagation(logits: Tensor, groups: Tensor, phases: Sequence[int], sweeps: int) -> Tensor:
    """Beliefs after serial sweeps over groups int32 [G, K] of K symbols each; logits [batch, N, K]."""
    marginals, runs = torch.empty_like(logits), torch.tensor(phases, dtype=torch.int32)
    sizes = *logits.shape, len(groups), len(runs), sweeps
    library().belief_propagation(_at(logits), _at(groups), _at(runs), *sizes, _at(marginals))
    return marginals


def abc(logits: Tensor, groups: Tensor, samples: int, seed: int) -> Tensor:
    """Marginals of samples of the prior that are weighted by the share of groups int32 [G, W] that hold."""
    marginals, sizes = torch.empty_like(logits), (*logits.shape, *groups.shape, samples)
    library().abc(_at(logits), _at(groups), *sizes, ctypes.c_uint64(seed), _at(marginals))
    return marginals


def shortest_path(costs: Tensor) -> Tensor:
    """The cells on the cheapest path of each map, uint8 [batch, height, width]; costs int32, at least 1."""
    mask = torch.empty_like(costs, dtype=torch.uint8)
    library().shortest_path(_at(costs), *costs.shape, _at(mask))
    return mask


def automaton(logits: Tensor, label: Tensor, next_state: Tensor) -> tuple[Tensor, Tensor]:
    """Marginals and log evidence [batch]; next_state int32 [S, K], from state 0; label [batch], the last state."""
    marginals, log_evidence = torch.empty_like(logits), torch.empty(len(logits))
    sizes = *logits.shape, len(next_state)
    library().automaton(_at(logits), _at(label), _at(next_state), *sizes, _at(marginals), _at(log_evidence))
    return marginals, log_evidence
