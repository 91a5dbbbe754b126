"""A report of what is installed, what each op would run on, and whether all back ends compute the same here."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.backends import BY_DEVICE, NEEDS, PACKAGES, backend_for
from emnesy_gpu.ops import NAMES

SUMMARY = "Show versions and devices, and test every back end."
MODULES = ("torch", "numpy", "numba", "triton", "cupy")
KERNELS = {"reference": "plain torch", "cpu": "Numba kernels", "triton": "Triton kernels"}
VARIABLES = (
    *("TRITON_INTERPRET", "CUDA_VISIBLE_DEVICES", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"),
    *("NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"),
)
NO_GPU = "no CUDA device is visible (TRITON_INTERPRET=1 checks the kernels in Triton's interpreter)"
TOLERANCE = 1e-5
INTERPRETS_NEW_NUMPY, NEW_NUMPY = (3, 7), (2, 4)
"""Older interpreters of Triton make numbers of arrays in a way that this NumPy and newer ones refuse."""

Report = dict[str, Any]


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the other commands do."""

    def error(self, message: str) -> NoReturn:
        """End with that line."""
        self.exit(2, f"emnesy: error: {message[:1].upper()}{message[1:]}. See {self.prog} --help.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python -m emnesy_gpu doctor [--json]``; the arguments leave out the name of the command."""
    parser = Parser(prog="emnesy doctor", description=SUMMARY)
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    return run(as_json=parser.parse_args(arguments).json)


def run(as_json: bool = False) -> int:
    """Print the report. Returns 0 if every back end available here agrees with the reference, else 1."""
    report = examine()
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        _show(report)
    return 0 if report["healthy"] else 1


def examine() -> Report:
    """Return the whole report: versions, devices, CPU kernels, variables, ops, checks, and ``healthy``."""
    checks = [check_backend(name) for name in PACKAGES]
    return {
        "versions": versions(),
        "devices": devices(),
        "cpu kernels": cpu_kernels(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "ops": routes(),
        "checks": checks,
        "healthy": all(check["verdict"] in ("agrees", "unavailable") for check in checks),
    }


def versions() -> dict[str, str]:
    """Return installed versions, and what they were built for."""
    return {
        "emnesy_gpu": em.__version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        **installed(),
        "torch": torch.__version__,  # with its build, which the metadata of CUDA wheels leave out
        "cuda of torch": torch.version.cuda or "none, torch was built without CUDA",
        "nvidia driver": driver_version() or "none found",
    }


def installed() -> dict[str, str]:
    """Return the versions of packages, which come from metadata, so that nothing is imported for them."""
    distributions = importlib.metadata.packages_distributions()
    return {
        module: ", ".join(importlib.metadata.version(name) for name in sorted(set(distributions[module])))
        if module in distributions
        else "not installed"
        for module in MODULES
    }


def driver_version() -> str | None:
    """Return the version of the NVIDIA driver that nvidia-smi reports, or None where there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = result.stdout.split()
    return lines[0] if lines else None


def devices() -> list[str]:
    """Return a line for the CPU and one for every GPU."""
    processor = platform.processor() or platform.machine()
    cpu = f"cpu: {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads in torch"
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [cpu] + [
        f"cuda:{i}: {gpu.name}, compute capability {gpu.major}.{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB"
        for i, gpu in enumerate(gpus)
    ]


def cpu_kernels() -> dict[str, Any]:
    """Return the width of vectors that Numba compiles for, and the state of the cache of machine code."""
    if _missing_package("cpu"):
        return {}
    from emnesy_gpu.kernels.cpu.common.kernel_cache import cache_state
    from emnesy_gpu.kernels.cpu.common.vector_width import vector_bits

    return {"vector bits": vector_bits(), "cache": cache_state()._asdict()}


def routes() -> list[dict[str, str]]:
    """Return, for every op and kind of device, the back end that would run it, and why."""
    return [
        {"op": name, "tensors": device, **_route(torch.device(device), name)}
        for name in sorted(NAMES)
        for device in BY_DEVICE
    ]


def _route(device: torch.device, op: str) -> dict[str, str]:
    """Return the back end, the reason in full, and a remark on what is not as usual."""
    name = backend_for(device)
    default = name == BY_DEVICE[device.type]
    origin = f"the default for {device.type} tensors" if default else "chosen with em.backend"
    obstacle = _missing_package(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        obstacle = "no CUDA device"
    why = [f"{KERNELS[name]}, {origin}", obstacle]
    remark = [None if default else origin, obstacle]
    return {"backend": name, "why": "; ".join(filter(None, why)), "remark": "; ".join(filter(None, remark))}


def _missing_package(backend: str) -> str | None:
    package = NEEDS[backend]
    return None if importlib.util.find_spec(package) else f"{package} is not installed: pip install {package}"


def check_backend(name: str) -> dict[str, Any]:
    """Compare a posterior of a back end with the float64 reference.

    ``verdict`` is "agrees", "differs", "fails" (an exception) or "unavailable"; ``detail`` is the largest error, or
    the reason.
    """
    obstacle = _missing_package(name) or (_obstacle_of_triton() if name == "triton" else None)
    if obstacle:
        return {"backend": name, "verdict": "unavailable", "detail": obstacle}
    device = torch.device("cuda" if name == "triton" and torch.cuda.is_available() else "cpu")
    try:
        error = posterior_error(name, device)
    except Exception as problem:
        # Whatever goes wrong in a back end is the finding of this command, not its failure.
        return {"backend": name, "verdict": "fails", "detail": f"{type(problem).__name__}: {problem}"}
    verdict = "agrees" if error <= TOLERANCE else "differs"
    where = "Triton's interpreter" if name == "triton" and _interpreting() else str(device)
    return {"backend": name, "verdict": verdict, "detail": f"largest error {error:.1e} on {where}"}


def _obstacle_of_triton() -> str | None:
    if _interpreting():
        return interpreter_obstacle()
    return None if torch.cuda.is_available() else NO_GPU


def interpreter_obstacle() -> str | None:
    """Return why Triton's interpreter cannot run here, in a sentence, or None where it can."""
    triton, numpy = (installed()[name] for name in ("triton", "numpy"))
    if triton == "not installed":
        return _missing_package("triton")
    if _release(triton) < INTERPRETS_NEW_NUMPY and _release(numpy) >= NEW_NUMPY:
        return (
            f"the interpreter of Triton {triton} does not work with NumPy {numpy}: pip install 'numpy<2.4', "
            "or take Triton 3.7 or newer"
        )
    return None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "on", "yes", "y")


def posterior_error(name: str, device: torch.device) -> float:
    """Return the largest error of marginals and of evidence per symbol; infinite if ``possible`` differs."""
    return max(_error_of(name, device, *check) for check in (_sums(), *_boards()))


def _error_of(
    name: str, device: torch.device, problem: em.Problem, logits: Tensor, label: Tensor, engine: em.Engine | None
) -> float:
    with em.backend("reference"):
        expected = em.posterior(problem, logits.double(), label, engine)
    with em.backend(name):
        found = em.posterior(problem, logits.to(device), label.to(device), engine)
    if not torch.equal(found.possible.cpu(), expected.possible):
        return float("inf")
    rows = expected.possible
    errors = (
        found.marginals.cpu() - expected.marginals,
        (found.log_evidence.cpu() - expected.log_evidence)[rows] / logits[0, ..., 0].numel(),
    )
    largest = [float(error.abs().max()) for error in errors]
    # max() would drop a NaN that comes second.
    return float("inf") if any(value != value for value in largest) else max(largest)


Check = tuple[em.Problem, Tensor, Tensor, em.Engine | None]


def _sums() -> Check:
    """Return rows of a half-trained net; the last label, 19999, is no sum of two numbers of four digits."""
    problem, generator = em.Addition(n_digits=4), torch.Generator().manual_seed(0)
    z = torch.randint(0, problem.base, (33, *problem.latent_shape), generator=generator)
    logits = 3 * torch.randn(*z.shape, problem.base, generator=generator)
    label = problem.label(z)
    label[-1] = torch.tensor([1, 9, 9, 9, 9])
    return problem, logits, label, None


def _boards() -> list[Check]:
    """Return boards of 4x4 for the exact engine and for messages; the last board has two equal givens in a row."""
    problem, generator = em.Sudoku(4), torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 4, 4, generator=generator)
    logits[-1, 0, :2] = torch.tensor([0.0, *[float("-inf")] * 3])
    label = torch.ones(5, dtype=torch.int64)
    return [(problem, logits, label, engine) for engine in (em.Exact(), em.BeliefPropagation(iterations=2))]


