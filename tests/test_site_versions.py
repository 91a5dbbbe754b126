"""The site of an older version is built from its tag, and links the newer ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from docs import versions

pytest.importorskip("sphinx")
TEMPLATE = Path(versions.__file__).parent / "templates" / "versions.html"
SETTINGS = """import os
release = "{version}"
root_doc = "docs/index"
templates_path = ["templates"]
html_sidebars = {{"**": ["versions.html"]}}
html_context = {{"site_versions": os.environ["EMNESY_SITE_VERSIONS"].split()}}
"""


def write(root: Path, version: str) -> None:
    (root / "docs" / "templates").mkdir(parents=True, exist_ok=True)
    (root / "emnesy_gpu").mkdir(exist_ok=True)
    (root / "emnesy_gpu" / "version.py").write_text(f'__version__ = "{version}"\n')
    (root / "docs" / "conf.py").write_text(SETTINGS.format(version=version))
    (root / "docs" / "index.rst").write_text(f"This is {version}\n=================\n")
    (root / "docs" / "templates" / "versions.html").write_text(TEMPLATE.read_text())


def test_a_tag_is_built_beside_the_working_tree(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        author = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *author, *words], cwd=root, check=True, capture_output=True)

    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    write(root, "0.1.0")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "First")
    git("tag", "v0.1.0")
    write(root, "0.2.0")
    assert versions.build_all(root, ["v0.1.0"], out) == ["0.2.0", "0.1.0"]
    assert "url=0.2.0/docs/index.html" in (out / "index.html").read_text()
    for version, other in (("0.1.0", "0.2.0"), ("0.2.0", "0.1.0")):
        page = (out / version / "docs" / "index.html").read_text()
        assert f"This is {version}" in page
        assert f'href="../../{other}/docs/index.html"' in page
        assert f"{version} (this one)" in page
