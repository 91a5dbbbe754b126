"""Functions that only kernels call, compiled as parts of these alone.

Numba makes machine code of every function, together with all that it calls. Nothing runs that of a part, and to make it
took a third of a first call. What is inlined is not even optimised by itself, as its callers are.
"""

from __future__ import annotations

from typing import Any

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, _LowerResult
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

NO_CODE = 0
"""In place of an address."""


class Part(JITCodeLibrary):
    """What is linked into callers, and has no machine code."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class InlinedPart(Part):
    """The same, left as it is for the callers to optimise."""

    def _optimize_final_module(self) -> None:
        pass


@register_pass(mutates_CFG=True, analysis_only=False)
class PartLowering(NativeLowering):
    """Lowers a function into a part."""

    _name = "part_lowering"

    def run_pass(self, state: Any) -> bool:
        name, flags = state.func_id.func_name, state.flags
        library = InlinedPart if flags.forceinline else Part
        state.library, flags.no_compile = library(state.targetctx.codegen(), name), True
        super().run_pass(state)
        description, helper, _, environment = state.cr
        # Callers look the function up by this object.
        function = _dynfunc.make_function(
            description.lookup_module(), name, "a part of kernels", NO_CODE, environment, (state.library,)
        )
        state.targetctx.insert_user_function(function, description, [state.library])
        state.cr = _LowerResult(description, helper, function, environment)
        return True


class PartCompiler(CompilerBase):
    """Numba's pipeline for functions without objects of Python, with a ``PartLowering``."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        place = [step for step, _ in pipeline.passes].index(NativeLowering)
        pipeline.passes[place] = PartLowering, "lowering of a part"
        pipeline.finalize()
        return [pipeline]
