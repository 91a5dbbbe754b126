"""Any rule that can be read along the symbols with a finite state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu import checks, ops  # noqa: F401 - importing ops registers the operators
from emnesy_gpu.automata.compile import compile_step, compile_step_at
from emnesy_gpu.automata.explore import MAX_STATES
from emnesy_gpu.automata.machine import DEAD, Machine
from emnesy_gpu.automata.tables import AutomatonTables, make_tables
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference import gibbs_chains, weighted_samples
from emnesy_gpu.inference.results import Chains, MapAssignment, Marginals, Weighted
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.problems.problem import Problem

LARGEST_CODE = 1 << 20
"""Labels that are integers in 0..LARGEST_CODE are their own codes."""

NOT_GIVEN = -1
"""The code of a label, or of an entry of it, that is not known."""


class Automaton(Problem):
    """A rule that reads the symbols one after the other and remembers a finite state: parity, counts, sums, words, ...

    From ``start``, ``step(state, value)`` gives the state after each symbol, and the label is a function of the last
    state. p(y | x) = sum_z prod_i p(z_i | x) [label(z) = y] is then a sum over paths of states, and every inference is
    exact: marginals and evidence by sum-product, the most probable symbols by max-product, samples by backward filtering
    and forward sampling. The states are found by calling ``step`` once for each state and value; states that no
    continuation tells apart are merged, and values that act alike are summed once.

    Cost per row: O(edges of the minimal automaton) a position. Source: Rabiner, "A tutorial on hidden Markov models"
    (1989), section III; Hopcroft and Ullman, "Introduction to automata theory" (1979), section 3.4.

    Args:
        step: (state, value) -> the next state, any hashable, or None where the rule forbids the value. It must depend on
            its arguments alone.
        start: the state before the first symbol.
        label: state -> the label of the last state, any hashable; a bool; None for a state that no label has; or a dict
            {label: probability} where the label is noisy.
        n_symbols: how many symbols there are; or give latent_shape.
        cardinality: the number of values of a symbol, at least 1.
        step_at: (state, value, position) -> the next state, in place of step, for rules that depend on the position.
        output: state -> an entry of the label that is seen after every symbol, in place of label; with step_at
            (state, position) -> entry, None for all states of a position where nothing is seen. The label of a row is
            then the sequence of these entries.
        latent_shape: the shape of the symbols, read in row-major order; (n_symbols,) if it is left out.
        order: another reading order: indices of the symbols, counted in row-major order.
        cardinalities: with step_at, the number of values at each position in reading order. Logits are padded to
            ``cardinality``, the largest of them; give the values that do not exist a logit of -inf.
        max_states: the most states that are explored (with step_at after any position).

    Attributes:
        latent_shape, cardinality: as above.
        label_shape: ``()``, or ``(number of entries,)`` with output.
        labels: the labels in the order of their codes; with output a tuple of them for each entry.
        n_states, n_edges: of the minimal automaton: most states at a position, edges of all positions.

    A label is given as its code: an integer in 0..len(labels)-1, see ``encode``. Labels that are all integers >= 0 or
    bools are their own codes. The code -1 means that the label (or the entry) is not given: where none is, the
    posterior is the prior given that the rule allows the assignment.

    Raises ValueError for a rule that forbids everything, for more than max_states states (naming the position), for a
    step or label function that raises or changes; TypeError for states and labels that cannot be hashed.

    >>> import torch, emnesy_gpu as em
    >>> rule = em.Automaton(lambda s, v: (s + v) % 10, 0, lambda s: s, n_symbols=3, cardinality=10)   # the sum modulo 10
    >>> logits = torch.zeros(1, 3, 10)
    >>> logits[0, 0, 4], logits[0, 1, 3] = 50.0, 50.0                     # 4 and 3 are certain
    >>> em.posterior(rule, logits, torch.tensor([9])).marginals[0, 2].argmax().item()
    2
    >>> rule.label(torch.tensor([[4, 3, 2]])).tolist(), rule.n_states
    ([9], 10)
    """

    def __init__(
        self,
        step: Callable[[Any, int], Any] | None = None,
        start: Hashable = 0,
        label: Callable[[Any], Any] | None = None,
        n_symbols: int | None = None,
        cardinality: int | None = None,
        *,
        step_at: Callable[[Any, int, int], Any] | None = None,
        output: Callable[..., Any] | None = None,
        latent_shape: Sequence[int] | None = None,
        order: Sequence[int] | None = None,
        cardinalities: Sequence[int] | None = None,
        max_states: int = MAX_STATES,
    ) -> None:
        if (step is None) == (step_at is None):
            raise TypeError("Automaton takes either step or step_at, and needs one of them")
        if (label is None) == (output is None):
            raise TypeError("Automaton takes either label or output, and needs one of them")
        checks.is_integer("max_states", max_states, 1, None)
        shape = _latent_shape(n_symbols, latent_shape, cardinalities)
        sizes = _cardinalities(prod(shape), cardinality, cardinalities)
        if step is not None:
            if cardinalities is not None and len(set(sizes)) > 1:
                raise ValueError(f"symbols of different cardinality need step_at, got step and cardinalities {sizes}")
            machine = compile_step(step, start, len(sizes), sizes[0], label, output, max_states)
        else:
            assert step_at is not None
            machine = compile_step_at(step_at, start, sizes, label, output, max_states)
        self._set_up(machine, shape, order, output is not None)

    def _set_up(
        self, machine: Machine, latent_shape: tuple[int, ...], order: Sequence[int] | None, has_entries: bool
    ) -> None:
        self.machine = machine
        self.latent_shape, self.cardinality = latent_shape, machine.n_values
        self.label_shape = (len(machine.observed),) if has_entries else ()
        self.n_states, self.n_edges = machine.n_states, machine.n_edges
        self._codes = [_codes_of(observation.labels) for observation in machine.observed.values()]
        names = [_by_code(codes) for codes in self._codes]
        self.labels: Any = tuple(names) if has_entries else names[0]
        self._tables = {
            torch.device("cpu"): make_tables(machine, [_positions(o.labels, c) for o, c in self._observed()])
        }
        self._order = None if order is None else _checked_order(order, prod(latent_shape))

    def _observed(self) -> Iterable[tuple[Any, dict[Any, int]]]:
        return zip(self.machine.observed.values(), self._codes, strict=True)

    def __repr__(self) -> str:
        shape = f"latent_shape={self.latent_shape}, cardinality={self.cardinality}"
        return f"Automaton({shape}, {self.n_states} states, {self.n_edges} edges)"

    def tables(self, device: torch.device) -> AutomatonTables:
        """The automaton as tensors on a device, copied there once."""
        if device not in self._tables:
            self._tables[device] = self._tables[torch.device("cpu")].to(device)
        return self._tables[device]

    def encode(self, labels: Iterable[Any]) -> Tensor:
        """The codes of labels, int64 [batch] or [batch, entries]; None for what is not given.

        Raises ValueError for a label that no state has.

        >>> import emnesy_gpu as em
        >>> rule = em.Automaton(lambda s, v: max(s, v), 0, lambda s: "abc"[s], n_symbols=4, cardinality=3)
        >>> rule.labels, rule.encode(["b", None, "a"]).tolist()
        (['a', 'b', 'c'], [1, -1, 0])
        """
        if not self.label_shape:
            return torch.tensor([self._code(label, 0) for label in labels], dtype=torch.int64)
        rows = [list(row) for row in labels]
        for index, row in enumerate(rows):
            if len(row) != len(self._codes):
                raise ValueError(f"labels[{index}] must have {len(self._codes)} entries, got {len(row)}")
        codes = [[self._code(entry, position) for position, entry in enumerate(row)] for row in rows]
        return torch.tensor(codes, dtype=torch.int64).view(-1, len(self._codes))

    def _code(self, label: Any, entry: int) -> int:
        if label is None:
            return NOT_GIVEN
        if label not in self._codes[entry]:
            known = list(self._codes[entry])
            raise ValueError(f"no state has the label {label!r}; known labels are {known[:10]}, {len(known)} in all")
        return self._codes[entry][label]

    def label(self, z: Tensor) -> Tensor:
        """The codes of the labels: int64 [..., *latent_shape] -> [..., *label_shape]; -1 where the rule forbids z.

        Raises TypeError and ValueError for a wrong dtype or shape and for values outside 0..cardinality-1;
        UnsupportedInference where the label is not a function of the symbols (weighted tables, noisy labels).
        """
        checks.is_tensor("z", z)
        checks.has_dtype("z", z, checks.INTEGER_DTYPES)
        lead = z.dim() - len(self.latent_shape)
        if lead < 0 or tuple(z.shape[lead:]) != self.latent_shape:
            expected = ", ".join(["...", *map(str, self.latent_shape)])
            raise ValueError(f"z must have shape [{expected}], got {list(z.shape)}")
        if bool(((z < 0) | (z >= self.cardinality)).any()):
            raise ValueError(f"z must hold values in 0..{self.cardinality - 1}, got {int(z.min())}..{int(z.max())}")
        entries = self._entries(self._in_order(z.reshape(*z.shape[:lead], -1)))
        return entries if self.label_shape else entries[..., 0]

    def _entries(self, symbols: Tensor) -> Tensor:
        """Codes int64 [..., M] of symbols int64 [..., n] in reading order."""
        successors, codes = self._running_tables(symbols.device)
        state = torch.zeros(symbols.shape[:-1], dtype=torch.int64, device=symbols.device)
        entries = []
        for i, layer in enumerate(self.machine.layer_of):
            state = successors[layer][state, symbols[..., i].long()]
            if i in codes:
                entries.append(codes[i][state])
        return torch.stack(entries, -1)

    def _running_tables(self, device: torch.device) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Successors [S + 1, K] of each layer, and codes [S + 1] of each observed position; the last state is a sink."""
        if not all(layer.deterministic for layer in self.machine.layers):
            raise UnsupportedInference(f"{self!r} has weighted edges: its label is no function of the symbols")
        sink = self.machine.n_states
        successors = []
        for layer in self.machine.layers:
            table = np.full((sink + 1, self.cardinality), sink, np.int64)
            rows = layer.successors(self.cardinality)
            table[: len(rows)] = np.where(rows >= 0, rows, sink)
            successors.append(torch.from_numpy(table).to(device))
        codes = {}
        for position, (observation, of_label) in zip(self.machine.observed, self._observed(), strict=True):
            if not np.isin(observation.weights, (0.0, 1.0)).all() or (observation.weights.sum(0) > 1).any():
                raise UnsupportedInference(f"{self!r} has noisy labels: they are no function of the symbols")
            names = torch.full((sink + 1,), NOT_GIVEN, dtype=torch.int64)
            for row, name in enumerate(observation.labels):
                names[: observation.weights.shape[1]][torch.from_numpy(observation.weights[row] > 0)] = of_label[name]
            codes[position] = names.to(device)
        return successors, codes

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        operator = torch.ops.emnesy_gpu.automaton_posterior
        marginals, log_evidence, status = operator(*self._inputs(logits, label), check)
        return Marginals(self._back(marginals, logits), log_evidence, status == POSSIBLE)

    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        operator = torch.ops.emnesy_gpu.automaton_em_gradient
        gradient, log_evidence, _ = operator(*self._inputs(logits, label), scale, check)
        return self._back(gradient, logits), log_evidence

    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """Ties: from the first position to the last, the smallest value that leads to the maximum."""
        z, log_joint, status = torch.ops.emnesy_gpu.automaton_map(*self._inputs(logits, label), check)
        return MapAssignment(self._back(z, logits[..., 0]), log_joint, status == POSSIBLE)

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        operator = torch.ops.emnesy_gpu.automaton_sample
        z, _ = operator(*self._inputs(logits, label), n_samples, seed, first_row, check)
        back = z if self._order is None else z[..., torch.argsort(self._order).to(z.device)]
        return back.view(n_samples, len(logits), *self.latent_shape)

    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        """Constraints are the entries of the label: samples score how many of them they get right."""
        if settings.scope == "local":
            raise ValueError(
                'an automaton takes samples with scope "global" only: every symbol touches the whole label'
            )
        self._check_values(logits, label, check)
        return weighted_samples.weighted_marginals(logits, label, settings, self._score)

    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        self._check_values(logits, label, check)
        return gibbs_chains.gibbs_marginals(logits, label, settings, self._score)

    @property
    def _score(self) -> Score:
        return Score(self._right_entries, len(self._codes))

    def _right_entries(self, z: Tensor, label: Tensor) -> Tensor:
        """How many entries of the label z [samples, batch, *latent_shape] explains; those not given count."""
        found = self._entries(self._in_order(z.flatten(2)))
        wanted = label.view(len(label), -1)
        return ((found == wanted) | ((wanted == NOT_GIVEN) & (found != NOT_GIVEN))).sum(-1)

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        if check:
            weighted_samples.check_values(logits, label + 1, 2 + max(map(_largest, self._codes)), "the code of a label")

    def _inputs(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [batch, n, K] in reading order, entries [batch, M], tables."""
        symbols = logits.flatten(1, -2)
        if self._order is not None:
            symbols = symbols[:, self._order.to(symbols.device)]
        return symbols, label.view(len(label), -1), list(self.tables(logits.device))

    def _in_order(self, symbols: Tensor) -> Tensor:
        return symbols if self._order is None else symbols[..., self._order.to(symbols.device)]

    def _back(self, values: Tensor, like: Tensor) -> Tensor:
        """From reading order to the shape of the symbols."""
        if self._order is not None:
            values = values[:, torch.argsort(self._order).to(values.device)]
        return values.reshape(like.shape)


def _latent_shape(
    n_symbols: int | None, latent_shape: Sequence[int] | None, cardinalities: Sequence[int] | None
) -> tuple[int, ...]:
    if latent_shape is not None:
        shape = tuple(latent_shape)
        for index, size in enumerate(shape):
            checks.is_integer(f"latent_shape[{index}]", size, 1, None)
        if n_symbols not in (None, prod(shape)):
            raise ValueError(f"n_symbols must be {prod(shape)}, as latent_shape says, or left out, got {n_symbols}")
        return shape
    if n_symbols is None and cardinalities is not None:
        n_symbols = len(cardinalities)
    if n_symbols is None:
        raise TypeError("Automaton needs n_symbols, latent_shape or cardinalities")
    checks.is_integer("n_symbols", n_symbols, 1, None)
    return (n_symbols,)


def _cardinalities(n: int, cardinality: int | None, cardinalities: Sequence[int] | None) -> list[int]:
    if cardinalities is None:
        if cardinality is None:
            raise TypeError("Automaton needs cardinality or cardinalities")
        checks.is_integer("cardinality", cardinality, 1, None)
        return [cardinality] * n
    if len(cardinalities) != n:
        raise ValueError(f"cardinalities must have {n} entries, one for each symbol, got {len(cardinalities)}")
    for index, size in enumerate(cardinalities):
        checks.is_integer(f"cardinalities[{index}]", size, 1, None)
    if cardinality not in (None, max(cardinalities)):
        raise ValueError(f"cardinality must be the largest of cardinalities, {max(cardinalities)}, or left out")
    return list(cardinalities)


def _checked_order(order: Sequence[int], n: int) -> Tensor:
    if sorted(order) != list(range(n)):
        raise ValueError(f"order must name every symbol 0..{n - 1} once, got {list(order)!r}")
    return torch.tensor(list(order), dtype=torch.int64)


def _codes_of(labels: Sequence[Any]) -> dict[Any, int]:
    """Integers >= 0 and bools are their own codes, all others are numbered."""
    own = all(isinstance(label, (bool, int, np.integer)) and 0 <= int(label) <= LARGEST_CODE for label in labels)
    if own:
        return {label: int(label) for label in labels}
    return {label: code for code, label in enumerate(labels)}


def _by_code(codes: dict[Any, int]) -> list[Any]:
    """The label of each code, None for codes in between that no state has."""
    names: list[Any] = [None] * (_largest(codes) + 1)
    for label, code in codes.items():
        names[code] = label
    return names


def _positions(labels: Sequence[Any], codes: dict[Any, int]) -> dict[int, int]:
    return {codes[label]: index for index, label in enumerate(labels)}


def _largest(codes: dict[Any, int]) -> int:
    return max(codes.values(), default=DEAD)
