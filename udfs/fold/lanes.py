"""The fold's two loops over a vector, in LLVM: eight numbers at a time, with the same bits on every machine."""

from collections.abc import Callable
from typing import Any, Final

import numba
from llvmlite import ir
from numba.core.cgutils import alloca_once_value, for_range
from numba.extending import intrinsic

from udfs.fold.contract import LANES

# ---- the two loops over a vector, in the compiler's own language, eight numbers at a time
#
# LLVM does not see by itself that eight running sums are one vector: a scalar product of 384 numbers took it 300 ns, and takes 60 so.
# It may use registers of any width, but neither reorder sums nor fuse a product with a sum, since no flag allows it: the bits are
# those of the plain loop on every machine.

_F32: Final = ir.VectorType(ir.FloatType(), LANES)
_F64: Final = ir.VectorType(ir.DoubleType(), LANES)


def _lanes(builder: Any, array: Any, offset: Any) -> Any:
    """The address of eight numbers of an array."""
    return builder.bitcast(builder.gep(array.data, [offset]), _F32.as_pointer())


def _summed(builder: Any, length: Any, terms: Callable[[Any], Any]) -> Any:
    """Adds up terms(offset), eight float64 for each eight numbers, in ascending order; then the eight sums in a fixed tree."""
    sums = alloca_once_value(builder, ir.Constant(_F64, [0.0] * LANES))
    with for_range(builder, builder.udiv(length, length.type(LANES))) as loop:
        at = builder.mul(loop.index, length.type(LANES))
        builder.store(builder.fadd(builder.load(sums), terms(at)), sums)
    tree = [builder.extract_element(builder.load(sums), ir.IntType(32)(lane)) for lane in range(LANES)]
    while len(tree) > 1:
        tree = [builder.fadd(left, right) for left, right in zip(tree[::2], tree[1::2], strict=True)]
    return tree[0]


@intrinsic
def dot(typing: Any, a: Any, b: Any) -> Any:
    """Inner product, float64, of two contiguous float32[d], d a multiple of 8: 8 float64 accumulators, j % 8 each, and a fixed tree."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y = (
            context.make_array(kind)(context, builder, arg)
            for kind, arg in zip(signature.args, args, strict=True)
        )

        def terms(at: Any) -> Any:
            left, right = (
                builder.fpext(builder.load(_lanes(builder, array, at), align=4), _F64) for array in (x, y)
            )
            return builder.fmul(left, right)

        return _summed(builder, builder.extract_value(x.shape, 0), terms)

    return numba.float64(a, b), code


@intrinsic
def blend(typing: Any, g: Any, p: Any, h: Any, v: Any, moved: Any) -> Any:
    """Writes g*p + h*v into moved, three rounded float32 operations for each number; returns dot(moved, moved)."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kept, share = (ir.Constant(_F32, ir.Undefined), ir.Constant(_F32, ir.Undefined))
        for lane in range(LANES):
            kept = builder.insert_element(kept, args[0], ir.IntType(32)(lane))
            share = builder.insert_element(share, args[2], ir.IntType(32)(lane))
        x, y, z = (context.make_array(signature.args[i])(context, builder, args[i]) for i in (1, 3, 4))

        def terms(at: Any) -> Any:
            old, new = (builder.load(_lanes(builder, array, at), align=4) for array in (x, y))
            both = builder.fadd(builder.fmul(kept, old), builder.fmul(share, new))
            builder.store(both, _lanes(builder, z, at), align=4)
            wide = builder.fpext(both, _F64)
            return builder.fmul(wide, wide)

        return _summed(builder, builder.extract_value(x.shape, 0), terms)

    return numba.float64(g, p, h, v, moved), code
