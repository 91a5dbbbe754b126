"""Any rule that can be read along the symbols with a finite state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import prod
from typing import Any

from emnesy_gpu import checks
from emnesy_gpu.automata.compile import compile_step, compile_step_at
from emnesy_gpu.automata.explore import MAX_STATES, Step
from emnesy_gpu.automata.given_tables import (
    as_array,
    as_weights,
    checked_tables,
    final_labels,
    next_state,
    start_weights,
    weighted_machine,
    with_pad,
)
from emnesy_gpu.automata.labels import Observer, declared_labels
from emnesy_gpu.automata.regex import checked_alphabet, regex_step
from emnesy_gpu.problems.finite_state import FiniteStateProblem
from emnesy_gpu.problems.symbols import checked_cardinalities, checked_latent_shape


class Automaton(FiniteStateProblem):
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
        checks.is_flag("variable_length", variable_length)
        shape = checked_latent_shape(n_symbols, latent_shape, cardinalities)
        sizes = checked_cardinalities(prod(shape), cardinality, cardinalities)
        if step is not None and len(set(sizes)) > 1:
            raise ValueError(f"symbols of different cardinality need step_at, got step and cardinalities {sizes}")
        function: Any = step_at if step is None else step
        checks.is_function("step" if step_at is None else "step_at", function, "a function of a state and a value")
        if variable_length:
            function, sizes = _with_pad(function, sizes), [max(sizes) + 1] * len(sizes)
        observer = Observer(label, output, declared_labels(labels))
        if step is None:
            machine = compile_step_at(function, start, sizes, observer, max_states)
        else:
            machine = compile_step(function, start, len(sizes), sizes[0], observer, max_states)
        super().__init__(machine, shape, order, has_pad=variable_length, has_entries=output is not None)

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
        so do the engines that need the label of a sample. ``em.MAP`` needs weights of which no assignment takes several
        paths; above 256 states, no value may lead on in several ways. Integer tables are minimised, tables of weights
        are not.
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
        checks.is_flag("variable_length", variable_length)
        shape = checked_latent_shape(n_symbols, latent_shape, None)
        given = checked_tables(transitions, prod(shape), labels)
        final, tables = final_labels(labels, label_weights, given.n_last), given.tables
        if not given.weighted and as_array(start, "start").ndim == 0:
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
        FiniteStateProblem.__init__(rule, machine, shape, order, has_pad=variable_length)
        return rule


def _with_pad(step: Step, cardinalities: Sequence[int]) -> Step:
    """A step, or step_at, in which one more value leaves the state."""
    pad_value = max(cardinalities)

    def padded(state: Any, value: int, *position: int) -> Any:
        if value == pad_value:
            return state
        n_values = cardinalities[position[0]] if position else pad_value
        return step(state, value, *position) if value < n_values else None

    return padded
