"""Where a factor graph lies, and what a program keeps of its rows: see ``kernels.factor_graph_tables``.

A program has L = T R threads for R rows of the batch and T factors of a wave, or T variables: thread t R + r has factor
t of row r. A thread does all of a factor by itself, and keeps what is under way in numbers of its own, which nobody
else reads: between them no barrier is needed. They lie L apart, so that threads side by side read side by side.
"""

from typing import NamedTuple

import triton
import triton.language as tl

WAVE_SIZES = tl.constexpr(4)
"""Numbers that are kept of a wave: the fields of Wave."""


class Sizes(NamedTuple):
    """What a kernel is compiled for. T and R are powers of two, and a thread has one of the L = T R lanes."""

    tile: int  # T
    rows: int  # R
    lanes: int  # L
    width: int  # factors in a row of the tables of waves, at most T
    paired: bool  # whether there is a factor that is a table
    bits: bool  # whether all variables have two values
    chained: bool  # whether there is a factor that is a chain
    single: bool  # class v of the chains has the value v alone
    weighted: bool  # whether edges of chains have weights
    flooding: bool
    residual: bool  # then R = 1
    maximise: bool


class Wave(NamedTuple):
    """The kind of the factors of a wave; their most variables, factors of a variable, and edges of a variable's layer."""

    kind: object
    arity: object
    degree: object
    edges: object


class Turn(NamedTuple):
    """What all factors are told."""

    active: object  # bool [L]: rows whose messages are renewed; those of others stay
    damping: object
    scoring: object  # bool: nothing is renewed, the Bethe terms are asked for


class Sent(NamedTuple):
    """What is known of the factors of a wave once they have sent their messages: [L]."""

    change: object  # the largest, of a probability
    failed: object  # bool: a sum is lost
    terms: object  # float64: log2 of the factor over its edges, if the turn is scoring


class Graph(NamedTuple):
    """Pointers to the tables, and sizes, as in FactorGraphTables. Weights are float32, or log2 in float64."""

    size: object  # int32 [n]
    unary: object  # [n, K]
    first: object  # int32 [F + 1]
    variable: object  # int32 [E]
    which: object  # int32 [F]
    pairs: object  # [tables, K, K]
    incident: object  # int32 [E]
    incident_first: object  # int32 [n + 1]
    n_variables: object
    n_edges: object
    n_values: object  # K


class Chains(NamedTuple):
    """Pointers to the layers of the chains, edges twice: by target, and by source. S states, C classes."""

    layer: object  # int32 [positions]
    classes: object  # int32 [layers, K]
    in_first: object  # int32 [layers, S + 1]
    in_source: object  # int32 [edges]
    in_class: object
    in_target: object
    in_weight: object
    out_first: object
    out_source: object
    out_class: object
    out_target: object
    out_weight: object
    n_states: object
    n_classes: object


class Work(NamedTuple):
    """Scratch memory of a program. Messages are probabilities times k_i. From cavities on: of each thread."""

    prior: object  # [n, K, R], with unary weights
    source: object  # [E, K, R]: messages to the variables of edges, as they are read
    target: object  # [E, K, R]: the same, as they are written; with flooding elsewhere
    cavities: object  # [A, K, L], not scaled
    classes: object  # [A, C, L]: the sums of cavities; the same place where each class has one value
    alpha: object  # [A + 1, S, L]
    scales: object  # [A + 1, L]: what alpha and the cavity before it are divided by
    beta: object  # [2, S, L]
    rest: object  # [C, L]: messages of a chain by class
    fresh: object  # [K, L]: a message, not scaled


class Queue(NamedTuple):
    """What says which factor is renewed next, by residuals: see ``residual``. Without them nothing of it is read."""

    order: object  # int32 [U], factors in the first sweep
    sizes: object  # int32 [F, 4], each factor as a wave
    owner: object  # int32 [E], the factor of each edge
    residual: object  # [F]
    before: object  # [A, K]: messages of a factor before it was renewed
    n_updates: object  # U
    n_factors: object  # F


