"""What others do: losses to compare with, written anew from their formulas in plain torch."""

from emnesy_gpu.baselines.anesi import ANeSI, PairPredictor, PriorSettings, SumPredictor
from emnesy_gpu.baselines.blackbox import blackbox_loss
from emnesy_gpu.baselines.bp_std import bp_std_loss
from emnesy_gpu.baselines.exal import AdditionExplanations, exal_loss
from emnesy_gpu.baselines.exal_maps import path_exal_loss
from emnesy_gpu.baselines.imle import imle_loss
from emnesy_gpu.baselines.masked_diffusion import nesydm_loss
from emnesy_gpu.baselines.pairwise import pairwise_loss
from emnesy_gpu.baselines.score_function import indecater_loss, path_rloo_loss, rloo_loss
from emnesy_gpu.baselines.semantic import semantic_loss
from emnesy_gpu.baselines.top_k_proofs import top_k_proofs_loss

__all__ = [
    "ANeSI",
    "AdditionExplanations",
    "PairPredictor",
    "PriorSettings",
    "SumPredictor",
    "blackbox_loss",
    "bp_std_loss",
    "exal_loss",
    "imle_loss",
    "indecater_loss",
    "nesydm_loss",
    "pairwise_loss",
    "path_exal_loss",
    "path_rloo_loss",
    "rloo_loss",
    "semantic_loss",
    "top_k_proofs_loss",
]
