"""A sound call of every public function and constructor: wrong ones are these with one argument changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import emnesy_gpu as em
from emnesy_gpu import baselines, factors, logic, rules


class Call(NamedTuple):
    """A public function or class, and arguments that it takes."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


ADDITION, PATHS, PAIR = em.Addition(1, base=3), em.ShortestPath(2), em.AllDifferent([(0, 1)], 2, 2)
LOGITS, LABEL = torch.zeros(2, 2, 1, 3), torch.tensor([[0, 1], [1, 0]])
POST = em.posterior(ADDITION, LOGITS, LABEL)
FIRST, SECOND = logic.symbols(2)
PARITY = rules.parity(3)
MODEL = torch.nn.Linear(1, 1)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)
ROWS = {"problem": ADDITION, "logits": LOGITS, "label": LABEL}
COSTS = {"problem": PATHS, "costs": torch.ones(1, 2, 2), "label": torch.ones(1, 2, 2, dtype=torch.int64)}
COUNTED = {"n_symbols": 3, "cardinality": 2, "values": [1]}
BATCHES = [(torch.tensor([0, 1]), LABEL)]
CLAUSES = "p cnf 2 1\n1 2 0\n"
SDD = b"sdd 6\nL 0 0 1\nL 2 0 -1\nL 1 2 2\nL 3 2 -2\nF 4\nD 5 1 2 0 1 2 4\n"
DIAGRAMS = {"nnf": b"nnf 3 2 2\nL 1\nL 2\nA 2 0 1\n", "sdd": SDD}
READ = {"symbols": "bits", "n_symbols": 2, "free": (), "with_negation": True, "latent_shape": (2,)}
GRAPH = "MARKOV\n2\n2 2\n1\n2 0 1\n4\n1 2 3 4\n"


def step(state: int, value: int) -> int:
    return state ^ value


def read(kind: str) -> Callable[..., em.Circuit]:
    """A reader of a file of this kind, with its other arguments."""

    def circuit(**arguments: Any) -> em.Circuit:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"circuit.{kind}"
            path.write_bytes(DIAGRAMS[kind])
            return getattr(em.Circuit, f"from_{kind}")(path, **arguments)

    return circuit


def chosen(name: str) -> None:
    with em.backend(name):
        pass


def trainer() -> em.EM:
    """A trainer whose net is a table of logits."""
    net = torch.nn.Embedding(2, LOGITS[0].numel())
    return em.EM(lambda row: net(row).view(-1, 2, 1, 3), ADDITION, torch.optim.SGD(net.parameters(), lr=0.1))


def trained(x: Any, label: Any) -> Any:
    return trainer().step(x, label)


def graph_with(factor: Any, scopes: Any) -> None:
    em.FactorGraph(2, 2).add(factor, scopes)


