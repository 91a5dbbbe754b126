"""Drawings of nodes in levels with arrows between them, by matplotlib."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from emnesy_gpu import checks
from emnesy_gpu.palette import new_figure

MOST_NODES, MOST_EDGES = 80, 200
"""What a picture shows at most: more is not readable."""

SWEEPS = 12
"""Passes over the levels that put nodes near their neighbours."""

INCHES = 1.05
"""Of a unit, which levels are apart."""

SHARES = tuple(i / 100 for i in range(20, 76, 5))
"""Of the way of an arrow, where its words may stand."""

BEST_SHARE, FAR_FROM_BEST, OTHER_ARROW, OTHER_WORDS = 0.35, 1.0, 0.4, 12.0
"""The best place of words, and what other places cost: each unit away from it, each arrow that crosses, all overlap."""

LETTER, LINE_HEIGHT, MARGIN = 0.095, 0.24, 0.08
"""Width of a letter on an arrow, height of a line, and what is left free around words, in units."""

ARROWS_A_LEVEL, STRETCH, MOST_STRETCH = 6, 0.07, 1.5
"""Levels are further apart for each arrow between them beyond a number, up to a limit, in units."""

FILL, LINE = "#dce9f7", "#555555"


class Drawing(NamedTuple):
    """levels: of each node, the highest on top. words: in each node; a dot without any. arrows: words by both ends."""

    levels: list[float]
    words: list[str]
    arrows: dict[tuple[int, int], list[str]]

    def add(self, level: float, words: str) -> int:
        """A new node; returns its number."""
        self.levels.append(level)
        self.words.append(words)
        return len(self.levels) - 1

    def connect(self, source: int, target: int, words: str) -> None:
        """Two nodes have one arrow at most: it gets the words of all."""
        self.arrows.setdefault((source, target), []).append(words)


def check_size(name: str, n_nodes: int, n_edges: int) -> None:
    """Raise ValueError for what is too large to be drawn."""
    if n_nodes > MOST_NODES or n_edges > MOST_EDGES:
        raise ValueError(
            f"a picture takes at most {MOST_NODES} nodes and {MOST_EDGES} edges, and this {name} has {n_nodes} and "
            f"{n_edges}: draw a smaller one of its kind"
        )


def listed(values: Iterable[str]) -> str:
    """Words for several values.

    >>> listed("013"), listed("0123"), listed("0")
    ('0, 1, 3', '0..3', '0')
    """
    found = list(values)
    numbers = [int(value) if value.isdecimal() else None for value in found]
    if len(found) > 3 and numbers[0] is not None and numbers == list(range(numbers[0], numbers[0] + len(found))):
        return f"{found[0]}..{found[-1]}"
    return ", ".join(found)


def indexed(letter: str, indices: Iterable[tuple[int, ...]]) -> list[str]:
    """Names with subscripts, as matplotlib writes formulas; the empty index is the letter alone.

    >>> indexed("z", [(2, 0), ()])
    ['$z_{2,0}$', '$z$']
    """
    return [f"${letter}_{{{','.join(map(str, index))}}}$" if index else f"${letter}$" for index in indices]


def draw(drawing: Drawing, ax: Any = None) -> Any:
    """Draw on the axes of matplotlib, or on those of a new figure; returns the axes.

    Raises ModuleNotFoundError without matplotlib, and TypeError for other axes.
    """
    if ax is not None:
        checks.has_method("ax", ax, "annotate", "axes of matplotlib")
    x = places(drawing)
    y = _heights(drawing)
    place = np.stack([x, y], 1)
    if ax is None:
        ax = new_figure((np.ptp(x) + 2.0) * INCHES, (np.ptp(y) + 1.0) * INCHES).add_subplot()
    middles = word_places(drawing, place)
    for ((source, target), said), place_of_words in zip(drawing.arrows.items(), middles, strict=True):
        way = place[target] - place[source]
        borders = _border(drawing.words[source], way), _border(drawing.words[target], way)
        _draw_arrow(ax, place[source], way, borders)
        box = {"boxstyle": "round,pad=0.08", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        ax.text(*place_of_words, "\nor ".join(said), ha="center", va="center", fontsize=12, bbox=box, zorder=3)
    for (across, up), words in zip(place, drawing.words, strict=True):
        if words:
            box = {"boxstyle": "round,pad=0.3", "facecolor": FILL, "edgecolor": LINE}
            ax.text(across, up, words, ha="center", va="center", fontsize=14, bbox=box, zorder=4)
        else:
            ax.plot(across, up, "o", color=LINE, markersize=8, zorder=4)
    ax.set(xlim=(x.min() - 1.0, x.max() + 1.0), ylim=(y.min() - 0.5, y.max() + 0.5))
    ax.set_axis_off()
    return ax


def _heights(drawing: Drawing) -> NDArray[np.float64]:
    """The height of each node: levels with many arrows below them stand higher above the next."""
    levels, rank = np.unique(drawing.levels, return_inverse=True)
    arrows = np.bincount(rank[[source for source, _ in drawing.arrows]], minlength=len(levels))
    gaps = 1.0 + np.minimum(STRETCH * np.maximum(arrows - ARROWS_A_LEVEL, 0), MOST_STRETCH)
    return np.asarray(np.cumsum(np.where(np.arange(len(levels)) > 0, gaps, 0.0))[rank])


def word_places(drawing: Drawing, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of the words of each arrow [arrows, 2], one after the other where they are least in the way.

    place: of each node [nodes, 2].
    """
    ends = [(place[source], place[target]) for source, target in drawing.arrows]
    boxes = [_box(middle, _width(words), 0.4) for middle, words in zip(place, drawing.words, strict=True)]
    chosen = []
    for index, ((start, stop), said) in enumerate(zip(ends, drawing.arrows.values(), strict=True)):
        size = LETTER * max(map(_letters, said), default=0) + MARGIN, LINE_HEIGHT * len(said)
        others = ends[:index] + ends[index + 1 :]
        costs = [_cost(_box(start + share * (stop - start), *size), share, boxes, others) for share in SHARES]
        chosen.append(start + SHARES[int(np.argmin(costs))] * (stop - start))
        if any(said):
            boxes.append(_box(chosen[-1], *size))
    return np.array(chosen).reshape(-1, 2)


