"""Exact and approximate posteriors over hidden symbols, for EM training of neurosymbolic models.

import emnesy_gpu as em

problem = em.Addition(n_digits=4)
post = em.posterior(problem, logits, label)     # E-step: p(digit | sum), batched and fused
loss = em.em_loss(logits, post)                 # M-step: cross-entropy against the posterior
"""

from pathlib import Path

if not (Path(__file__).parent / "kernels").is_dir():
    # A source checkout has the kernels beside this package; an installed wheel has them inside it.
    __path__.append(str(Path(__file__).parent.parent))

from emnesy_gpu import baselines, factors, logic, rules
from emnesy_gpu.backends import backend
from emnesy_gpu.baselines import blackbox_loss, bp_std_loss, imle_loss
from emnesy_gpu.e_step import Posterior, posterior, posterior_of_labels, sample_posterior
from emnesy_gpu.em import EM
from emnesy_gpu.em_options import Options
from emnesy_gpu.engines import (
    ABC,
    MAP,
    BeliefPropagation,
    Engine,
    Exact,
    Gibbs,
    Partial,
    Rejection,
    UnsupportedEngineError,
)
from emnesy_gpu.errors import InferenceWarning
from emnesy_gpu.explanation import Explanation, explain
from emnesy_gpu.inference.results import Marginals
from emnesy_gpu.labels import as_label, binary_logits
from emnesy_gpu.m_step import em_loss, fused_em_loss
from emnesy_gpu.ops.sharding import register_sharding
from emnesy_gpu.problems import (
    Addition,
    AllDifferent,
    Automaton,
    BlackBox,
    Circuit,
    FactorGraph,
    Problem,
    ShortestPath,
    SimplePaths,
    Sudoku,
    compile_rule,
)
from emnesy_gpu.version import __version__

__all__ = [
    "ABC",
    "EM",
    "MAP",
    "Addition",
    "AllDifferent",
    "Automaton",
    "BeliefPropagation",
    "BlackBox",
    "Circuit",
    "Engine",
    "Exact",
    "Explanation",
    "FactorGraph",
    "Gibbs",
    "InferenceWarning",
    "Marginals",
    "Options",
    "Partial",
    "Posterior",
    "Problem",
    "Rejection",
    "ShortestPath",
    "SimplePaths",
    "Sudoku",
    "UnsupportedEngineError",
    "__version__",
    "as_label",
    "backend",
    "baselines",
    "binary_logits",
    "blackbox_loss",
    "bp_std_loss",
    "compile_rule",
    "em_loss",
    "explain",
    "factors",
    "fused_em_loss",
    "imle_loss",
    "logic",
    "posterior",
    "posterior_of_labels",
    "register_sharding",
    "rules",
    "sample_posterior",
]
