"""A modelled roofline of the kernels, from the counters of the GPU simulator: no GPU is needed or used.

    python -m profiling.roofline --digits 4 15 100 --json roofline.json --markdown roofline.md --plot roofline.png

It models addition of any length; tests/kernel_roofline.py does the same for every launch of the GPU tests.

The kernels are compiled for each GPU and their PTX runs in profiling/gpu_simulator, which counts what every warp does.
Bytes and instructions per instance are then set against the fewest bytes that the op must move and against the peak
rates in peaks.py. The modelled time is the largest of these lower bounds, as if all of them overlapped perfectly:

    memory   32-byte sectors, each once per block (an L1 that keeps up), over the memory bandwidth
    L1       requested sectors, shared-memory wavefronts and shuffles, over 128 bytes per SM and cycle
    issue    executed warp instructions without register moves, over 4 per SM and cycle
    fp32, fp64, alu, special   the instructions of one kind, over its lanes

PTX instructions stand in for machine instructions. The assembler drops nearly all register moves, so the bound leaves
them out; it may add spills and expand compound instructions, which the model does not see. Latency, tails and launch
overhead are not modelled either: the times are those of a batch that fills the GPU. Every figure is modelled, none is
measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch

import emnesy_gpu as em
from profiling import peaks
from profiling.opcodes import by_pipe

LABEL = "modelled"
OPS = ("posterior", "em_gradient")
MODELLED_BATCH = 65536
SIMULATED_POSITIONS = 2048
MARKERS = "os^DvPX*"


@dataclass(frozen=True)
class Counts:
    """What one simulated launch did per instance, which `unit` describes."""

    op: str
    unit: str
    arch: int
    least_bytes: float  # every input and output byte once
    requested_sectors: float
    unique_sectors: float
    warp_instructions: float
    thread_instructions: float
    shared_wavefronts: float
    pipes: dict[str, float]  # warp instructions by the unit that runs them

    @property
    def unique_bytes(self) -> float:
        return self.unique_sectors * peaks.SECTOR_BYTES

    @property
    def issued(self) -> float:
        """Warp instructions without register moves."""
        return self.warp_instructions - self.pipes.get("move", 0.0)

    @property
    def excess(self) -> float:
        """Unique traffic over the least."""
        return self.unique_bytes / self.least_bytes


def bounds(counts: Counts, gpu: peaks.Gpu) -> dict[str, float]:
    """Lower bounds in seconds per instance, modelled; see the top of this file."""
    l1_cycles = counts.requested_sectors * peaks.SECTOR_BYTES / peaks.L1_BYTES + counts.shared_wavefronts
    lanes = {
        "fp32": gpu.fp32_lanes,
        "fp64": gpu.fp64_lanes,
        "alu": peaks.ALU_LANES,
        "special": peaks.SPECIAL_LANES,
    }
    cycles = {unit: counts.pipes.get(unit, 0.0) * peaks.WARP / width for unit, width in lanes.items()}
    cycles["L1"] = l1_cycles + counts.pipes.get("shuffle", 0.0)
    cycles["issue"] = counts.issued / peaks.ISSUE_SLOTS
    return {"memory": counts.unique_bytes / gpu.bandwidth} | {k: v / gpu.cycles for k, v in cycles.items()}


def model(counts: Counts, gpu: peaks.Gpu) -> dict[str, Any]:
    """One line of the report."""
    limits = bounds(counts, gpu)
    limit = max(limits, key=limits.__getitem__)
    return {
        "label": LABEL,
        "gpu": gpu.name,
        "op": counts.op,
        "unit": counts.unit,
        "least bytes": counts.least_bytes,
        "unique bytes": counts.unique_bytes,
        "requested bytes": counts.requested_sectors * peaks.SECTOR_BYTES,
        "unique / least": counts.excess,
        "warp instructions": counts.warp_instructions,
        f"us at batch {MODELLED_BATCH}": limits[limit] * MODELLED_BATCH * 1e6,
        "limit": limit,
        "x memory bound": limits[limit] / (counts.least_bytes / gpu.bandwidth),
        "seconds per instance": limits,
        "source": gpu.source,
    }


@cache
def simulate(op: str, n_digits: int, arch: int, batch: int | None = None) -> Counts:
    """Run one op in the simulator on random logits, and count."""
    from profiling.gpu_simulator import Options, simulated_gpu

    # A power of two, so that every block is full whatever its number of rows.
    batch = batch or max(16, 1 << (SIMULATED_POSITIONS // n_digits).bit_length() - 1)
    problem = em.Addition(n_digits)
    generator = torch.Generator().manual_seed(n_digits)
    logits = torch.randn(batch, *problem.latent_shape, problem.cardinality, generator=generator)
    label = problem.label(torch.randint(0, 10, (batch, *problem.latent_shape), generator=generator))
    with simulated_gpu(arch, Options(checks=False)) as gpu:
        if op == "posterior":
            outputs = torch.ops.emnesy_gpu.carry_chain_posterior(logits, label, False)
        else:
            outputs = torch.ops.emnesy_gpu.carry_chain_em_gradient(logits, label, 1.0, False)
    least = sum(tensor.nbytes for tensor in (logits, label, *outputs))
    unit = f"one row, {n_digits} digits"
    return count(op, unit, arch, least, batch, [launch.counters for launch in gpu.launches])


class Launch(Protocol):
    """A launch function of one back end or another, and arguments to call it with."""

    unit: str
    """What one row is."""

    @property
    def rows(self) -> int:
        """The batch size."""

    def draw(self) -> tuple[Any, ...]:
        """The arguments."""

    def run(self, package: str, arguments: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        """The results of the launch function of emnesy_gpu.<package>."""


def simulate_launch(entry: Launch, arch: int) -> Counts:
    """Run one launch in the simulator, and count. Few rows leave blocks half empty."""
    from profiling.gpu_simulator import Options, simulated_triton

    arguments = entry.draw()
    with simulated_triton(arch, Options(checks=False)) as gpu:
        outputs = entry.run("kernels.gpu", arguments)
    least = sum(value.nbytes for value in (*arguments, *outputs) if isinstance(value, torch.Tensor))
    return count(str(entry), entry.unit, arch, least, entry.rows, [launch.counters for launch in gpu.launches])


def count(op: str, unit: str, arch: int, least_bytes: int, batch: int, launches: Sequence[Any]) -> Counts:
    """The simulator's counters of the launches of one op, summed, per instance."""
    warp_instructions = sum(c.warp_instructions for c in launches)
    thread_instructions = sum(c.thread_instructions for c in launches)
    pipes: dict[str, float] = {}
    for counters in launches:
        # A pipe is busy for a whole warp, whichever of its lanes are active.
        warps = counters.warp_instructions / max(counters.thread_instructions, 1)
        for pipe, threads in by_pipe(counters.opcodes).items():
            pipes[pipe] = pipes.get(pipe, 0.0) + threads * warps
    traffic = [side for c in launches for side in (c.global_reads, c.global_writes)]
    return Counts(
        op=op,
        unit=unit,
        arch=arch,
        least_bytes=least_bytes / batch,
        requested_sectors=sum(side.sectors for side in traffic) / batch,
        unique_sectors=sum(side.block_sectors for side in traffic) / batch,
        warp_instructions=warp_instructions / batch,
        thread_instructions=thread_instructions / batch,
        shared_wavefronts=sum(c.shared.wavefronts for c in launches) / batch,
        pipes={pipe: threads / batch for pipe, threads in pipes.items()},
    )


