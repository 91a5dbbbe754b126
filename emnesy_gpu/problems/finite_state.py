"""A rule as a minimal automaton: labels, codes, and exact inference. ``em.Automaton`` says how one is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from emnesy_gpu import checks
from emnesy_gpu.automata.labels import codes_of
from emnesy_gpu.automata.machine import Machine, Observation
from emnesy_gpu.automata.picture import drawing_of
from emnesy_gpu.automata.tables import make_tables
from emnesy_gpu.backends import load_kernels
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference.results import MapAssignment, Marginals
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.score_tables import AUTOMATON, CompiledScore
from emnesy_gpu.layered_drawing import draw, indexed
from emnesy_gpu.ops.automaton import automaton_em_gradient, automaton_map, automaton_posterior, automaton_sample
from emnesy_gpu.ops.label_rows import check_values
from emnesy_gpu.problems.coded_rule import NOT_GIVEN, CodedRule
from emnesy_gpu.problems.few_rows import CPU, FewRows, with_few_rows
from emnesy_gpu.problems.symbols import checked_order, flat_symbols, shaped_like

SEVERAL_PATHS = "Some assignments take several paths, whose weights add up: the best path may be of another assignment"


class ReadingOrder(NamedTuple):
    """The symbol at each place, and the place of each symbol, int64 [n]."""

    symbols: Tensor
    place: Tensor


class FiniteStateProblem(CodedRule):
    """A minimal automaton with codes for its labels; every inference on it is exact.

    machine: its states, edges and labels. latent_shape, order: of the symbols, as for ``em.Automaton``. has_pad: the
    last value stands for no symbol. has_entries: the label is a sequence of entries, even if it is one.
    """

    def __init__(
        self,
        machine: Machine,
        latent_shape: tuple[int, ...],
        order: Sequence[int] | None,
        *,
        has_pad: bool,
        has_entries: bool = False,
    ) -> None:
        self.machine = machine
        self.latent_shape, self.cardinality = latent_shape, machine.n_values
        self.pad = machine.n_values - 1 if has_pad else None
        self.n_states, self.n_edges = machine.n_states, machine.n_edges
        self._set_codes([codes_of(seen.labels) for seen in machine.observed.values()], has_entries=has_entries)
        self._tables = {
            torch.device("cpu"): make_tables(machine, [_positions(o.labels, c) for o, c in self._observed()])
        }
        if machine.is_ambiguous:
            self.map_tractable, self.map_limit = False, SEVERAL_PATHS
        self._running: dict[torch.device, tuple[list[Tensor], dict[int, Tensor]]] = {}
        self._scores: dict[torch.device, CompiledScore] = {}
        self._orders: dict[torch.device, ReadingOrder] = {}
        if order is not None:
            checked = checked_order(order, prod(latent_shape))
            self._orders[torch.device("cpu")] = ReadingOrder(checked, torch.argsort(checked))

    def _observed(self) -> Iterable[tuple[Any, dict[Any, int]]]:
        return zip(self.machine.observed.values(), self._codes, strict=True)

    def __repr__(self) -> str:
        shape = f"latent_shape={self.latent_shape}, cardinality={self.cardinality}"
        return f"Automaton({shape}, {self.n_states} states, {self.n_edges} edges)"

    @property
    def reading_order(self) -> list[int] | None:
        """The symbols as they are read, counted in row-major order; None where that is the order."""
        order = self._order_on(torch.device("cpu"))
        return None if order is None else order.symbols.tolist()

    def tables(self, device: torch.device) -> AutomatonTables:
        """The automaton as tensors on a device, copied there once."""
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]

    def plot(self, ax: Any = None) -> Any:
        """Draw a small automaton by matplotlib: its states after each symbol, and values on the arrows between them.

        A state has the name of the symbol that it reads, z_i, and what the label y says of it. Weights of edges, states
        and noisy labels stand in brackets.

        Args:
            ax: axes to draw on, by default those of a new figure.

        Returns the axes. Raises ValueError for more than 80 states or 200 arrows, ModuleNotFoundError without
        matplotlib.

        >>> import importlib.util, tempfile, emnesy_gpu as em
        >>> if importlib.util.find_spec("matplotlib"):
        ...     with tempfile.TemporaryDirectory() as folder:
        ...         em.rules.parity(4).plot().figure.savefig(f"{folder}/parity.png")
        """
        symbols = indexed("z", np.ndindex(self.latent_shape))
        order = self.reading_order or range(len(symbols))
        entries = indexed("y", np.ndindex(self.label_shape))
        return draw(drawing_of(self.machine, [symbols[i] for i in order], entries), ax)

    def padded(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """Logits with pad as the last value: only the first lengths[b] symbols of row b exist, in reading order.

        Args:
            logits: [batch, *latent_shape, cardinality - 1]; what stands behind the length of a row is not read.
            lengths: integers [batch], 0..number of symbols.

        Returns:
            [batch, *latent_shape, cardinality], differentiable: -inf for pad where there is a symbol, and for all other
            values where there is none.

        Raises TypeError and ValueError for a rule without variable_length, and for wrong dtypes, shapes and lengths.

        >>> import torch, emnesy_gpu as em
        >>> rule = em.rules.regex("ab*", alphabet="ab", n_symbols=3, variable_length=True)
        >>> logits = rule.padded(torch.zeros(2, 3, 2), torch.tensor([3, 1]))
        >>> post = em.posterior(rule, logits, torch.tensor([1, 1]))
        >>> post.marginals.argmax(-1).tolist(), rule.pad                     # abb and a
        ([[0, 1, 1], [0, 2, 2]], 2)
        """
        if self.pad is None:
            raise ValueError(f"{self!r} has no pad: make it with variable_length=True")
        checks.is_tensor("logits", logits)
        checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
        checks.has_trailing_shape("logits", logits, (*self.latent_shape, self.pad))
        checks.is_tensor("lengths", lengths)
        checks.has_dtype("lengths", lengths, checks.INTEGER_DTYPES)
        n = prod(self.latent_shape)
        if lengths.shape != logits.shape[:1]:
            raise ValueError(f"lengths must have shape {list(logits.shape[:1])}, got {list(lengths.shape)}")
        if bool(((lengths < 0) | (lengths > n)).any()):
            raise ValueError(f"lengths must lie in 0..{n}, got {int(lengths.min())}..{int(lengths.max())}")
        order = self._order_on(lengths.device)
        place = torch.arange(n, device=lengths.device) if order is None else order.place
        exists = place < lengths[:, None]
        none = logits.new_full((self.cardinality,), -torch.inf)
        none[self.pad] = 0.0
        return torch.where(exists.view(*logits.shape[:-1], 1), pad(logits, (0, 1), value=-torch.inf), none)

    def _entries(self, symbols: Tensor) -> Tensor:
        symbols = self._in_order(symbols)
        successors, codes = self._running_tables(symbols.device)
        state = torch.zeros(symbols.shape[:-1], dtype=torch.int64, device=symbols.device)
        entries = []
        for i, layer in enumerate(self.machine.layer_of):
            state = successors[layer][state, symbols[..., i].long()]
            if i in codes:
                entries.append(codes[i][state])
        forbidden = state == self.machine.n_states
        return torch.stack(entries, -1).masked_fill_(forbidden[..., None], NOT_GIVEN)

    def _host_tables(self) -> list[Tensor]:
        order = self._order_on(torch.device("cpu"))
        return [*self.tables(torch.device("cpu")), torch.zeros(0) if order is None else order.symbols]

    def _running_tables(self, device: torch.device) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Successors [S + 1, K] of each layer, codes [S + 1] of each observed position; the last state is a sink."""
        if device not in self._running:
            self._running[device] = self._make_running_tables(device)
        return self._running[device]

    def _make_running_tables(self, device: torch.device) -> tuple[list[Tensor], dict[int, Tensor]]:
        if self.machine.is_weighted or self.machine.start[0] == 0:
            raise UnsupportedInference(f"{self!r} has weighted edges: its label is no function of the symbols")
        if self.machine.has_noisy_labels:
            raise UnsupportedInference(f"{self!r} has noisy labels: they are no function of the symbols")
        sink = self.machine.n_states
        successors = []
        for layer in self.machine.layers:
            table = np.full((sink + 1, self.cardinality), sink, np.int64)
            rows = layer.successors(self.cardinality)
            table[: len(rows)] = np.where(rows >= 0, rows, sink)
            successors.append(torch.from_numpy(table).to(device))
        observed = zip(self.machine.observed, self._observed(), strict=True)
        return successors, {position: self._codes_of_states(*seen).to(device) for position, seen in observed}

    def _compiled_score(self, label: Tensor) -> CompiledScore:
        if label.device not in self._scores:
            self._scores[label.device] = self._make_score(label.device)
        return self._scores[label.device]

    def _make_score(self, device: torch.device) -> CompiledScore:
        """The score as tables on a device: see ``kernels.score_tables``."""
        layers, codes = self._running_tables(torch.device("cpu"))
        entry_at = {position: entry for entry, position in enumerate(codes)}
        symbols = self.reading_order or range(len(self.machine.layer_of))
        places = [
            (layer, symbol, entry_at.get(position, NOT_GIVEN))
            for position, (layer, symbol) in enumerate(zip(self.machine.layer_of, symbols, strict=True))
        ]
        place = torch.tensor(places, dtype=torch.int32, device="cpu")
        tables = torch.stack(layers).to(torch.int32), place, torch.stack(list(codes.values()))
        sizes = self.machine.n_states + 1, self.cardinality
        moved = tuple(table.contiguous().to(device) for table in tables)
        return CompiledScore(AUTOMATON, len(self._codes), moved, sizes)

    def _codes_of_states(self, observation: Observation, code_of: dict[Any, int]) -> Tensor:
        """int64 [S + 1], NOT_GIVEN for states without a label."""
        codes = np.full(self.machine.n_states + 1, NOT_GIVEN, np.int64)
        label, state = np.nonzero(observation.weights)
        codes[state] = np.array([code_of[name] for name in observation.labels], np.int64)[label]
        return torch.from_numpy(codes)

    def _few_rows(self) -> FewRows:
        call = load_kernels("cpu", "automaton").call_of(list(self.tables(CPU)))
        if self._order_on(CPU) is None:
            return FewRows(call)
        return FewRows(call, FiniteStateProblem._as_read, FiniteStateProblem._back)

    def _as_read(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return self._inputs(logits, label)[:2]

    @with_few_rows(_few_rows)
    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        symbols = self._symbols_on(logits.device)
        marginals, *others = automaton_posterior(*self._inputs(logits, label), symbols, check)
        return Marginals(shaped_like(marginals, logits), *others)

    @with_few_rows(_few_rows)
    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        symbols = self._symbols_on(logits.device)
        gradient, log_evidence = automaton_em_gradient(*self._inputs(logits, label), symbols, scale, check)
        return shaped_like(gradient, logits), log_evidence

    def _few_rows_of_map(self) -> FewRows:
        call = load_kernels("cpu", "automaton").map_call_of(list(self.tables(CPU)))
        if self._order_on(CPU) is None:
            return FewRows(call)
        return FewRows(call, FiniteStateProblem._as_read, FiniteStateProblem._values_back)

    def _values_back(self, z: Tensor, logits: Tensor) -> Tensor:
        return self._back(z, logits[..., 0])

    @with_few_rows(_few_rows_of_map)
    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """Ties: from the first position to the last, the smallest value that leads to the maximum.

        Logits of float32 or less are added up without rounding, so that assignments of equal probability always tie,
        in every back end. Weights other than 1, and logits of float64, are rounded.
        """
        z, *others = automaton_map(*self._inputs(logits, label), check)
        return MapAssignment(self._values_back(z, logits), *others)

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        z, _ = automaton_sample(*self._inputs(logits, label), n_samples, seed, first_row, check)
        order = self._order_on(z.device)
        back = z if order is None else z[..., order.place]
        return back.view(n_samples, len(logits), *self.latent_shape)

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        self._running_tables(logits.device)  # raises where no sample has a label
        if check:
            check_values(flat_symbols(logits), label, self.tables(logits.device).codes)

    def _inputs(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [batch, n, K] in reading order, labels as they are, tables."""
        symbols, order = flat_symbols(logits), self._order_on(logits.device)
        if order is not None:
            symbols = symbols[:, order.symbols]
        return symbols, label, list(self.tables(logits.device))

    def _in_order(self, symbols: Tensor) -> Tensor:
        order = self._order_on(symbols.device)
        return symbols if order is None else symbols[..., order.symbols]

    def _order_on(self, device: torch.device) -> ReadingOrder | None:
        """The order of the symbols on a device, copied there once; None where they are read as they stand."""
        if self._orders and device not in self._orders:
            self._orders[device] = ReadingOrder(*(table.to(device) for table in self._orders[torch.device("cpu")]))
        return self._orders.get(device)

    def _back(self, values: Tensor, like: Tensor) -> Tensor:
        """From reading order to the shape of the symbols."""
        order = self._order_on(values.device)
        if order is not None:
            values = values[:, order.place]
        return shaped_like(values, like)

    def _symbols_on(self, device: torch.device) -> list[Tensor]:
        """The symbol that each position reads, for operators that return results in the order of the symbols."""
        order = self._order_on(device)
        return [] if order is None else [order.symbols]


def _positions(labels: Sequence[Any], codes: dict[Any, int]) -> dict[int, int]:
    return {codes[label]: index for index, label in enumerate(labels)}
