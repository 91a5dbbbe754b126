"""Steps of sums over subsets of values, sixteen subsets of a register's width of samples at a time.

A subset is a number whose bits are its members. A block is the sixteen subsets that agree in all but the lowest
LOW members: sixteen vectors, each of half the lanes of a row, that stay in registers while all that leads into the
block is added up. Arrays are addressed in such vectors: row r of lanes holds vectors 2 r and 2 r + 1. In every
function the matrix has ``step`` vectors per row, and subset s of the block meets its row |s| beyond ``at``.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from emnesy_gpu.kernels.cpu.common.lanes import Lanes


class SumProduct(NamedTuple):
    """Adds up products; a type of its own, so that the kernels are compiled for either operation."""


class MaxProduct(NamedTuple):
    """Keeps the largest product."""


LOW = 4
BLOCK = 1 << LOW
SIZES = [subset.bit_count() for subset in range(BLOCK)]


class Block(types.Type):
    """The Numba type of one block."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        lanes = Lanes(dtype)
        self.vector = ir.VectorType(lanes.floats.element, lanes.count // 2)
        super().__init__(name=f"Block({dtype})")


@register_model(Block)
class BlockModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type: Block) -> None:
        super().__init__(dmm, fe_type, ir.ArrayType(fe_type.vector, BLOCK))


