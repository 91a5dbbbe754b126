"""The text of the files that ``emnesy new`` writes: $name is the module, $kind the class or function in it."""

from __future__ import annotations

from string import Template

RULE = Template('''"""Say here what the hidden symbols are, and what the label says about them.

The example counts symbols: the label is how many of them have the value 0. Replace the step and the label.
"""

from __future__ import annotations

import emnesy_gpu as em

CARDINALITY = 3


def step(state: int, symbol: int) -> int:
    """What is remembered after one symbol more; None in place of a state forbids the symbol."""
    return state + (symbol == 0)


def label_of(state: int) -> int:
    """What is observed at the end."""
    return state


def $name(n_symbols: int) -> em.Automaton:
    """Return the rule for so many symbols."""
    return em.Automaton(step, start=0, label=label_of, n_symbols=n_symbols, cardinality=CARDINALITY)
''')

PROBLEM = Template('''"""Say here what the hidden symbols are, and what the label says about them.

The example counts symbols: the label is how many of them have the value 0. Replace ``label`` and ``evidence``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

import emnesy_gpu as em


class $kind(em.Problem):
    """How many of some symbols have the value 0; the label is int64 [batch], 0..n_symbols."""

    label_shape = ()

    def __init__(self, n_symbols: int, cardinality: int) -> None:
        self.latent_shape, self.cardinality = (n_symbols,), cardinality

    def label(self, z: Tensor) -> Tensor:
        """Return the label of assignments: int64 [..., n_symbols] -> [...]."""
        return (z == 0).sum(-1)

    def evidence(self, beliefs: Tensor, label: Tensor) -> Tensor:
        """Return p(label), differentiable: beliefs [batch, n_symbols, cardinality] -> [batch].

        It is the sum over all assignments with the label, which the structure of the rule makes short: here the
        probabilities of all counts, with one symbol more in every turn.
        """
        counts = beliefs.new_ones(len(beliefs), 1)
        for zero in beliefs[..., 0].T[..., None]:
            counts = pad(counts * (1 - zero), (0, 1)) + pad(counts * zero, (1, 0))
        return counts.gather(1, label[:, None]).squeeze(1)

    def exact_marginals(self, logits: Tensor, label: Tensor, check: bool) -> em.Marginals:
        """Return the posterior: the prior, and the gradient of log p(label) with respect to the logits."""
        if check:
            self.check(logits, label)
        with torch.enable_grad():
            leaf = logits.detach().double().requires_grad_()
            evidence = self.evidence(leaf.softmax(-1), label)
            possible = evidence.detach() > 0
            log_evidence = torch.where(possible, evidence, 1.0).log()
            (gradient,) = torch.autograd.grad(log_evidence.sum(), leaf)
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        marginals = leaf.detach().softmax(-1) + gradient  # the gradient is zero where the label is impossible
        log_evidence = log_evidence.detach().masked_fill(~possible, -torch.inf)
        return em.Marginals(marginals.to(dtype), log_evidence.to(dtype), possible)

    def check(self, logits: Tensor, label: Tensor) -> None:
        """Raise ValueError for values that are no logits and no label."""
        if bool((logits.isnan() | (logits == torch.inf)).any() | (logits == -torch.inf).all(-1).any()):
            raise ValueError("logits must be finite or -inf, with a finite one for every symbol")
        if bool(((label < 0) | (label > self.latent_shape[0])).any()):
            raise ValueError(f"label must lie in 0..{self.latent_shape[0]}, got {label.tolist()}")
''')

TEST = Template('''"""The rule of $name.py against all assignments, one by one."""

from __future__ import annotations

import pytest
import torch
from $name import $kind

import emnesy_gpu as em

PROBLEM = $made
ALL = torch.cartesian_prod(*[torch.arange(PROBLEM.cardinality)] * 4)


def counted(logits: torch.Tensor, label: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The marginals [n, cardinality] and the evidence of one row, summed over all assignments with the label."""
    beliefs = logits.double().softmax(-1)
    joint = beliefs[torch.arange(4), ALL].prod(-1) * (PROBLEM.label(ALL) == label)
    values = torch.nn.functional.one_hot(ALL, PROBLEM.cardinality).double()
    return torch.einsum("a,anv->nv", joint, values) / joint.sum(), joint.sum()


@pytest.mark.parametrize("label", sorted(set(PROBLEM.label(ALL).tolist())))
def test_posterior_is_the_sum_over_all_assignments(label: int) -> None:
    logits = torch.randn(1, 4, PROBLEM.cardinality, generator=torch.Generator().manual_seed(label))
    logits[0, 1, 2] = -torch.inf  # a value that is forbidden
    post = em.posterior(PROBLEM, logits, torch.tensor([label]))
    marginals, evidence = counted(logits[0], label)
    torch.testing.assert_close(post.marginals[0].double(), marginals, rtol=0, atol=1e-6)
    torch.testing.assert_close(post.log_evidence[0].double(), evidence.log(), rtol=0, atol=1e-5)


def test_impossible_labels_leave_the_prior() -> None:
    logits = torch.zeros(1, 4, PROBLEM.cardinality)
    logits[..., 0] = -torch.inf  # no symbol has the value 0
    post = em.posterior(PROBLEM, logits, torch.tensor([4]))
    assert not post.possible
    torch.testing.assert_close(post.marginals, logits.softmax(-1))


def test_wrong_labels_are_errors() -> None:
    with pytest.raises(ValueError, match="label"):
        em.posterior(PROBLEM, torch.zeros(1, 4, PROBLEM.cardinality), torch.tensor([5]))


def test_the_loss_has_the_gradient_of_the_evidence() -> None:
    logits = torch.randn(8, 4, PROBLEM.cardinality, requires_grad=True)
    label = PROBLEM.label(torch.randint(0, PROBLEM.cardinality, (8, 4)))
    em.fused_em_loss(PROBLEM, logits, label).backward()
    post = em.posterior(PROBLEM, logits, label)
    torch.testing.assert_close(logits.grad, (logits.detach().softmax(-1) - post.marginals) / 8, rtol=0, atol=1e-6)
''')