def _show(report: Report) -> None:
    sections = [
        ("Versions", [[name, value] for name, value in report["versions"].items()]),
        ("Devices", [[line] for line in report["devices"]]),
        ("CPU kernels", _cpu_kernel_rows(report["cpu kernels"])),
        ("Variables", [[name, value] for name, value in report["variables"].items()]),
        ("Ops", _op_rows(report["ops"])),
        ("Self-check", [[row["backend"], row["verdict"], row["detail"]] for row in report["checks"]]),
    ]
    show = _show_rich if importlib.util.find_spec("rich") else _show_plain
    show([(title, rows) for title, rows in sections if rows])
    print("All available back ends agree." if report["healthy"] else "A back end does not work: see the self-check.")


def _cpu_kernel_rows(kernels: dict[str, Any]) -> list[list[str]]:
    if not kernels:
        return []
    cache = kernels["cache"]
    where = f"{cache['folder']}, {'writable' if cache['writable'] else 'cannot be written'}"
    kept = f"{cache['files']} files, {cache['mebibytes']:.1f} MiB"
    damaged = f", {cache['damaged']} damaged: their kernels are compiled anew" if cache["damaged"] else ""
    nowhere = "no place for machine code: set NUMBA_CACHE_DIR to a folder that can be written"
    return [
        ["vectors", f"{kernels['vector bits'] or 'unknown number of'} bits"],
        ["cache", f"{where}: {kept}{damaged}" if cache["folder"] else nowhere],
    ]


def _op_rows(routes: list[dict[str, str]]) -> list[list[str]]:
    """Return a heading, and one row an op: its name, its back end on every kind of device, and remarks."""
    by_op: dict[str, list[dict[str, str]]] = {}
    for route in routes:
        by_op.setdefault(route["op"], []).append(route)
    heading = ["op", *(f"{device} tensors" for device in BY_DEVICE), ""]
    rows = [
        [
            op,
            *(route["backend"] for route in found),
            "; ".join(dict.fromkeys(r["remark"] for r in found if r["remark"])),
        ]
        for op, found in by_op.items()
    ]
    return [heading, *rows]


def _show_plain(sections: Sequence[tuple[str, list[list[str]]]]) -> None:
    for title, rows in sections:
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        print(title)
        for row in rows:
            print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        print()


def _show_rich(sections: Sequence[tuple[str, list[list[str]]]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    colours = {"agrees": "green", "differs": "red", "fails": "red", "unavailable": "yellow"}
    for title, rows in sections:
        view = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
        for row in rows:
            view.add_row(*[Text(text, style=colours.get(text, "")) for text in row])
        console.print(view)
        console.print()


if __name__ == "__main__":
    raise SystemExit(main())
