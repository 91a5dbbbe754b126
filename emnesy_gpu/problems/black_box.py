"""Any function of the hidden symbols as a problem."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from math import log10, prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emnesy_gpu import checks, ops  # noqa: F401 - importing ops registers the operators
from emnesy_gpu.backends import backend_for, kernels_for
from emnesy_gpu.errors import UnsupportedInference
from emnesy_gpu.inference import gibbs_chains, joint_table, weighted_samples
from emnesy_gpu.inference.constants import constant
from emnesy_gpu.inference.results import (
    Chains,
    MapAssignment,
    Marginals,
    Weighted,
    em_gradient_of,
    result_dtype,
)
from emnesy_gpu.inference.settings import ChainSettings, SamplingSettings
from emnesy_gpu.inference.weighted_samples import Score
from emnesy_gpu.kernels.joint_tables import JointTable, left_symbols, sizes_and_strides
from emnesy_gpu.kernels.score_tables import FUNCTION, LISTED, CompiledScore
from emnesy_gpu.ops.black_box import histogram
from emnesy_gpu.ops.registry import bounded
from emnesy_gpu.problems.black_box_rules import LabelRule, PythonRule, Rule, ScoreRule, Symbols
from emnesy_gpu.problems.opaque import opaque
from emnesy_gpu.problems.problem import Problem

MAX_ASSIGNMENTS = 1 << 16
MAX_CARDINALITY = 1 << 15
JOINTS_AT_A_TIME = 1 << 20
"""Log joint probabilities that exact inference holds at a time."""


class BlackBox(Problem):
    """A symbolic component that is given as a function.

    One of ``label``, the symbolic program itself on whole batches of samples, ``python_label``, the same in plain
    Python for one assignment, and ``score``, which counts the constraints that a sample satisfies given a label. With
    ``label`` the constraints are the entries of the label that come out equal. Inference is exact where there are at
    most 2**16 assignments: all of them are tried. Elsewhere it is by samples and chains (``em.ABC``, ``em.Rejection``,
    ``em.Gibbs``). A rule that reads the symbols with a finite state is exact at any size as ``em.Automaton``.

    Args:
        score: (z int64 [samples, batch, *latent_shape], y int64 [batch, *label_shape]) -> integers or bool
            [samples, batch] in 0..n_constraints, a deterministic torch function; a sample has the label where all
            constraints are satisfied.
        label: z int64 [..., *latent_shape] -> integers or bool [..., *label_shape], a deterministic torch function.
        python_label: (a tuple of int, the symbols in row-major order) -> any hashable, a deterministic function.
            Labels are given as their codes, see ``encode``: integers in 0..2**20 and bools are their own codes, if all
            labels are; otherwise labels are numbered, in the order in which the assignments have them.
        latent_shape: the shape of the hidden symbols of one row.
        cardinality: their number of values, 2..2**15; or a sequence with the number of each symbol, 1..2**15, in
            row-major order. Logits are padded to the largest of them. What they hold for values that a symbol does not
            have is ignored: these values have probability 0, and gradient 0 in ``em.fused_em_loss``.
        label_shape: the shape of the label of one row.
        n_constraints: what ``score`` counts up to; with ``label`` the number of label entries.
        numba_score: for speed on the CPU, the same as ``score``, or the number of equal label entries, as a
            ``numba.njit`` function (z, y) of one sample: z[i] is symbol i and y[j] entry j of the label, in row-major
            order. It is compiled into the loop that draws the samples.
        triton_score: the same for CUDA tensors as a ``triton.jit`` function, where z[i] is a tensor of samples.

    Attributes:
        cardinality: the largest number of values.
        cardinalities: the number of values of each symbol, in row-major order.
        enumerable: whether the assignments are few enough to try them all; the same as ``tractable``.

    Cost of exact inference: a few passes over a float64 table of all assignments per row, on 2**20 entries at a time.
    On a GPU one kernel multiplies the weights of the two halves of each assignment, and stores no table.
    The labels of all assignments are computed once; scores once for each label, as long as 2**26 of them fit the cache.
    So the function must depend on its arguments alone. Cost of samples: that of the function, on chunks of about 2**18
    symbols, and memory for (n_constraints + 1) counts of every value per row. Samples of a large batch on a CPU are
    scored in a thread of the library where torch takes no others, one chunk after the other. Raises TypeError and
    ValueError for a function whose result has a wrong dtype, shape or range.

    Where not all assignments can be tried, ``engine=None`` takes ``em.ABC(samples=4096, target_ess=100)``: samples with
    the label, if 100 of 4096 have it, and otherwise those that come closest. The mean total variation to the exact
    posterior, for nets that read little / half / most of the symbols:

        rule                 the prior         that ABC          em.ABC()          em.Gibbs()
        parity of 12 bits    .000 .001 .018    .008 .005 .001    .016 .010 .002    .052 .030 .004
        Kakuro, 5 cells      .127 .225 .151    .118 .078 .003    .127 .174 .060    .119 .148 .024
        Kakuro, 6 cells      .116 .220 .142    .121 .089 .003    .127 .159 .044    .110 .150 .018
        exactly 5 of 16      .141 .096 .019    .018 .010 .001    .035 .021 .002    .094 .066 .004
        0*1+2*, 10 symbols   .340 .244 .035    .118 .035 .001    .217 .074 .002    .332 .214 .007

    ``em.Rejection()`` has the same figures, but .130 and .183 on Kakuro that is not read. Samples are no better than
    the prior where the prior is nearly right (parity) and where few of them have the label (Kakuro that is not read).
    ``python -m tests.black_box_engines`` prints this table.

    Parity of four digits, and a row of Kakuro: three different digits 1..9 with a given sum.

    >>> import torch, emnesy_gpu as em
    >>> parity = BlackBox(label=lambda z: z.sum(-1) % 2, latent_shape=(4,), cardinality=10)
    >>> logits = torch.zeros(1, 4, 10)
    >>> logits[0, :3, 1] = 50.0                                        # 1 + 1 + 1 + ? is even
    >>> post = em.posterior(parity, logits, torch.tensor([0]), em.Rejection(samples=2000))
    >>> post.marginals[0, 3, ::2].sum().item()
    0.0
    >>> def kakuro(z, y):
    ...     first, second, third = z.unbind(-1)
    ...     different = (first != second) & (first != third) & (second != third)
    ...     return different.long() + (z.sum(-1) + 3 == y)
    >>> row = BlackBox(kakuro, latent_shape=(3,), cardinality=9, n_constraints=2)
    >>> post = em.posterior(row, torch.zeros(1, 3, 9), torch.tensor([6]), em.Exact())     # 1 + 2 + 3
    >>> [round(q, 3) for q in post.marginals[0, 0, :4].tolist()]
    [0.333, 0.333, 0.333, 0.0]

    A label that is no number, and symbols with 2 and 3 values:

    >>> meal = BlackBox(
    ...     python_label=lambda z: "fish" if z == (1, 2) else "soup", latent_shape=(2,), cardinality=(2, 3)
    ... )
    >>> post = em.posterior(meal, torch.zeros(1, 2, 3), meal.encode(["fish"]))
    >>> post.marginals.argmax(-1).tolist(), round(post.log_evidence.exp().item(), 4)   # 1 of 6
    ([[1, 2]], 0.1667)

    The parity again, compiled:

    >>> import numba
    >>> @numba.njit
    ... def even(z, y):
    ...     return int((z[0] + z[1] + z[2] + z[3]) % 2 == y[0])
    >>> fast = BlackBox(label=parity.label, latent_shape=(4,), cardinality=10, numba_score=even)
    >>> post = em.posterior(fast, logits, torch.tensor([0]), em.Rejection(samples=2000))
    >>> post.marginals[0, 3, ::2].sum().item()
    0.0
    """

    def __init__(
        self,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        label: Callable[[Tensor], Tensor] | None = None,
        python_label: Callable[[tuple[int, ...]], Hashable] | None = None,
        latent_shape: tuple[int, ...],
        cardinality: int | Sequence[int],
        label_shape: tuple[int, ...] = (),
        n_constraints: int | None = None,
        numba_score: Callable | None = None,
        triton_score: Callable | None = None,
    ) -> None:
        functions = {"score": score, "label": label, "python_label": python_label}
        given = [name for name, function in functions.items() if function is not None]
        if len(given) != 1:
            raise TypeError(f"BlackBox takes one of score, label and python_label, got {' and '.join(given) or 'none'}")
        for name, function in (functions | {"numba_score": numba_score, "triton_score": triton_score}).items():
            if function is not None:
                checks.is_function(name, function)
        checks.is_shape("latent_shape", latent_shape)
        self.latent_shape, self.label_shape = tuple(latent_shape), checks.integers("label_shape", label_shape, 1, None)
        self.cardinalities = _cardinalities(cardinality, prod(latent_shape))
        self.cardinality = max(self.cardinalities)
        self._symbols = Symbols(self.latent_shape, self.cardinalities)
        self.enumerable = self.tractable = self.map_tractable = self._symbols.at_most(MAX_ASSIGNMENTS)
        self.limit = "" if self.enumerable else _limit(self.cardinalities)
        self._rule: Rule
        if score is not None:
            self._rule = ScoreRule(score, self._symbols, _n_constraints(n_constraints))
        elif label is not None:
            self._rule = LabelRule(label, self._symbols, self.label_shape)
        elif python_label is not None:
            self._rule = PythonRule(python_label, self._symbols, self.label_shape, self.enumerable)
        self.n_constraints = self._rule.n_constraints
        if n_constraints not in (None, self.n_constraints):
            entries = self.n_constraints
            raise ValueError(f"n_constraints must be the number of label entries, {entries}, or left out")
        self._compiled = {"cpu": numba_score, "triton": triton_score}
        sizes = torch.tensor(self.cardinalities, device="cpu")[:, None]
        padding = torch.arange(self.cardinality, device="cpu") >= sizes
        self._padding = {torch.device("cpu"): padding.view(*self.latent_shape, self.cardinality)}

    @property
    def settings(self) -> dict[str, Any]:
        """Functions are equal if they are the same; pickle needs them in a module, by their name."""
        numbers = {"latent_shape": self.latent_shape, "cardinality": self.cardinalities}
        label = {"label_shape": self.label_shape, "n_constraints": self.n_constraints}
        compiled = {"numba_score": self._compiled["cpu"], "triton_score": self._compiled["triton"]}
        return {self._rule.name: self._rule.function, **numbers, **label, **compiled}

    def __repr__(self) -> str:
        name = getattr(self._rule.function, "__name__", type(self._rule.function).__name__)
        same = len(set(self.cardinalities)) == 1
        cardinality = self.cardinality if same else self.cardinalities
        return f"BlackBox({name}, latent_shape={self.latent_shape}, cardinality={cardinality})"

    def checked(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """As for every problem; labels may be bool. Logits of values that a symbol does not have become -inf."""
        if isinstance(label, Tensor) and label.dtype == torch.bool:
            label = label.long()
        logits, label = super().checked(logits, label)
        return self._without_padding(logits), label

    def _without_padding(self, logits: Tensor) -> Tensor:
        if len(set(self.cardinalities)) == 1:
            return logits
        if logits.device not in self._padding:
            self._padding[logits.device] = self._padding[torch.device("cpu")].to(logits.device)
        return logits.masked_fill(self._padding[logits.device], -torch.inf)

    def label(self, z: Tensor) -> Tensor:
        """The label of assignments, as the function gives it; with ``python_label`` its code.

        Raises UnsupportedInference for a black box that is given by a score.
        """
        if isinstance(self._rule, PythonRule):
            self._check_symbols(z)
        return self._rule.label(z)

    def _check_symbols(self, z: Tensor) -> None:
        checks.is_tensor("z", z)
        checks.has_dtype("z", z, checks.INTEGER_DTYPES)
        lead = z.dim() - len(self.latent_shape)
        if lead < 0 or tuple(z.shape[lead:]) != self.latent_shape:
            raise ValueError(f"z must have shape [..., {', '.join(map(str, self.latent_shape))}], got {list(z.shape)}")
        symbols, sizes = z.flatten(lead), torch.tensor(self.cardinalities, device=z.device)
        wrong = ((symbols < 0) | (symbols >= sizes)).nonzero()
        if len(wrong):
            symbol = int(wrong[0, -1])
            got = int(symbols[tuple(wrong[0])])
            raise ValueError(f"z must hold values in 0..{int(sizes[symbol]) - 1} at symbol {symbol}, got {got}")

    @property
    def labels(self) -> list[Any]:
        """The label of each code where ``python_label`` is given, or None for a code that no assignment has.

        Where there are more than 2**16 assignments: the labels of the codes from 2**20 + 1 on, as they appear.
        """
        return self._python_rule().known.labels

    def encode(self, labels: Iterable[Hashable]) -> Tensor:
        """With ``python_label``: the codes of labels, int64 [batch].

        Raises ValueError for a label that no assignment has, where at most 2**16 assignments can be tried.

        >>> import emnesy_gpu as em
        >>> largest = em.BlackBox(python_label=lambda z: "abc"[max(z)], latent_shape=(4,), cardinality=3)
        >>> largest.labels, largest.encode(["b", "a"]).tolist()
        (['a', 'b', 'c'], [1, 0])
        """
        known = self._python_rule().known
        return torch.tensor([known.code(label) for label in labels], dtype=torch.int64)

    def _python_rule(self) -> PythonRule:
        if not isinstance(self._rule, PythonRule):
            raise UnsupportedInference(f"{self!r} has no codes of labels: only python_label does")
        return self._rule

    def satisfied(self, z: Tensor, label: Tensor) -> Tensor:
        """How many constraints hold in z [samples, batch, *latent_shape] given label [batch, *label_shape]."""
        if len(set(self.cardinalities)) > 1:
            last = constant(self.cardinalities, torch.int64, z.device).view(self.latent_shape) - 1
            z = torch.minimum(z, last)  # chains try all values, of which those that do not exist have weight 0
        return self._rule.satisfied(z, label)

    @opaque
    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        if settings.scope == "local":
            raise ValueError('a black box takes samples with scope "global" only: nothing tells what touches a symbol')
        self._check_values(logits, label, check)
        few = self.enumerable and prod(self.cardinalities) <= settings.samples
        return weighted_samples.weighted_marginals(logits, label, settings, self._score(logits.device, few))

    @opaque
    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: ChainSettings, check: bool) -> Chains:
        self._check_values(logits, label, check)
        return gibbs_chains.gibbs_marginals(logits, label, settings, self._score(logits.device, self.enumerable))

    def _score(self, device: torch.device, listed: bool) -> Score:
        """listed: on a GPU, score every assignment once where there is no function for kernels."""
        compiled, backend = self._compiled.get(backend_for(device)), backend_for(device)
        if backend == "triton":
            listing = self._listed_score if listed else None
            in_kernels = listing if compiled is None else functools.partial(self._function_score, compiled)
            return Score(self.satisfied, self.n_constraints, compiled=in_kernels)
        count = None if compiled is None else functools.partial(self._count, compiled)
        return Score(self.satisfied, self.n_constraints, count, shared=count is not None)

    def _function_score(self, function: Callable, label: Tensor) -> CompiledScore:
        sizes = len(self.cardinalities), prod(self.label_shape)
        return CompiledScore(FUNCTION, self.n_constraints, sizes=sizes, function=function)

    def _listed_score(self, label: Tensor) -> CompiledScore | None:
        """The scores of all assignments given each label, where there are few enough of both."""
        if prod(self.cardinalities) * len(label) > JOINTS_AT_A_TIME:
            return None
        parts = self._symbols.parts(label.device, len(label))
        scores = [self._rule.satisfied(z.expand(-1, len(label), *self.latent_shape), label) for z in parts]
        sizes = constant(self.cardinalities, torch.int32, label.device)
        table = scores[0] if len(scores) == 1 else torch.cat(scores)
        return CompiledScore(LISTED, self.n_constraints, (table.contiguous(), sizes))

    def _count(self, score: Callable, logits: Tensor, label: Tensor, samples: int, seed: int, first_row: int) -> Tensor:
        return histogram(logits, label, score, self.n_constraints, samples, seed, first_row)

    def _check_values(self, logits: Tensor, label: Tensor, check: bool) -> None:
        if check:
            weighted_samples.check_values(logits, label, None, "an integer")

    @opaque
    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        if backend_for(logits.device) == "triton":
            kernels = kernels_for("joint_table", logits.device)
            marginals, *others = kernels.posterior(*self._on_gpu(logits, label, check))
            return Marginals.from_operator((marginals.view(logits.shape), *others))
        parts = [
            joint_table.posterior(part.logits, self.cardinalities, part.has_label)
            for part in self._parts(logits, label, check)
        ]
        marginals, log_evidence = (torch.cat(column) for column in zip(*parts, strict=True))
        dtype = result_dtype(logits)
        return Marginals(marginals.to(dtype).view(logits.shape), log_evidence.to(dtype), log_evidence > -torch.inf)

    @opaque
    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        if backend_for(logits.device) == "triton":
            kernels = kernels_for("joint_table", logits.device)
            gradient, log_evidence, _ = kernels.em_gradient(*self._on_gpu(logits, label, check), scale)
            return gradient.view(logits.shape), log_evidence
        exact = self.exact_marginals(logits, label, check)
        return em_gradient_of(exact, logits, scale), exact.log_evidence

    @opaque
    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        """Ties: the first assignment in lexicographic order; impossible rows: the first best value of every symbol."""
        if backend_for(logits.device) == "triton":
            kernels = kernels_for("joint_table", logits.device)
            z, log_joint, _, possible = kernels.map_assignment(*self._on_gpu(logits, label, check))
            return MapAssignment(z.view(logits.shape[:-1]), log_joint, possible)
        parts = [
            joint_table.most_probable(part.logits, self.cardinalities, part.has_label)
            for part in self._parts(logits, label, check)
        ]
        z, log_joint = (torch.cat(column) for column in zip(*parts, strict=True))
        return MapAssignment(z.view(logits.shape[:-1]), log_joint.to(result_dtype(logits)), log_joint > -torch.inf)

    @opaque
    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        """The random words are used as for a list of the assignments with the label: see ``reference.enumeration``."""
        if backend_for(logits.device) == "triton":
            kernels = kernels_for("joint_table", logits.device)
            z, _ = kernels.sample(*self._on_gpu(logits, label, check), n_samples, seed, first_row)
            return z.view(n_samples, *logits.shape[:-1])
        parts = [
            joint_table.sample(part.logits, self.cardinalities, part.has_label, n_samples, seed, first_row + part.first)
            for part in self._parts(logits, label, check)
        ]
        return torch.cat(parts, 1).view(n_samples, *logits.shape[:-1])

    def _check_exact(self, logits: Tensor, label: Tensor, check: bool) -> None:
        if not self.enumerable:
            raise UnsupportedInference(f"{self!r} is too large for exact inference: {self.limit}")
        self._check_values(logits, label, check)

    def _on_gpu(self, logits: Tensor, label: Tensor, check: bool) -> tuple[Tensor, Tensor, JointTable]:
        """Logits [batch, N, K], labels [batch, entries] and the table of all assignments, for kernels."""
        self._check_exact(logits, label, check)
        sizes = self.cardinalities
        first = left_symbols(sizes)
        codes, known, least_score = self._rule.labelled(label, may_wait=check)
        pairs = tuple(number for pair in sizes_and_strides(sizes) for number in pair)
        symbols = constant(pairs, torch.int32, logits.device).view(-1, 2)
        table = JointTable(symbols, codes, known, first, prod(sizes[:first]), prod(sizes[first:]), least_score)
        return logits.flatten(1, -2).contiguous(), label.reshape(len(label), prod(self.label_shape)), table

    def _parts(self, logits: Tensor, label: Tensor, check: bool) -> Iterator[_Rows]:
        """Some rows at a time, for which all assignments are tried."""
        self._check_exact(logits, label, check)
        symbols = bounded(self._without_padding(logits)).double().flatten(1, -2)
        step = max(1, JOINTS_AT_A_TIME // prod(self.cardinalities))
        for first in range(0, max(len(logits), 1), step):
            rows = slice(first, first + step)
            yield _Rows(first, symbols[rows], self._rule.has_label(label[rows], may_wait=check))


class _Rows(NamedTuple):
    """Some rows: the first one, logits float64 [rows, N, K], and which assignments have the label, [rows, M]."""

    first: int
    logits: Tensor
    has_label: Tensor


def _cardinalities(cardinality: int | Sequence[int], n: int) -> tuple[int, ...]:
    """The number of values of each symbol in row-major order."""
    if isinstance(cardinality, int):
        checks.is_integer("cardinality", cardinality, 2, MAX_CARDINALITY)
        return (cardinality,) * n
    if not isinstance(cardinality, Sequence):
        raise TypeError(f"cardinality must be an integer or a sequence of integers, got {cardinality!r}")
    sizes = tuple(cardinality)
    if len(sizes) != n:
        raise ValueError(f"cardinality must be an integer or have {n} entries, one for each symbol, got {len(sizes)}")
    for index, size in enumerate(sizes):
        checks.is_integer(f"cardinality[{index}]", size, 1, MAX_CARDINALITY)
    return sizes


def _n_constraints(given: int | None) -> int:
    if given is None:
        return 1
    checks.is_integer("n_constraints", given, 1, None)
    return given


def _limit(sizes: tuple[int, ...]) -> str:
    return (
        f"there are about 1e{sum(map(log10, sizes)):.0f} assignments, and at most {MAX_ASSIGNMENTS} are tried one by "
        "one. If a finite state can be read along the symbols (counts, sums, parities, words), write the rule as "
        "em.Automaton, which is exact. Otherwise take em.em_loss and em.posterior, without an engine or with em.Gibbs()"
    )
