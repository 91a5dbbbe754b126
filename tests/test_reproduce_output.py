"""Tables and figures of reproduced experiments; every record in this file is made up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from emnesy_gpu.reproduce import figures, rows, summaries, tables
from emnesy_gpu.reproduce.methods import METHODS
from emnesy_gpu.tasks.registry import TASKS

MIB = 2**20
Record = dict[str, Any]


def training(method: str, seed: int = 0, task: str = "addition", size: int = 4, **changes: Any) -> Record:
    accuracies = (0.3, 0.6, 0.9 + 0.01 * seed)
    history = [
        {"epoch": epoch, "cpu_minutes": 0.5 * epoch, "accuracy": accuracy, "loss": 1.0, "log_evidence": -1.0}
        for epoch, accuracy in enumerate(accuracies, 1)
    ]
    record = {
        "kind": "training",
        "task": task,
        "size": size,
        "method": method,
        "seed": seed,
        "augment": True,
        "batch": None,
        "status": "done",
        "limit_minutes": 30.0,
        "error": None,
        "figures": {"accuracy": accuracies[-1]},
        "epochs": 3,
        "epochs_planned": 3,
        "minutes": 1.6,
        "cpu_minutes": 1.5 + seed,
        "seconds_per_epoch": 5.0,
        "seconds_e_per_epoch": 1.0,
        "seconds_m_per_epoch": 4.0,
        "peak_e_step_bytes": (2 + seed) * MIB,
        "peak_process_bytes": 100 * MIB,
        "history": history,
        "machine": {"cpu": "Imagined CPU", "threads": 1},
    }
    return record | changes


def stopped(method: str, status: str, seed: int = 0, **changes: Any) -> Record:
    """As a campaign writes it for a child that did not come to its end: without figures and times."""
    kept = ("kind", "task", "size", "method", "seed", "augment", "batch", "limit_minutes", "error")
    whole = training(method, seed)
    return {name: whole[name] for name in kept} | {"status": status, "epochs": 1, "figures": {}} | changes


def e_step(method: str, size: int = 15, task: str = "addition", **changes: Any) -> Record:
    seconds = {"bp-std": 0.012, "torch": 0.006, "exact": 0.001, "bp": 0.002}[method]
    peak = {"bp-std": 40, "torch": 20, "exact": 4, "bp": 8}[method] * MIB
    record = {"kind": "e_step", "task": task, "size": size, "batch": 64, "method": method, "status": "done"}
    record |= {"seconds": seconds, "peak_bytes": peak, "deviation": 2e-7, "limit_minutes": 30.0, "error": None}
    return record | {"machine": {"cpu": "Imagined CPU", "threads": 1}} | changes


def ours(records: list[Record]) -> list[rows.Row]:
    return [row for row in rows.rows(records) if not row.source]


def test_no_records(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert tables.markdown([]) == "# Tables of the campaign\n\nNo finished experiments.\n"
    assert rows.rows([]) == [] == rows.e_step_rows([])
    assert figures.write([], tmp_path) == [] == list(tmp_path.iterdir())


def test_mean_and_deviation_over_seeds() -> None:
    (row,) = ours([training("exact", seed) for seed in (2, 0, 1)])
    assert (row.method, row.seeds, row.accuracy, row.minutes) == (
        "EM, exact, fused",
        "3",
        "91.00 ± 1.00",
        "2.50 ± 1.00",
    )
    assert (row.e_seconds, row.m_seconds, row.peak_e_step, row.peak_process) == ("1", "4", "4", "100")


def test_one_seed_has_no_deviation() -> None:
    (row,) = ours([training("exact")])
    assert (row.seeds, row.accuracy) == ("1", "90.00")


def test_an_experiment_that_was_run_again_counts_once() -> None:
    (row,) = ours([stopped("exact", "failed", error="boom"), training("exact")])
    assert (row.seeds, row.accuracy) == ("1", "90.00")


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        ("timeout", None, "T/O (limit 30 min)"),
        ("out_of_memory", "killed", "out of memory"),
        ("diverged", "diverged: in epoch 3", "diverged"),
        ("failed", "Traceback\n  somewhere\nValueError: odd", "failed: ValueError: odd"),
        ("failed", None, "failed: no reason given"),
    ],
)
def test_experiments_without_a_result_say_why(status: str, error: str | None, words: str) -> None:
    (row,) = ours([stopped("torch", status, error=error)])
    assert (row.accuracy, row.seeds, row.minutes, row.e_seconds) == (words, "0 of 1", "-", "-")
    both = [training("torch"), stopped("torch", status, 1, error=error)]
    (row,) = ours(both)
    assert (row.accuracy, row.seeds) == ("90.00", f"1 of 2: 1 {words}")


def test_long_reasons_are_cut_and_keep_the_table_whole() -> None:
    record = stopped("torch", "failed", error="a | b <c> " * 30)
    assert len(rows.outcome(record)) < 110
    line = next(line for line in tables.markdown([record]).splitlines() if "failed:" in line)
    assert "a \\| b &lt;c>" in line
    heading = next(line for line in tables.markdown([record]).splitlines() if line.startswith("| method"))
    assert len(re.findall(r"(?<!\\)\|", line)) == heading.count("|")


def test_variations_have_rows_of_their_own_in_the_order_of_methods() -> None:
    records = [
        training("abc"),
        training("exact", batch=8),
        training("exact", augment=False),
        training("exact"),
        training("bp-std"),
    ]
    assert [row.method for row in ours(records)] == [
        "BP-std (autograd)",
        "EM, exact, fused",
        "EM, exact, fused, no augmentation",
        "EM, exact, fused, batch 8",
        "ABC-EM",
    ]


def test_tables_of_sizes_with_and_without_published_rows() -> None:
    text = tables.markdown([training("exact", size=7), training("exact", size=100)])
    seven, hundred = text.split("## ")[1:]
    assert seven.startswith("7-digit addition (MNIST)")
    assert "Nothing published is known" in seven
    assert "source" not in seven
    assert "| *DeepProofLog, exact* | - | 37.8 ± 2.9 |" in hundred
    assert "105.8 †" in hundred
    assert "| *A-NeSI, rerun* | - | overflow |" in hundred
    assert "EM-NeSy page (secondary)" in hundred
    for part in (seven, hundred):
        assert "no tolerance" in part
        assert "Imagined CPU, 1 thread(s)" in part


def test_tables_have_blocks_by_recipe_and_by_source() -> None:
    records = [training("exact"), training("exal"), training("exal", published=True)]
    text = tables.markdown(records)
    blocks = [line.strip("*") for line in text.splitlines() if line.startswith("**")]
    assert blocks == [summaries.OURS, summaries.THEIRS, summaries.PUBLISHED]
    ours, theirs, _ = (part.splitlines() for part in text.split("**")[2::2])
    assert [line.split(" | ")[0] for line in ours if "EXAL" in line] == ["| EXAL, re-implementation"]
    assert [line.split(" | ")[0] for line in theirs if "EXAL" in line] == ["| EXAL, re-implementation, recipe of EXAL"]
    again = text.split("## Published systems, run here\n")[1]
    assert "| 4-digit addition | EXAL | 91.65 ± 0.57 | 90.00 (1) | 90.00 (1) | 90.00 (1) |" in again
    assert "## Published systems, run here" not in tables.markdown([training("abc", size=1)])
    assert "Adam at a constant rate" in text
    assert "Adam at a constant rate" not in tables.markdown(records[:2])


@pytest.mark.parametrize(
    ("task", "size", "name", "usual", "tolerance"),
    [("sudoku", 9, "boards", "regenerated", "no tolerance"), ("warcraft", 12, "maps", "synthetic", "tolerance 0")],
)
def test_tables_say_where_the_data_are_from(task: str, size: int, name: str, usual: str, tolerance: str) -> None:
    method = TASKS[task].default_method(size)
    silent = tables.markdown([training(method, task=task, size=size)])
    assert f"{size}x{size} ({usual} {name})" in silent
    assert "orientation only" in silent
    assert tolerance in silent
    told = tables.markdown([training(method, task=task, size=size, figures={"accuracy": 0.5, name: "original"})])
    assert f"{size}x{size} (original {name})" in told
    assert "orientation only" not in told


def test_further_readings() -> None:
    figures = {"accuracy": 0.9, "digit_accuracy": 0.99, "sum_accuracy_20": 0.8, "data": "digits", "test_sums": 50}
    text = tables.markdown([training("exact", figures=figures)])
    assert "4-digit addition (digits)" in text
    assert "digits 99.00, 20 groupings 80.00" in text
    assert "50 test sums: one is 2.0 points" in text


def test_e_step_ratios() -> None:
    (row,) = rows.e_step_rows([e_step(method) for method in ("exact", "torch", "bp-std")])
    assert row.columns == ("15", "64", "12", "6", "1", "12.0", "6.0", "40", "20", "4", "10.0", "2e-07")
    text = tables.markdown([e_step("exact")])
    assert "## One E-step of addition" in text
    assert "Median wall time" in text


def test_e_steps_without_a_result() -> None:
    killed = e_step("bp-std", status="out_of_memory", seconds=None, peak_bytes=None)
    (row,) = rows.e_step_rows([e_step("exact"), killed])
    assert (row.bp_std_ms, row.torch_ms, row.bp_std_ratio, row.memory_ratio) == ("out of memory", "-", "-", "-")
    (row,) = rows.e_step_rows([e_step("exact"), e_step("bp-std", status="timeout") | {"method": ""}])
    assert (row.bp_std_ms, row.torch_ms, row.fused_ms) == ("T/O (limit 30 min)", "T/O (limit 30 min)", "1")
    (row,) = rows.e_step_rows([e_step("exact", peak_bytes=0), e_step("bp-std", peak_bytes=None)])
    assert (row.bp_std_mib, row.fused_mib, row.memory_ratio) == ("-", "0", "-")


def test_loopy_messages_are_compared_with_autograd_through_them() -> None:
    records = [e_step(method, 4, "sudoku") for method in ("bp-std", "exact", "bp")]
    (row,) = rows.e_step_rows(records)
    assert (row.fused_ms, row.bp_std_ratio) == ("2", "6.0")


def test_published_rows() -> None:
    published = rows.published()
    names = {"task", "size", "method", "accuracy", "sd", "minutes", "memory", "runs", "outcome", "source"}
    known = {"addition": {4, 15, 100, 200, 500}, "sudoku": {4, 9}, "warcraft": {12, 30}}
    for row in published:
        assert set(row) - {"rerun"} == names
        assert row.get("rerun", "exact") in METHODS
        assert row["size"] in known[row["task"]]
        assert row["source"]
        assert row["method"]
        assert (row["accuracy"] is None) == bool(row["outcome"])
        assert row["accuracy"] is None or 0 <= row["accuracy"] <= 100
        for name in ("sd", "minutes", "memory", "runs"):
            assert row[name] is None or row[name] > 0
    keys = [(row["task"], row["size"], row["method"]) for row in published]
    assert len(set(keys)) == len(keys)
    assert {key[:2] for key in keys} == {(task, size) for task, sizes in known.items() for size in sizes}


def test_methods_are_told_apart() -> None:
    assert len({method.name for method in METHODS.values()}) == len(METHODS)
    drawn = [method for method in METHODS.values() if not method.rival]
    for values in zip(*((method.colour, method.marker) for method in drawn), strict=True):
        assert len(set(values)) == len(drawn)
    for task, size in (("addition", 4), ("sudoku", 4), ("sudoku", 9), ("warcraft", 12)):
        assert TASKS[task].default_method(size) in METHODS


def campaign() -> list[Record]:
    """A bit of everything: two seeds, variations, several M-steps, a time-out, E-steps that ran out of memory."""
    records = [training(method, seed) for method in ("exact", "bp-std", "multi-m-2") for seed in (0, 1)]
    records += [training("exact", batch=8), training("exact", augment=False), stopped("torch", "timeout")]
    records += [training("bp", task="sudoku", size=9), training("abc", task="warcraft", size=12)]
    records += [e_step(method, size) for method in ("bp-std", "torch", "exact") for size in (4, 15)]
    killed = {"status": "out_of_memory", "seconds": None, "peak_bytes": None}
    return [*records, e_step("exact", 100), e_step("bp-std", 100, **killed)]


def test_figures(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    paths = figures.write(campaign(), tmp_path)
    names = ["time_and_memory", "accuracy_against_minutes", "e_step_share", "multi_m"]
    assert paths == [tmp_path / f"{name}.png" for name in names]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    for path in paths:
        width, _ = png_size(path)
        assert width == figures.WIDTH * figures.DPI
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("records", "names"),
    [
        ([e_step("exact")], ["time_and_memory"]),
        ([e_step("exact", peak_bytes=None), e_step("bp-std")], ["time_and_memory"]),
        ([e_step("bp-std")], []),
        ([e_step("bp", 9, "sudoku")], []),
        ([training("exact")], ["accuracy_against_minutes", "e_step_share"]),
        ([training("exact", history=[])], ["e_step_share"]),
        ([training("multi-m-5")], ["accuracy_against_minutes", "e_step_share", "multi_m"]),
        ([stopped("exact", "timeout"), stopped("torch", "failed", error="boom")], []),
    ],
)
def test_figures_without_records_are_left_out(tmp_path: Path, records: list[Record], names: list[str]) -> None:
    pytest.importorskip("matplotlib")
    assert [path.stem for path in figures.write(records, tmp_path)] == names


def test_systems_stand_side_by_side_in_one_figure(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rivals = [training("exal"), training("exal", 1), training("exal", published=True), stopped("a-nesi", "timeout")]
    paths = figures.write([*campaign(), *rivals], tmp_path)
    assert [path.stem for path in paths][-1] == "systems"
    (axes,) = figures.systems([training("exact"), training("bp-std"), *rivals]).axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[:3] == [
        "EM, exact, fused",
        "EXAL, re-implementation",
        "EXAL, re-implementation, recipe of EXAL",
    ]
    assert "DeepProofLog, exact" in labels
    assert not {"BP-std (autograd)", "A-NeSI, predict-only, re-implementation"} & set(labels)


def test_curves_are_means_over_seeds() -> None:
    pytest.importorskip("matplotlib")
    records = [training("exact", seed) for seed in (0, 1)]
    records[1]["history"] = [point | {"cpu_minutes": 2 * point["cpu_minutes"]} for point in records[1]["history"][:2]]
    figure = figures.accuracy_against_minutes(records)
    (centre,), (band,) = figure.axes[0].get_lines(), figure.axes[0].collections
    assert centre.get_xdata() == pytest.approx([0.75, 1.5])
    assert centre.get_ydata() == pytest.approx([30, 60])
    assert band.get_datalim(figure.axes[0].transData).ymax == pytest.approx(60)
    assert centre.get_color() == METHODS["exact"].colour


def test_figures_show_ratios_and_why_a_curve_ends() -> None:
    pytest.importorskip("matplotlib")
    time, memory = figures.time_and_memory(campaign()).axes
    assert {text.get_text() for text in time.texts} == {"12x", "100: out of memory"}
    assert {text.get_text() for text in memory.texts} == {"10.0x", "100: out of memory"}


def test_variations_of_a_method_differ_in_dashes() -> None:
    pytest.importorskip("matplotlib")
    dashes = figures.dashes(summaries.trainings(campaign()))
    exact = {variant.label: dash for variant, dash in dashes.items() if variant.method == "exact"}
    assert exact["EM, exact, fused"] == "-"
    assert len({str(dash) for dash in exact.values()}) == 3


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
