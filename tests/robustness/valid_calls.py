"""Random valid calls, each checked against sums over all assignments in long doubles."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu import logic
from emnesy_gpu.kernels.logits import LARGEST_LOGIT

PROBLEMS: dict[str, Callable[[], em.Problem]] = {
    "one digit": lambda: em.Addition(1, base=5),
    "two bits": lambda: em.Addition(2, base=2),
    "three addends": lambda: em.Addition(1, base=3, n_addends=3),
    "permutation": lambda: em.AllDifferent([[0, 1, 2], [2, 3]], 4, 3),
    "parity": lambda: em.rules.parity(4),
    "maximum": lambda: em.rules.maximum(3, 4),
    "pattern": lambda: em.Automaton.from_regex("a*b?a", "ab", 4),
    "formula": lambda: em.Circuit(logic.exactly(2, logic.symbols(5, 2) == 1)),
    "black box": lambda: em.BlackBox(
        label=lambda z: z[..., 0] * z[..., 1] + z[..., 2], latent_shape=(3,), cardinality=3
    ),
}
SCALES = (0.1, 1.0, 5.0, 30.0, 300.0)
DTYPES = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Dtype of logits -> absolute error of marginals and relative error of the evidence."""

SMALLEST_EXPONENT = 87.0
"""float32 probabilities go down to exp(-87): rows that need smaller ones are computed in float64."""

MASKS = (-torch.inf, -1e4, -1e30)
"""What is written over logits: a hard zero, and finite numbers that are none."""


class World(NamedTuple):
    """A problem with all its assignments."""

    problem: em.Problem
    z: Tensor  # int64 [n, *latent_shape]
    one_hot: np.ndarray  # long double [n, N, K]
    labels: Tensor  # int64 [n, *label_shape]


class Call(NamedTuple):
    """The arguments of one call."""

    world: World
    logits: Tensor
    label: Tensor


@cache
def world(name: str) -> World:
    problem = PROBLEMS[name]()
    n = torch.Size(problem.latent_shape).numel()
    z = torch.tensor(list(itertools.product(range(problem.cardinality), repeat=n))).view(-1, *problem.latent_shape)
    one_hot = torch.nn.functional.one_hot(z.flatten(1), problem.cardinality).numpy().astype(np.longdouble)
    return World(problem, z, one_hot, problem.label(z))


def draw(random: np.random.Generator) -> Call:
    """Return a call with logits of any scale, masks, strides, and labels that may be impossible."""
    chosen = world(str(random.choice(list(PROBLEMS))))
    problem, batch = chosen.problem, int(random.integers(1, 4))
    dtype = list(DTYPES)[random.integers(2)]
    shape = (batch, *problem.latent_shape, problem.cardinality)
    logits = torch.from_numpy(random.normal(0, random.choice(SCALES), shape)).to(dtype)
    if random.random() < 0.3:
        masked = torch.from_numpy(random.random(shape) < 0.3)
        masked.scatter_(-1, logits.argmax(-1, keepdim=True), False)
        logits = logits.masked_fill(masked, random.choice(MASKS))
    if random.random() < 0.3:
        logits = logits.transpose(0, -1).contiguous().transpose(0, -1)
    label = chosen.labels[torch.from_numpy(random.integers(0, len(chosen.z), batch))]
    return Call(chosen, logits, label)


def counted(call: Call) -> Tensor:
    """The logits in float64, the largest finite ones as what they count as."""
    return torch.where(call.logits.isinf(), call.logits, call.logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)).double()


class Truth(NamedTuple):
    """Marginals [batch, N, K], NaN for impossible labels; log evidence and that of the best assignment [batch]."""

    marginals: np.ndarray
    log_evidence: np.ndarray
    log_joint: np.ndarray


