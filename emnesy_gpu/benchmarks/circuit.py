"""Circuits: the fused E-step against torch level by level with autograd, KLay, PySDD, a softmax and a copy.

Permutations, 4 x 4 Sudoku and a cardinality as decision diagrams; and all .sdd files in the folder that the environment
variable EMNESY_CIRCUITS names. KLay and PySDD take part where they are installed. KLay reads files itself, and PySDD
nothing else; neither is given a label, and the softmax before them counts as it does for the fused kernels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

import emnesy_gpu as em
from emnesy_gpu.baselines import circuit_torch
from emnesy_gpu.benchmarks.suite import Calls, Suite
from emnesy_gpu.ops.label_rows import label_rows

FOLDER = "EMNESY_CIRCUITS"
BATCHES = (128, 1024)
METHODS = {
    "fused": "posterior and evidence from logits, one fused kernel",
    "fused gradient": "EM gradient and evidence from logits, one fused kernel",
    "fused loss": "fused_em_loss and its gradient through autograd, as a training step takes it",
    "torch levels": "log evidence level by level in torch, and its gradient by autograd",
    "KLay": "the same by KLay in torch, logarithms, not compiled (where installed)",
    "PySDD": "the same by PySDD's weighted model counting, row by row (files, where installed)",
    "softmax": "torch.softmax of the logits alone",
    "copy": "a copy of the logits",
}


def permutation(n: int) -> em.Circuit:
    """n symbols of n values, all different."""

    def step(used: int, value: int, position: int) -> int | None:
        return None if used >> value & 1 else used | 1 << value

    return em.Circuit.from_program(step, n, n)


def exactly(count: int, n: int) -> em.Circuit:
    """Exactly so many of n bits are 1."""

    def step(ones: int, value: int, position: int) -> int | None:
        return ones + value if ones + value <= count else None

    return em.Circuit.from_program(step, n, 2, lambda ones: True if ones == count else None)


def sudoku() -> em.Circuit:
    """4 x 4 Sudoku; a state has the values used in the row, in the four columns, and in two boxes."""

    def step(state: tuple[int, ...], value: int, position: int) -> tuple[int, ...] | None:
        row, column = divmod(position, 4)
        used = list(state)
        if column == 0:
            used[0] = 0
            if row == 2:
                used[5:] = [0, 0]
        for place in (0, 1 + column, 5 + column // 2):
            if used[place] >> value & 1:
                return None
            used[place] |= 1 << value
        return tuple(used)

    return em.Circuit.from_program(step, 16, 4, start=(0,) * 7)


def files() -> dict[str, Path]:
    """The .sdd files to measure, by their names."""
    folder = os.environ.get(FOLDER)
    return {path.stem: path for path in sorted(Path(folder).glob("*.sdd"))} if folder else {}


CIRCUITS: dict[str, Callable[[], em.Circuit]] = {
    "permutation-of-8": lambda: permutation(8),
    "permutation-of-12": lambda: permutation(12),
    "sudoku-4x4": sudoku,
    "10-of-100": lambda: exactly(10, 100),
}
SIZES = (*CIRCUITS, *files())


@cache
def circuit(name: str) -> em.Circuit:
    """A circuit of this benchmark; those of files have the label 1 alone, as KLay and PySDD have one root."""
    if name in CIRCUITS:
        return CIRCUITS[name]()
    return em.Circuit.from_sdd(files()[name], with_negation=False)


def inputs(name: str, batch: int, device: torch.device) -> tuple[em.Circuit, Tensor, Tensor, Path | None]:
    """Logits of a net that has learned nothing (s.d. 1), the label that the knowledge holds, and the file of it."""
    problem = circuit(name)
    shape = batch, *problem.latent_shape, problem.cardinality
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return problem, logits.to(device), problem.encode([True] * batch).to(device), files().get(name)


def methods(problem: em.Circuit, logits: Tensor, label: Tensor, file: Path | None) -> Calls:
    """Each method as a call without arguments; all but the last two return the posterior or a gradient."""
    leaf, target = logits.clone().requires_grad_(), torch.empty_like(logits)

    def fused_loss() -> Tensor:
        (gradient,) = torch.autograd.grad(em.fused_em_loss(problem, leaf, label, "sum"), leaf)
        return gradient

    return {
        "fused": lambda: em.posterior(problem, logits, label).marginals,
        "fused gradient": lambda: problem.em_gradient(logits, label, 1.0, True)[0],
        "fused loss": fused_loss,
        **{method: partial(gradient_of, run, logits) for method, run in rivals(problem, logits, label, file).items()},
        "softmax": lambda: torch.softmax(logits, -1),
        "copy": lambda: target.copy_(logits),
    }


def gradient_of(run: circuit_torch.Run, logits: Tensor) -> Tensor:
    return run(logits)[1]


def rivals(problem: em.Circuit, logits: Tensor, label: Tensor, file: Path | None) -> dict[str, circuit_torch.Run]:
    """Those that are installed and can read the circuit."""
    log_label = log_label_leaves(problem, label).to(logits.dtype)
    found = {"torch levels": circuit_torch.torch_levels(problem.graph, log_label)}
    on_cpu = logits.device.type == "cpu"
    if on_cpu and find_spec("klay"):
        found["KLay"] = circuit_torch.klay_sdd(file) if file else circuit_torch.klay_torch(problem.graph, log_label)
    if on_cpu and file and find_spec("pysdd"):
        found["PySDD"] = circuit_torch.pysdd(file)
    return found


def log_label_leaves(problem: em.Circuit, label: Tensor) -> Tensor:
    """0 for the leaves that agree with the label, -inf for others [batch, leaves of the label]."""
    rows = label_rows(label.reshape(len(label), -1), problem.compiled(label.device).tables.codes)
    parts = [
        torch.where((rows[:, entry, None] == torch.arange(1, size + 1, device=rows.device)), 0.0, -torch.inf)
        for entry, size in enumerate(problem.graph.given)
    ]
    return torch.cat(parts, 1)


def errors(problem: em.Circuit, logits: Tensor, label: Tensor, file: Path | None, rows: int = 16) -> dict[str, float]:
    """Largest error against the float64 reference over the first rows, of the methods that infer something."""
    some, labels = logits[:rows], label[:rows]
    with em.backend("reference"):
        marginals = em.posterior(problem, some.double(), labels).marginals
    prior = torch.softmax(some.double(), -1)
    gradient = prior - marginals
    calls = methods(problem, some, labels, file)
    found = {"fused": float((calls["fused"]() - marginals).abs().max())}
    for method in ("fused gradient", "fused loss"):
        found[method] = float((calls[method]() - gradient).abs().max())
    for method in rivals(problem, some, labels, file):
        # Without a part for symbols that are not mentioned: the prior takes the rest.
        parts = calls[method]().double().view_as(prior)
        expected = parts + prior * (1.0 - parts.sum(-1, keepdim=True))
        found[method] = float((expected - marginals).abs().max())
    return found


SUITE = Suite(
    name="circuit",
    title="Circuits",
    size_name="circuit",
    sizes=SIZES,
    batches=BATCHES,
    methods=METHODS,
    inputs=inputs,
    calls=methods,
    errors=errors,
    unit="edge",
    work=lambda name: circuit(name).n_edges,
    baseline="torch levels",
    plain_torch=("torch levels", "softmax", "copy"),
    rivals=("KLay", "PySDD"),
)
