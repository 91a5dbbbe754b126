"""Every operator of the package: schema, implementation and shape function, a module per stem.

The operators are opaque to torch.compile and carry no autograd formula: the public functions detach their
inputs. Value checks run inside the operators, where they do not break a compiled graph; ``check=False``
leaves them out, and with them the only synchronisation with a GPU.
"""

from emnesy_gpu.ops import all_different, carry_chain, enumeration, not_equal  # noqa: F401 - importing registers
from emnesy_gpu.ops.registry import NAMES

__all__ = ["NAMES"]
