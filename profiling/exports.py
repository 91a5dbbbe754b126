"""The CSV exports of Nsight Systems and Nsight Compute as rows of numbers, and as tables.

Known: ``nsys stats --format csv`` of cuda_gpu_kern_sum, nvtx_sum and nvtx_gpu_proj_sum; ``ncu --csv`` with
``--page raw`` or ``--page details``. A file may hold several exports and the tools' own messages between them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

Value = str | float | None
Row = dict[str, Value]

# The columns that tell an export, the more particular ones first.
HEADERS = {
    "nsys kernels": {"Time (%)", "Total Time (ns)", "Instances", "Med (ns)", "Name"},
    "nsys ranges": {"Time (%)", "Total Time (ns)", "Instances", "Med (ns)", "Style", "Range"},
    "nsys projected ranges": {"Range", "Total Proj Time (ns)", "Range Instances", "Proj Med (ns)"},
    "ncu details": {"ID", "Kernel Name", "Metric Name", "Metric Unit", "Metric Value"},
    "ncu raw": {"ID", "Kernel Name", "Block Size", "Grid Size"},
}

# Seconds, bytes and hertz, whatever prefix the export chose.
UNITS = {
    "ns": 1e-9, "nsecond": 1e-9, "us": 1e-6, "usecond": 1e-6, "ms": 1e-3, "msecond": 1e-3, "s": 1.0, "second": 1.0,
    "byte": 1.0, "Kbyte": 1e3, "Mbyte": 1e6, "Gbyte": 1e9, "Tbyte": 1e12,
}  # fmt: skip

# Column of the kernel table -> metric names, in order of preference: details page, raw page, raw page of newer GPUs.
NCU_COLUMNS = {
    "duration us": ("Duration", "gpu__time_duration.sum"),
    "dram read MB": ("dram__bytes_read.sum", "dram__bytes_op_read.sum"),
    "dram written MB": ("dram__bytes_write.sum", "dram__bytes_op_write.sum"),
    "L1 sectors read": ("l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",),
    "L1 sectors written": ("l1tex__t_sectors_pipe_lsu_mem_global_op_st.sum",),
    "L2 sectors read": ("lts__t_sectors_srcunit_tex_op_read.sum", "lts__t_sectors_op_read.sum"),
    "L2 sectors written": ("lts__t_sectors_srcunit_tex_op_write.sum", "lts__t_sectors_op_write.sum"),
    "warp instructions": ("smsp__inst_executed.sum",),
    "memory %": ("Memory Throughput %", "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed"),
    "SM %": ("Compute (SM) Throughput", "sm__throughput.avg.pct_of_peak_sustained_elapsed"),
    "registers": ("Registers Per Thread", "launch__registers_per_thread"),
    "occupancy %": ("Achieved Occupancy", "sm__warps_active.avg.pct_of_peak_sustained_active"),
}
SCALE = {"duration us": 1e6, "dram read MB": 1e-6, "dram written MB": 1e-6}


@dataclass(frozen=True)
class Export:
    """One export: ``kind`` is a key of HEADERS; numbers are floats, in seconds and bytes where a unit is given."""

    kind: str
    rows: list[Row]


def read(text: str) -> list[Export]:
    """Every export in the text, in order.

    Raises:
        ValueError: none was found.
    """
    exports = []
    lines = iter(list(csv.reader(text.splitlines())))
    for fields in lines:
        kind = _kind(fields)
        if kind is not None:
            exports.append(Export(kind, _rows(kind, fields, lines)))
    if not exports:
        raise ValueError(f"no export of {', '.join(HEADERS)} in this text: {text[:80]!r}")
    return exports


def _kind(fields: Sequence[str]) -> str | None:
    return next((kind for kind, columns in HEADERS.items() if columns <= set(fields)), None)


def _rows(kind: str, header: Sequence[str], lines: Iterator[list[str]]) -> list[Row]:
    """The rows up to the first line of another width."""
    body = []
    for fields in lines:
        if len(fields) != len(header):
            break
        body.append(fields)
    if kind == "ncu details":
        return _pivot([dict(zip(header, fields, strict=True)) for fields in body])
    if kind == "ncu raw":
        units, *body = body
        return [_launch(header, fields, units) for fields in body]
    return [{name: number(cell) for name, cell in zip(header, fields, strict=True)} for fields in body]


def number(cell: str, unit: str = "") -> Value:
    """A float in the base unit; None for a figure that is not there; text as it is."""
    if cell.strip().lower() in ("", "n/a", "nan"):
        return None
    try:
        return float(cell.replace(",", "")) * UNITS.get(unit, 1.0)
    except ValueError:
        return cell


def _launch(header: Sequence[str], fields: Sequence[str], units: Sequence[str]) -> Row:
    identity = ("ID", "Kernel Name", "Block Size", "Grid Size")
    cells = zip(header, fields, units, strict=True)
    return {name: cell if name in identity else number(cell, unit) for name, cell, unit in cells}


def _pivot(lines: Sequence[dict[str, str]]) -> list[Row]:
    """One row per launch from one line per metric. "Memory Throughput" comes twice: in % and in bytes per second."""
    launches: dict[str, Row] = {}
    for line in lines:
        launch = launches.setdefault(line["ID"], {"ID": line["ID"], "Kernel Name": line["Kernel Name"]})
        name, unit = line["Metric Name"], line["Metric Unit"]
        if name:
            launch[f"{name} %" if name == "Memory Throughput" and unit == "%" else name] = number(
                line["Metric Value"], unit
            )
    return list(launches.values())


def columns(export: Export) -> list[Row]:
    """The columns worth reading, in units of a reader: microseconds, megabytes, per cent."""
    if export.kind == "nsys kernels":
        return [_times(row, "Name", "Total Time (ns)", "Instances", "Med (ns)") for row in export.rows]
    if export.kind == "nsys ranges":
        return [_times(row, "Range", "Total Time (ns)", "Instances", "Med (ns)") for row in export.rows]
    if export.kind == "nsys projected ranges":
        return [_times(row, "Range", "Total Proj Time (ns)", "Range Instances", "Proj Med (ns)") for row in export.rows]
    return [_ncu_columns(row) for row in export.rows]


def _times(row: Row, name: str, total: str, instances: str, median: str) -> Row:
    return {
        "name": str(row[name]).lstrip(":"),  # the colon ends the name of the default NVTX domain
        "instances": row[instances],
        "total us": _scaled(row[total], 1e-3),
        "median us": _scaled(row[median], 1e-3),
    }


def _ncu_columns(row: Row) -> Row:
    chosen: Row = {"name": row["Kernel Name"]}
    for column, metrics in NCU_COLUMNS.items():
        value = next((row[metric] for metric in metrics if row.get(metric) is not None), None)
        chosen[column] = _scaled(value, SCALE.get(column, 1.0))
    return chosen


def _scaled(value: Value, factor: float) -> Value:
    return value * factor if isinstance(value, float) else value


def markdown(rows: Iterable[Row]) -> str:
    """A table; columns without any value are left out."""
    rows = list(rows)
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)] if rows else ["name"]
    cells = [[_cell(row[name]) for name in names] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (names, ["---"] * len(names), *cells))


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
