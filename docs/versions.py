"""The site of several versions side by side: make docs-versions TAGS="v0.1.0 v0.2.0".

Every tag is unpacked from the history and built by its own settings, into build/versions/VERSION; the working tree is
one version more. Pages link the other versions, as far as their settings know how, and the start page leads to the
newest.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

NAMES = "EMNESY_SITE_VERSIONS"
"""The environment variable with the names of all versions, newest first, for the settings of Sphinx."""

START = (
    '<!doctype html><meta http-equiv="refresh" content="0; url={version}/docs/index.html"><title>emnesy_gpu</title>\n'
)


def version_of(source: Path) -> str:
    """Return the version that a source tree says it has."""
    return re.search(r'"(.+)"', (source / "emnesy_gpu" / "version.py").read_text())[1]  # type: ignore[index]


def unpack(root: Path, tag: str, folder: Path) -> Path:
    """Write the files of a tag into a new folder, and return it."""
    archive = subprocess.run(["git", "archive", tag], cwd=root, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as file:
        file.extractall(folder, filter="data")
    return folder


def build(source: Path, out: Path, versions: Sequence[str]) -> None:
    """Build the site of a source tree; an error of Sphinx ends the call."""
    environment = {**os.environ, NAMES: " ".join(versions), "PYTHONPATH": str(source)}
    sphinx = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    subprocess.run([*sphinx, "-c", "docs", ".", str(out)], cwd=source, env=environment, check=True)


def build_all(root: Path, tags: Sequence[str], out: Path) -> list[str]:
    """Build the working tree and the tags, and return their versions, newest first: tags are given oldest first."""
    with tempfile.TemporaryDirectory() as folder:
        sources = [root] + [unpack(root, tag, Path(folder) / tag) for tag in reversed(tags)]
        named = {version_of(source): source for source in reversed(sources)}
        versions = list(reversed(named))
        for version, source in named.items():
            build(source, (out / version).resolve(), versions)
    (out / "index.html").write_text(START.format(version=versions[0]))
    return versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tags", nargs="*", help="tags, oldest first")
    root = Path(__file__).parent.parent
    out = root / "build" / "versions"
    versions = build_all(root, parser.parse_args().tags, out)
    print(f"built {', '.join(versions)}: open {out / 'index.html'}")


if __name__ == "__main__":
    main()