def one(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of several formulas, called with one by name."""
    return lambda formula: function(formula)


def saved_circuit() -> em.Circuit:
    return em.Circuit(FIRST | SECOND)


OPERATORS = {"&": lambda other: FIRST & other, "|": lambda other: FIRST | other, "^": lambda other: FIRST ^ other}

ENGINES = {
    "ABC": {"samples": 8, "weighting": None, "sharpness": 1.0, "scope": "global", "target_ess": 2.0, "seed": 0,
            "first_row": 0, "rao_blackwell": False, "kernel": None},
    "BeliefPropagation": {"iterations": 2, "damping": 0.0, "schedule": "serial", "factors": "pairwise", "tolerance": 0},
    "Gibbs": {"chains": 2, "sweeps": 2, "penalty": 2.0, "seed": 0, "first_row": 0},
    "Rejection": {"samples": 8, "seed": 0, "first_row": 0},
    "Partial": {"engine": em.ABC()},
    "Exact": {},
    "MAP": {},
}  # fmt: skip

PROBLEMS = {
    "Addition": {"n_digits": 1, "base": 3, "n_addends": 2, "label": "digits"},
    "AllDifferent": {"groups": [(0, 1)], "n_variables": 2, "cardinality": 2, "constraints": "groups"},
    "Sudoku": {"size": 4, "constraints": "groups"},
    "ShortestPath": {"height": 2, "width": 2, "costs": (1.0, 2.0), "score": "cells"},
    "SimplePaths": {"height": 2, "width": 2, "source": (0, 0), "target": (1, 1), "over": "edges", "neighbours": 4},
    "FactorGraph": {"n_variables": 2, "cardinality": 2, "latent_shape": (2,)},
    "Automaton": {"step": step, "start": 0, "label": int, "n_symbols": 3, "cardinality": 2, "latent_shape": (3,),
                  "order": (0, 1, 2), "max_states": 10, "labels": (0, 1), "variable_length": False},
    "Circuit": {"knowledge": FIRST | SECOND, "labels": None, "latent_shape": (2,)},
    "BlackBox": {"label": lambda z: z.sum(-1), "latent_shape": (2,), "cardinality": 3, "label_shape": ()},
}  # fmt: skip

SOUND: dict[str, Call] = {
    **{f"em.{name}": Call(getattr(em, name), given) for name, given in (ENGINES | PROBLEMS).items()},
    "em.BlackBox score": Call(
        em.BlackBox,
        {"score": lambda z, y: (z.sum(-1) == y).long()[..., None], "latent_shape": (2,), "cardinality": 3,
         "n_constraints": 1, "numba_score": None, "triton_score": None},
    ),
    "em.BlackBox python_label": Call(
        em.BlackBox, {"python_label": lambda z: sum(z), "latent_shape": (2,), "cardinality": 3}
    ),
    "em.Automaton step_at": Call(
        em.Automaton, {"step_at": lambda s, v, i: s ^ v, "start": 0, "output": lambda s, i: s, "n_symbols": 3,
                       "cardinality": 2}
    ),
    "em.Automaton cardinalities": Call(
        em.Automaton, {"step": step, "start": 0, "label": int, "cardinalities": (2, 2)}
    ),
    "em.Automaton.from_regex": Call(
        em.Automaton.from_regex, {"pattern": "ab?", "alphabet": "ab", "n_symbols": 2, "variable_length": False,
                                  "max_states": 100}
    ),
    "em.Automaton.from_tables": Call(
        em.Automaton.from_tables, {"transitions": [[0, 1], [1, 0]], "n_symbols": 3, "start": 0, "labels": [0, 1],
                                   "latent_shape": (3,), "order": (0, 1, 2), "variable_length": False}
    ),
    "em.Automaton.from_tables label_weights": Call(
        em.Automaton.from_tables, {"transitions": [[0, 1], [1, 0]], "n_symbols": 3,
                                   "label_weights": [[1.0, 0.0], [0.0, 1.0]]}
    ),
    "em.Circuit.from_program": Call(
        em.Circuit.from_program, {"step": lambda s, v, i: s + v, "n_symbols": 2, "cardinality": 3, "finish": int,
                                  "start": 0, "given": (), "labels": (), "latent_shape": (2,), "order": (0, 1),
                                  "max_states": 100, "arrays": False}
    ),
    "em.Circuit.from_program cardinalities": Call(
        em.Circuit.from_program, {"step": lambda s, v, i: s + v, "cardinalities": (2, 3)}
    ),
    "em.Circuit.from_automaton": Call(em.Circuit.from_automaton, {"rule": PARITY}),
    "em.Circuit.from_predicate": Call(
        em.Circuit.from_predicate, {"holds": lambda z: z.sum(-1) == 1, "latent_shape": (2,), "cardinality": 2,
                                    "max_states": 100}
    ),
    "em.Circuit.from_cnf": Call(
        em.Circuit.from_cnf, {"clauses": CLAUSES, "symbols": "bits", "n_symbols": 2, "free": (), "compiler": "auto",
                              "time_limit": None, "cache": None, "latent_shape": (2,)}
    ),
    **{f"em.Circuit.from_{kind}": Call(getattr(em.Circuit, f"from_{kind}"), {"path": f"no.{kind}"})
       for kind in DIAGRAMS},
    **{f"em.Circuit.from_{kind} read": Call(read(kind), READ) for kind in DIAGRAMS},
    "em.Circuit.load": Call(em.Circuit.load, {"path": "no.npz"}),
    "em.Circuit.predict": Call(saved_circuit().predict, {"logits": torch.zeros(1, 2, 2)}),
    "em.Circuit.model_count": Call(saved_circuit().model_count, {"label": 1}),
    "em.Circuit.check": Call(saved_circuit().check, {"seed": 0}),
    "em.FactorGraph.from_uai": Call(em.FactorGraph.from_uai, {"source": GRAPH}),
    "em.FactorGraph.from_conditional_tables": Call(
        em.FactorGraph.from_conditional_tables, {"cardinality": 2, "tables": {0: ([], [0.5, 0.5])}}
    ),
    "em.FactorGraph.add": Call(graph_with, {"factor": factors.equal(), "scopes": (0, 1)}),
    "em.FactorGraph.log_weight": Call(em.FactorGraph(2, 2).log_weight, {"z": torch.zeros(1, 2, dtype=torch.int64)}),
    "em.Problem.label": Call(ADDITION.label, {"z": torch.zeros(1, 2, 1, dtype=torch.int64)}),
    "em.Automaton.plot": Call(PARITY.plot, {"ax": None}),
    "em.explain().plot": Call(em.explain(ADDITION, LOGITS[:1], LABEL[:1]).plot, {"figure": None}),
    "em.Automaton.padded": Call(
        rules.regex("a*", "a", 2, variable_length=True).padded,
        {"logits": torch.zeros(1, 2, 1), "lengths": torch.tensor([1])},
    ),
    "em.Addition.encode": Call(ADDITION.encode, {"numbers": [1, 2]}),
    "em.Automaton.encode": Call(PARITY.encode, {"labels": [0, 1]}),
    "em.ShortestPath.label": Call(
        PATHS.label, {"z": torch.zeros(1, 2, 2, dtype=torch.int64), "start": (0, 0), "goal": (1, 1)}
    ),
    "em.ShortestPath.cheapest_path": Call(
        PATHS.cheapest_path, {"costs": torch.ones(1, 2, 2), "start": (0, 0), "goal": (1, 1), "check": True}
    ),
    "em.ShortestPath.with_ends": Call(
        PATHS.with_ends, {"mask": torch.ones(1, 2, 2, dtype=torch.int64), "start": (0, 0), "goal": (1, 1)}
    ),
    "em.Engine.at_step": Call(em.ABC().at_step, {"step": 1, "rows_before": 2}),
    "em.Engine.after_rows": Call(em.ABC().after_rows, {"rows": 1}),
    "em.Posterior.sample": Call(POST.sample, {"n_samples": 1, "generator": None}),
    "em.Posterior.unflatten": Call(POST.unflatten, {"sizes": (2, 1)}),
    "em.compile_rule": Call(
        em.compile_rule, {"step": step, "start": 0, "label": int, "n_symbols": 2, "cardinality": 2}
    ),
    "em.posterior": Call(em.posterior, {**ROWS, "engine": em.Exact(), "check": True}),
    "em.posterior_of_labels": Call(
        em.posterior_of_labels, {"problem": ADDITION, "logits": LOGITS, "labels": LABEL[:, None],
                                 "weights": torch.ones(2, 1), "engine": em.Exact(), "check": True}
    ),
    "em.sample_posterior": Call(
        em.sample_posterior, {**ROWS, "n_samples": 1, "seed": 0, "first_row": 0, "check": True}
    ),
    "em.em_loss": Call(em.em_loss, {"logits": LOGITS, "post": POST, "reduction": "mean", "impossible": "prior"}),
    "em.fused_em_loss": Call(
        em.fused_em_loss, {**ROWS, "reduction": "mean", "impossible": "inf", "engine": None, "check": True}
    ),
    "em.explain": Call(em.explain, {**ROWS, "row": 0, "k": 2, "engine": None}),
    "em.as_label": Call(em.as_label, {"values": [0, 1], "labelled": None}),
    "em.binary_logits": Call(em.binary_logits, {"logits": torch.zeros(2)}),
    "em.backend": Call(chosen, {"name": "cpu"}),
    "em.EM": Call(
        em.EM, {"model": MODEL, "problem": ADDITION, "optimizer": OPTIMIZER, "engine": em.Exact(), "m_steps": 1,
                "hard": False, "scheduler": None, "options": em.Options()}
    ),
    "em.EM.step": Call(trained, {"x": torch.tensor([0, 1]), "label": LABEL}),
    "em.EM.e_step": Call(trainer().e_step, {"x": torch.tensor([0, 1]), "label": LABEL}),
    "em.EM.m_step": Call(trainer().m_step, {"x": torch.tensor([0, 1]), "post": POST}),
    "em.EM.fit": Call(trainer().fit, {"loader": BATCHES, "epochs": 1}),
    "em.EM.fit steps": Call(trainer().fit, {"loader": BATCHES, "steps": 1}),
    "em.EM.evaluate": Call(trainer().evaluate, {"loader": BATCHES, "score": None}),
    "em.EM.load_state_dict": Call(trainer().load_state_dict, {"state": trainer().state_dict()}),
    "em.Options": Call(
        em.Options, {"logits": None, "teacher": None, "backward": None, "scaler": None, "clip": 1.0, "accumulate": 1,
                     "callbacks": (), "impossible": "prior", "check": True, "advance_seed": True, "rows_before": None}
    ),
    "rules.parity": Call(rules.parity, {"n_symbols": 3, "cardinality": 2}),
    "rules.count": Call(rules.count, COUNTED),
    **{f"rules.{name}": Call(getattr(rules, name), {**COUNTED, "k": 1}) for name in ("exactly", "at_least", "at_most")},
    "rules.weighted_sum": Call(rules.weighted_sum, {"weights": [1, 2], "cardinality": 2}),
    "rules.modulo": Call(rules.modulo, {"n_digits": 2, "m": 3, "base": 10}),
    **{
        f"rules.{name}": Call(getattr(rules, name), {"n_symbols": 3, "cardinality": 3})
        for name in ("maximum", "minimum", "all_different")
    },
    "rules.sorted_order": Call(rules.sorted_order, {"n_symbols": 3, "cardinality": 3, "strict": False}),
    "rules.regex": Call(rules.regex, {"pattern": "ab?", "alphabet": "ab", "n_symbols": 2, "variable_length": True}),
    "rules.lexicon": Call(rules.lexicon, {"words": ["ab"], "alphabet": "ab", "n_symbols": 2}),
    "rules.compare": Call(rules.compare, {"n_digits": 1, "base": 3}),
    "rules.balanced_brackets": Call(rules.balanced_brackets, {"n_symbols": 4, "kinds": 1, "max_depth": 2}),
    "rules.formula": Call(
        rules.formula, {"n_symbols": 3, "digits": (1, 2), "operators": "+", "one_alphabet": False,
                        "variable_length": False}
    ),
    "factors.table": Call(factors.table, {"weights": [[1.0, 2.0], [3.0, 4.0]]}),
    "factors.pairwise": Call(factors.pairwise, {"weights": [[1.0, 2.0], [3.0, 4.0]]}),
    "factors.observed_table": Call(factors.observed_table, {"weights": [[1.0, 2.0], [3.0, 4.0]]}),
    "factors.allowed": Call(factors.allowed, {"tuples": [(0, 1)]}),
    **{
        f"factors.{name}": Call(getattr(factors, name), {"k": 1, "values": (1,)})
        for name in ("exactly", "at_least", "at_most")
    },
    "factors.parity": Call(factors.parity, {"remainder": 0}),
    "factors.linear": Call(factors.linear, {"weights": [1, 2], "total": 2, "relation": "=="}),
    "factors.implies": Call(factors.implies, {"first": 1, "second": 1}),
    "factors.order": Call(factors.order, {"strict": False}),
    "factors.noisy_or": Call(factors.noisy_or, {"probabilities": [0.5], "leak": 0.1}),
    "factors.regular": Call(factors.regular, {"pattern": "0*", "alphabet": "01"}),
    "factors.automaton": Call(factors.automaton, {"rule": PARITY, "label": 1}),
    "factors.observed": Call(factors.observed, {"rule": PARITY}),
    **{f"factors.{name}": Call(getattr(factors, name), {}) for name in ("all_different", "not_equal", "equal")},
    "logic.symbols": Call(logic.symbols, {"names": "a b", "cardinality": 2, "values": None}),
    "logic.symbols values": Call(logic.symbols, {"names": "a b", "values": ("red", "green")}),
    **{f"logic.{name}": Call(one(getattr(logic, name)), {"formula": FIRST})
       for name in ("all_of", "any_of", "xor", "not_")},
    "logic.all_different": Call(logic.all_different, {"terms": [FIRST, SECOND]}),
    **{
        f"logic.{name}": Call(getattr(logic, name), {"k": 1, "formulas": [FIRST, SECOND]})
        for name in ("exactly", "at_least", "at_most")
    },
    "logic.iff": Call(logic.iff, {"a": FIRST, "b": SECOND}),
    "logic.implies": Call(logic.implies, {"condition": FIRST, "conclusion": SECOND}),
    "logic.Formula.holds": Call((FIRST | SECOND).holds, {"z": [[0, 1]]}),
    "logic.Symbol.index": Call(FIRST.index, {"value": 1}),
    "logic.Symbol.is_in": Call(FIRST.is_in, {"values": [1]}),
    **{f"logic.Formula {sign}": Call(operator, {"other": SECOND}) for sign, operator in OPERATORS.items()},
    "logic.linear": Call(logic.linear, {"weights": [1, 2], "symbols": [FIRST, SECOND]}),
    "logic.regular": Call(logic.regular, {"symbols": [FIRST, SECOND], "rule": "01", "alphabet": "01"}),
    "logic.table": Call(logic.table, {"symbols": [FIRST, SECOND], "rows": [(0, 1)]}),
    "logic.to_graph": Call(
        logic.to_graph, {"formula": FIRST | SECOND, "order": (0, 1), "max_states": 100, "clauses": True}
    ),
    "baselines.ANeSI": Call(
        baselines.ANeSI, {"problem": ADDITION, "predictor": None, "samples": 2, "lr": 0.1, "prior": None,
                          "first_calls": 1}
    ),
    "baselines.ANeSI()": Call(
        baselines.ANeSI(ADDITION, samples=2), {"logits": LOGITS, "label": LABEL, "reduction": "mean"}
    ),
    "baselines.ANeSI.predict": Call(baselines.ANeSI(ADDITION, samples=2).predict, {"logits": LOGITS}),
    "baselines.AdditionExplanations()": Call(
        baselines.AdditionExplanations(ADDITION), {"logits": LOGITS, "label": LABEL, "samples": 2}
    ),
    "baselines.PriorSettings": Call(
        baselines.PriorSettings, {"concentration": 0.1, "lr": 0.01, "steps": 2, "penalty": 1.0, "memory": 4}
    ),
    "baselines.AdditionExplanations": Call(
        baselines.AdditionExplanations, {"problem": ADDITION, "alpha": 1.0, "generator": None}
    ),
    "baselines.PairPredictor": Call(baselines.PairPredictor, {"problem": PAIR, "hidden": 2, "layers": 1}),
    "baselines.SumPredictor": Call(baselines.SumPredictor, {"problem": ADDITION, "hidden": 2, "layers": 1}),
    "baselines.PairPredictor.log_prob": Call(
        baselines.PairPredictor(PAIR, 2, 1).log_prob,
        {"beliefs": torch.full((1, 2, 2), 0.5), "label": torch.tensor([1])},
    ),
    "baselines.blackbox_loss": Call(baselines.blackbox_loss, {**COSTS, "reduction": "mean", "interpolation": 20.0}),
    "baselines.imle_loss": Call(
        baselines.imle_loss, {**COSTS, "reduction": "mean", "samples": 1, "temperature": 1.0, "interpolation": 20.0,
                              "generator": None, "noise": "gumbel", "true_costs": None}
    ),
    "baselines.path_exal_loss": Call(
        baselines.path_exal_loss, {"problem": COSTS["problem"], "logits": torch.zeros(1, 2, 2, 5),
                                   "label": COSTS["label"], "reduction": "mean", "moves": 2, "first_moves": 1,
                                   "generator": None}
    ),
    "baselines.path_rloo_loss": Call(
        baselines.path_rloo_loss, {"problem": COSTS["problem"], "logits": torch.zeros(1, 2, 2, 5),
                                   "label": COSTS["label"], "reduction": "mean", "samples": 2, "generator": None}
    ),
    "baselines.bp_std_loss": Call(baselines.bp_std_loss, {**ROWS, "reduction": "mean", "iterations": 2}),
    "baselines.exal_loss": Call(
        baselines.exal_loss, {**ROWS, "explanations": torch.zeros(2, 2, 2, 1, dtype=torch.int64), "reduction": "mean"}
    ),
    **{
        f"baselines.{name}": Call(
            getattr(baselines, name), {**ROWS, "reduction": "mean", "samples": 2, "generator": None}
        )
        for name in ("indecater_loss", "rloo_loss")
    },
    "baselines.nesydm_loss": Call(
        baselines.nesydm_loss, {**ROWS, "reduction": "mean", "samples": 2, "sharpness": 1.0, "generator": None}
    ),
    "baselines.pairwise_loss": Call(
        baselines.pairwise_loss, {"problem": PAIR, "logits": torch.zeros(1, 2, 2), "label": torch.tensor([1]),
                                  "reduction": "mean"}
    ),
    "baselines.semantic_loss": Call(
        baselines.semantic_loss, {"problem": PARITY, "logits": torch.zeros(1, 3, 2), "label": torch.tensor([1]),
                                  "reduction": "mean", "boolean": False}
    ),
    "baselines.top_k_proofs_loss": Call(
        baselines.top_k_proofs_loss, {**ROWS, "reduction": "mean", "k": 2, "exclusive": False}
    ),
}  # fmt: skip
