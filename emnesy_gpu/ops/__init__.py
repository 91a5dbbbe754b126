"""Every operator of the package: schema, implementation and shapes, a module per stem. Importing registers them all.

The operators are opaque to torch.compile and carry no autograd formula: the public functions detach their
inputs. Value checks run inside the operators, where they do not break a compiled graph; ``check=False``
leaves them out, and with them the only synchronisation with a GPU.
"""

import importlib
import pkgutil

from emnesy_gpu.ops.registry import NAMES

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["NAMES"]
