"""The best context fragment of every query (CHAN, NAAF), and back.  Arrays as in `models.fused.cosines`."""

from __future__ import annotations

from models.fused.compiled import kept
from models.fused.lanes import WIDTH, all_zero, equal, largest_of, load, many, read, store, write


@kept
def largest(scores, mask, shape, span, found):
    """Writes (X, Q, Y), the largest of the products (X, C, Q, Y) over real context fragments, (X, C) of `mask`."""
    count, queries, width = shape
    row = queries * width
    far = 4 * WIDTH  # in one go: a row of memory is read further than one line
    for x in range(span[0], span[1]):
        for at in range(0, row - far + 1, far):
            a = b = c = d = many(-float("inf"), scores)
            for i in range(count):
                if mask[x * count + i]:
                    start = (x * count + i) * row + at
                    a = largest_of(load(scores, start), a)
                    b = largest_of(load(scores, start + WIDTH), b)
                    c = largest_of(load(scores, start + 2 * WIDTH), c)
                    d = largest_of(load(scores, start + 3 * WIDTH), d)
            store(found, x * row + at, a)
            store(found, x * row + at + WIDTH, b)
            store(found, x * row + at + 2 * WIDTH, c)
            store(found, x * row + at + 3 * WIDTH, d)
        for at in range(row // far * far, row, WIDTH):
            lanes = min(WIDTH, row - at)
            most = many(-float("inf"), scores)
            for c in range(count):
                if mask[x * count + c]:
                    most = largest_of(read(scores, (x * count + c) * row + at, lanes), most)
            write(found, x * row + at, lanes, most)


@kept
def largest_back(scores, mask, shape, span, found, grads, to_scores):
    """Writes the gradients of the products, shared out among those that are largest."""
    count, queries, width = shape
    row = queries * width
    zero, one = many(0, scores), many(1, scores)
    for x in range(span[0], span[1]):
        for at in range(0, row, WIDTH):
            lanes = min(WIDTH, row - at)
            most, grad = read(found, x * row + at, lanes), read(grads, x * row + at, lanes)
            asked, shares = not all_zero(grad), zero
            if asked:
                for c in range(count):
                    if mask[x * count + c]:
                        shares += equal(read(scores, (x * count + c) * row + at, lanes), most, one, zero)
                grad = grad / shares
            for c in range(count):
                value = zero
                if asked and mask[x * count + c]:
                    value = equal(read(scores, (x * count + c) * row + at, lanes), most, grad, zero)
                write(to_scores, (x * count + c) * row + at, lanes, value)
