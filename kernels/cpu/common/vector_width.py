"""The width of the vectors that kernels are compiled for on this machine."""

from __future__ import annotations

import re

import numpy as np
from numba import njit

from emnesy_gpu.kernels.cpu.common.lanes import FLOAT32_LANES, load, store

REGISTERS = {"zmm": 512, "ymm": 256, "xmm": 128, "v": 128}
"""Name of a register in the assembler of x86-64 or ARM -> bits; the widest first."""


def vector_bits() -> int | None:
    """Bits of the widest registers in the code of a sum of lanes; None for processors that are not known.

    NUMBA_CPU_NAME and NUMBA_CPU_FEATURES choose another processor than the one at hand.
    """

    @njit
    def double(table):
        store(table, 0, load(table, 0) + load(table, 0))

    double(np.zeros((1, FLOAT32_LANES), np.float32))
    (assembler,) = double.inspect_asm().values()
    return next((bits for name, bits in REGISTERS.items() if re.search(rf"\b{name}\d", assembler)), None)
