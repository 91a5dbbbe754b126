"""The gallery draws what its page shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")
from emnesy_gpu.cli import main
from emnesy_gpu.gallery.command import PICTURES

DOCS = Path(__file__).parent.parent / "docs"
MOST_BYTES = 3 << 20


def test_the_page_shows_every_picture_and_no_other() -> None:
    shown = re.findall(r"figures/gallery/(\w+)\.(?:png|gif)", (DOCS / "gallery.md").read_text())
    committed = [path.stem for path in (DOCS / "figures" / "gallery").iterdir()]
    assert sorted(shown) == sorted(committed) == sorted(PICTURES)


def test_committed_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in (DOCS / "figures" / "gallery").iterdir()) < MOST_BYTES


def test_pictures_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "automaton", "addition", "nonogram", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "automaton.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "addition.png").stat().st_size > 20_000
    assert (tmp_path / "nonogram.gif").read_bytes().startswith(b"GIF89a")
    assert capsys.readouterr().out.count("written: ") == 3


def test_a_wrong_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "nonogramm"]) == 2
    assert "'nonogramm' is not one of" in capsys.readouterr().err
