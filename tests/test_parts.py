"""Functions that only kernels call are parts of kernels: linked into them, without machine code of their own."""

import numpy as np
import pytest
from numba.core.codegen import JITCodeLibrary

from emnesy_gpu.kernels.cpu.common.compile import inlined, kernel, lane_function, table_function
from emnesy_gpu.kernels.cpu.common.parts import InlinedPart, Part

KINDS = pytest.mark.parametrize("kind", [lane_function, inlined, table_function])


def compiled(kind):
    """A function that is called by another, and that by a kernel of numbers [n]; the kernel ran once."""

    @kind
    def square(x):
        return x * x

    @kind
    def squares(numbers):
        total = 0.0
        for x in numbers:
            total += square(x)
        return total

    @kernel
    def call(numbers):
        return squares(numbers) + square(2.0)

    return square, squares, call, call(np.arange(4.0))


@KINDS
def test_a_kernel_computes_with_its_parts(kind):
    *_, found = compiled(kind)
    assert found == 14.0 + 4.0


@KINDS
def test_parts_have_no_machine_code_and_kernels_have(kind):
    square, squares, call, _ = compiled(kind)
    libraries = [next(iter(function.overloads.values())).library for function in (square, squares, call)]
    expected = InlinedPart if kind is inlined else Part
    assert [type(library) for library in libraries] == [expected, expected, JITCodeLibrary]
    for function, has_code in ((square, False), (squares, False), (call, True)):
        result = next(iter(function.overloads.values()))
        address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        assert (address != 0) is has_code


@KINDS
def test_a_part_with_a_fault_names_it(kind):
    @kind
    def wrong(x):
        return x.missing

    @kernel
    def call(x):
        return wrong(x)

    with pytest.raises(Exception, match="missing"):
        call(1.0)