def oracle(call: Call) -> Truth:
    chosen, batch = call.world, len(call.logits)
    logits = counted(call).numpy().reshape(batch, -1, chosen.problem.cardinality).astype(np.longdouble)
    largest = logits.max(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_prior = logits - largest - np.log(np.exp(logits - largest).sum(-1, keepdims=True))
        log_p = np.where(chosen.one_hot[None] > 0, log_prior[:, None], 0).sum((-1, -2))
        same = (chosen.labels[None] == call.label[:, None]).reshape(batch, len(chosen.z), -1).all(-1).numpy()
        log_p = np.where(same, log_p, -np.inf)
        top = log_p.max(1, keepdims=True)
        weights = np.exp(log_p - top)
        total = weights.sum(1)
        log_evidence = np.where(np.isfinite(top[:, 0]), top[:, 0] + np.log(total), -np.inf)
        marginals = np.einsum("bs,snk->bnk", weights, chosen.one_hot) / total[:, None, None]
    return Truth(marginals, log_evidence, top[:, 0])


def tolerance(call: Call) -> float:
    """Absolute error of marginals and relative error of the evidence.

    Sums of logits are rounded to float64. In float32, the log weight of each symbol is its logit less the largest one,
    rounded by up to 2^-24 of itself: two assignments differ in at most two such weights a symbol, and a marginal moves
    by at most a quarter of what their log ratio does.
    """
    logits, n_symbols = counted(call), call.world.one_hot.shape[1]
    largest = float(logits.abs().nan_to_num(posinf=0.0).max())
    gaps = logits.amax(-1, keepdim=True) - logits
    gap = float(gaps[gaps <= SMALLEST_EXPONENT].max()) if call.logits.dtype == torch.float32 else 0.0
    return DTYPES[call.logits.dtype] + n_symbols * (largest * 2.0**-52 + gap * 2.0**-25)


def check_posterior(call: Call, random: np.random.Generator) -> None:
    post = em.posterior(call.world.problem, call.logits, call.label)
    marginals, log_evidence, _ = oracle(call)
    possible = np.isfinite(log_evidence)
    assert post.possible.numpy().tolist() == possible.tolist()
    found = post.marginals.double().flatten(1, -2).numpy()
    assert np.isfinite(found).all()
    prior = call.logits.double().softmax(-1).flatten(1, -2).numpy()
    expected = np.where(possible[:, None, None], marginals, prior)
    assert np.abs(found - expected).max() <= tolerance(call)
    check_evidence(call, post, log_evidence)


def check_evidence(call: Call, post: em.Posterior, log_evidence: np.ndarray) -> None:
    """The log evidence of the rows that are possible."""
    possible = np.isfinite(log_evidence)
    error = np.abs(post.log_evidence.double().numpy()[possible] - log_evidence[possible])
    assert (error <= tolerance(call) * (1 + np.abs(log_evidence[possible]))).all()


def check_loss(call: Call, random: np.random.Generator) -> None:
    leaf = call.logits.clone().requires_grad_()
    em.fused_em_loss(call.world.problem, leaf, call.label).backward()
    marginals, log_evidence, _ = oracle(call)
    gradient = call.logits.double().softmax(-1).flatten(1, -2).numpy() - marginals
    gradient = np.where(np.isfinite(log_evidence)[:, None, None], gradient, 0)
    assert leaf.grad is not None
    found = leaf.grad.double().flatten(1, -2).numpy() * len(call.logits)
    assert np.abs(found - gradient).max() <= 2 * tolerance(call)


def check_map(call: Call, random: np.random.Generator) -> None:
    """The evidence of MAP is the log probability of the most probable assignment with the label."""
    post = em.posterior(call.world.problem, call.logits, call.label, em.MAP())
    z, best = post.marginals.argmax(-1), oracle(call).log_joint
    possible = torch.from_numpy(np.isfinite(best))
    assert post.possible.equal(possible)
    check_evidence(call, post, best)
    assert call.world.problem.label(z[possible]).equal(call.label[possible])


def check_samples(call: Call, random: np.random.Generator) -> None:
    if not np.isfinite(oracle(call).log_evidence).all():
        return
    seed = int(random.integers(0, 2**62))
    z = em.sample_posterior(call.world.problem, call.logits, call.label, 3, seed=seed)
    assert all(call.world.problem.label(draw).equal(call.label) for draw in z)


def check_estimates(call: Call, random: np.random.Generator) -> None:
    """Samplers return distributions, and the same ones again."""
    problem, seed = call.world.problem, int(random.integers(0, 2**62))
    engines: list[em.Engine[Any]] = [em.ABC(samples=32, seed=seed), em.Gibbs(sweeps=3, seed=seed), em.Rejection(64)]
    engine = engines[random.integers(len(engines))]
    if engine.supports(problem):
        first, again = (em.posterior(problem, call.logits, call.label, engine) for _ in range(2))
        assert first.marginals.equal(again.marginals)
        assert (first.marginals.double().sum(-1) - 1).abs().max() < 1e-4


CHECKS = (check_posterior, check_posterior, check_loss, check_map, check_samples, check_estimates)


def valid_call(random: np.random.Generator) -> None:
    """Make one call and check it; AssertionError or any other exception is a loss."""
    check = CHECKS[random.integers(len(CHECKS))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", em.InferenceWarning)
        check(draw(random), random)
