"""Sixteen numbers at a time, as compiled passes compute them: a type of numba's and what is done with it.

A pass over all pairs has the captions (or images) of neighbouring pairs side by side in memory.  Written with `Lanes`
it computes sixteen pairs at once whatever the compiler makes of loops, on any processor that LLVM knows: a vector of
sixteen becomes one register of AVX-512, two of AVX2, four of NEON.  Products and sums may be contracted, nothing else
is reordered.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic as _intrinsic
from numba.extending import lower_builtin, register_model, type_callable
from numpy.polynomial import chebyshev

from models.fused import WIDTH
from models.fused.compiled import part

EXACT = {types.float32: 6, types.float64: 13}  # degree of a polynomial that is 2^x on -1/2..1/2 but for rounding
FLAGS = ("contract",)
intrinsic: Any = _intrinsic  # what it makes is called with other arguments than it is written with


class Lanes(types.Type):
    """Sixteen float32 or float64."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(_scalar(fe_type.dtype), WIDTH))


def _scalar(dtype: types.Float) -> ir.Type:
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def _constant(value: float, dtype: types.Float) -> ir.Constant:
    return ir.Constant(ir.VectorType(_scalar(dtype), WIDTH), [value] * WIDTH)


def _called(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: Any) -> ir.Value:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    module = builder.module
    function = module.globals.get(name) or ir.Function(module, kind, name=name)
    return builder.call(function, arguments)


def _suffix(dtype: types.Float) -> str:
    return f"v{WIDTH}f{dtype.bitwidth}"


# Arithmetic


def _arithmetic(symbol: Any, name: str) -> None:
    @type_callable(symbol)
    def typed(context):  # noqa: ARG001
        return lambda a, b: a if isinstance(a, Lanes) and a == b else None

    @lower_builtin(symbol, Lanes, Lanes)
    def lowered(context, builder, sig, args):  # noqa: ARG001
        return getattr(builder, name)(*args, flags=FLAGS)


for _symbols, _name in (
    ((operator.add, operator.iadd), "fadd"),
    ((operator.sub, operator.isub), "fsub"),
    ((operator.mul, operator.imul), "fmul"),
    ((operator.truediv, operator.itruediv), "fdiv"),
):
    for _symbol in _symbols:
        _arithmetic(_symbol, _name)


@intrinsic
def splat(typingctx, value):  # noqa: ARG001
    """The same number sixteen times."""

    def code(context, builder, sig, args):  # noqa: ARG001
        empty = ir.Constant(ir.VectorType(args[0].type, WIDTH), ir.Undefined)
        first = builder.insert_element(empty, args[0], ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, empty, zeros)

    return Lanes(value)(value), code


@intrinsic
def root(typingctx, x):  # noqa: ARG001
    """Square roots."""

    def code(context, builder, sig, args):  # noqa: ARG001
        return _called(builder, f"llvm.sqrt.{_suffix(x.dtype)}", args[0].type, args[0])

    return x(x), code


@intrinsic
def above(typingctx, a, b, yes, no):  # noqa: ARG001
    """`yes` where a > b, else `no`."""

    def code(context, builder, sig, args):  # noqa: ARG001
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return yes(a, b, yes, no), code


@intrinsic
def equal(typingctx, a, b, yes, no):  # noqa: ARG001
    """`yes` where a == b, else `no`."""

    def code(context, builder, sig, args):  # noqa: ARG001
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], args[3])

    return yes(a, b, yes, no), code


@part
def many(value, like):
    """A number sixteen times, in the type of an array."""
    return splat(like.dtype.type(value))


@part
def larger(a, b):
    """The larger of two."""
    return above(a, b, a, b)


@intrinsic
def largest_of(typingctx, a, b):  # noqa: ARG001
    """The larger of two, or what is no number among them."""

    def code(context, builder, sig, args):  # noqa: ARG001
        return _called(builder, f"llvm.maximum.{_suffix(a.dtype)}", args[0].type, *args)

    return a(a, b), code


def _coefficients(dtype: types.Float) -> np.ndarray:
    """Of a polynomial in x that is 2^x for -1/2 <= x <= 1/2, lowest first: interpolated at Chebyshev's points."""
    degree = EXACT[dtype]
    interpolate: Any = chebyshev.chebinterpolate
    series = interpolate(lambda z: 2.0 ** (z / 2), degree)
    return chebyshev.cheb2poly(series) * 2.0 ** np.arange(degree + 1)


