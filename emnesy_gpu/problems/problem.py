"""What every symbolic component offers to the engines."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from emnesy_gpu import checks


class UnsupportedInference(NotImplementedError):
    """The problem has no implementation of this kind of inference."""


class Marginals(NamedTuple):
    """Posterior marginals [batch, *latent_shape, cardinality], log evidence [batch], possible [batch]."""

    marginals: Tensor
    log_evidence: Tensor
    possible: Tensor


class MapAssignment(NamedTuple):
    """Jointly most probable symbols [batch, *latent_shape], log p(symbols | logits), possible [batch].

    valid [batch]: whether the symbols have the label; None where the search is exact, so that possible says it.
    """

    assignment: Tensor
    log_joint: Tensor
    possible: Tensor
    valid: Tensor | None = None


class LoopySettings(NamedTuple):
    """How loopy belief propagation is run: see ``em.BeliefPropagation``."""

    iterations: int
    damping: float
    schedule: str
    factors: str
    tolerance: float


class Beliefs(NamedTuple):
    """What loopy belief propagation arrived at, sweeps done [batch] int32, largest change of the last one [batch]."""

    marginals: Marginals
    sweeps: Tensor
    change: Tensor


class SamplingSettings(NamedTuple):
    """How samples are drawn and weighted: see ``em.ABC``; the kernel "exact" keeps those that have the label."""

    n_samples: int
    kernel: str
    sharpness: float
    scope: str
    target_ess: float | None
    seed: int
    first_row: int
    rao_blackwell: bool = False


class Weighted(NamedTuple):
    """What weighted samples say; effective sample size, sharpness, share of samples with the label, [batch] all."""

    marginals: Marginals
    ess: Tensor
    sharpness: Tensor
    acceptance: Tensor


class GibbsSettings(NamedTuple):
    """How Gibbs chains are run: see ``em.Gibbs``."""

    chains: int
    sweeps: int
    penalty: float
    seed: int
    first_row: int


class Chains(NamedTuple):
    """What Gibbs chains say, and the share of them that ends in an assignment without conflicts [batch]."""

    marginals: Marginals
    satisfied: Tensor


class Problem:
    """A hidden assignment of ``latent_shape`` symbols with ``cardinality`` values each, and its label.

    A problem implements the kinds of inference that it allows; the others raise ``UnsupportedInference``.
    """

    latent_shape: tuple[int, ...]
    cardinality: int
    label_shape: tuple[int, ...]
    kernel = "fraction"
    """What ``em.ABC`` weighs samples with if it is not told."""
    rao_blackwell = False
    """Whether ``em.ABC(rao_blackwell=True)`` works."""

    def label(self, z: Tensor) -> Tensor:
        """The symbolic program: int64 [..., *latent_shape] -> label [..., *label_shape]."""
        raise NotImplementedError

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> Marginals:
        raise UnsupportedInference

    def loopy_marginals(self, logits: Tensor, label: Tensor, settings: LoopySettings, check: bool) -> Beliefs:
        raise UnsupportedInference

    def weighted_marginals(self, logits: Tensor, label: Tensor, settings: SamplingSettings, check: bool) -> Weighted:
        raise UnsupportedInference

    def gibbs_marginals(self, logits: Tensor, label: Tensor, settings: GibbsSettings, check: bool) -> Chains:
        raise UnsupportedInference

    def map_assignment(self, logits: Tensor, label: Tensor, check: bool) -> MapAssignment:
        raise UnsupportedInference

    def sample(self, logits: Tensor, label: Tensor, n_samples: int, seed: int, first_row: int, check: bool) -> Tensor:
        raise UnsupportedInference

    def em_gradient(self, logits: Tensor, label: Tensor, scale: float, check: bool) -> tuple[Tensor, Tensor]:
        raise UnsupportedInference

    def supports(self, inference: str) -> bool:
        """Whether this problem implements the named kind of inference."""
        return getattr(type(self), inference) is not getattr(Problem, inference)

    def checked(self, logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Detached logits and int64 label after the checks of type, shape, dtype and device."""
        checks.is_tensor("logits", logits)
        checks.is_tensor("label", label)
        checks.has_dtype("logits", logits, checks.FLOAT_DTYPES)
        checks.has_dtype("label", label, checks.INTEGER_DTYPES)
        checks.has_trailing_shape("logits", logits, (*self.latent_shape, self.cardinality))
        checks.has_trailing_shape("label", label, self.label_shape)
        checks.belong_together(logits, label)
        return logits.detach(), label.long()
