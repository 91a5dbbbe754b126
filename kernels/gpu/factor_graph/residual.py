"""The residual schedule: one row a program, and one factor at a time, that with the largest residual.

See ``emnesy_gpu.reference.residual``. All threads look for the factor, one renews it, and all add the changes of its
messages to the residuals of the factors that read them. Nothing is added by two threads: the bits are those of any run.
"""

import triton
import triton.language as tl

from emnesy_gpu.kernels.gpu.common.sum_product import probability
from emnesy_gpu.kernels.gpu.factor_graph.graph import WAVE_SIZES, Wave
from emnesy_gpu.kernels.gpu.factor_graph.messages import factors_of

LAST = tl.constexpr(2**31 - 1)


@triton.jit
def clear_residuals(queue, SIZES: tl.constexpr):
    thread = tl.arange(0, SIZES.lanes)
    for start in range(0, queue.n_factors, SIZES.lanes):
        inside = start + thread < queue.n_factors
        # In Triton 3.6 tl.zeros takes no shape from a field.
        nothing = tl.full((SIZES.lanes,), 0.0, queue.residual.dtype.element_ty)
        tl.store(queue.residual + start + thread, nothing, mask=inside)


@triton.jit
def largest_residual(queue, SIZES: tl.constexpr):
    """The largest residual, and the first factor that has it."""
    thread = tl.arange(0, SIZES.lanes)
    top = tl.full((SIZES.lanes,), -1.0, queue.residual.dtype.element_ty)
    first = tl.full((SIZES.lanes,), 0, tl.int32)
    for start in range(0, queue.n_factors, SIZES.lanes):
        f = start + thread
        residual = tl.load(queue.residual + f, mask=f < queue.n_factors, other=-1.0)
        first = tl.where(residual > top, f, first)
        top = tl.maximum(top, residual)
    largest = tl.max(top, 0)
    return largest, tl.min(tl.where(top == largest, first, LAST), 0)


@triton.jit
def next_factor(graph, queue, sweep, turn, SIZES: tl.constexpr):
    """The factor of a turn of a sweep, which the first thread renews: factors [L], which threads have one, the wave."""
    thread = tl.arange(0, SIZES.lanes)
    f = tl.load(queue.order + turn)
    if sweep > 0:
        largest, f = largest_residual(queue, SIZES)
    sizes = queue.sizes + WAVE_SIZES * f
    wave = Wave(tl.load(sizes), tl.load(sizes + 1), tl.load(sizes + 2), tl.load(sizes + 3))
    return tl.full((SIZES.lanes,), 0, tl.int32) + f, thread == 0, wave


@triton.jit
def keep_messages(graph, work, queue, f, SIZES: tl.constexpr):
    """Copies the messages of a factor."""
    thread = tl.arange(0, SIZES.lanes)
    first = tl.load(graph.first + f) * graph.n_values
    count = tl.load(graph.first + f + 1) * graph.n_values - first
    for start in range(0, count, SIZES.lanes):
        inside = start + thread < count
        message = tl.load(work.source + first + start + thread, mask=inside)
        tl.store(queue.before + start + thread, message, mask=inside)


@triton.jit
def _step_of(graph, work, queue, edge, first, LOG: tl.constexpr):
    """The largest change of a probability in the message of an edge."""
    K = graph.n_values
    step = tl.zeros((), queue.residual.dtype.element_ty)
    for v in range(K):
        now = tl.load(work.source + edge * K + v)
        before = tl.load(queue.before + (edge - first) * K + v)
        step = tl.maximum(step, tl.abs(probability(now, LOG) - probability(before, LOG)))
    return step * (1.0 / tl.load(graph.size + tl.load(graph.variable + edge)).to(step.dtype))


@triton.jit
def _pass_on(graph, work, queue, f, damping, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Adds the changes of the messages of a factor to the residuals of all others that read them."""
    thread = tl.arange(0, SIZES.lanes)
    first = tl.load(graph.first + f)
    largest = tl.zeros((), queue.residual.dtype.element_ty)
    for edge in range(first, tl.load(graph.first + f + 1)):
        step = _step_of(graph, work, queue, edge, first, LOG)
        largest = tl.maximum(largest, step)
        begin, end = factors_of(graph, tl.load(graph.variable + edge), True)
        for start in range(begin, end, SIZES.lanes):
            inside = start + thread < end
            other = tl.load(queue.owner + tl.load(graph.incident + start + thread, mask=inside, other=0), mask=inside)
            residual = tl.load(queue.residual + other, mask=inside)
            tl.store(queue.residual + other, residual + step, mask=inside)
        tl.debug_barrier()
    tl.store(queue.residual + f, (damping / (1.0 - damping) * largest).to(largest.dtype))
    tl.debug_barrier()


@triton.jit
def end_turn(graph, work, queue, f, turn, SIZES: tl.constexpr, LOG: tl.constexpr):
    """Passes on what has changed, if messages are renewed at all."""
    if not turn.scoring:
        _pass_on(graph, work, queue, f, turn.damping, SIZES, LOG)
