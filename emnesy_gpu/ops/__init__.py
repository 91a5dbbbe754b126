"""The operators of the package, one module per stem; importing this package registers all of them.

The operators are opaque to torch.compile and have no autograd formula: the public functions detach their inputs.
Values are checked inside the operators, where checks do not break a compiled graph. With ``check=False`` there are no
such checks, which are the only synchronisation with a GPU.
"""

import importlib
import pkgutil

from emnesy_gpu.ops.registry import METHODS, NAMES

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "NAMES"]
