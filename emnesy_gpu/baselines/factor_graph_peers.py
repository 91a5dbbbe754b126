"""Belief propagation of other packages on the same graphs, as functions of logits: PGMax, pgmpy, pyAgrum and ldpc.

Each function raises ModuleNotFoundError where its package is not installed: ``pip install "emnesy_gpu[rivals]"``. They
take one table of pairs for all scopes, or the scopes of parities.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emnesy_gpu.baselines.factor_graph_torch import Pairs

Run = Callable[[Tensor], Tensor]


def pgmax(pairs: Pairs, n_symbols: int, sweeps: int) -> Run:
    """Flooding sum-product of PGMax without damping, compiled for all rows: logits -> beliefs, both [batch, n, K]."""
    import jax

    give_jax_its_old_names()
    fgraph, fgroup, infer, vgroup = (
        importlib.import_module(f"pgmax.{n}") for n in ("fgraph", "fgroup", "infer", "vgroup")
    )
    symbols = vgroup.NDVarArray(num_states=pairs.weights.shape[0], shape=(n_symbols,))
    graph = fgraph.FactorGraph(variable_groups=symbols)
    scopes = [[symbols[i], symbols[j]] for i, j in pairs.scopes.tolist()]
    weights = np.log(pairs.weights.numpy())
    graph.add_factors(fgroup.PairwiseFactorGroup(variables_for_factors=scopes, log_potential_matrix=weights))
    inferer = infer.build_inferer(graph.bp_state, backend="bp")

    def row(evidence: Any) -> Any:
        arrays = inferer.init(evidence_updates={symbols: evidence})
        arrays = inferer.run(arrays, num_iters=sweeps, damping=0.0, temperature=1.0)
        return infer.get_marginals(inferer.get_beliefs(arrays))[symbols]

    run = jax.jit(jax.vmap(row))
    return lambda logits: torch.from_dlpack(jax.block_until_ready(run(logits.numpy())))


def give_jax_its_old_names() -> None:
    """PGMax 0.6.1 asks ``jax.lib.xla_bridge`` for the name of the platform, which newer JAX has elsewhere."""
    import jax

    if not hasattr(jax.lib, "xla_bridge"):
        jax.lib.xla_bridge = importlib.import_module("jax.extend.backend")


def pgmpy(pairs: Pairs, n_symbols: int, n_values: int) -> Run:
    """Exact marginals of pgmpy by belief propagation on a junction tree, row by row."""
    models, factors = importlib.import_module("pgmpy.models"), importlib.import_module("pgmpy.factors.discrete")
    inference = importlib.import_module("pgmpy.inference")
    scopes = [[str(i), str(j)] for i, j in pairs.scopes.tolist()]
    size = [n_values]

    def row(prior: Tensor) -> Tensor:
        network = models.DiscreteMarkovNetwork(scopes)
        tables = [factors.DiscreteFactor(scope, size * 2, pairs.weights.numpy()) for scope in scopes]
        tables += [factors.DiscreteFactor([str(i)], size, prior[i].numpy()) for i in range(n_symbols)]
        network.add_factors(*tables)
        engine = inference.BeliefPropagation(network)
        engine.calibrate()
        found = [engine.query([str(i)], show_progress=False) for i in range(n_symbols)]
        return torch.stack([torch.from_numpy(one.values / one.values.sum()) for one in found])

    return lambda logits: torch.stack([row(prior) for prior in torch.softmax(logits.double(), -1)])


def pyagrum(pairs: Pairs, n_symbols: int, n_values: int) -> Run:
    """Exact marginals of pyAgrum by Shafer and Shenoy's messages on a junction tree, row by row."""
    gum = importlib.import_module("pyagrum")
    network = gum.MarkovRandomField()
    for i in range(n_symbols):
        network.add(gum.RangeVariable(str(i), "", 0, n_values - 1))
    for i, j in pairs.scopes.tolist():
        # Tables of pyAgrum have their first variable innermost.
        network.addFactor([str(i), str(j)]).fillWith(pairs.weights.double().T.flatten().tolist())

    def row(prior: Tensor) -> Tensor:
        engine = gum.ShaferShenoyMRFInference(network)
        for i in range(n_symbols):
            engine.addEvidence(str(i), prior[i].tolist())
        engine.makeInference()
        return torch.tensor(np.stack([engine.posterior(str(i)).toarray() for i in range(n_symbols)]))

    return lambda logits: torch.stack([row(prior) for prior in torch.softmax(logits.double(), -1)])


def ldpc(scopes: Tensor, n_symbols: int, sweeps: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The decoder of ldpc, product-sum and parallel: logits [batch, n, 2] -> bits [batch, n] and sweeps [batch].

    It stops once all parities hold. The package returns zeros at once where no parity is broken, so that the words are
    shifted by a random one, which changes no message but for its sign.
    """
    decoders = importlib.import_module("ldpc")
    checks = np.zeros((len(scopes), n_symbols), np.uint8)
    checks[np.arange(len(scopes))[:, None], scopes.numpy()] = 1
    decoder = decoders.BpDecoder(checks, error_rate=0.1, max_iter=sweeps, bp_method="product_sum", schedule="parallel")
    shift = torch.randint(0, 2, (n_symbols,), generator=torch.Generator().manual_seed(0)).numpy().astype(np.uint8)
    syndrome = (checks.astype(np.int64) @ shift % 2).astype(np.uint8)

    def run(logits: Tensor) -> tuple[Tensor, Tensor]:
        ones = torch.softmax(logits.double(), -1)[..., 1].numpy()
        bits, done = np.empty(ones.shape, np.int64), np.empty(len(ones), np.int64)
        for row, probabilities in enumerate(np.where(shift, 1 - ones, ones)):
            decoder.update_channel_probs(probabilities)
            bits[row] = decoder.decode(syndrome) ^ shift
            done[row] = decoder.iter
        return torch.from_numpy(bits), torch.from_numpy(done)

    return run
