"""Checks of DTensor and of FSDP that ``tests.ranks`` calls on every rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

import emnesy_gpu as em
from emnesy_gpu.ops import NAMES
from emnesy_gpu.ops.registry import METHODS
from emnesy_gpu.ops.sharding import BY_ROW
from emnesy_gpu.tasks.core.distributed import current


def dtensors_of_logits(folder: Path) -> None:
    """Posteriors, samples and losses of sharded and of replicated rows are those of one process."""
    generator = torch.Generator().manual_seed(0)
    problem = em.Addition(n_digits=1)
    logits = torch.randn(5, *problem.latent_shape, 10, generator=generator)
    label = problem.label(torch.randint(0, 10, (5, *problem.latent_shape), generator=generator))
    label[3] = torch.tensor([1, 9])  # impossible
    mesh = init_device_mesh("cpu", (current().size,))
    for placement in (Shard(0), Replicate()):
        sharded = [distribute_tensor(tensor, mesh, [placement]) for tensor in (logits, label)]
        for engine in (None, em.Gibbs(chains=2, seed=3), em.MAP(), em.Partial(em.ABC(samples=20))):
            expected = em.posterior(problem, logits, label, engine)
            found = em.posterior(problem, *sharded, engine)
            assert all(part.placements == (placement,) for part in (found.marginals, found.possible))
            assert_equal(tree_map(lambda tensor: tensor.full_tensor(), found), expected)
        samples = em.sample_posterior(problem, *sharded, n_samples=3, seed=1)
        assert_equal(samples.full_tensor(), em.sample_posterior(problem, logits, label, 3, 1))
        assert_equal_losses(problem, sharded, (logits, label))
    columns = distribute_tensor(logits, mesh, [Shard(1)])
    assert "logits must be sharded along the batch" in error_of(ValueError, em.posterior, problem, columns, label)
    assert "label must be a DTensor" in error_of(TypeError, em.posterior, problem, sharded[0], label)


def assert_equal_losses(problem: em.Problem, sharded: Sequence[Tensor], whole: Sequence[Tensor]) -> None:
    """Values and gradients of both losses, with every reduction."""
    mine, other = (tensor.detach().clone().requires_grad_() for tensor in (sharded[0], whole[0]))
    for reduction in ("mean", "sum", "none"):
        for impossible in ("skip", "inf"):
            for loss in (two_steps, em.fused_em_loss):
                found = loss(problem, mine, sharded[1], reduction=reduction, impossible=impossible)
                expected = loss(problem, other, whole[1], reduction=reduction, impossible=impossible)
                torch.testing.assert_close(found.full_tensor(), expected)
                ((gradient,), (expected,)) = (
                    torch.autograd.grad(value.masked_fill(value == torch.inf, 0.0).sum(), leaf)
                    for value, leaf in ((found, mine), (expected, other))
                )
                torch.testing.assert_close(gradient.full_tensor(), expected)


def two_steps(problem: em.Problem, logits: Tensor, label: Tensor, **options: str) -> Tensor:
    return em.em_loss(logits, em.posterior(problem, logits, label), **options)


def fully_sharded_net(folder: Path) -> None:
    """A step of FSDP on parts of a batch is the step of one process on the whole batch."""
    problem, size = em.Addition(n_digits=1), current().size
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(0, 10, (4 * size, *problem.latent_shape), generator=generator)
    x, label = torch.nn.functional.one_hot(z, 10).float(), problem.label(z)
    mine = slice(4 * current().rank, 4 * (current().rank + 1))
    nets = []
    for sharded in (True, False):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
        if sharded:
            fully_shard(net)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        trainer = em.EM(net, problem, optimizer, engine=em.Gibbs(chains=2), options=em.Options(clip=1.0))
        trainer.options = replace(trainer.options, rows_before=None if sharded else lambda: 0)
        norms = [trainer.step(*((x[mine], label[mine]) if sharded else (x, label)))["gradient_norm"] for _ in range(4)]
        nets.append((norms, [weight.full_tensor() if sharded else weight for weight in net.parameters()]))
    for found, expected in zip(*nets, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def operators_on_shards(folder: Path) -> None:
    """Every operator with kernels has a strategy: sharded rows, or rows in one piece where it draws samples."""
    from tests.test_ops import arguments

    em.register_sharding()
    mesh = init_device_mesh("cpu", (current().size,))
    for name in NAMES:
        operator, given = getattr(torch.ops.emnesy_gpu, name).default, arguments(name)
        names = [argument.name for argument in operator._schema.arguments]
        by_row = [name in BY_ROW and not (name == "costs" and "logits" in names) for name in names]
        moved = [
            tree_map_only(Tensor, lambda tensor, rows=rows: distribute_tensor(tensor, mesh, [rows]), value)
            for value, rows in zip(given, [Shard(0) if is_row else Replicate() for is_row in by_row], strict=True)
        ]
        found, draws = operator(*moved), "first_row" in names
        assert tree_flatten(found)[0][0].placements == ((Replicate() if draws else Shard(0)),), name
        assert_equal(tree_map(lambda tensor: tensor.full_tensor(), found), operator(*given))


def methods_on_shards(folder: Path) -> None:
    """So has every operator that calls a method of a problem."""
    em.register_sharding()
    mesh = init_device_mesh("cpu", (current().size,))
    sums = em.BlackBox(label=_sum, latent_shape=(2,), cardinality=3)
    cycle = em.FactorGraph(3, 3)
    cycle.add(em.factors.not_equal(), [(0, 1), (1, 2), (2, 0)])
    draws = (1.0, 3, 0, True)  # the last two: seed, first row
    calls: dict[str, tuple[em.Problem, tuple[Any, ...]]] = {
        "methods_exact_marginals": (sums, (True,)),
        "methods_em_gradient": (sums, (1.0, True)),
        "methods_map_assignment": (sums, (True,)),
        "methods_loopy_marginals": (cycle, (2, 0.0, "serial", "all_different", 0.0, True)),
        "methods_sample": (sums, (3, 1, 0, True)),
        "methods_weighted_marginals": (sums, (16, "", 1.0, "global", 0.0, *draws[1:])),
        "methods_gibbs_marginals": (sums, (1, 2, *draws)),
    }
    assert calls.keys() == set(METHODS)
    for name, (problem, others) in calls.items():
        logits = torch.randn(5, *problem.latent_shape, 3, generator=torch.Generator().manual_seed(0))
        label = torch.ones(5, dtype=torch.int64)
        operator = getattr(torch.ops.emnesy_gpu, name).default
        sharded = [distribute_tensor(tensor, mesh, [Shard(0)]) for tensor in (logits, label)]
        found = operator(*sharded, problem.handle, *others)
        draw = "first_row" in [argument.name for argument in operator._schema.arguments]
        assert tree_flatten(found)[0][0].placements == ((Replicate() if draw else Shard(0)),), name
        assert_equal(
            tree_map(lambda tensor: tensor.full_tensor(), found), operator(logits, label, problem.handle, *others)
        )


def _sum(z: Tensor) -> Tensor:
    return z.sum(-1)


def assert_equal(found: Any, expected: Any) -> None:
    """Tensors of two trees agree to the bit."""
    for one, other in zip(tree_flatten(found)[0], tree_flatten(expected)[0], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def error_of(kind: type[Exception], function: Any, *arguments: Any) -> str:
    try:
        function(*arguments)
    except kind as error:
        return str(error)
    raise AssertionError(f"{function} raised no {kind.__name__}")
