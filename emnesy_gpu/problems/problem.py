"""The base class of all problems."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.ops.methods import new_handle
from emnesy_gpu.problems import remedies
from emnesy_gpu.problems.stored import stored

if TYPE_CHECKING:
    from typing_extensions import Self


NOT_KEPT = ("handle", "calls_of_few_rows", "_looked_at_by")
"""Attributes that belong to an object and not to what it is, and are not copied."""

MAKERS = ("__init__", "settings")
"""What a subclass replaces together, if it takes arguments of its own."""


def make_problem(cls: type[Problem], settings: dict[str, Any] | None) -> Problem:
    """The problem of these settings; for None an empty one, whose attributes are set next."""
    return cls.__new__(cls) if settings is None else cls(**settings)


class Problem:
    """A hidden assignment of ``latent_shape`` symbols with ``cardinality`` values each, and its label.

    A subclass sets the attributes, and implements ``label`` and the kinds of inference that it allows, each as the
    method that an engine asks for. These protocols say what the method receives, returns, raises and may assume:

        exact_marginals       ``emnesy_gpu.engines.exact.ExactProblem``
        loopy_marginals       ``emnesy_gpu.engines.belief_propagation.LoopyProblem``
        weighted_marginals    ``emnesy_gpu.engines.abc.WeightedProblem``
        gibbs_marginals       ``emnesy_gpu.engines.gibbs.GibbsProblem``
        map_assignment        ``emnesy_gpu.engines.map.MapProblem``
        sample                ``emnesy_gpu.e_step.SampledProblem``, for ``em.sample_posterior``
        em_gradient           ``emnesy_gpu.m_step.FusedProblem``, for ``em.fused_em_loss``

    Attributes:
        latent_shape: the shape of the hidden symbols of one row.
        cardinality: how many values a symbol has; they are 0..cardinality-1.
        label_shape: the shape of the label of one row.
        tractable: whether exact marginals, exact samples and the EM gradient can be computed at this size, where the
            class implements them.
        map_tractable: whether the most probable assignment can be found at this size, where the class implements it.
        map_limit: why it cannot, for errors; empty where ``limit`` says it.
        limit: why the problem is not tractable, and what to do instead, for errors; empty where nothing is to be said.
        any_label: a value that every entry of every label may have, such as that of an entry that is not given.
        conversion: what turns one number a row into labels, for errors; empty where nothing does.

    Two bits of which the label is the logical or, by Bayes' rule:

    >>> import torch, emnesy_gpu as em
    >>> from emnesy_gpu.inference.results import Marginals
    >>> class Either(em.Problem):
    ...     latent_shape, cardinality, label_shape = (2,), 2, ()
    ...     def label(self, z):
    ...         return z.amax(-1)
    ...     def exact_marginals(self, logits, label, check):
    ...         on = torch.softmax(logits, -1)[..., 1]
    ...         neither = (1 - on).prod(1)
    ...         evidence = torch.where(label == 1, 1 - neither, neither)
    ...         q = torch.where(label[:, None] == 1, on / evidence[:, None], 0.0)
    ...         return Marginals(torch.stack([1 - q, q], -1), evidence.log(), evidence > 0)
    >>> post = em.posterior(Either(), torch.zeros(1, 2, 2), torch.tensor([1]))     # em.Exact() is chosen
    >>> [round(q, 3) for q in post.marginals[0, 0].tolist()]
    [0.333, 0.667]
    """

    latent_shape: tuple[int, ...]
    cardinality: int
    label_shape: tuple[int, ...]
    tractable: bool = True
    map_tractable: bool = True
    limit: str = ""
    map_limit: str = ""
    any_label: int = 0
    conversion: str = ""

    handle: int
    """The number of this problem in a compiled graph, see ``ops.methods``."""

    calls_of_few_rows: dict[Any, Any]
    """What was made for calls with few rows, see ``problems.few_rows``."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        problem = super().__new__(cls)
        vars(problem)["handle"] = new_handle(problem)
        vars(problem)["calls_of_few_rows"] = {}
        return problem

    @property
    def settings(self) -> dict[str, Any] | None:
        """The arguments that make an equal problem, hashable; None where there is no such list of arguments.

        With settings, problems are equal if their class and settings are, and they are pickled as these. Without, a
        problem equals itself alone, and all that it holds is pickled, arrays as tensors. ``torch.load`` with
        weights_only=True reads both; of a class or a function that is not of the package it says how to allow it. A
        subclass with an ``__init__`` of its own has no settings, unless it defines them.

        >>> import copy, emnesy_gpu as em
        >>> em.Addition(4).settings, em.Addition(4) == copy.deepcopy(em.Addition(n_digits=4))
        ({'n_digits': 4, 'base': 10, 'n_addends': 2}, True)
        """
        return None

    def _own_settings(self) -> dict[str, Any] | None:
        """The settings, if they are those of the class; None where a subclass takes other arguments."""
        init, settings = (next(cls for cls in type(self).__mro__ if name in vars(cls)) for name in MAKERS)
        return self.settings if issubclass(settings, init) else None

    def _key(self) -> Hashable:
        """What equal problems have in common; None where only the problem itself is equal."""
        settings = self._own_settings()
        return None if settings is None else tuple(settings.items())

    def __eq__(self, other: object) -> bool:
        if self is other or type(self) is not type(other):
            return self is other
        key = self._key()
        return key is not None and key == cast(Problem, other)._key()

    def __hash__(self) -> int:
        key = self._key()
        return object.__hash__(self) if key is None else hash((type(self), key))

    def __reduce__(self) -> Any:
        settings = self._own_settings()
        if settings is not None:
            return make_problem, (type(self), settings)
        state = {name: value for name, value in vars(self).items() if name not in NOT_KEPT}
        return make_problem, (type(self), None), stored(state)

    def label(self, z: Tensor) -> Tensor:
        """The symbolic program: the label of every assignment.

        Args:
            z: int64 [..., *latent_shape], values in 0..cardinality-1, with any number of leading axes.

        Returns:
            Integers [..., *label_shape], on the device of z.

        Raises TypeError and ValueError for a wrong dtype or shape and for values out of range.
        """
        raise NotImplementedError

    def one_batch_axis(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor, torch.Size | None]:
        """Logits and label [batch, ...] for ones with more leading axes, and the shape of these; None for one axis.

        Raises TypeError for what is no tensor, and ValueError for leading axes that differ.
        """
        if type(logits) is Tensor and logits.dim() == len(self.latent_shape) + 2:
            return logits, label, None
        checks.is_tensor("logits", logits)
        checks.is_tensor("label", label, remedies.LABELS)
        trailing = (*self.latent_shape, self.cardinality)
        n_axes = logits.dim() - len(trailing)
        if n_axes < 2 or logits.shape[n_axes:] != trailing:
            return logits, label, None
        leading = logits.shape[:n_axes]
        if label.shape[:n_axes] != leading:
            raise ValueError(f"label must have shape {[*leading, *self.label_shape]}, got {list(label.shape)}")
        return logits.flatten(0, n_axes - 1), label.flatten(0, n_axes - 1), leading

    def are_ready(self, logits: Tensor, label: Tensor) -> bool:
        """Whether ``checked`` returns the very same, but for autograd. A problem that has its own is not asked."""
        symbols, is_own = (*self.latent_shape, self.cardinality), type(self).checked is not Problem.checked
        return not is_own and checks.are_fine(logits, label, symbols, self.label_shape) and label.dtype is torch.int64

    def checked(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Check type, shape, dtype and device, and return detached logits and an int64 label.

        Raises TypeError and ValueError that name the argument, the expectation and the value.
        """
        symbols = (*self.latent_shape, self.cardinality)
        if not checks.are_fine(logits, label, symbols, self.label_shape):
            checks.is_tensor("logits", logits)
            checks.is_tensor("label", label, remedies.LABELS)
            checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
            checks.has_dtype("label", label, checks.INTEGER_DTYPES, remedies.for_label_type(label.dtype))
            checks.has_trailing_shape("logits", logits, symbols, partial(remedies.for_logits, self, logits))
            checks.has_trailing_shape("label", label, self.label_shape, partial(remedies.for_label, self, label))
            checks.belong_together(logits, label)
        return logits.detach(), label if label.dtype is torch.int64 else label.long()


torch.serialization.add_safe_globals([make_problem])
