"""Several processes that train one net: the ranks of ``torch.distributed``, as ``torchrun`` starts them.

Every rank holds the whole net, takes its part of every batch, and draws the random numbers of the whole batch.
DistributedDataParallel averages the gradients. A process on its own is rank 0 of 1, for which nothing is sent.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from emnesy_gpu.tasks.files.errors import DataError

T = TypeVar("T")

STARTED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
"""The variables by which ``torchrun`` tells a process what it is."""

RESTARTS = "TORCHELASTIC_RESTART_COUNT"


class Part(NamedTuple):
    """The rows ``first`` to ``first + size`` of a batch of ``total`` rows, and their weight in the mean of all."""

    first: int
    size: int
    total: int
    weight: float = 1.0

    def of(self, rows: Tensor) -> Tensor:
        """Return the part of a tensor [total, ...]."""
        return rows[self.first : self.first + self.size]

    def among(self, n: int) -> tuple[int, int]:
        """Return which of all images the first of ``n`` images of this part is, and how many images the batch has."""
        each = n // self.size
        return self.first * each, self.total * each


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and which of them this one is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def part(self, n_rows: int) -> Part:
        """Return the part of a batch that this rank takes; parts differ by one row at most.

        Where there are fewer rows than ranks, some take a row that another one takes too, with weight 0: every rank has
        to take part in every step.

        >>> [Ranks(rank, 2).part(5)[:3] for rank in (0, 1)]
        [(0, 2, 5), (2, 3, 5)]
        """
        first, end = (n_rows * rank // self.size for rank in (self.rank, self.rank + 1))
        if first == end:
            return Part(min(first, n_rows - 1), 1, n_rows, 0.0)
        return Part(first, end - first, n_rows, (end - first) / n_rows)

    def device(self, name: str) -> torch.device:
        """Return the device of this rank: for "cuda", the GPU with the number of the rank on its machine.

        Raises DataError for one GPU by its number, and for ranks without a GPU of their own.
        """
        device = torch.device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        local = int(os.environ["LOCAL_RANK"])
        if device.index is not None or local >= torch.cuda.device_count():
            raise DataError(
                f"{self.size} processes need --device cuda and a GPU each, got {name} and "
                f"{torch.cuda.device_count()} GPUs on a machine with a process {local}"
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)

    def replicated(self, model: nn.Module) -> nn.Module:
        """Return the model with gradients that are averaged over the ranks, and batch statistics of all on GPUs."""
        if self.size == 1:
            return model
        if next(model.parameters()).device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model)

    def remarks(self, model: nn.Module) -> list[str]:
        """Return what a reader of the figures should know about the ranks, in words."""
        if self.size == 1:
            return []
        words = [f"{self.size} processes, each with its part of every batch"]
        if any(isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm) for layer in model.modules()):
            words.append("batch normalisation takes the rows of each process by itself: not the run of one process")
        return words

    def mean(self, metrics: dict[str, float], weight: float) -> dict[str, float]:
        """Return the metrics of a whole batch from those of its parts: means by weight, and the longest seconds.

        log_evidence is a mean over the rows whose label is possible.
        """
        if self.size == 1:
            return metrics
        mine = torch.tensor([weight, *metrics.values()], dtype=torch.float64)
        gathered = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(gathered, mine)
        weights, *columns = torch.stack(gathered).T
        values = dict(zip(metrics, columns, strict=True))
        possible = weights * values["possible"]
        found = {}
        for name, column in values.items():
            if name.startswith("seconds"):
                found[name] = float(column.max())
            elif name == "log_evidence":
                found[name] = float((possible * column).sum() / possible.sum()) if possible.any() else 0.0
            else:
                found[name] = float((weights * column).sum())
        return found

    def largest(self, *values: int) -> list[int]:
        """Return the largest of each value over the ranks."""
        if self.size == 1:
            return list(values)
        found = torch.tensor(values)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [int(value) for value in found]

    def from_first(self, function: Callable[[], T]) -> T:
        """Return what a function returns on the first rank, where alone it is called.

        Where it fails there, the others end without a word.
        """
        if self.size == 1:
            return function()
        answer: list[Any] = [None]
        try:
            if self.is_first:
                answer = [(function(),)]
        finally:
            dist.broadcast_object_list(answer, device=torch.device("cpu"))
        if answer[0] is None:
            raise SystemExit(1)
        result: T = answer[0][0]
        return result


def current() -> Ranks:
    """Return the ranks that this process has joined; itself alone where it has joined none."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


@contextmanager
def one_at_first() -> Iterator[None]:
    """Let one rank of each machine go through a block, or a function, before all others: it may write what they read.

    There may be no other communication inside.
    """
    several = current().size > 1
    waits = several and int(os.environ["LOCAL_RANK"]) > 0
    if waits:
        dist.barrier()
    yield
    if several and not waits:
        dist.barrier()


def restarted() -> bool:
    """Whether ``torchrun`` has started this process again, in place of one that ended too early."""
    return int(os.environ.get(RESTARTS, "0")) > 0


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other ranks where ``torchrun`` started several, unless they have been joined. A context manager.

    Tensors on CPUs travel by gloo, those on GPUs by NCCL. DataError where another rank has ended.
    """
    started = all(name in os.environ for name in STARTED) and os.environ["WORLD_SIZE"] != "1"
    if not started or dist.is_initialized():
        yield current()
        return
    # The defaults of this module name the process group, if there is one when it is first imported: it would never end.
    importlib.import_module("torch.distributed.nn.functional")
    _join()
    atexit.register(_leave)  # an error that leaves the block still holds what was made in it
    ranks = current()
    with warnings.catch_warnings():
        if not ranks.is_first:
            warnings.simplefilter("ignore")
        try:
            yield ranks
        except RuntimeError as error:
            if "peer" not in str(error) and not isinstance(error, dist.DistError):
                raise
            raise DataError(f"rank {ranks.rank} ends, as another rank has ended") from error
    _leave()


def _leave() -> None:
    """End the threads of gloo, if nothing else holds the process group, such as a wrapped net.

    A thread that still holds a tensor when the interpreter ends aborts the process.
    """
    atexit.unregister(_leave)
    if hasattr(sys, "last_traceback"):  # of an error that nobody has caught
        traceback.clear_frames(sys.last_traceback)
    gc.collect()
    if dist.is_initialized():
        dist.destroy_process_group()


def _join() -> None:
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if not restarted() or os.environ.get("LOCAL_WORLD_SIZE") != os.environ["WORLD_SIZE"]:
        dist.init_process_group(backend)
        return
    # torchrun keeps its store when it starts processes again, and with it the addresses of those that have ended. All
    # processes of one machine count restarts alike; those of several machines do not.
    store, rank, size = next(dist.rendezvous("env://"))
    fresh = dist.PrefixStore(f"restart {os.environ[RESTARTS]}", store)
    dist.init_process_group(backend, store=fresh, rank=rank, world_size=size)
