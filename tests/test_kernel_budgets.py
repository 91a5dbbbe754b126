"""Every kernel compiles for every architecture and stays inside its budgets."""

from __future__ import annotations

import copy
import importlib
import os
import pkgutil
from typing import Any

import pytest

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("kernels are interpreted, not compiled", allow_module_level=True)

import emnesy_gpu.kernels.gpu
from tests import cuda_c, kernel_budgets
from tests.kernel_registry import ENTRIES, Entry
from tests.static_checks import NVIDIA_ARCHITECTURES, compile_for_amd, widest_access
from tests.triton_launches import not_launched

OTHER_VERSIONS = ("3.6", "3.7")
"""Of Triton, with a table of their own."""


def marked(entry: Entry, arch: int | None) -> Any:
    """sm_80 and sm_90 are compiled for the simulator anyway; other targets get the smallest entry of every kernel."""
    quick = not entry.slow and (entry.variants or entry.every_target or arch in (80, 90))
    name = f"{entry}" if arch is None else f"{entry}-sm_{arch}"
    arguments = (entry,) if arch is None else (entry, arch)
    return pytest.param(*arguments, id=name.replace(" ", "-"), marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize(("entry", "arch"), [marked(entry, arch) for entry in ENTRIES for arch in NVIDIA_ARCHITECTURES])
def test_static_budgets(entry: Entry, arch: int) -> None:
    assert kernel_budgets.complaints(entry, arch) == []


@pytest.mark.parametrize("entry", [marked(entry, None) for entry in ENTRIES])
def test_compiles_for_amd(entry: Entry) -> None:
    assert all(launch.asm["hsaco"] for launch in compile_for_amd(entry))


@pytest.mark.parametrize(
    "entry", [pytest.param(e, id=str(e).replace(" ", "-"), marks=[pytest.mark.slow] * e.slow) for e in ENTRIES]
)
def test_executed_instructions_traffic_and_modelled_time(entry: Entry) -> None:
    if not kernel_budgets.same_triton():
        pytest.skip("the table was counted with another version of Triton")
    found = kernel_budgets.count(entry)
    assert list(kernel_budgets.exceeded_counts(found, kernel_budgets.budget_of(entry))) == []


def test_the_table_has_every_entry_and_no_strangers() -> None:
    entries = [*ENTRIES, *cuda_c.ENTRIES]
    names = {str(entry) for entry in entries}
    assert len(entries) == len(names)
    assert set(kernel_budgets.read()["budgets"]) == names


@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_tables_of_other_versions_of_triton_have_no_strangers_and_spill_as_said(version: str) -> None:
    table = kernel_budgets.read(kernel_budgets.table_of(version))
    assert kernel_budgets.minor(table["triton"]) == version
    assert set(table["budgets"]) <= {str(entry) for entry in ENTRIES}
    spilled = {
        (version, name): kernel["spill_bytes"]
        for name, budget in table["budgets"].items()
        for kernel in budget[f"sm_{kernel_budgets.MAIN_ARCHITECTURE}"].values()
        if kernel["spill_bytes"]
    }
    assert spilled == {key: spills for key, spills in kernel_budgets.SPILLS.items() if key[0] == version}


def test_each_version_of_triton_is_compared_with_its_own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ENTRIES[0]
    for version in OTHER_VERSIONS:
        monkeypatch.setattr(kernel_budgets, "this_minor", lambda version=version: version)
        found = copy.deepcopy(kernel_budgets.budget_of(entry)["sm_90"])
        monkeypatch.setattr(kernel_budgets, "measure", lambda entry, arch, found=found: found)
        assert kernel_budgets.complaints(entry, 90) == []
        next(iter(found.values()))["barriers"] += 1
        assert len(kernel_budgets.complaints(entry, 90)) == 1
    monkeypatch.setattr(kernel_budgets, "this_minor", lambda: "3.5")
    assert not kernel_budgets.same_triton()
    assert kernel_budgets.complaints(entry, 90) == []


@cuda_c.needs_nvrtc
@pytest.mark.parametrize("arch", NVIDIA_ARCHITECTURES)
@pytest.mark.parametrize("entry", [pytest.param(e, id=str(e).replace(" ", "-")) for e in cuda_c.ENTRIES])
def test_static_budgets_of_cuda_c(entry: cuda_c.CudaEntry, arch: int) -> None:
    try:
        assert kernel_budgets.complaints(entry, arch) == []
    except RuntimeError as error:
        cuda_c.skip_for_new_nvrtc(error)


@cuda_c.needs_nvrtc
@pytest.mark.parametrize("entry", [pytest.param(e, id=str(e).replace(" ", "-")) for e in cuda_c.ENTRIES])
def test_executed_instructions_of_cuda_c(entry: cuda_c.CudaEntry) -> None:
    if not kernel_budgets.same_compiler(entry):
        pytest.skip("the table was counted with another version of NVRTC or Triton")
    found = kernel_budgets.count(entry)
    assert list(kernel_budgets.exceeded_counts(found, kernel_budgets.budget_of(entry))) == []


def test_spills_and_narrow_loads_are_complaints() -> None:
    budget = {"registers": 60, "spill_bytes": 0, "shared_bytes": 128, "load_bits": 128, "store_bits": 64}
    budget["barriers"] = 3
    found = budget | {"registers": 65, "spill_bytes": 8, "shared_bytes": 256, "load_bits": 64, "barriers": 4}
    assert list(kernel_budgets.exceeded(budget | {"registers": 64, "store_bits": 128}, budget, True)) == []
    assert len(list(kernel_budgets.exceeded(found, budget, True))) == 5
    assert len(list(kernel_budgets.exceeded(found, budget, False))) == 2
    assert len(list(kernel_budgets.exceeded(found, budget, False, spills=8))) == 1


def test_an_entry_with_complaints_fails_the_comparison(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernel_budgets, "complaints", lambda entry, arch: [f"{entry} spills"] * (arch == 90))
    assert kernel_budgets.main(["gibbs", "--arch", "80"]) == 0
    assert kernel_budgets.main(["gibbs", "--arch", "90"]) == 1
    n_entries = sum(entry.stem == "gibbs" for entry in ENTRIES)
    assert f"{n_entries} complaints about {n_entries} entries" in capsys.readouterr().out


def test_more_instructions_and_a_longer_modelled_time_are_complaints() -> None:
    budget = {"simulated": {"thread_instructions": 100.0}, "modelled": {"nanoseconds": 2.0, "limit": "issue"}}
    slower = {"simulated": {"thread_instructions": 100.1}, "modelled": {"nanoseconds": 2.001, "limit": "memory"}}
    faster = {"simulated": {"thread_instructions": 99.9}, "modelled": {"nanoseconds": 1.999, "limit": "memory"}}
    assert len(list(kernel_budgets.exceeded_counts(slower, budget))) == 2
    assert list(kernel_budgets.exceeded_counts(faster, budget)) == []
    assert list(kernel_budgets.exceeded_counts(budget, budget)) == []


def test_width_of_accesses() -> None:
    ptx = "@%p1 ld.global.v2.b32 {%r1, %r2}, [%rd1];\nld.global.L1::evict_last.b16 %rs1, [%rd2];\nst.shared.v4.b32 [%r]"
    assert widest_access(ptx, "ld") == 64
    assert widest_access(ptx, "st") == 0


def test_every_kernel_is_in_the_registry() -> None:
    """Every jit function of kernels/gpu is launched by an entry, given to one, or called by a kernel that is."""
    reached: set[Any] = set()
    given = [value for kernel, options in all_launches() for value in (kernel, *options.values())]
    waiting = [value for value in given if hasattr(value, "arg_names")]
    while waiting:
        function = waiting.pop()
        reached.add(function)
        waiting += called_by(function) - reached
    names = {f"{function.fn.__module__}.{function.fn.__name__}" for function in jit_functions() - reached}
    assert names == set()


def test_every_launch_says_whether_multiplications_and_additions_are_fused() -> None:
    """The results depend on it, and the default of Triton on its version."""
    silent = {kernel.fn.__name__ for kernel, options in all_launches() if "enable_fp_fusion" not in options}
    assert silent == set()


def all_launches() -> list[tuple[Any, dict[str, Any]]]:
    with not_launched() as launches:
        for entry in ENTRIES:
            entry.run("kernels.gpu", entry.draw())
    return launches


def called_by(function: Any) -> set[Any]:
    names = function.fn.__code__.co_names
    return {value for name in names if hasattr(value := function.fn.__globals__.get(name), "arg_names")}


def jit_functions() -> set[Any]:
    """Every jit function of every module of kernels/gpu."""
    package = emnesy_gpu.kernels.gpu
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    spaces = [vars(importlib.import_module(name)) for name in modules]
    return {value for space in spaces for value in space.values() if hasattr(value, "arg_names")}
