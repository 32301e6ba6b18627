"""Cosines of blocks of features of what every query attends to (GSMN), and back.

Arrays hold the numbers of tensors in one row.  A column is a query: attended vectors are (X, B, E, N), B blocks of E
features of what N queries attend to in X items, queries (B, E, N), and their squared lengths (B, N).
"""

from __future__ import annotations

from models.fused.compiled import kept, part
from models.fused.lanes import WIDTH, above, larger, many, read, root, write


@part
def met(attended, queries, at, other, step, deep, lanes):
    """Of a block of sixteen attended vectors: their products with their queries, and their squared lengths."""
    fit = own = many(0, attended)
    for _ in range(deep):
        value = read(attended, at, lanes)
        fit += value * read(queries, other, lanes)
        own += value * value
        at, other = at + step, other + step
    return fit, own


@kept
def cosines(attended, queries, squares, shape, span, least, found):
    """Writes (X, B, N); the product of two squared lengths counts as `least` where it is below."""
    blocks, deep, columns = shape
    least = many(least, attended)
    for x in range(span[0], span[1]):
        for b in range(blocks):
            for first in range(0, columns, WIDTH):
                lanes = min(WIDTH, columns - first)
                at, other = (x * blocks + b) * deep * columns + first, b * deep * columns + first
                fit, own = met(attended, queries, at, other, columns, deep, lanes)
                lengths = root(larger(own * read(squares, b * columns + first, lanes), least))
                write(found, (x * blocks + b) * columns + first, lanes, fit / lengths)


@kept
def cosines_back(attended, queries, squares, shape, span, least, grads, to_attended, to_queries, to_squares):
    """Writes the gradients of attended vectors, and adds those of queries and of their squared lengths."""
    blocks, deep, columns = shape
    zero, half, least = many(0, attended), many(0.5, attended), many(least, attended)
    for x in range(span[0], span[1]):
        for b in range(blocks):
            for first in range(0, columns, WIDTH):
                lanes = min(WIDTH, columns - first)
                at, other = (x * blocks + b) * deep * columns + first, b * deep * columns + first
                here = b * columns + first
                fit, own = met(attended, queries, at, other, columns, deep, lanes)
                square = read(squares, here, lanes)
                lengths = larger(own * square, least)
                direct = read(grads, (x * blocks + b) * columns + first, lanes) / root(lengths)
                turn = above(own * square, least, zero - half * direct * fit / lengths, zero)
                write(to_squares, here, lanes, read(to_squares, here, lanes) + turn * own)
                turn = (turn + turn) * square
                for _ in range(deep):
                    value = read(attended, at, lanes)
                    write(to_attended, at, lanes, direct * read(queries, other, lanes) + turn * value)
                    write(to_queries, other, lanes, read(to_queries, other, lanes) + direct * value)
                    at, other = at + columns, other + columns