def _box(middle: NDArray[np.float64], width: float, height: float) -> NDArray[np.float64]:
    """Left, lower, right and upper border."""
    half = np.array([width, height]) / 2
    return np.concatenate([middle - half, middle + half])


def _cost(
    box: NDArray[np.float64],
    share: float,
    boxes: list[NDArray[np.float64]],
    arrows: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> float:
    """How much words in a box are in the way: of other words and nodes, and of arrows that cross them."""
    borders = np.array(boxes)
    common = np.minimum(box[2:], borders[:, 2:]) - np.maximum(box[:2], borders[:, :2])
    overlap = np.prod(np.maximum(common, 0.0), axis=1).sum() / np.prod(box[2:] - box[:2])
    steps = np.linspace(0.0, 1.0, 60)[:, None, None]
    starts, stops = np.array(arrows).reshape(-1, 2, 2).swapaxes(0, 1)
    points = starts + steps * (stops - starts)
    crossing = ((points > box[:2]) & (points < box[2:])).all(-1).any(0).sum()
    return float(OTHER_WORDS * overlap + OTHER_ARROW * crossing + FAR_FROM_BEST * abs(share - BEST_SHARE))


def _draw_arrow(ax: Any, source: NDArray[np.float64], way: NDArray[np.float64], borders: tuple[float, float]) -> None:
    """borders: points that are left out at both ends."""
    style = {"arrowstyle": "-|>", "color": LINE, "linewidth": 0.9, "shrinkA": borders[0], "shrinkB": borders[1]}
    ax.annotate("", source + way, source, arrowprops=style, zorder=1)


def _border(words: str, way: NDArray[np.float64]) -> float:
    """Points from the middle of a node to its border, along an arrow."""
    half_width, half_height = (0.5 * _width(words) * INCHES * 72, 15.0) if words else (5.0, 5.0)
    across, up = np.abs(way) / np.hypot(*way)
    return float(min(half_width / max(across, 1e-9), half_height / max(up, 1e-9)))


def places(drawing: Drawing) -> NDArray[np.float64]:
    """The place of each node from left to right: near its neighbours, and apart from others of its level."""
    longest = max((len(words) for said in drawing.arrows.values() for words in said), default=0)
    gap = max(0.55, 0.1 * longest)  # words of arrows stand in it
    levels, widths = np.array(drawing.levels), np.array([gap + _width(words) for words in drawing.words])
    rows = [np.flatnonzero(levels == level) for level in np.unique(levels)]
    x = np.zeros(len(levels))
    for row in rows:
        x[row] = _apart(x[row], widths[row])
    neighbours: list[list[int]] = [[] for _ in levels]
    for source, target in drawing.arrows:
        neighbours[source].append(target)
        neighbours[target].append(source)
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 else rows[::-1]:
            wanted = np.array([np.mean(x[neighbours[node]]) if neighbours[node] else x[node] for node in row])
            order = np.argsort(wanted, kind="stable")
            x[row[order]] = _apart(wanted[order], widths[row[order]])
    return x - x.mean()


def _width(words: str) -> float:
    """Of a node, by its letters; signs of formulas take no place."""
    return 0.22 + 0.115 * _letters(words)


def _letters(words: str) -> int:
    return len(words.translate(dict.fromkeys(map(ord, "${}_"))))


def _apart(wanted: NDArray[np.float64], widths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ascending places moved until nodes of these widths do not overlap, about the same middle."""
    middles = np.cumsum(widths) - widths / 2
    placed = np.maximum.accumulate(wanted - middles) + middles
    return placed + (wanted.mean() - placed.mean())
