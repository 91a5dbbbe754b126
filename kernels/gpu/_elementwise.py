"""tl.map_elementwise also where kernels are interpreted: there a function of scalars is called with whole tensors.

One opaque operation instead of a thousand: the compiler's layout passes are quadratic in the number of operations.
"""

import triton
import triton.language as tl

if triton.knobs.runtime.interpret:

    def map_elementwise(function, *tensors):
        return function(*tensors)

else:
    map_elementwise = tl.map_elementwise
