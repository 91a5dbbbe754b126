"""Any rule that can be read along the symbols with a finite state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from emnesy_gpu import checks, ops  # noqa: F401 - importing ops registers the operators
from emnesy_gpu.automata.compile import compile_step, compile_step_at
from emnesy_gpu.automata.explore import MAX_STATES, Step
from emnesy_gpu.automata.given_tables import (
    as_weights,
    checked_tables,
    final_labels,
    next_state,
    start_weights,
    weighted_machine,
    with_pad,
)
from emnesy_gpu.automata.labels import Observer, by_code, checked_label, codes_of
from emnesy_gpu.automata.machine import Machine, Observation
from emnesy_gpu.automata.regex import checked_alphabet, regex_step
from emnesy_gpu.automata.tables import make_tables
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference import gibbs_chains, weighted_samples
from emnesy_gpu.inference.results import Chains, MapAssignment, Marginals, Weighted
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.automaton_tables import AutomatonTables
from emnesy_gpu.kernels.status import POSSIBLE
from emnesy_gpu.ops.automaton import check_values
from emnesy_gpu.problems.problem import Problem

NOT_GIVEN = -1
"""The code of a label, or of an entry of it, that is not known."""


class Automaton(Problem):
    """A rule that reads the symbols one after the other and remembers a finite state: parity, counts, sums, words, ...

    From ``start``, ``step(state, value)`` gives the state after each symbol, and the label is a function of the last
    state. p(y | x) = sum_z prod_i p(z_i | x) [label(z) = y] is then a sum over paths of states, and every inference is
    exact: marginals and evidence by sum-product, the most probable symbols by max-product, samples by backward
    filtering and forward sampling. The states are found by calling ``step`` once for each state and value; states that
    no continuation tells apart are merged, and values that act alike are summed once.

    ``em.rules`` has common rules, each in one line. ``from_regex`` reads a regular expression. ``from_tables`` takes
    tables of states: hidden Markov models and conditional random fields too.

    Cost per row: O(edges of the minimal automaton) a position. Source: Rabiner, "A tutorial on hidden Markov models"
    (1989), section III; Hopcroft and Ullman, "Introduction to automata theory" (1979), section 3.4.

    Args:
        step: (state, value) -> the next state, any hashable, or None where the rule forbids the value. It must depend
            on its arguments alone. States need no bound: n_symbols steps are taken.
        start: the state before the first symbol.
        label: state -> the label of the last state, any hashable; a bool; None for a state that no label has; or a dict
            {label: probability} where the label is noisy. With step it is asked of every state that can be reached.
        n_symbols: how many symbols there are; or give latent_shape.
        cardinality: the number of values of a symbol, at least 1.
        step_at: (state, value, position) -> the next state, in place of step, for rules that depend on the position.
        output: state -> an entry of the label that is seen after every symbol, in place of label; with step_at
            (state, position) -> entry, None for all states of a position where nothing is seen. The label of a row is
            then the sequence of these entries. None for one of several states means that the rule forbids it there.
        latent_shape: the shape of the symbols, read in row-major order; (n_symbols,) if it is left out.
        order: another reading order: indices of the symbols, counted in row-major order.
        cardinalities: with step_at, the number of values at each position in reading order. Logits are padded to
            ``cardinality``, the largest of them; give the values that do not exist a logit of -inf.
        max_states: the most states that are explored (with step_at after any position).
        labels: labels that exist even where no state has them: they are impossible, and not an error.
        variable_length: rows have any number of symbols up to n_symbols. One more value, ``pad``, stands for no symbol
            and leaves the state; ``padded`` makes the logits.

    Attributes:
        latent_shape, cardinality: as above; the cardinality counts pad.
        pad: the value that stands for no symbol, the last one; None without variable_length.
        label_shape: ``()``, or ``(number of entries,)`` with output.
        labels: the labels in the order of their codes; with output a tuple of them for each entry.
        n_states, n_edges: of the minimal automaton: most states at a position, edges of all positions.

    A label is given as its code: an integer in 0..len(labels)-1, see ``encode``. Labels that are all integers >= 0 or
    bools are their own codes. The code -1 means that the label (or the entry) is not given: where none is, the
    posterior is the prior given that the rule allows the assignment.

    Raises ValueError for a rule that forbids everything, for more than max_states states (naming the position), for a
    step or label function that raises and a step that changes; TypeError for states and labels that cannot be hashed.

    >>> import torch, emnesy_gpu as em
    >>> rule = em.Automaton(lambda s, v: (s + v) % 10, 0, lambda s: s, n_symbols=3, cardinality=10)  # sum modulo 10
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
        labels: Iterable[Hashable] = (),
        variable_length: bool = False,
    ) -> None:
        if (step is None) == (step_at is None):
            raise TypeError("Automaton takes either step or step_at, and needs one of them")
        if (label is None) == (output is None):
            raise TypeError("Automaton takes either label or output, and needs one of them")
        checks.is_integer("max_states", max_states, 1, None)
        shape = _latent_shape(n_symbols, latent_shape, cardinalities)
        sizes = _cardinalities(prod(shape), cardinality, cardinalities)
        if step is not None and len(set(sizes)) > 1:
            raise ValueError(f"symbols of different cardinality need step_at, got step and cardinalities {sizes}")
        function: Any = step_at if step is None else step
        if not callable(function):
            raise TypeError(f"step must be a function of a state and a value, got {type(function).__name__}")
        if variable_length:
            function, sizes = _with_pad(function, sizes), [max(sizes) + 1] * len(sizes)
        declared = tuple(checked_label(label, "an entry of labels") for label in labels)
        observer = Observer(label, output, declared)
        if step is None:
            machine = compile_step_at(function, start, sizes, observer, max_states)
        else:
            machine = compile_step(function, start, len(sizes), sizes[0], observer, max_states)
        self._set_up(machine, shape, order, has_pad=variable_length, has_entries=output is not None)

    @classmethod
    def from_regex(
        cls,
        pattern: str,
        alphabet: str,
        n_symbols: int,
        *,
        variable_length: bool = False,
        max_states: int = MAX_STATES,
    ) -> Automaton:
        """Whether a string matches a regular expression as a whole: label 1 where it does, 0 where not.

        Value v of a symbol is the character alphabet[v]. It needs interegular: pip install "emnesy_gpu[regex]".

        Args:
            pattern: what interegular reads of the syntax of ``re``: no anchors (the whole string must match), no groups
                that are referred to, no look-behind.
            alphabet: the different characters, in the order of their values.
            n_symbols: the length of the string; with variable_length the largest one, see the class.
            max_states: the most states of the pattern's automaton that are explored.

        Raises ModuleNotFoundError without interegular; ValueError for a pattern that cannot be read, that names a
        character outside the alphabet, or that no string of this length matches.

        >>> import torch, emnesy_gpu as em
        >>> rule = em.Automaton.from_regex("a(b|c)*a", alphabet="abc", n_symbols=4)
        >>> rule.label(torch.tensor([[0, 1, 2, 0], [0, 0, 0, 0]])).tolist()          # abca, aaaa
        [1, 0]
        >>> post = em.posterior(rule, torch.zeros(1, 4, 3), torch.tensor([1]))
        >>> round(post.log_evidence.exp().item() * 3**4), post.marginals[0, 0].tolist() # 4 of 81 strings: a at first
        (4, [1.0, 0.0, 0.0])
        """
        step, start, label = regex_step(pattern, checked_alphabet(alphabet))
        rule = cls(
            *(step, start, label, n_symbols, len(alphabet)),
            labels=(0, 1),
            variable_length=variable_length,
            max_states=max_states,
        )
        if not rule.machine.observed[n_symbols - 1].weights[1].any():
            raise ValueError(f"no string of {n_symbols} characters of {alphabet!r} matches {pattern!r}")
        return rule

    @classmethod
    def from_tables(
        cls,
        transitions: Any,
        n_symbols: int,
        start: Any = 0,
        labels: Sequence[Any] | None = None,
        label_weights: Any = None,
        *,
        latent_shape: Sequence[int] | None = None,
        order: Sequence[int] | None = None,
        variable_length: bool = False,
    ) -> Automaton:
        """From tables of states, with or without weights.

            p(y | x) = sum over z, s of start(s_0) prod_i p(z_i | x) w_i(s_{i-1}, z_i, s_i) p(y | s_n)

        Args:
            transitions: integers [S, K], the next state of every state and value, -1 where the rule forbids the value;
                or floats [S, K, S'], weights >= 0 of every state, value and next state. One table for all positions, or
                a list with one a position. Arrays of NumPy, lists, or CPU tensors.
            n_symbols: how many symbols there are.
            start: the number of the first state, or float weights [S].
            labels: the label of every state after the last symbol, as the argument label gives it.
            label_weights: in place of labels p(y | s), [number of labels, S], or a dict {label: weights [S]}.
                Without both, all states have label 0: every label 0, or -1, says nothing.
            latent_shape, order, variable_length: as for the class.

        With weights the evidence is a weighted sum, and can be above 1; ``label`` then raises UnsupportedInference, and
        so do the engines that need the label of a sample. Integer tables are minimised, tables of weights are not.
        Raises TypeError and ValueError for tables, labels and weights of wrong types, shapes or values.

        A hidden Markov model: symbols are the hidden states, and the logits log p(observation | state). Here state v is
        "the last symbol was v", state 2 the start. p(observations) is the evidence times prod_i sum_v exp(logits_iv).

        >>> import torch, emnesy_gpu as em
        >>> p_next, p_first = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0.5, 0.5])
        >>> weights = torch.zeros(3, 2, 3)
        >>> for v in range(2):
        ...     weights[:2, v, v], weights[2, v, v] = p_next[:, v], p_first[v]
        >>> hmm = em.Automaton.from_tables(weights, n_symbols=2, start=2)
        >>> logits = torch.tensor([[[0.7, 0.3], [0.5, 0.5]]]).log()
        >>> smoothed = em.posterior(hmm, logits, torch.tensor([0])).marginals
        >>> [round(q, 3) for q in smoothed[0, 1].tolist()]               # 0.7 * 0.9 + 0.3 * 0.2 : 0.7 * 0.1 + 0.3 * 0.8
        [0.69, 0.31]

        A conditional random field is the same with weights exp(potential of a pair): here the pair (0, 1) is forbidden.

        >>> potential = torch.tensor([[1.0, -torch.inf], [0.0, 0.5]])
        >>> weights[:2] = 0.0
        >>> for v in range(2):
        ...     weights[:2, v, v], weights[2, v, v] = potential[:, v].exp(), 1.0
        >>> crf = em.Automaton.from_tables(weights, n_symbols=3, start=2)
        >>> em.posterior(crf, torch.zeros(1, 3, 2), torch.tensor([0]), em.MAP()).info["assignment"].tolist()
        [[0, 0, 0]]
        """
        shape = _latent_shape(n_symbols, latent_shape, None)
        given = checked_tables(transitions, prod(shape), labels)
        final, tables = final_labels(labels, label_weights, given.n_last), given.tables
        if not given.weighted and np.ndim(start) == 0:
            first = int(start_weights(start, len(tables[0])).argmax())
            one_for_all = len({id(table) for table in tables}) == 1
            return cls(
                next_state(tables) if one_for_all else None,
                first,
                final.of_state.__getitem__,
                cardinality=tables[0].shape[1],
                step_at=None if one_for_all else next_state(tables),
                latent_shape=shape,
                order=order,
                labels=final.declared,
                variable_length=variable_length,
            )
        rule = cls.__new__(cls)
        weights = {id(table): as_weights(table, given.n_last) for table in tables}
        if variable_length:
            weights = {key: with_pad(table, "transitions") for key, table in weights.items()}
        machine = weighted_machine([weights[id(table)] for table in tables], start, final)
        rule._set_up(machine, shape, order, has_pad=variable_length)
        return rule

    def _set_up(
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
        self.label_shape = (len(machine.observed),) if has_entries else ()
        self.n_states, self.n_edges = machine.n_states, machine.n_edges
        self._codes = [codes_of(observation.labels) for observation in machine.observed.values()]
        names = [by_code(codes) for codes in self._codes]
        self.labels: Any = tuple(names) if has_entries else names[0]
        self._tables = {
            torch.device("cpu"): make_tables(machine, [_positions(o.labels, c) for o, c in self._observed()])
        }
        self._running: dict[torch.device, tuple[list[Tensor], dict[int, Tensor]]] = {}
        self._order = None if order is None else _checked_order(order, prod(latent_shape))
        self._place = None if self._order is None else torch.argsort(self._order)

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
        if checked_label(label, "labels") not in self._codes[entry]:
            known = list(self._codes[entry])
            raise ValueError(f"no state has the label {label!r}; known labels are {known[:10]}, {len(known)} in all")
        return self._codes[entry][label]

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
        place = torch.arange(n, device=lengths.device) if self._place is None else self._place
        exists = place.to(lengths.device) < lengths[:, None]
        none = logits.new_full((self.cardinality,), -torch.inf)
        none[self.pad] = 0.0
        return torch.where(exists.view(*logits.shape[:-1], 1), pad(logits, (0, 1), value=-torch.inf), none)

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
        entries = self._entries(self._in_order(z.reshape(*z.shape[:lead], len(self.machine.layer_of))))
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
        forbidden = state == self.machine.n_states
        return torch.stack(entries, -1).masked_fill_(forbidden[..., None], NOT_GIVEN)

    def _running_tables(self, device: torch.device) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Successors [S + 1, K] of each layer, codes [S + 1] of each observed position; the last state is a sink."""
        if device not in self._running:
            self._running[device] = self._make_running_tables(device)
        return self._running[device]

    def _make_running_tables(self, device: torch.device) -> tuple[list[Tensor], dict[int, Tensor]]:
        one_start = np.count_nonzero(self.machine.start) == 1 and self.machine.start[0] > 0
        if not one_start or not all(layer.deterministic for layer in self.machine.layers):
            raise UnsupportedInference(f"{self!r} has weighted edges: its label is no function of the symbols")
        sink = self.machine.n_states
        successors = []
        for layer in self.machine.layers:
            table = np.full((sink + 1, self.cardinality), sink, np.int64)
            rows = layer.successors(self.cardinality)
            table[: len(rows)] = np.where(rows >= 0, rows, sink)
            successors.append(torch.from_numpy(table).to(device))
        observed = zip(self.machine.observed, self._observed(), strict=True)
        return successors, {position: self._codes_of_states(*seen).to(device) for position, seen in observed}

    def _codes_of_states(self, observation: Observation, code_of: dict[Any, int]) -> Tensor:
        """int64 [S + 1], NOT_GIVEN for states without a label."""
        weights = observation.weights
        if not np.isin(weights, (0.0, 1.0)).all() or (weights.sum(0) > 1).any():
            raise UnsupportedInference(f"{self!r} has noisy labels: they are no function of the symbols")
        codes = np.full(self.machine.n_states + 1, NOT_GIVEN, np.int64)
        label, state = np.nonzero(weights)
        codes[state] = np.array([code_of[name] for name in observation.labels], np.int64)[label]
        return torch.from_numpy(codes)

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
        back = z if self._place is None else z[..., self._place.to(z.device)]
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
        wanted = label.reshape(len(label), len(self._codes))
        return ((found == wanted) | ((wanted == NOT_GIVEN) & (found != NOT_GIVEN))).sum(-1)

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        self._running_tables(logits.device)  # raises where no sample has a label
        if check:
            check_values(*self._inputs(logits, label))

    def _inputs(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits [batch, n, K] in reading order, entries [batch, M], tables."""
        symbols = logits.flatten(1, -2)
        if self._order is not None:
            symbols = symbols[:, self._order.to(symbols.device)]
        return symbols, label.reshape(len(label), len(self._codes)), list(self.tables(logits.device))

    def _in_order(self, symbols: Tensor) -> Tensor:
        return symbols if self._order is None else symbols[..., self._order.to(symbols.device)]

    def _back(self, values: Tensor, like: Tensor) -> Tensor:
        """From reading order to the shape of the symbols."""
        if self._place is not None:
            values = values[:, self._place.to(values.device)]
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
    return torch.tensor(list(order), dtype=torch.int64, device="cpu")


def _positions(labels: Sequence[Any], codes: dict[Any, int]) -> dict[int, int]:
    return {codes[label]: index for index, label in enumerate(labels)}


def _with_pad(step: Step, cardinalities: Sequence[int]) -> Step:
    """A step, or step_at, in which one more value leaves the state."""
    pad_value = max(cardinalities)

    def padded(state: Any, value: int, *position: int) -> Any:
        if value == pad_value:
            return state
        n_values = cardinalities[position[0]] if position else pad_value
        return step(state, value, *position) if value < n_values else None

    return padded
