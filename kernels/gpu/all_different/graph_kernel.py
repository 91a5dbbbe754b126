"""Finds where variables stand in groups, and which groups of the first phase are disjoint."""

import triton
import triton.language as tl


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
