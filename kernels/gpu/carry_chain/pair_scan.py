"""Finds the messages of the carry chain: every thread multiplies the matrices of its run, a scan joins the threads.

alpha_{i+1} = alpha_i T_i and beta_i = T_i beta_{i+1}, in log2; every product is normalised, so that no length of the
chain takes it out of range.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.carry_chain.pair_messages import Messages, sum_of_paths
from emnesy_gpu.kernels.gpu.common.log2_semiring import (
    add,
    compose,
    compose_reversed,
    from_log_ratio,
    normalise,
    vector_times_matrix,
)
from emnesy_gpu.kernels.gpu.common.tuples import interleaved


@triton.jit
def _spread(tile, RUN: tl.constexpr):
    """[S, L * RUN] -> RUN tensors [S, L]: neighbouring positions come to one thread."""
    if RUN == 1:
        return (tile,)
    else:
        even, odd = tl.split(tl.reshape(tile, (tile.shape[0], tile.shape[1] // 2, 2)))
        return interleaved(_spread(even, RUN // 2), _spread(odd, RUN // 2), RUN // 2)


@triton.jit
def _collect(tiles, FIRST: tl.constexpr, STEP: tl.constexpr, COUNT: tl.constexpr):
    """The inverse of _spread for COUNT tiles from the FIRST in steps of STEP."""
    if COUNT == 1:
        return tiles[FIRST]
    else:
        even = _collect(tiles, FIRST, 2 * STEP, COUNT // 2)
        odd = _collect(tiles, FIRST + STEP, 2 * STEP, COUNT // 2)
        return tl.reshape(tl.join(even, odd), (even.shape[0], even.shape[1] * 2))


@triton.jit
def _multiply_run(entries):
    """The normalised product of matrices (m00, m01, m10, m11) [S, L] given one after another, and its scale."""
    m00, m01, m10, m11, scale = normalise(entries[0], entries[1], entries[2], entries[3], 0.0)
    for e in tl.static_range(4, len(entries), 4):
        m00, m01, m10, m11, scale = compose(
            m00, m01, m10, m11, scale, entries[e], entries[e + 1], entries[e + 2], entries[e + 3], 0.0
        )  # fmt: skip
    return m00, m01, m10, m11, scale


@triton.jit
def _run_messages(messages, entries):
    """log2 ratios of the messages into and out of every position of a run: all alphas, then all betas."""
    alpha0, alpha1, beta0, beta1 = messages
    alphas = (alpha1 - alpha0,)
    betas = (beta1 - beta0,)
    LAST: tl.constexpr = len(entries) - 4
    for e in tl.static_range(0, LAST, 4):
        alpha0, alpha1, shift = vector_times_matrix(
            alpha0, alpha1, entries[e], entries[e + 1], entries[e + 2], entries[e + 3]
        )  # fmt: skip
        alphas = alphas + (alpha1 - alpha0,)
        beta0, beta1, shift = vector_times_matrix(
            beta0, beta1, entries[LAST - e], entries[LAST - e + 2], entries[LAST - e + 1], entries[LAST - e + 3]
        )  # fmt: skip
        betas = (beta1 - beta0,) + betas
    return alphas + betas


@triton.jit
def _thread_messages(product, ends, LANES: tl.constexpr):
    """Messages [S, LANES] into and out of every thread's run; log2 of start * chain * end in lane 0."""
    m00, m01, m10, m11, scale = product
    start0, start1, end0, end1 = ends
    if LANES == 1:
        alpha0, alpha1 = start0, start1
        beta0, beta1 = end0, end1
    else:
        f00, f01, f10, f11, f_scale = tl.associative_scan((m00, m01, m10, m11, scale), 1, compose)
        m00, m01, m10, m11, scale = tl.associative_scan((m00, m01, m10, m11, scale), 1, compose_reversed, reverse=True)
        lane = tl.broadcast_to(tl.arange(0, LANES)[None, :], m00.shape)
        alpha = add(start0 + f01, start1 + f11) - add(start0 + f00, start1 + f10)
        alpha = tl.gather(alpha, tl.maximum(lane - 1, 0), 1)
        alpha0, alpha1 = from_log_ratio(tl.where(lane == 0, start1 - start0, alpha))
        beta = add(m10 + end0, m11 + end1) - add(m00 + end0, m01 + end1)
        beta = tl.gather(beta, tl.minimum(lane + 1, LANES - 1), 1)
        beta0, beta1 = from_log_ratio(tl.where(lane == LANES - 1, end1 - end0, beta))
    evidence = sum_of_paths(ends, m00, m01, m10, m11) + scale
    return Messages(alpha0, alpha1, beta0, beta1), evidence


@triton.jit
def in_place(tile):
    """The tile itself, through a gather inside rows of a warp's width.

    It pins the layout in which the logits were loaded: the compiler would carry that of the runs on to all that
    follows.
    """
    WIDTH: tl.constexpr = min(tile.shape[1], 32)
    rows = tl.reshape(tile, (tile.shape[0], tile.shape[1] // WIDTH, WIDTH))
    position = tl.broadcast_to(tl.arange(0, WIDTH)[None, None, :], rows.shape)
    return tl.reshape(tl.gather(rows, position, 2), tile.shape)


@triton.jit
def _spread_matrices(matrix, RUN: tl.constexpr):
    """A matrix of tiles [S, L * RUN] -> RUN times four tensors [S, L], by position; their product and its scale."""
    s00 = _spread(matrix.m00, RUN)
    s01 = _spread(matrix.m01, RUN)
    s10 = _spread(matrix.m10, RUN)
    s11 = _spread(matrix.m11, RUN)
    matrices = ()
    for e in tl.static_range(RUN):
        matrices = matrices + (s00[e], s01[e], s10[e], s11[e])
    return matrices, _multiply_run(matrices)


@triton.jit
def chain_product(matrix, LANES: tl.constexpr, RUN: tl.constexpr):
    """The product of all matrices of a tile with its scale; only the first lane of [S, LANES] holds it."""
    matrices, product = _spread_matrices(matrix, RUN)
    if LANES == 1:
        return product
    else:
        return tl.associative_scan(product, 1, compose_reversed, reverse=True)


@triton.jit
def chain_messages(matrix, ends, LANES: tl.constexpr, RUN: tl.constexpr):
    """log2 ratios of the messages into and out of every position, [S, LANES * RUN]; log2 of the evidence, [S, 1].

    ends: the messages [S, 1] into and out of the chain.
    """
    matrices, product = _spread_matrices(matrix, RUN)
    thread_messages, evidence = _thread_messages(product, ends, LANES)
    messages = _run_messages(thread_messages, matrices)
    first = tl.arange(0, LANES)[None, :] == 0
    evidence = tl.sum(tl.where(first, evidence, 0.0), 1, keep_dims=True)
    alpha = _collect(messages, 0, 1, RUN)
    beta = _collect(messages, RUN, 1, RUN)
    if RUN > 1:
        alpha = in_place(alpha)
        beta = in_place(beta)
    return alpha, beta, evidence
