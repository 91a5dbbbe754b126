"""Pictures of small circuits and automata: what is drawn, on which axes, and what is too large."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

import emnesy_gpu as em
from emnesy_gpu import logic
from emnesy_gpu.circuits.picture import Names, drawing_of
from emnesy_gpu.layered_drawing import Drawing, places
from tests.circuits import Example, all_examples


def holds(words: str, symbol: str, values: dict[str, int]) -> bool:
    """Whether words such as "0..3", "1, y = 0" or "a = 1, 2, b = 0" agree with values; symbol: what they begin with."""
    allowed: dict[str, set[int]] = {}
    for word in filter(None, words.split(", ")):
        name, _, value = word.rpartition(" = ")
        symbol = name or symbol
        first, _, last = value.partition("..")
        allowed.setdefault(symbol, set()).update(range(int(first), int(last or first) + 1))
    return all(values[name] in some for name, some in allowed.items())


def parts_that_hold(drawing: Drawing, values: dict[str, int]) -> int:
    """The value of the root, read from the words of the picture."""
    found: dict[int, int] = {}
    for node in np.argsort(drawing.levels).tolist():
        words = drawing.words[node]
        ways = [(target, said) for (source, target), said in drawing.arrows.items() if source == node]
        if not ways:
            found[node] = int(words == "1" or holds(words, "", values))
        elif words == "":
            found[node] = int(np.prod([found[target] for target, _ in ways]))
        else:
            found[node] = sum(found[target] * holds(part, words, values) for target, said in ways for part in said)
    return found[max(found, key=drawing.levels.__getitem__)]


@pytest.mark.parametrize("example", all_examples(), ids=str)
def test_the_picture_of_a_circuit_means_the_circuit(example: Example) -> None:
    graph = example.graph
    symbols = [f"z{i}" for i in range(graph.n_symbols)] + [f"y{m}" for m in range(len(graph.given))]
    drawing = drawing_of(graph, Names(symbols, [[str(v) for v in range(size)] for size in graph.given]))
    for z in itertools.islice(itertools.product(range(graph.n_values), repeat=graph.n_symbols), 200):
        for label in itertools.product(*map(range, graph.given)):
            values = dict(zip(symbols, (*z, *label), strict=True))
            assert parts_that_hold(drawing, values) == int(example.label(z) == label)


def test_nodes_of_one_level_do_not_overlap() -> None:
    drawing = Drawing([2.0, 1.0, 1.0, 1.0], ["a", "b = 0, c = 1", "b", "c"], {(0, n): ["0"] for n in (1, 2, 3)})
    x = np.sort(places(drawing)[1:])
    assert np.diff(x).min() >= 0.5
    assert abs(places(drawing)[0] - x.mean()) < 1.0


def test_words_of_arrows_overlap_neither_each_other_nor_nodes() -> None:
    pytest.importorskip("matplotlib")
    for picture in (em.rules.modulo(3, 4, base=4), em.rules.all_different(3, 4), em.rules.exactly(5, 3, [1], 2)):
        ax = picture.plot()
        ax.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
        overlaps = [(a, b) for a, b in itertools.combinations(boxes, 2) if a.shrunk(0.9, 0.9).overlaps(b)]
        assert not overlaps


def written(axes) -> set[str]:
    return {text.get_text() for text in axes.texts} - {""}


def test_pictures_name_symbols_values_and_labels() -> None:
    pytest.importorskip("matplotlib")
    board = logic.symbols((1, 2), cardinality=3)
    assert {"$z_{0,0}$", "0, 1", "2"} <= written(em.Circuit(board[0, 0] != 2).plot())
    sums = em.Circuit.from_program(lambda s, v, i: s + v, 2, 2, lambda s: "abc"[s])
    assert {"$z_{0}$", "$z_{1}$", "$y$ = b"} <= written(sums.plot())
    assert {"$z_{1}$", "$z_{0}$", "0, 1", "$y$ = 1"} <= written(em.rules.maximum(2, 2).plot())
    seen = em.Automaton(lambda s, v: s ^ v, n_symbols=2, cardinality=2, output=lambda s: s)
    assert {"$z_{1}$, $y_{0}$ = 1", "$y_{1}$ = 0"} <= written(seen.plot())
    weights = np.array([[[0.5, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    noisy = em.Automaton.from_tables(weights, 1, start=[0.25, 1.0], labels=[{0: 0.9, 1: 0.1}, 1])
    assert {"start", " (0.25)", "0 (0.5)", "$y$ = 0 (0.9) or 1 (0.1)"} <= written(noisy.plot())


def test_pictures_stay_on_the_axes_that_are_given() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    left, right = figure.subplots(1, 2)
    assert em.rules.parity(3).plot(left) is left
    assert em.Circuit(logic.exactly(1, logic.symbols(3))).plot(ax=right) is right
    figure.draw_without_rendering()


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 80 nodes and 200 edges, and this circuit has 964 and 1227"):
        em.SimplePaths(5, 5).plot()
    with pytest.raises(ValueError, match="at most 80 nodes and 200 edges, and this automaton has 199 and 394"):
        em.rules.parity(99).plot()


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "emnesy_gpu\[train\]"'):
        em.rules.parity(3).plot()
