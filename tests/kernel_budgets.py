"""The budgets of every kernel: what a launch may cost, measured once and held from then on.

    python -m tests.kernel_budgets                      compare every entry with the table
    python -m tests.kernel_budgets --arch 90            compile for one architecture, and simulate nothing
    python -m tests.kernel_budgets --write              record the table again; with the names of stems, only theirs
    python -m tests.kernel_budgets --write --missing    record the entries that are new

kernel_budgets.json holds for every entry of tests/kernel_registry and every architecture what the assembler reports
(registers a thread, bytes spilled, bytes of shared memory), the bits of the widest load and store, and the barriers in
the code. From a launch that profiling/roofline.py simulates as code for an H100 come, per row of the batch, the
executed thread instructions, the 32-byte sectors (requested: once per warp instruction that touches them, unique: once
per block) and the time modelled from these counts, which no GPU has confirmed.

The figures are those of the Triton version named in the table. kernel_budgets_3.6.json and kernel_budgets_3.7.json hold
those of other versions, on sm_90: each version is compared with its own. What its table lacks is compared with
kernel_budgets.json in spills (none, but for SPILLS), shared memory and the width of accesses only.

The stem cuda_c has the kernels in CUDA C, where NVRTC is installed: its figures are those of the NVRTC that the table
names, and of the assembler of that Triton.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("kernel_budgets.json")
MAIN_ARCHITECTURE = 90  # the only one in the tables of other versions
REGISTER_UNIT = 8  # registers are given out in units of eight
COUNTED = "simulated"
MODELLED = "modelled"
MODELLED_GPU = "H100"
SHARED_BYTES = 48 * 1024  # what every launch may have without asking the driver
SPILLS = {("3.7", "carry_chain em_gradient n=512 base=10 addends=2"): 16}
"""Bytes that are spilled with a version of Triton; elsewhere nothing may be."""

CUDA_C = "cuda_c"
"""The stem of the kernels in CUDA C."""

Budget = dict[str, float]


def measure(entry: Any, arch: int) -> dict[str, Budget]:
    """Kernel -> static figures; the largest where one call launches a kernel several times."""
    from tests.static_checks import compile_for_nvidia, resource_usage

    if entry.stem == CUDA_C:
        return entry.usage(arch)
    found: dict[str, Budget] = {}
    for launch in compile_for_nvidia(entry, arch):
        usage = resource_usage(launch)._asdict() | {"num_warps": launch.num_warps}
        previous = found.setdefault(launch.kernel, usage)
        widths = {name: min(previous[name], usage[name]) for name in ("load_bits", "store_bits")}
        found[launch.kernel] = {name: max(previous[name], usage[name]) for name in usage} | widths
    return found


def count(entry: Any) -> dict[str, dict[str, Any]]:
    """What one simulated call executes and moves per row, and how long an H100 would take at least: modelled."""
    from profiling import peaks, roofline

    gpu = peaks.GPUS[MODELLED_GPU]
    counts = entry.counts(gpu.arch) if entry.stem == CUDA_C else roofline.simulate_launch(entry, gpu.arch)
    limits = roofline.bounds(counts, gpu)
    limit = max(limits, key=limits.__getitem__)
    figures = ("thread_instructions", "requested_sectors", "unique_sectors")
    return {
        COUNTED: {name: round(getattr(counts, name), 1) for name in figures},
        MODELLED: {"gpu": gpu.name, "nanoseconds": float(f"{limits[limit] * 1e9:.4g}"), "limit": limit},
    }


def exceeded(found: Budget, budget: Budget, same_triton: bool, spills: int = 0) -> Iterator[str]:
    """What costs more than the table allows, one sentence each."""
    if found["spill_bytes"] > spills:
        yield f"spills {found['spill_bytes']} bytes"
    if found["shared_bytes"] > max(budget["shared_bytes"], 0 if same_triton else SHARED_BYTES):
        yield f"{found['shared_bytes']} bytes of shared memory, budget {budget['shared_bytes']}"
    for width in ("load_bits", "store_bits"):
        if found[width] < budget[width]:
            yield f"{width} {found[width]}, budget {budget[width]}"
    if same_triton and found["barriers"] > budget.get("barriers", found["barriers"]):
        yield f"{found['barriers']} barriers, budget {budget['barriers']}"
    registers = -(-budget["registers"] // REGISTER_UNIT) * REGISTER_UNIT
    if same_triton and found["registers"] > registers:
        yield f"{found['registers']} registers, budget {registers}"


def exceeded_counts(found: dict[str, Any], budget: dict[str, Any]) -> Iterator[str]:
    """Counts are exact and the model is arithmetic on them, so that nothing is allowed for noise."""
    for kind in (COUNTED, MODELLED):
        for name, figure in found[kind].items():
            if not isinstance(figure, str) and figure > budget[kind][name]:
                yield f"{figure} {name} per row, {kind}, budget {budget[kind][name]}"


def read(table: Path = TABLE) -> dict[str, Any]:
    return json.loads(table.read_text()) if table.exists() else {"triton": "", "nvrtc": "", "budgets": {}}


def table_of(version: str) -> Path:
    """The table of a minor version of Triton, which may not exist yet."""
    return TABLE if minor(read()["triton"]) in ("", version) else TABLE.with_stem(f"{TABLE.stem}_{version}")


def own_table() -> Path:
    """That of the version which is installed."""
    return table_of(this_minor())


def budget_of(entry: Any) -> dict[str, Any]:
    """The figures of this version of Triton, else those of TABLE."""
    for table in (own_table(), TABLE):
        if str(entry) in (budgets := read(table)["budgets"]):
            return budgets[str(entry)]
    raise LookupError(f"no budget for {entry}: python -m tests.kernel_budgets --write {entry.stem}")


def same_triton() -> bool:
    """Whether there are figures of this minor version."""
    return own_table().exists()


def same_compiler(entry: Any) -> bool:
    """Whether the table has figures of the compiler that the kernels of this entry are compiled with now."""
    if str(entry) not in read(own_table())["budgets"]:
        return False
    return entry.stem != CUDA_C or minor(read()["nvrtc"]) == minor(nvrtc_version())


def nvrtc_version() -> str:
    """The version of the package, or "" without one."""
    try:
        return importlib.metadata.version("nvidia-cuda-nvrtc")
    except importlib.metadata.PackageNotFoundError:
        return ""


def every_entry() -> list[Any]:
    """Those of the registry, and those in CUDA C where they can be compiled."""
    from profiling.gpu_simulator.nvrtc import find_nvrtc
    from tests import cuda_c
    from tests.kernel_registry import ENTRIES

    return [*ENTRIES, *(cuda_c.ENTRIES if find_nvrtc() else [])]


def this_minor() -> str:
    import triton

    return minor(triton.__version__)


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def write(entries: Sequence[Any], architectures: Sequence[int]) -> None:
    """Measure these entries and record each in the table, from which those that no longer exist are dropped."""
    import triton

    from tests import cuda_c
    from tests.kernel_registry import ENTRIES

    path = own_table()
    names = {str(entry) for entry in [*ENTRIES, *cuda_c.ENTRIES]}
    for entry in entries:
        budget = {f"sm_{arch}": measure(entry, arch) for arch in architectures} | count(entry)
        table = read(path)
        budgets = {**table["budgets"], str(entry): budget}
        kept = {name: budgets[name] for name in sorted(names & set(budgets))}
        nvrtc = nvrtc_version() if entry.stem == CUDA_C else table["nvrtc"]
        path.write_text(_dump(triton.__version__, nvrtc, kept))
        print(entry, flush=True)


def _dump(triton: str, nvrtc: str, budgets: dict[str, Any]) -> str:
    blocks = []
    for name, budget in budgets.items():
        lines = [f"   {json.dumps(key)}: {json.dumps(figures)}" for key, figures in budget.items()]
        blocks.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n  }")
    versions = f' "triton": {json.dumps(triton)},\n "nvrtc": {json.dumps(nvrtc)},\n'
    return f'{{\n{versions} "budgets": {{\n' + ",\n".join(blocks) + "\n }\n}\n"


def compare(entries: Sequence[Any], architectures: Sequence[int], counted: bool) -> int:
    """Print what exceeds the table; the exit code."""
    from tests.cuda_c import is_too_new

    found: list[str] = []
    for entry in entries:
        try:
            new = [sentence for arch in architectures for sentence in complaints(entry, arch)]
        except RuntimeError as error:
            if entry.stem != CUDA_C or not is_too_new(error):
                raise
            print(f"{entry}: not compiled, as NVRTC is newer than the assembler of this Triton", flush=True)
            continue
        if counted and same_compiler(entry):
            new += [f"{entry}: {text}" for text in exceeded_counts(count(entry), budget_of(entry))]
        print("\n".join([str(entry), *new]), flush=True)
        found += new
    print(f"{len(found)} complaints about {len(entries)} entries, Triton {this_minor()}")
    return 1 if found else 0


def complaints(entry: Any, arch: int) -> list[str]:
    """Every budget that the kernels of this entry exceed on this architecture."""
    same, key, spills = same_compiler(entry), f"sm_{arch}", SPILLS.get((this_minor(), str(entry)), 0)
    budget = budget_of(entry).get(key)
    if budget is None:
        same, budget = False, read()["budgets"][str(entry)][key]
    found = measure(entry, arch)
    if set(found) != set(budget):
        return [f"{entry} launches {sorted(found)}, the table has {sorted(budget)}"]
    return [
        f"{entry}, {kernel} on sm_{arch}: {sentence}"
        for kernel, figures in found.items()
        for sentence in exceeded(figures, budget[kernel], same, spills)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    from tests.static_checks import NVIDIA_ARCHITECTURES

    entries = every_entry()
    every = sorted({entry.stem for entry in entries})
    parser = argparse.ArgumentParser(prog="kernel_budgets", description=__doc__.partition("\n")[0])
    parser.add_argument("stems", nargs="*", metavar="STEM", help="default: all")
    parser.add_argument("--write", action="store_true", help="record the table instead of comparing with it")
    parser.add_argument("--missing", action="store_true", help="only entries that the table lacks")
    parser.add_argument("--arch", type=int, choices=NVIDIA_ARCHITECTURES, help="this architecture, and no counts")
    options = parser.parse_args(arguments)
    stems = options.stems or every
    unknown = set(stems) - set(every)
    if unknown:
        parser.error(f"no entries for {sorted(unknown)}; stems: {every}")
    recorded = read(own_table())["budgets"]
    entries = [entry for entry in entries if entry.stem in stems and not (options.missing and str(entry) in recorded)]
    is_main = own_table() == TABLE
    architectures = NVIDIA_ARCHITECTURES if is_main else (MAIN_ARCHITECTURE,)
    if options.write:  # the figures of CUDA C are NVRTC's, not Triton's
        write([entry for entry in entries if is_main or entry.stem != CUDA_C], architectures)
        return 0
    if options.arch:
        return compare(entries, [options.arch], counted=False)
    return compare(entries, architectures, counted=same_triton())


if __name__ == "__main__":
    raise SystemExit(main())
