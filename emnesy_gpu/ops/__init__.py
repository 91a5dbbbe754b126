"""Every operator of the package: schema, implementation and shape function, a module per stem.

The operators are opaque to torch.compile and carry no autograd formula: the public functions detach their
inputs. Value checks run inside the operators, where they do not break a compiled graph; ``check=False``
leaves them out, and with them the only synchronisation with a GPU.
"""

from emnesy_gpu.ops import (  # noqa: F401 - importing registers
    abc_sampling,
    all_different,
    carry_chain,
    enumeration,
    gibbs,
    grid_paths,
    not_equal,
)
from emnesy_gpu.ops.registry import NAMES

__all__ = ["NAMES"]
