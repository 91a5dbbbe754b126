"""Run one op or one training step under NVTX ranges for Nsight, and turn the exports of Nsight into tables.

    profiling/nsys.sh step --size 15                        # the usual way: nsys.sh and ncu.sh call this script
    python -m profiling.trace run posterior --size 15 --batch 1024
    python -m profiling.trace run sudoku/fused --size 9 --batch 4096
    python -m profiling.trace table kernels.csv raw.csv --json table.json

The work is an op of addition, a training step, or a method of a benchmark: boards, samples, chains, paths, automata
and circuits, at a size of that benchmark. ``run`` needs a CUDA device. It warms up (compiling the kernels) outside the
profiled region, then opens the region with cudaProfilerStart, which both tools are told to wait for. Ranges: "step" or
the name of the work, within it "E-step" and "M-step", within them one range per operator, so that every kernel lies in
the range of the operator that launched it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

import emnesy_gpu as em
from emnesy_gpu.benchmarks import addition, automaton, circuit, sampling, shortest_path, sudoku
from emnesy_gpu.tasks.mnist.nets import lenet
from profiling.exports import Export, columns, markdown, read
from profiling.requirements import leave, missing_gpu

ADDITION = ("posterior", "em_gradient", "map", "sample", "step")
SUITES = {module.SUITE.name: module.SUITE for module in (addition, sudoku, sampling, shortest_path, automaton, circuit)}
BENCHMARKED = {
    f"{suite.name}/{method.replace(' ', '-')}": (suite, method) for suite in SUITES.values() for method in suite.methods
}
WORK = (*ADDITION, *BENCHMARKED)


def span(name: str, device: torch.device) -> AbstractContextManager[object]:
    """An NVTX range on a CUDA device, nothing elsewhere."""
    return torch.cuda.nvtx.range(name) if device.type == "cuda" else nullcontext()


def op(name: str, n_digits: int, batch: int, device: torch.device) -> Callable[[], object]:
    """One call of an op without value checks, which would synchronise."""
    problem, logits, label = addition.inputs(n_digits, batch, device)
    calls: dict[str, Callable[[], object]] = {
        "posterior": lambda: em.posterior(problem, logits, label, check=False),
        "em_gradient": lambda: problem.em_gradient(logits, label, 1.0, False),
        "map": lambda: em.posterior(problem, logits, label, em.MAP(), check=False),
        "sample": lambda: em.sample_posterior(problem, logits, label, n_samples=8, seed=0, check=False),
    }
    return calls[name]


def training_step(n_digits: int, batch: int, device: torch.device) -> Callable[[], object]:
    """One EM step of a LeNet on random images: the parts of ``em.EM.step``, without its clock."""
    problem, _, label = addition.inputs(n_digits, batch, device)
    images = torch.rand(batch * 2 * n_digits, 1, 28, 28, device=device)
    net = lenet().to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> None:
        with span("E-step", device):
            logits = net(images).view(batch, 2, n_digits, 10)
            post = em.posterior(problem, logits, label, check=False)
        with span("M-step", device):
            optimizer.zero_grad(set_to_none=True)
            em.em_loss(logits, post).backward()
            optimizer.step()

    return step


def call_of(work: str, size: str | None, batch: int, device: torch.device) -> Callable[[], object]:
    """The work as a call; the size is 15 digits, or the first of the benchmark, unless it is given.

    Raises:
        ValueError: the benchmark has no such size, or the method not at this size.
    """
    if work in ADDITION:
        n_digits = int(size or 15)
        return training_step(n_digits, batch, device) if work == "step" else op(work, n_digits, batch, device)
    suite, method = BENCHMARKED[work]
    sizes = {str(known): known for known in suite.sizes}
    if size is not None and size not in sizes:
        raise ValueError(f"{suite.size_name} must be one of {', '.join(sizes)}, got {size}")
    calls = suite.calls_in_turn(suite.inputs(sizes[size or next(iter(sizes))], batch, device), device)
    if method not in calls:
        raise ValueError(f"{method} does not exist for {suite.size_name} {size or next(iter(sizes))}")
    return calls[method]


def run(call: Callable[[], object], name: str, repeat: int, device: torch.device) -> None:
    """Warm up, then ``repeat`` calls within the profiled region."""
    for _ in range(3):
        call()
    if device.type != "cuda":
        return
    torch.cuda.synchronize(device)
    torch.cuda.profiler.start()
    with torch.autograd.profiler.emit_nvtx():
        for _ in range(repeat):
            with span(name, device):
                call()
        torch.cuda.synchronize(device)
    torch.cuda.profiler.stop()


def tables(exports: Sequence[Export]) -> str:
    return "\n\n".join(f"## {export.kind}\n\n{markdown(columns(export))}" for export in exports) + "\n"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trace", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="exit code 2 and one sentence if there is no CUDA device")
    runner = commands.add_parser("run", help="run the work that Nsight is to profile")
    runner.add_argument("work", choices=WORK, metavar="WORK", help=", ".join(WORK))
    runner.add_argument("--size", "--digits", help="15 digits, or the first size of the benchmark")
    runner.add_argument("--batch", type=int, default=1024)
    runner.add_argument("--repeat", type=int, default=20)
    table = commands.add_parser("table", help="tables from exports of nsys and ncu")
    table.add_argument("files", type=Path, nargs="+")
    table.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.command == "table":
        exports = [export for path in options.files for export in read(path.read_text())]
        print(tables(exports))
        if options.json:
            record = [{"kind": export.kind, "rows": columns(export)} for export in exports]
            options.json.write_text(json.dumps(record, indent=1) + "\n")
        return 0
    reason = missing_gpu()
    if reason is not None:
        leave("trace", reason)
    if options.command == "run":
        device = torch.device("cuda")
        run(call_of(options.work, options.size, options.batch, device), options.work, options.repeat, device)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
