"""Multi-label learning with rules and without: a synthetic problem with a set of rules of the size of ROAD-R's.

    python -m profiling.multi_label      # about a minute on one CPU core

Rules and data are generated. ROAD-R (Giunchiglia et al., "ROAD-R: the autonomous driving dataset with logical
requirements", 2023) has 41 attributes and 243 clauses too, but other ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import mean, pstdev
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import emnesy_gpu as em

N_CLAUSES = 243
AGENTS, ACTIONS, PLACES = range(1, 11), range(11, 30), range(30, 42)
N_ATTRIBUTES = 41

N_FEATURES, NOISE = 64, 2.5
N_TRAIN, N_TEST, BATCH, EPOCHS, SEEDS = 1000, 2000, 50, 30, 5

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits [rows, N_ATTRIBUTES, 2] and attributes [rows, N_ATTRIBUTES] -> the mean loss of a row."""


def generated_rules(seed: int = 0) -> list[list[int]]:
    """Clauses: one attribute of each group at least, each action has three places, and random pairs exclude each other.

    >>> len(generated_rules())
    243
    """
    rng = random.Random(seed)
    clauses = [list(group) for group in (AGENTS, ACTIONS, PLACES)]
    clauses += [[-action, *rng.sample(PLACES, 3)] for action in ACTIONS]
    groups = (AGENTS, ACTIONS), (ACTIONS, PLACES), (AGENTS, AGENTS), (PLACES, PLACES)
    pairs = [[-a, -b] for first, second in groups for a in first for b in second if a < b]
    return clauses + rng.sample(pairs, N_CLAUSES - len(clauses))


class Data(NamedTuple):
    """Features [rows, N_FEATURES], and attributes int64 [rows, N_ATTRIBUTES] that keep the rules."""

    features: Tensor
    attributes: Tensor


def draw(rules: em.Circuit, mixing: Tensor, rows: int, generator: torch.Generator) -> Data:
    """Attributes are samples of the rules from random priors; features mix them linearly, with noise."""
    prior = 2 * torch.randn(rows, N_ATTRIBUTES, 2, generator=generator)
    attributes = em.sample_posterior(rules, prior, rules.encode([1] * rows), n_samples=1, seed=rows)
    noise = NOISE * torch.randn(rows, N_FEATURES, generator=generator)
    return Data(attributes[0].float() @ mixing + noise, attributes[0])


def cross_entropy(logits: Tensor, attributes: Tensor) -> Tensor:
    """-log p(attributes) of a row, each by itself."""
    return F.cross_entropy(logits.flatten(0, 1), attributes.flatten(), reduction="sum") / len(logits)


def train(data: Data, loss: Loss, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(N_FEATURES, 256), nn.ReLU(), nn.Linear(256, 2 * N_ATTRIBUTES), nn.Unflatten(1, (N_ATTRIBUTES, 2))
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data.features)).split(BATCH):
            value = loss(net(data.features[rows]), data.attributes[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return net.eval()


def judge(rules: em.Circuit, predicted: Tensor, attributes: Tensor) -> list[float]:
    """Percent of rows that are right, of attributes that are wrong, of rows that keep the rules."""
    wrong = predicted != attributes
    shares = (~wrong).all(1), wrong, rules.label(predicted) == 1
    return [100 * float(share.double().mean()) for share in shares]


def given_the_rules(rules: em.Circuit) -> Loss:
    """-log p(attributes | the rules hold) of a row."""

    def loss(logits: Tensor, attributes: Tensor) -> Tensor:
        return cross_entropy(logits, attributes) - em.fused_em_loss(rules, logits, rules.encode([1] * len(logits)))

    return loss


def run(rules: em.Circuit, seed: int) -> dict[tuple[str, str], list[float]]:
    """(training, prediction) -> figures, for one draw of the data and of the first weights."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(N_ATTRIBUTES, N_FEATURES, generator=generator)
    data, test = (draw(rules, mixing, rows, generator) for rows in (N_TRAIN, N_TEST))
    figures = {}
    for name, loss in (("cross-entropy", cross_entropy), ("given the rules", given_the_rules(rules))):
        logits = train(data, loss, seed)(test.features).detach()
        best = em.posterior(rules, logits, rules.encode([1] * len(logits)), em.MAP()).info["assignment"]
        for way, predicted in (("each by itself", logits.argmax(-1)), ("MAP under the rules", best)):
            figures[name, way] = judge(rules, predicted, test.attributes)
    return figures


def main() -> None:
    rules = em.Circuit.from_cnf(generated_rules(), compiler="sdd")
    runs = [run(rules, seed) for seed in range(SEEDS)]
    print("| training | prediction | exact match % | Hamming loss % | consistent % |\n|---|---|---|---|---|")
    for key in runs[0]:
        columns = zip(*(figures[key] for figures in runs), strict=True)
        cells = [f"{mean(values):.1f} ± {pstdev(values):.1f}" for values in columns]
        print("| " + " | ".join([*key, *cells]) + " |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
