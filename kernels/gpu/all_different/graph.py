"""Makes the tables of groups that all rows of the batch share, on the GPU."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from emnesy_gpu.kernels import launch_config
from emnesy_gpu.kernels.gpu.common.belief_launches import phase_ends
from emnesy_gpu.kernels.gpu.common.launch_options import rounded_once


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


@triton.jit(do_not_specialize=["n_variables", "n_groups", "width", "n_first"])
def graph_kernel(
    groups_ptr, incident_ptr, degree_ptr, bounding_ptr, n_variables, n_groups, width, n_first, EDGES: tl.constexpr,
    VARIABLES: tl.constexpr,
):  # fmt: skip
    """Where each variable stands in the groups; and the first of the n_first groups that are disjoint.

    Grid (n_variables + 1,): a variable each, and the disjoint groups. groups [G, W]; incident [N, G], degree [N],
    bounding [G] (1: taken for the bound of p(valid)).
    """
    variable = tl.program_id(0)
    edge = tl.arange(0, EDGES)
    if variable < n_variables:
        here = tl.load(groups_ptr + edge, mask=edge < n_groups * width, other=-1) == variable
        rank = tl.cumsum(here.to(tl.int32), 0)
        tl.store(incident_ptr + variable * n_groups + rank - 1, edge, mask=here)
        tl.store(degree_ptr + variable, tl.max(rank, 0))
    else:
        every = tl.arange(0, VARIABLES)
        taken = every < 0
        for g in range(n_first):
            members = every < 0
            for s in range(width):
                members |= every == tl.load(groups_ptr + g * width + s)
            overlaps = tl.max((taken & members).to(tl.int32), 0)
            taken |= members & (overlaps == 0)
            tl.store(bounding_ptr + g, 1 - overlaps)


def graph_of(groups: torch.Tensor, phases: list[int], n_variables: int) -> GraphTables:
    """The tables of groups int32 [G, W], of which the first phases[0] are updated first, and so on."""
    n_groups, width = groups.shape
    incident = groups.new_empty(n_variables, n_groups)
    degree = groups.new_empty(n_variables)
    bounding = groups.new_zeros(n_groups)
    graph_kernel[(n_variables + 1,)](
        groups, incident, degree, bounding, n_variables, n_groups, width, phases[0],
        EDGES=launch_config.next_power_of_two(n_groups * width),
        VARIABLES=launch_config.next_power_of_two(n_variables), **rounded_once(1),
    )  # fmt: skip
    return GraphTables(groups, incident, degree, phase_ends(phases, groups), bounding, max(phases))