def table(lines: Iterable[dict[str, Any]]) -> str:
    """Markdown; the first column of every line says that it is modelled."""
    lines = [{k: v for k, v in line.items() if k not in ("seconds per instance", "source")} for line in lines]
    header = list(lines[0])
    rows = [[_cell(line[name]) for name in header] for line in lines]
    return "\n".join(["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
    return str(value)


def report(lines: Sequence[dict[str, Any]]) -> str:
    sources = "\n".join(f"- {gpu.name}: {gpu.source}" for gpu in peaks.GPUS.values())
    title = "Modelled roofline; bytes and instructions per instance, nothing measured"
    return f"# {title}\n\n{table(lines)}\n\nPeaks ({peaks.GUIDE}):\n{sources}\n"


def write_plot(path: Path, points: Sequence[tuple[Counts, peaks.Gpu]]) -> None:
    """Instruction roofline: warp instructions per second over warp instructions per byte of memory traffic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 5), layout="constrained")
    intensities = [2.0 ** (e / 16) for e in range(-80, 33)]
    kernels = list(dict.fromkeys((counts.op, counts.unit) for counts, _ in points))
    for colour, gpu in enumerate(peaks.GPUS.values()):
        roof = [min(x * gpu.bandwidth, peaks.ISSUE_SLOTS * gpu.cycles) / 1e9 for x in intensities]
        axis.plot(intensities, roof, color=f"C{colour}", label=f"{gpu.name}, peak")
        for counts, _ in [point for point in points if point[1] == gpu]:
            rate = counts.issued / max(bounds(counts, gpu).values()) / 1e9
            marker = MARKERS[kernels.index((counts.op, counts.unit)) % len(MARKERS)]
            axis.plot(counts.issued / counts.unique_bytes, rate, marker, color=f"C{colour}")
    for i, (op, unit) in enumerate(kernels):
        axis.plot([], [], MARKERS[i % len(MARKERS)], color="grey", label=f"{op}, {unit}")
    axis.set(xscale="log", yscale="log", xlabel="warp instructions per byte", ylabel="10^9 warp instructions per s")
    axis.set_title("Modelled from simulator counters (not measured)")
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def argument_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser of the options that every model has: the GPUs, and the files to write."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--gpu", nargs="+", choices=list(peaks.GPUS), default=list(peaks.GPUS))
    for name in ("json", "markdown", "plot"):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE")
    return parser


def publish(points: Sequence[tuple[Counts, peaks.Gpu]], options: argparse.Namespace) -> None:
    """Print the report, and write the files that the options name."""
    lines = [model(counts, gpu) for counts, gpu in points]
    print(report(lines))
    if options.json:
        record = {"label": LABEL, "lines": lines, "counts": [asdict(counts) for counts, _ in points]}
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(report(lines))
    if options.plot:
        write_plot(options.plot, points)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("roofline", __doc__.partition("\n")[0])
    parser.add_argument("--digits", type=int, nargs="+", default=[4, 15, 100])
    parser.add_argument("--op", nargs="+", choices=OPS, default=["posterior"])
    parser.add_argument("--batch", type=int, help="instances to simulate (default: enough to fill some blocks)")
    options = parser.parse_args(arguments)
    cases = [(op, n, peaks.GPUS[name]) for op in options.op for n in options.digits for name in options.gpu]
    publish([(simulate(op, n, gpu.arch, options.batch), gpu) for op, n, gpu in cases], options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
