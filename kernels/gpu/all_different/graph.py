"""Makes the tables of groups that all rows of the batch share, on the GPU."""

from __future__ import annotations

from typing import NamedTuple

import torch

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.all_different.graph_kernel import graph_kernel
from emnesy_gpu.kernels.gpu.common.belief_launches import phase_ends
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once
from emnesy_gpu.kernels.gpu.common.table_cache import made_once


class GraphTables(NamedTuple):
    """Int32 tables, as the Graph of factor.py describes them."""

    groups: torch.Tensor  # [G, W]
    incident: torch.Tensor  # [N, G]
    degree: torch.Tensor  # [N]
    phase_end: torch.Tensor  # [G]
    bounding: torch.Tensor  # [G]
    largest_phase: int

    @property
    def tables(self) -> tuple[torch.Tensor, ...]:
        """The tables, in the order of the kernels' arguments."""
        return self.groups, self.incident, self.degree, self.phase_end, self.bounding


def graph_of(groups: torch.Tensor, phases: list[int], n_variables: int) -> GraphTables:
    """The tables of groups int32 [G, W], of which the first phases[0] are updated first, and so on; made once."""
    made = made_once(groups, (n_variables, *phases), lambda: _tables(groups, phases, n_variables))
    incident, degree, phase_end, bounding = made
    return GraphTables(groups, incident, degree, phase_end, bounding, max(phases))


def _tables(groups: torch.Tensor, phases: list[int], n_variables: int) -> tuple[torch.Tensor, ...]:
    """The other tables of GraphTables."""
    n_groups, width = groups.shape
    incident = groups.new_empty(n_variables, n_groups)
    degree = groups.new_empty(n_variables)
    bounding = groups.new_zeros(n_groups)
    graph_kernel[(n_variables + 1,)](
        groups, incident, degree, bounding, n_variables, n_groups, width, phases[0],
        EDGES=launch_config.next_power_of_two(n_groups * width),
        VARIABLES=launch_config.next_power_of_two(n_variables), **rounded_once(1),
    )  # fmt: skip
    return incident, degree, phase_ends(phases, groups), bounding