class Emitter:
    """Writes the instructions of one intrinsic."""

    def __init__(self, context, builder, block: Block, semiring: types.NamedTuple | None = None) -> None:
        self.context, self.builder, self.block = context, builder, block
        self.maximise = semiring is not None and semiring.instance_class is MaxProduct

    def address(self, array_type, array, index, offset: int):
        """Address of vector index + offset of an array."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        vectors = self.builder.bitcast(data, self.block.vector.as_pointer())
        return self.builder.gep(vectors, [self.builder.add(index, ir.Constant(index.type, offset))])

    def load(self, array_type, array, index, offset: int = 0):
        pointer = self.address(array_type, array, index, offset)
        return self.builder.load(pointer, align=self.block.dtype.bitwidth // 8, typ=self.block.vector)

    def store(self, value, array_type, array, index, offset: int = 0) -> None:
        pointer = self.address(array_type, array, index, offset)
        self.builder.store(value, pointer, align=self.block.dtype.bitwidth // 8)

    def add_product(self, x, y, total):
        """total + x y, or max(total, x y)."""
        if self.maximise:
            product = self.builder.fmul(x, y)
            return self.builder.select(self.builder.fcmp_ordered(">", product, total), product, total)
        vector = self.block.vector
        name = f"llvm.fmuladd.v{vector.count}f{self.block.dtype.bitwidth}"
        signature = ir.FunctionType(vector, [vector] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, signature, name), [x, y, total])

    def unpack(self, block) -> list:
        """The vectors of a block."""
        return [self.builder.extract_value(block, s) for s in range(BLOCK)]

    def pack(self, vectors: list):
        """The block of sixteen vectors."""
        block = ir.Constant(ir.ArrayType(self.block.vector, BLOCK), ir.Undefined)
        for s, vector in enumerate(vectors):
            block = self.builder.insert_value(block, vector, s)
        return block

    def rows(self, at, step):
        """Vector indices at, at + step, ... of one column in the rows that a block meets."""
        indices = [at]
        for _ in range(LOW):
            indices.append(self.builder.add(indices[-1], step))
        return indices


@intrinsic
def unit_block(typingctx, array, subset):
    """1 at one subset of the block, 0 elsewhere; all 0 if subset is -1."""
    block = Block(array.dtype)

    def codegen(context, builder, signature, args):
        emit = Emitter(context, builder, block)
        zero, one = (ir.Constant(block.vector, [value] * block.vector.count) for value in (0.0, 1.0))
        chosen = [builder.icmp_signed("==", args[1], ir.Constant(args[1].type, s)) for s in range(BLOCK)]
        return emit.pack([builder.select(here, one, zero) for here in chosen])

    return block(array, types.intp), codegen


@intrinsic
def store_block(typingctx, array, first, block):
    """Write the sixteen vectors of a block to vectors first, first + 1, ... of an array."""

    def codegen(context, builder, signature, args):
        emit = Emitter(context, builder, signature.args[2])
        for s, vector in enumerate(emit.unpack(args[2])):
            emit.store(vector, signature.args[0], args[0], args[1], s)
        return context.get_dummy_value()

    return types.void(array, types.intp, block), codegen


@intrinsic
def add_from(typingctx, block, subsets, first, matrix, at, step, semiring):
    """block(s) + subsets[first + s] matrix[at + |s| step]."""

    def codegen(context, builder, signature, args):
        total, subsets, first, matrix, at, step, _ = args
        emit = Emitter(context, builder, block, semiring)
        rows = [emit.load(signature.args[3], matrix, index) for index in emit.rows(at, step)]
        before = [emit.load(signature.args[1], subsets, first, s) for s in range(BLOCK)]
        vectors = emit.unpack(total)
        return emit.pack([emit.add_product(x, rows[n], t) for x, n, t in zip(before, SIZES, vectors, strict=True)])

    return block(block, subsets, types.intp, matrix, types.intp, types.intp, semiring), codegen


@intrinsic
def add_within(typingctx, block, matrix, at, step, semiring):
    """Adds to every subset, in order of size, what leads to it from subsets of the block that are one smaller."""

    def codegen(context, builder, signature, args):
        total, matrix, at, step, _ = args
        emit = Emitter(context, builder, block, semiring)
        starts, vectors = emit.rows(at, step), emit.unpack(total)
        entry = {}
        for s in sorted(range(1, BLOCK), key=lambda s: SIZES[s]):
            for v in range(LOW):
                if s >> v & 1:
                    where = SIZES[s] - 1, v
                    if where not in entry:
                        entry[where] = emit.load(signature.args[1], matrix, starts[where[0]], 2 * v)
                    vectors[s] = emit.add_product(vectors[s ^ (1 << v)], entry[where], vectors[s])
        return emit.pack(vectors)

    return block(block, matrix, types.intp, types.intp, semiring), codegen


@intrinsic
def add_minors_from(typingctx, block, subsets, own, first, work, matrix, minors, step, semiring):
    """block(s) + subsets[first + s] work[matrix + |s| step], for subsets that are one larger.

    To work[minors + n step] is added the sum of subsets[own + s] subsets[first + s] over the s of size n.
    """

    def codegen(context, builder, signature, args):
        total, subsets, own, first, work, matrix, minors, step, _ = args
        emit = Emitter(context, builder, block, semiring)
        minor_rows = emit.rows(minors, step)
        rows = [emit.load(signature.args[4], work, index) for index in emit.rows(matrix, step)]
        sums = [emit.load(signature.args[4], work, index) for index in minor_rows]
        vectors = emit.unpack(total)
        for s, n in enumerate(SIZES):
            after = emit.load(signature.args[1], subsets, first, s)
            vectors[s] = emit.add_product(after, rows[n], vectors[s])
            sums[n] = emit.add_product(after, emit.load(signature.args[1], subsets, own, s), sums[n])
        for index, value in zip(minor_rows, sums, strict=True):
            emit.store(value, signature.args[4], work, index)
        return emit.pack(vectors)

    return block(block, subsets, *[types.intp] * 2, work, *[types.intp] * 3, semiring), codegen


@intrinsic
def add_minors_within(typingctx, block, subsets, own, work, matrix, minors, step, semiring):
    """add_minors_from for the steps between subsets of the block, largest first."""

    def codegen(context, builder, signature, args):
        total, subsets, own, work, matrix, minors, step, _ = args
        emit = Emitter(context, builder, block, semiring)
        rows, minor_rows, vectors = emit.rows(matrix, step), emit.rows(minors, step), emit.unpack(total)
        entry, sums = {}, {}
        for s in sorted(range(BLOCK - 1), key=lambda s: -SIZES[s]):
            before = emit.load(signature.args[1], subsets, own, s)
            for v in range(LOW):
                if not s >> v & 1:
                    where = SIZES[s], v
                    if where not in entry:
                        entry[where] = emit.load(signature.args[3], work, rows[where[0]], 2 * v)
                        sums[where] = emit.load(signature.args[3], work, minor_rows[where[0]], 2 * v)
                    after = vectors[s | (1 << v)]
                    vectors[s] = emit.add_product(after, entry[where], vectors[s])
                    sums[where] = emit.add_product(after, before, sums[where])
        for (n, v), value in sums.items():
            emit.store(value, signature.args[3], work, minor_rows[n], 2 * v)
        return emit.pack(vectors)

    return block(block, subsets, types.intp, work, *[types.intp] * 3, semiring), codegen