class Space(NamedTuple):
    """Sizes of the scratch memory that a kernel takes, apart from those it is compiled for."""

    n_values: int  # K
    arity: int  # A
    n_states: int  # S, at least 2
    n_classes: int  # C


def scratch_size(n_variables: int, n_edges: int, space: Space, sizes: Sizes) -> int:
    """Numbers of scratch memory for a program."""
    k, tables = space.n_values, 2 if sizes.flooding else 1
    shared = (n_variables + tables * n_edges) * k * sizes.rows
    classes = 0 if sizes.single else space.arity * space.n_classes
    states = (space.arity + 3) * space.n_states + space.arity + 1
    return shared + (space.arity * k + classes + states + space.n_classes + k) * sizes.lanes


@triton.jit
def work_of(scratch_ptr, graph, space, SIZES: tl.constexpr):
    """Where everything lies in what a program has of the scratch memory; see `scratch_size`."""
    K = graph.n_values
    L: tl.constexpr = SIZES.lanes
    R: tl.constexpr = SIZES.rows
    messages = graph.n_variables * K * R
    cavities = messages + graph.n_edges * K * (2 * R if SIZES.flooding else R)
    classes = cavities + space.arity * K * L
    alpha = classes if SIZES.single else classes + space.arity * space.n_classes * L
    scales = alpha + (space.arity + 1) * space.n_states * L
    beta = scales + (space.arity + 1) * L
    rest = beta + 2 * space.n_states * L
    fresh = rest + space.n_classes * L
    scratch_ptr += tl.program_id(0).to(tl.int64) * (fresh + K * L)
    own = scratch_ptr + tl.arange(0, L)
    return Work(
        scratch_ptr, scratch_ptr + messages, scratch_ptr + messages, own + cavities,
        own + cavities if SIZES.single else own + classes, own + alpha, own + scales, own + beta, own + rest,
        own + fresh,
    )  # fmt: skip


@triton.jit
def in_sweep(work, graph, sweep, SIZES: tl.constexpr):
    """The scratch memory as sweep number `sweep` reads and writes messages: with flooding two tables take turns."""
    source = work.source
    target = work.target
    if SIZES.flooding:
        step = graph.n_edges * graph.n_values * SIZES.rows
        source += (sweep & 1) * step
        target += (1 - (sweep & 1)) * step
    return Work(
        work.prior, source, target, work.cavities, work.classes, work.alpha, work.scales, work.beta, work.rest, work.fresh
    )  # fmt: skip


@triton.jit
def slot_of(SIZES: tl.constexpr):
    """The factor, or the variable, of each thread [L]."""
    return tl.arange(0, SIZES.lanes) // SIZES.rows


@triton.jit
def row_of(SIZES: tl.constexpr):
    """The row of each thread [L]."""
    return tl.arange(0, SIZES.lanes) % SIZES.rows


@triton.jit
def max_over_slots(x, SIZES: tl.constexpr):
    """The largest x of each row, for every thread [L]."""
    T: tl.constexpr = SIZES.tile
    R: tl.constexpr = SIZES.rows
    if T == 1:
        return x
    else:
        largest = tl.max(tl.reshape(x, (T, R)), 0, keep_dims=True)
        return tl.reshape(tl.broadcast_to(largest, (T, R)), (SIZES.lanes,))


@triton.jit
def sum_over_slots(x, SIZES: tl.constexpr):
    """The sum of x of each row, for every thread [L]."""
    T: tl.constexpr = SIZES.tile
    R: tl.constexpr = SIZES.rows
    if T == 1:
        return x
    else:
        sums = tl.sum(tl.reshape(x, (T, R)), 0, keep_dims=True)
        return tl.reshape(tl.broadcast_to(sums, (T, R)), (SIZES.lanes,))
