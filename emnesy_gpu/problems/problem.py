"""The base class of all problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from emnesy_gpu import checks
from emnesy_gpu.ops.methods import new_handle

if TYPE_CHECKING:
    from typing_extensions import Self


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
        limit: why the problem is not tractable, and what to do instead, for errors; empty where nothing is to be said.

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

    handle: int
    """The number of this problem in a compiled graph, see ``ops.methods``."""

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        problem = super().__new__(cls)
        vars(problem)["handle"] = new_handle(problem)
        return problem

    def label(self, z: Tensor) -> Tensor:
        """The symbolic program: the label of every assignment.

        Args:
            z: int64 [..., *latent_shape], values in 0..cardinality-1, with any number of leading axes.

        Returns:
            Integers [..., *label_shape], on the device of z.

        Raises TypeError and ValueError for a wrong dtype or shape and for values out of range.
        """
        raise NotImplementedError

    def checked(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Check type, shape, dtype and device, and return detached logits and an int64 label.

        Raises TypeError and ValueError that name the argument, the expectation and the value.
        """
        checks.is_tensor("logits", logits)
        checks.is_tensor("label", label)
        checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
        checks.has_dtype("label", label, checks.INTEGER_DTYPES)
        checks.has_trailing_shape("logits", logits, (*self.latent_shape, self.cardinality))
        checks.has_trailing_shape("label", label, self.label_shape)
        checks.belong_together(logits, label)
        return logits.detach(), label.long()