@intrinsic
def exp2(typingctx, x):  # noqa: ARG001
    """2^x.  What is below the least normal number's logarithm counts as that, nearly 0; x is at most 127 (1023)."""
    dtype = x.dtype
    bits, mantissa, bias = (32, 23, 127) if dtype == types.float32 else (64, 52, 1023)

    def code(context, builder, sig, args):  # noqa: ARG001
        whole_type = ir.VectorType(ir.IntType(bits), WIDTH)
        (given,) = args
        least = _constant(1.0 - bias, dtype)
        given = builder.select(builder.fcmp_ordered(">", given, least), given, least)
        above_zero = builder.fadd(given, _constant(bias + 0.5, dtype))
        exponent = builder.fptosi(above_zero, whole_type)  # of a positive number: rounds down
        rounded = builder.fsub(builder.sitofp(exponent, given.type), _constant(float(bias), dtype))
        rest = builder.fsub(given, rounded)
        *lower, total = (_constant(float(c), dtype) for c in _coefficients(dtype))
        for coefficient in reversed(lower):
            total = builder.fadd(builder.fmul(total, rest, flags=FLAGS), coefficient, flags=FLAGS)
        shifted = builder.shl(exponent, ir.Constant(whole_type, [mantissa] * WIDTH))
        return builder.fmul(total, builder.bitcast(shifted, given.type))

    return x(x), code


@intrinsic
def total(typingctx, x):  # noqa: ARG001
    """The sum of all sixteen."""

    def code(context, builder, sig, args):  # noqa: ARG001
        parts = [builder.extract_element(args[0], ir.Constant(ir.IntType(32), lane)) for lane in range(WIDTH)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return x.dtype(x), code


@intrinsic
def all_zero(typingctx, x):  # noqa: ARG001
    """Whether nothing differs from 0."""

    def code(context, builder, sig, args):  # noqa: ARG001
        differs = builder.fcmp_unordered("!=", args[0], _constant(0.0, x.dtype))
        packed = builder.bitcast(differs, ir.IntType(WIDTH))
        return builder.icmp_unsigned("==", packed, ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(x), code


# Memory


def _pointer(context, builder, kind, array, index):
    """Where element `index` of an array lies, to be read as lanes.  Raises TypeError where it is not contiguous."""
    if kind.layout != "C":
        raise TypeError(f"{kind} is not contiguous")
    struct = context.make_array(kind)(context, builder, array)
    element = builder.gep(struct.data, [index])
    return builder.bitcast(element, ir.VectorType(_scalar(kind.dtype), WIDTH).as_pointer())


@intrinsic
def load(typingctx, array, index):  # noqa: ARG001
    """`array[index : index + 16]` of a one-dimensional array."""

    def code(context, builder, sig, args):
        at = _pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.load(at, align=array.dtype.bitwidth // 8)

    return Lanes(array.dtype)(array, types.intp), code


@intrinsic
def store(typingctx, array, index, lanes):  # noqa: ARG001
    """`array[index : index + 16] = lanes`."""

    def code(context, builder, sig, args):
        at = _pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], at, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


def _first(builder: ir.IRBuilder, count: Any) -> ir.Value:
    """True in the first `count` lanes."""
    kind = ir.VectorType(count.type, WIDTH)
    empty = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(empty, count, ir.Constant(ir.IntType(32), 0))
    counts = builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))
    return builder.icmp_signed("<", ir.Constant(kind, list(range(WIDTH))), counts)


@intrinsic
def load_some(typingctx, array, index, count):  # noqa: ARG001
    """The first `count` of `array[index : index + 16]`, then zeros."""

    def code(context, builder, sig, args):
        at = _pointer(context, builder, sig.args[0], args[0], args[1])
        zero = _constant(0.0, array.dtype)
        align = ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)
        name = f"llvm.masked.load.{_suffix(array.dtype)}.p0"
        return _called(builder, name, zero.type, at, align, _first(builder, args[2]), zero)

    return Lanes(array.dtype)(array, types.intp, types.intp), code


@intrinsic
def store_some(typingctx, array, index, count, lanes):  # noqa: ARG001
    """The first `count` of `array[index : index + 16] = lanes`."""

    def code(context, builder, sig, args):
        at = _pointer(context, builder, sig.args[0], args[0], args[1])
        align = ir.Constant(ir.IntType(32), array.dtype.bitwidth // 8)
        name = f"llvm.masked.store.{_suffix(array.dtype)}.p0"
        _called(builder, name, ir.VoidType(), args[3], at, align, _first(builder, args[2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, lanes), code


@part
def read(array, at, lanes):
    """Sixteen numbers, or the `lanes` there are and zeros."""
    return load(array, at) if lanes == WIDTH else load_some(array, at, lanes)


@part
def write(array, at, lanes, value):
    """The same the other way."""
    if lanes == WIDTH:
        store(array, at, value)
    else:
        store_some(array, at, lanes, value)


@part
def aligned(count, like):
    """Room for `count` numbers of the type of an array, which begins where a line of the cache does."""
    room = np.empty(count + WIDTH, like.dtype)
    start = (-(room.ctypes.data // room.itemsize)) % WIDTH
    return room[start : start + count]
