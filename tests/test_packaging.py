"""The package as users get it: wheel, sdist, editable installs, an uninstalled checkout, and its import."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import emnesy_gpu

ROOT = Path(__file__).parent.parent

POSTERIOR = """
import json, sys, torch, emnesy_gpu as em
post = em.posterior(em.Addition(1), torch.zeros(1, 2, 1, 10), torch.tensor([[0, 1]]))
import emnesy_gpu.kernels
print(json.dumps({
    "marginals": post.marginals[0, 0, 0].tolist(), "package": em.__file__, "kernels": emnesy_gpu.kernels.__file__,
}))
"""


def run(*command: object, cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "TRITON_INTERPRET")}
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean | environment, text=True, capture_output=True
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without what builds and tests leave behind."""
    folder = tmp_path_factory.mktemp("source") / "checkout"
    keep = ("emnesy_gpu", "kernels", "tests", "profiling")
    ignore = shutil.ignore_patterns("__pycache__", "results")
    for name in keep:
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def distributions(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    return {"sdist": next(folder.glob("*.tar.gz")), "wheel": next(folder.glob("*.whl"))}


def fresh_environment(folder: Path) -> Path:
    """A virtual environment that sees this one's dependencies, but not its installed emnesy_gpu."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def install(python: Path, *arguments: object) -> None:
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, *arguments, cwd=python.parent)


@pytest.fixture(scope="module")
def compiled(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another copy, in which the kernel of the posterior has been compiled; Numba's cache is good for copies of it."""
    folder = tmp_path_factory.mktemp("compiled")
    shutil.copytree(source, folder / "checkout")
    check_posterior(fresh_environment(folder / "environment"), folder / "checkout")
    return folder / "checkout"


def check_posterior(python: Path | str, cwd: Path) -> dict[str, str]:
    result = json.loads(run(python, "-c", POSTERIOR, cwd=cwd))
    assert result["marginals"][:3] == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)
    return result


def test_wheel_runs_outside_the_checkout(distributions: dict[str, Path], tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "environment")
    install(python, distributions["wheel"])
    result = check_posterior(python, tmp_path)
    assert Path(result["package"]).is_relative_to(tmp_path / "environment")
    assert Path(result["kernels"]) == Path(result["package"]).parent / "kernels" / "__init__.py"


def test_wheel_and_sdist_hold_every_source_file(distributions: dict[str, Path]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "emnesy_gpu").rglob("*.py")}
    kernels = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kernels").rglob("*.py")}
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        names = set(wheel.namelist())
    assert modules | {f"emnesy_gpu/{name}" for name in kernels} | {"emnesy_gpu/py.typed"} <= names
    assert not any(name.startswith(("kernels/", "tests/")) for name in names)
    with tarfile.open(distributions["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert modules | kernels | {"LICENSE", "README.md", "tests/conftest.py"} <= names


@pytest.mark.parametrize("mode", ["lenient", "strict", "compat"])
def test_editable_installs(compiled: Path, mode: str, tmp_path: Path) -> None:
    """The first run is in the folder that holds the checkout, which has the name of the package, as git clones it."""
    checkout = tmp_path / "emnesy_gpu"
    shutil.copytree(compiled, checkout)
    python = fresh_environment(tmp_path / "environment")
    install(python, "--config-settings", f"editable_mode={mode}", "--editable", checkout)
    check_posterior(python, tmp_path)
    check_posterior(python, checkout)


def test_uninstalled_checkout(compiled: Path, tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "environment")
    assert Path(check_posterior(python, compiled)["package"]) == compiled / "emnesy_gpu" / "__init__.py"


def test_bare_import_of_kernels_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"import it as 'emnesy_gpu\.kernels'"):
        run(sys.executable, "-c", "import kernels", cwd=ROOT)


IMPORT = """
import sys, time, torch
start = time.perf_counter()
import emnesy_gpu
seconds = time.perf_counter() - start
lazy = [name for name in ("triton", "cupy", "numba", "sklearn", "rich", "matplotlib", "click") if name in sys.modules]
print(seconds, torch.cuda.is_initialized(), *lazy)
"""


def test_import_is_light() -> None:
    """Nothing heavy is loaded and no driver is touched; the benchmarks hold the seconds."""
    _, cuda, *lazy = run(sys.executable, "-c", IMPORT, cwd=ROOT).split()
    before = run(sys.executable, "-c", IMPORT.replace("import emnesy_gpu", ""), cwd=ROOT).split()[2:]
    assert cuda == "False"
    assert set(lazy) <= set(before)


def test_version_and_public_names(distributions: dict[str, Path]) -> None:
    assert f"-{emnesy_gpu.__version__}-" in distributions["wheel"].name
    assert all(hasattr(emnesy_gpu, name) for name in emnesy_gpu.__all__)
