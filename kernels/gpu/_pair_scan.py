"""Messages of the carry chain: every thread multiplies the matrices of RUN neighbouring positions, a scan joins threads."""

import triton
import triton.language as tl

from ._log2_semiring import add, compose, compose_reversed, from_log_ratio, vector_times_matrix


@triton.jit
def _spread(tile, RUN: tl.constexpr):
    """[S, L * RUN] -> RUN tensors [S, L]: neighbouring positions come to one thread."""
    if RUN == 1:
        return (tile,)
    else:
        even, odd = tl.split(tl.reshape(tile, (tile.shape[0], tile.shape[1] // 2, 2)))
        evens = _spread(even, RUN // 2)
        odds = _spread(odd, RUN // 2)
        tiles = ()
        for i in tl.static_range(RUN // 2):
            tiles = tiles + (evens[i], odds[i])
        return tiles


@triton.jit
def _collect(tiles, START: tl.constexpr, RUN: tl.constexpr, COUNT: tl.constexpr):
    """The inverse of _spread for tiles[START], tiles[START + RUN], ..., COUNT of them."""
    if COUNT == 1:
        return tiles[START]
    else:
        even = _collect(tiles, START, 2 * RUN, COUNT // 2)
        odd = _collect(tiles, START + RUN, 2 * RUN, COUNT // 2)
        return tl.reshape(tl.join(even, odd), (even.shape[0], even.shape[1] * 2))


@triton.jit
def spread_matrices(matrix, RUN: tl.constexpr):
    """RUN matrices a thread and their product."""
    m00, m01, m10, m11, scale = matrix
    s00 = _spread(m00, RUN)
    s01 = _spread(m01, RUN)
    s10 = _spread(m10, RUN)
    s11 = _spread(m11, RUN)
    s_scale = _spread(scale, RUN)
    matrices = ()
    p00, p01, p10, p11, p_scale = s00[0], s01[0], s10[0], s11[0], s_scale[0]
    for e in tl.static_range(RUN):
        if e > 0:
            p00, p01, p10, p11, p_scale = compose(
                p00, p01, p10, p11, p_scale, s00[e], s01[e], s10[e], s11[e], s_scale[e]
            )  # fmt: skip
        matrices = matrices + ((s00[e], s01[e], s10[e], s11[e]),)
    return matrices, (p00, p01, p10, p11, p_scale)


@triton.jit
def _thread_messages(product, start0, start1, end0, end1, LANES: tl.constexpr):
    """Forward message into and backward message out of every thread's run, and log2 of start * chain * end."""
    m00, m01, m10, m11, scale = product
    if LANES == 1:
        b00, b01, b10, b11, b_scale = product
        alpha0, alpha1 = start0 + m00 * 0, start1 + m00 * 0
        beta0, beta1 = end0 + m00 * 0, end1 + m00 * 0
    else:
        f00, f01, f10, f11, f_scale = tl.associative_scan((m00, m01, m10, m11, scale), 1, compose)
        b00, b01, b10, b11, b_scale = tl.associative_scan((m00, m01, m10, m11, scale), 1, compose_reversed, reverse=True)
        lane = tl.broadcast_to(tl.arange(0, LANES)[None, :], m00.shape)
        alpha = add(start0 + f01, start1 + f11) - add(start0 + f00, start1 + f10)
        alpha = tl.gather(alpha, tl.maximum(lane - 1, 0), 1)
        alpha0, alpha1 = from_log_ratio(tl.where(lane == 0, start1 - start0, alpha))
        beta = add(b10 + end0, b11 + end1) - add(b00 + end0, b01 + end1)
        beta = tl.gather(beta, tl.minimum(lane + 1, LANES - 1), 1)
        beta0, beta1 = from_log_ratio(tl.where(lane == LANES - 1, end1 - end0, beta))
    chain = add(
        start0 + add(b00 + end0, b01 + end1),
        start1 + add(b10 + end0, b11 + end1),
    )
    return alpha0, alpha1, beta0, beta1, chain + b_scale


@triton.jit
def chain_messages(matrix, start0, start1, end0, end1, LANES: tl.constexpr, RUN: tl.constexpr):
    """log2 ratios of the messages into and out of every position, [S, LANES * RUN], and of the evidence, [S, LANES].

    Only lane 0 of the evidence holds the whole chain.
    """
    matrices, product = spread_matrices(matrix, RUN)
    alpha0, alpha1, beta0, beta1, evidence = _thread_messages(product, start0, start1, end0, end1, LANES)
    alphas = ()
    betas = ()
    for e in tl.static_range(RUN):
        alphas = alphas + (alpha1 - alpha0,)
        betas = (beta1 - beta0,) + betas
        if e + 1 < RUN:
            t00, t01, t10, t11 = matrices[e]
            alpha0, alpha1 = vector_times_matrix(alpha0, alpha1, t00, t01, t10, t11)
            t00, t01, t10, t11 = matrices[RUN - 1 - e]
            beta0, beta1 = vector_times_matrix(beta0, beta1, t00, t10, t01, t11)
    return _collect(alphas, 0, 1, RUN), _collect(betas, 0, 1, RUN), evidence
