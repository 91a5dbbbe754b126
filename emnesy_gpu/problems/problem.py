"""What every symbolic component offers to the engines."""

from __future__ import annotations

from torch import Tensor

from emnesy_gpu import checks


class Problem:
    """A hidden assignment of ``latent_shape`` symbols with ``cardinality`` values each, and its label.

    A subclass sets the attributes, implements ``label``, and those kinds of inference that it allows, each as the
    method that an engine asks for. The interfaces say what the method receives, returns and may assume:

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
        map_tractable: the same for the most probable assignment.
    """

    latent_shape: tuple[int, ...]
    cardinality: int
    label_shape: tuple[int, ...]
    tractable: bool = True
    map_tractable: bool = True

    def label(self, z: Tensor) -> Tensor:
        """The symbolic program.

        Args:
            z: int64 [..., *latent_shape], values in 0..cardinality-1, with any number of leading axes.

        Returns:
            Integers [..., *label_shape], on the device of z.

        Raises TypeError and ValueError for a wrong dtype or shape and for values out of range.
        """
        raise NotImplementedError

    def checked(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Detached logits and int64 label after the checks of type, shape, dtype and device.

        Raises TypeError and ValueError that name the argument, what was got and what was expected.
        """
        checks.is_tensor("logits", logits)
        checks.is_tensor("label", label)
        checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
        checks.has_dtype("label", label, checks.INTEGER_DTYPES)
        checks.has_trailing_shape("logits", logits, (*self.latent_shape, self.cardinality))
        checks.has_trailing_shape("label", label, self.label_shape)
        checks.belong_together(logits, label)
        return logits.detach(), label.long()
