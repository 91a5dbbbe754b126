"""A circuit with codes for its labels: exact inference. ``em.Circuit`` says how one is made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from os import PathLike
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.automata.labels import codes_of
from emnesy_gpu.backends import load_kernels
from emnesy_gpu.circuits.checks import check, model_count
from emnesy_gpu.circuits.evaluate import uniform_evidence
from emnesy_gpu.circuits.files import save
from emnesy_gpu.circuits.graph import Graph
from emnesy_gpu.circuits.notes import write_notes
from emnesy_gpu.circuits.picture import Names, drawing_of
from emnesy_gpu.circuits.tables import Compiled, make_tables, with_prediction
from emnesy_gpu.inference.constants import constant
from emnesy_gpu.inference.results import MapAssignment, Marginals
from emnesy_gpu.kernels.score_tables import CIRCUIT, CompiledScore
from emnesy_gpu.layered_drawing import draw, indexed
from emnesy_gpu.ops.circuit import (
    circuit_em_gradient,
    circuit_map,
    circuit_posterior,
    circuit_predict,
    circuit_sample,
    circuit_truth,
)
from emnesy_gpu.ops.label_rows import check_values
from emnesy_gpu.problems.coded_rule import NOT_GIVEN, CodedRule
from emnesy_gpu.problems.few_rows import CPU, FewRows, with_few_rows
from emnesy_gpu.problems.symbols import checked_shape, flat_symbols, shaped_like

NARROW_EVIDENCE = 2.0**-60
"""Circuits with less evidence where symbols know nothing are computed in float64: float32 fails for most rows."""


MOST_TERMS_OF_SCORE = 1 << 14
"""Terms up to which a thread of a GPU goes through the circuit for a sample; larger ones are shared by many threads."""


Method = TypeVar("Method", bound=Callable[..., Any])


def _runs_while_traced(method: Method) -> Method:
    """What torch.compiler.assume_constant_result does, without the second that its import takes."""
    method._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return method


class CircuitProblem(CodedRule):
    """A circuit with codes for its labels; every inference on it is exact.

    graph: the circuit. latent_shape: of its symbols, by default all in a row. labels: of the values of each entry.
    has_entries: the label is a sequence of entries, even if it is one.
    """

    def __init__(
        self,
        graph: Graph,
        latent_shape: Sequence[int] | None,
        labels: Sequence[Sequence[Hashable]],
        *,
        has_entries: bool,
    ) -> None:
        self.graph, self.cardinality = graph, graph.n_values
        self.notes: dict[str, str] = {}
        self.latent_shape = checked_shape(graph.n_symbols, latent_shape)
        self._set_codes([codes_of(entry) for entry in labels], has_entries=has_entries)
        self._values_of_entries = [list(entry) for entry in labels]
        self._values = [
            {code[label]: value for value, label in enumerate(entry)}
            for code, entry in zip(self._codes, labels, strict=True)
        ]
        self._wide = uniform_evidence(graph) < NARROW_EVIDENCE
        self._compiled: dict[torch.device, Compiled] = {}
        self._predictions: dict[torch.device, Compiled] = {}
        self._scores: dict[torch.device, CompiledScore] = {}
        self.compiled(torch.device("cpu"))

    @property
    def n_edges(self) -> int:
        return self.graph.n_edges

    @property
    def n_nodes(self) -> int:
        return self.graph.n_nodes

    @property
    def levels(self) -> int:
        return len(self.graph.node_levels) - 1

    def __repr__(self) -> str:
        shape = f"latent_shape={self.latent_shape}, cardinality={self.cardinality}"
        return f"Circuit({shape}, {self.n_edges} edges on {self.levels} levels)"

    def compiled(self, device: torch.device, *, prediction: bool = False) -> Compiled:
        """The circuit as tensors on a device, made and copied once."""
        self._make_tables(device, prediction)
        return self._predictions[device] if prediction else self._compiled[device]

    @_runs_while_traced  # torch.compile then reads and guards what it leaves behind, unless it has read it before
    def _make_tables(self, device: torch.device, prediction: bool) -> None:
        made = self._predictions if prediction else self._compiled
        if device in made:
            return
        if device.type != "cpu":
            host = self.compiled(CPU, prediction=prediction)
            made[device] = host._replace(tables=host.tables.to(device))
        elif prediction:
            made[device] = with_prediction(self.graph, self.compiled(device))
        else:
            made[device] = make_tables(self.graph, self._values)

    def model_count(self, label: Hashable = None) -> int:
        """How many assignments have a label, exactly; None: how many have any. For labels of one entry.

        >>> import emnesy_gpu as em
        >>> em.Circuit.from_automaton(em.rules.parity(20)).model_count(1)
        524288
        """
        if label is None:
            return model_count(self.graph)
        if len(self._codes) > 1:
            raise ValueError(f"the label of {self!r} has {len(self._codes)} entries: give None, and count them all")
        return model_count(self.graph, self._values[0][self._code(label, 0)])

    def check(self, seed: int = 0) -> None:
        """Raise ValueError unless the circuit is decomposable and deterministic, for files of unknown origin.

        Exact for up to 2^14 assignments, beyond that by 256 random ones, see ``circuits.checks``.
        """
        check(self.graph, seed)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the circuit with its labels as .npz, without pickle, so that it is compiled once.

        Raises TypeError for labels that are not integers, bools, text, None or tuples of these.

        >>> import tempfile, emnesy_gpu as em
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     em.SimplePaths(3, 3).save(f"{folder}/paths.npz")
        ...     em.Circuit.load(f"{folder}/paths.npz").model_count(1)
        12
        """
        labels = [list(entry) for entry in self._values_of_entries]
        save(self.graph, path, write_notes(self.latent_shape, labels, bool(self.label_shape)))

    def plot(self, ax: Any = None) -> Any:
        """Draw a small circuit by matplotlib: the root on top, values on the arrows that they lead along.

        A node with the name of a symbol goes on by its value; "+" is another sum, a dot a product of two nodes, and "1"
        is where nothing more is mentioned. z_i are the symbols, y the label.

        Args:
            ax: axes to draw on, by default those of a new figure.

        Returns the axes. Raises ValueError for more than 80 nodes or 200 edges, ModuleNotFoundError without matplotlib.

        >>> import importlib.util, tempfile, emnesy_gpu as em
        >>> if importlib.util.find_spec("matplotlib"):
        ...     with tempfile.TemporaryDirectory() as folder:
        ...         em.Circuit(em.logic.exactly(2, em.logic.symbols(4))).plot().figure.savefig(f"{folder}/circuit.png")
        """
        symbols = indexed("z", np.ndindex(self.latent_shape))
        entries = indexed("y", np.ndindex(self.label_shape))
        labels = [[str(label) for label in entry] for entry in self._values_of_entries]
        return draw(drawing_of(self.graph, Names(symbols + entries, labels)), ax)

    def predict(self, logits: Tensor) -> Tensor:
        """log p(label | x) for all labels by their codes, from one pass over the circuit.

        Args:
            logits: [batch, *latent_shape, cardinality], detached before use.

        Returns:
            [batch, codes], or [batch, entries, codes] for each entry by itself; -inf for codes without a label. float64
            for float64 logits, float32 for all others. Where the rule forbids some assignments, the probabilities of
            all labels sum to less than 1.

        >>> import torch, emnesy_gpu as em
        >>> sums = em.Circuit.from_program(lambda s, v, i: s + v, 2, 3, lambda s: s)
        >>> [round(p, 3) for p in sums.predict(torch.zeros(1, 2, 3)).exp()[0].tolist()]
        [0.111, 0.222, 0.333, 0.222, 0.111]
        """
        checks.is_tensor("logits", logits)
        checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
        checks.has_trailing_shape("logits", logits, (*self.latent_shape, self.cardinality))
        by_value, _ = self._predict(logits.detach().flatten(1, -2), True)
        places = self._places_of_codes(by_value.device)
        by_code = by_value.new_full((len(by_value), len(self._codes), places.shape[1]), -torch.inf)
        found = places >= 0
        by_code[:, found] = by_value[:, places[found]]
        return by_code if self.label_shape else by_code[:, 0]

    def _predict(self, symbols: Tensor, check: bool) -> tuple[Tensor, Tensor]:
        tables, tape_rows = self.compiled(symbols.device, prediction=True)
        result: tuple[Tensor, Tensor] = circuit_predict(symbols, list(tables), tape_rows, self._wide, check)
        return result

    def _places_of_codes(self, device: torch.device) -> Tensor:
        """Where the label leaf of each code lies [M, codes], -1 for codes without a label."""
        codes = self.compiled(device).tables.codes[:, 2:-1].long()
        first = self.compiled(device).tables.given[:-1, None] - self.graph.n_symbols * self.graph.n_values
        return torch.where(codes > 0, first + codes - 1, -1)

    def _entries(self, symbols: Tensor) -> Tensor:
        tables, tape_rows = self.compiled(symbols.device, prediction=True)
        z = symbols.reshape(-1, symbols.shape[-1]).long()
        truth = circuit_truth(z, list(tables), tape_rows, self.cardinality)
        codes = []
        for entry, part in zip(self._values, truth.split(list(self.graph.given), -1), strict=True):
            code_of_value = constant(tuple(entry), torch.int64, part.device)
            codes.append(torch.where(part.any(-1), code_of_value[part.int().argmax(-1)], NOT_GIVEN))
        return torch.stack(codes, -1).view(*symbols.shape[:-1], len(codes))

    def _compiled_score(self, label: Tensor) -> CompiledScore | None:
        if self.n_edges > MOST_TERMS_OF_SCORE:
            return None
        if label.device not in self._scores:
            self._scores[label.device] = self._make_score().to(label.device)
        return self._scores[label.device]

    def _make_score(self) -> CompiledScore:
        """The score as tables on the CPU: see ``kernels.score_tables``."""
        t = self.compiled(torch.device("cpu")).tables
        numbers = torch.tensor([len(t.draws), t.codes.shape[1]], dtype=torch.int32, device="cpu")
        tables = torch.cat([numbers, t.given, t.codes.flatten()]), t.first, torch.stack([t.left, t.right], 1)
        return CompiledScore(CIRCUIT, len(self._codes), tables, (self.cardinality,), scratch=self.graph.n_rows)

    def _few_rows(self) -> FewRows:
        tables, tape_rows = self.compiled(CPU)
        return FewRows(load_kernels("cpu", "circuit").call_of(list(tables), tape_rows, self._wide))

    def _few_rows_of_map(self) -> FewRows:
        return FewRows(load_kernels("cpu", "circuit").map_call_of(list(self.compiled(CPU).tables)))

    @with_few_rows(_few_rows)
    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        arguments = *self._inputs(logits, label), *self._tape(logits)
        marginals, *others = circuit_posterior(*arguments, check)
        return Marginals(shaped_like(marginals, logits), *others)

    @with_few_rows(_few_rows)
    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        arguments = *self._inputs(logits, label), *self._tape(logits)
        gradient, log_evidence = circuit_em_gradient(*arguments, scale, check)
        return shaped_like(gradient, logits), log_evidence

    @with_few_rows(_few_rows_of_map)
    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """Ties: the first of the terms of a node, and the smallest value of a symbol that no chosen part mentions."""
        z, *others = circuit_map(*self._inputs(logits, label), check)
        return MapAssignment(z if logits.dim() == 3 else z.view(logits.shape[:-1]), *others)

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        arguments = self._inputs(logits, label)
        z, _ = circuit_sample(*arguments, n_samples, seed, first_row, check)
        return z.view(n_samples, len(logits), *self.latent_shape)

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        if check:
            check_values(flat_symbols(logits), label, self.compiled(logits.device).tables.codes)

    def _inputs(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [batch, n, K], labels as they are, tables."""
        return flat_symbols(logits), label, list(self.compiled(logits.device).tables)

    def _host_tables(self) -> list[Tensor]:
        return list(self.compiled(torch.device("cpu")).tables)

    def _tape(self, logits: Tensor) -> tuple[int, bool]:
        return self.compiled(logits.device).tape_rows, self._wide
