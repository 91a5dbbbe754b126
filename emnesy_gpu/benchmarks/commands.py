"""The ``bench`` and ``doctor`` commands."""

from __future__ import annotations

from pathlib import Path

import click

POSITIVE = click.IntRange(min=1)


@click.group()
def bench() -> None:
    """Measure time and memory against baselines, in one process, as medians."""


@bench.command()
@click.option(
    "--digits", type=POSITIVE, multiple=True, help="Digits per number; repeat it.  [default: 1 4 15 100 1000]"
)
@click.option("--batch", type=POSITIVE, multiple=True, help="Sums per batch; repeat it.  [default: 64 256 1024]")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--threads", type=POSITIVE, default=1, show_default=True, help="CPU threads, for every method.")
@click.option("--seconds", type=float, default=0.5, show_default=True, help="Time to spend on each figure.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for addition.json and .png.")
def addition(
    digits: tuple[int, ...], batch: tuple[int, ...], device: str, threads: int, seconds: float, out: Path | None
) -> None:
    """The E-step of addition: fused kernels, unfused torch, BP-std by autograd, softmax, and a plain copy.

    Every result is checked against the float64 reference before it is timed. Peak memory is counted above the inputs.
    """
    import torch

    from emnesy_gpu.benchmarks import addition as benchmark
    from emnesy_gpu.benchmarks import measure, report, startup

    torch.set_num_threads(threads)
    measurements = list(
        benchmark.run(digits or benchmark.DIGITS, batch or benchmark.BATCHES, device=device, budget=seconds)
    )
    facts, first = measure.machine(torch.device(device)), startup.measure()
    report.show(measurements, facts, first)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        report.write_json(out / "addition.json", measurements, facts, first)
        report.write_plot(out / "addition.png", measurements, facts)
        click.echo(f"written to {out}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Versions, devices, the back end of every op, and a self-check of each."""
    from emnesy_gpu import doctor

    ctx.exit(doctor.run(as_json))
