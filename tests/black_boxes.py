"""Addition of two numbers of two base-4 digits as scores: in torch, for Numba, and for Triton where there is one."""

from __future__ import annotations

import contextlib

import numba
from torch import Tensor

import emnesy_gpu as em

ADDITION = em.Addition(2, base=4)
SHAPE = {"latent_shape": (2, 2), "cardinality": 4, "label_shape": (3,)}
triton_equal_digits = None


def equal_digits(z: Tensor, y: Tensor) -> Tensor:
    return (ADDITION.label(z) == y).sum(-1)


@numba.njit
def numba_equal_digits(z, y):
    total = 4 * (z[0] + z[2]) + z[1] + z[3]
    return int(total // 16 == y[0]) + int(total // 4 % 4 == y[1]) + int(total % 4 == y[2])


with contextlib.suppress(ImportError):
    import triton
    import triton.language as tl  # noqa: F401 - the interpreter looks for it

    @triton.jit
    def triton_equal_digits(z, y):
        total = 4 * (z[0] + z[2]) + z[1] + z[3]
        return 1 * (total // 16 == y[0]) + 1 * (total // 4 % 4 == y[1]) + 1 * (total % 4 == y[2])


def compiled() -> em.BlackBox:
    scores = {"numba_score": numba_equal_digits, "triton_score": triton_equal_digits}
    return em.BlackBox(equal_digits, n_constraints=3, **SHAPE, **scores)


def compiled_posterior(logits: Tensor, label: Tensor, engine: em.Engine) -> em.Posterior:
    return em.posterior(compiled(), logits, label, engine)
