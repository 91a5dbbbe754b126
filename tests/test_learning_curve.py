"""The figure of a training run: whole epochs, every record, and both objectives with one sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

matplotlib_figure = pytest.importorskip("matplotlib.figure")
from emnesy_gpu.tasks.files import learning_curve  # noqa: E402


def records(epochs: int) -> list[dict[str, Any]]:
    figures = {"accuracy": 0.5, "loss": 2.0, "log_evidence": -1.5, "seconds_e": 0.25, "seconds_m": 1.0}
    return [{"epoch": epoch, **figures} for epoch in range(1, epochs + 1)]


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function from a history to the axes of its figure."""
    kept: list[Any] = []
    original = matplotlib_figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib_figure.Figure, "savefig", lambda figure, *a, **k: (kept.append(figure), original(figure, *a, **k))
    )

    def draw(history: list[dict[str, Any]]) -> list[Any]:
        learning_curve.save_learning_curve(tmp_path / "curve.png", history, "title", {"rows": "accuracy"}, "row")
        return kept[-1].axes

    return draw


@pytest.mark.parametrize("epochs", [1, 2, 3, 200])
def test_only_whole_epochs_are_labelled(drawn: Any, epochs: int) -> None:
    for axes in drawn(records(epochs)):
        least, most = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if least <= tick <= most]
        assert ticks
        assert all(tick == int(tick) for tick in ticks)


def test_a_single_epoch_is_seen(drawn: Any) -> None:
    accuracy, objective, _ = drawn(records(1))
    assert all(line.get_marker() not in (None, "None", "") for line in [*accuracy.lines, *objective.lines])


def test_loss_and_evidence_have_one_sign(drawn: Any) -> None:
    loss, evidence = drawn(records(3))[1].lines
    assert (loss.get_ydata()[0], evidence.get_ydata()[0]) == (2.0, 1.5)
    assert [line.get_label() for line in (loss, evidence)] == ["M-step loss: 2.000", "-log p(label): 1.500"]


def test_figures_that_are_missing_or_infinite_are_left_out(drawn: Any) -> None:
    history = records(3)
    history[0]["log_evidence"], history[1]["log_evidence"] = None, float("-inf")
    del history[2]["accuracy"]
    accuracy, objective, _ = drawn(history)
    assert len(accuracy.lines[0].get_xdata()) == 2
    assert list(objective.lines[1].get_xdata()) == [3]
