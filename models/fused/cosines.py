"""Stacked cross attention as one pass: from the products of all fragments to cosines with attended vectors, and back.

What `models.attention` writes as equations, one tensor after another, is computed here for sixteen pairs at a time,
whose weights stay in the first cache: norm, weights, focus, quadratic form, cosine.  The pass back computes
all that again from the products.

Letters as in `models.attention`; arrays are flat and contiguous, (X, C, Q, Y) in that order.  One item of the context
side and sixteen of the query side are a *block*; `real` context fragments are numbered without gaps, up to the next
multiple of four with zeros.
"""

from __future__ import annotations

from math import log

import numpy as np

from models.fused.compiled import kept, part
from models.fused.lanes import (
    WIDTH,
    above,
    aligned,
    all_zero,
    exp2,
    larger,
    load,
    load_some,
    many,
    root,
    splat,
    store,
    store_some,
    total,
)

TALL = 4  # context fragments whose sums are taken together
LOG2E = 1 / log(2)
TINY = 1e-30  # least squared norm, for the root has no slope at zero


@part
def real_fragments(mask, first, count, numbers):
    """Writes the numbers of an item's real fragments, and returns how many there are."""
    n = 0
    for c in range(count):
        if mask[first + c]:
            numbers[n] = c
            n += 1
    return n


@part
def read_gram(gram, first, count, numbers, n, tall, wide, lower):
    """Writes the Gram matrix of real fragments (tall, tall), whole, and without what lies above the diagonal's blocks.

    In `lower` what lies below them counts twice: v^T `lower` v is v^T `wide` v.
    """
    zero = gram.dtype.type(0)
    for i in range(tall):
        for j in range(tall):
            value = zero
            if i < n and j < n:
                value = gram[first + numbers[i] * count + numbers[j]]
            wide[j * tall + i] = value
            lower[j * tall + i] = value + value if i // TALL > j // TALL else value


@part
def read_queries(squares, width, queries, at, lanes, alive):
    """Writes which queries are no zero vectors in any of the lanes, and returns how many there are."""
    n = 0
    for q in range(queries):
        if not all_zero(load_some(squares, q * width + at, lanes)):
            alive[n] = q
            n += 1
    return n


@part
def focus_weights(weights, products, n, tall, m, kind, value):
    """Sets weights to zero that do not count more than the others do (BFAN): alike (1), or by the root of theirs (2).

    Or those whose products are not above a threshold (3), as NAAF has it.  value: the slack, or the threshold.
    """
    zero, bar = many(0, weights), many(value, weights)
    loose = many(1 + value, weights)
    count = many(n, weights)
    for p in range(m):
        first = p * tall * WIDTH
        if kind == 3:
            for i in range(n):
                w = load(weights, first + i * WIDTH)
                store(weights, first + i * WIDTH, above(load(products, first + i * WIDTH), bar, w, zero))
            continue
        top, whole, parts = zero, zero, zero
        for i in range(n):
            w = load(weights, first + i * WIDTH)
            top = larger(top, w)
            if kind == 1:
                whole += w
            else:
                r = root(w)
                whole += w * r
                parts += r
        least = loose * whole / (count if kind == 1 else parts)
        least = above(top, least, least, zero - loose)
        for i in range(n):
            w = load(weights, first + i * WIDTH)
            store(weights, first + i * WIDTH, above(w, least, w, zero))


@part
def weigh(scores, base, row, width, lanes, numbers, n, tall, alive, m, settings, focus, weights, scales, products):
    """Reads the products of a block and writes their weights: (m, tall, lanes), zero beyond the n real fragments.

    row, width: numbers from one context fragment, and from one query, to the next.  scales: (2, n, lanes), one over the
    norm of each context fragment's products plus eps, and one over that norm, or 0 where its slope is.
    products: (m, tall, lanes), as read.  focus: which weights are kept, as `focus_weights` has it; 0 = all.
    """
    lam, slope, norm, shifted, eps = settings
    zero = many(0, scores)
    steep = many(slope, scores)
    floor = many(TINY, scores)
    small = many(eps, scores)
    factor = many(lam * LOG2E, scores)
    half = many(lam * LOG2E / 2, scores)
    one = many(1, scores)
    for i in range(n):
        start = base + numbers[i] * row
        length = zero
        for p in range(m):
            s = (
                load_some(scores, start + alive[p] * width, lanes)
                if lanes < WIDTH
                else load(scores, start + alive[p] * width)
            )
            store(products, (p * tall + i) * WIDTH, s)
            r = larger(s, steep * s)
            if norm == 2:
                length += r * r
            elif norm == 1:
                length += larger(r, zero - r)
        over, slope_of = one, zero
        if norm == 2:
            slope_of = above(length, floor, one / root(larger(length, floor)), zero)
            length = root(larger(length, floor))
        elif norm == 1:
            slope_of = one
        if norm > 0:
            over = one / (length + small)
        store(scales, i * WIDTH, over)
        store(scales, (n + i) * WIDTH, slope_of)
        over = over * factor
        for p in range(m):
            at = (p * tall + i) * WIDTH
            s = load(products, at)
            x = larger(s, steep * s) * over
            if not shifted:
                x = exp2(x + half)
            store(weights, at, x)
    for p in range(m):
        first = p * tall * WIDTH
        if shifted:
            most = load(weights, first)
            for i in range(1, n):
                most = larger(most, load(weights, first + i * WIDTH))
            whole = zero
            for i in range(n):
                x = exp2(load(weights, first + i * WIDTH) - most)
                whole += x
                store(weights, first + i * WIDTH, x)
            whole = one / whole
            for i in range(n):
                store(weights, first + i * WIDTH, load(weights, first + i * WIDTH) * whole)
        for i in range(n, tall):
            store(weights, first + i * WIDTH, zero)
    if focus[0]:
        focus_weights(weights, products, n, tall, m, focus[0], focus[1])


@part
def quadratic(weights, at, other, tall, lower):
    """w^T G w of two queries of a block, (lanes) each."""
    first = many(0, lower)
    second = first
    for c in range(0, tall, TALL):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = many(0, lower)
        for k in range(c + TALL if c + TALL < tall else tall):
            w, v = load(weights, at + k * WIDTH), load(weights, other + k * WIDTH)
            g = k * tall + c
            g0, g1, g2, g3 = splat(lower[g]), splat(lower[g + 1]), splat(lower[g + 2]), splat(lower[g + 3])
            a0 += g0 * w
            a1 += g1 * w
            a2 += g2 * w
            a3 += g3 * w
            b0 += g0 * v
            b1 += g1 * v
            b2 += g2 * v
            b3 += g3 * v
        w, v = at + c * WIDTH, other + c * WIDTH
        first += a0 * load(weights, w) + a1 * load(weights, w + WIDTH)
        first += a2 * load(weights, w + 2 * WIDTH) + a3 * load(weights, w + 3 * WIDTH)
        second += b0 * load(weights, v) + b1 * load(weights, v + WIDTH)
        second += b2 * load(weights, v + 2 * WIDTH) + b3 * load(weights, v + 3 * WIDTH)
    return first, second


@part
def mixed(weights, at, other, tall, wide, found):
    """G w of two queries of a block: writes (2, tall, lanes)."""
    for c in range(0, tall, TALL):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = many(0, wide)
        for k in range(tall):
            w, v = load(weights, at + k * WIDTH), load(weights, other + k * WIDTH)
            g = k * tall + c
            g0, g1, g2, g3 = splat(wide[g]), splat(wide[g + 1]), splat(wide[g + 2]), splat(wide[g + 3])
            a0 += g0 * w
            a1 += g1 * w
            a2 += g2 * w
            a3 += g3 * w
            b0 += g0 * v
            b1 += g1 * v
            b2 += g2 * v
            b3 += g3 * v
        for place, value in ((0, a0), (1, a1), (2, a2), (3, a3)):
            store(found, (c + place) * WIDTH, value)
        for place, value in ((0, b0), (1, b1), (2, b2), (3, b3)):
            store(found, (tall + c + place) * WIDTH, value)


@part
def fit(weights, products, at, n):
    """Sum of weights times products of a query, (lanes)."""
    even = odd = many(0, weights)
    for i in range(0, n - 1, 2):
        even += load(weights, at + i * WIDTH) * load(products, at + i * WIDTH)
        odd += load(weights, at + (i + 1) * WIDTH) * load(products, at + (i + 1) * WIDTH)
    if n % 2:
        even += load(weights, at + (n - 1) * WIDTH) * load(products, at + (n - 1) * WIDTH)
    return even + odd


@part
def summed(weights, at, n):
    """Sum of the weights of a query, (lanes)."""
    whole = many(0, weights)
    for i in range(n):
        whole += load(weights, at + i * WIDTH)
    return whole


@kept
def cosines(scores, gram, squares, mask, shape, span, settings, focus, mean, least, found):
    """Writes (X, Q, Y) cosines of the queries with what they attend to, of context items `span[0]` to `span[1]`.

    scores: (X, C, Q, Y), gram: (X, C, C), squares: (Q, Y), mask: (X, C), all flat; settings: lam, the slope of negative
    products, norm (0 none, 1, 2), whether weights are shifted and scaled to a sum of 1, what is added to a norm;
    focus: 0 none, 1 equal, 2 prob, 3 threshold, and its slack or threshold; mean: writes the mean of products by their
    weights instead, whatever gram and squares say but for queries that are zero; least: the least product of two
    squared lengths, and what stands for that of a zero query.
    """
    count, queries, width = shape
    tall = (count + TALL - 1) // TALL * TALL
    numbers, alive = np.empty(count, np.int64), np.empty(queries + 1, np.int64)
    wide, lower = aligned(tall * tall, scores), aligned(tall * tall, scores)
    weights, products = aligned((queries + 1) * tall * WIDTH, scores), aligned(queries * tall * WIDTH, scores)
    scales = aligned(2 * count * WIDTH, scores)
    zero = many(0, scores)
    floor, endless = many(least[0], scores), many(least[1], scores)
    for x in range(span[0], span[1]):
        n = real_fragments(mask, x * count, count, numbers)
        real = (n + TALL - 1) // TALL * TALL
        read_gram(gram, x * count * count, count, numbers, n, real, wide, lower)
        for y in range(0, width, WIDTH):
            lanes = min(WIDTH, width - y)
            m = read_queries(squares, width, queries, y, lanes, alive)
            if m < queries:
                for q in range(queries):
                    store_some(found, (x * queries + q) * width + y, lanes, zero)
            base = x * count * queries * width + y
            weigh(
                scores,
                base,
                queries * width,
                width,
                lanes,
                numbers,
                n,
                real,
                alive,
                m,
                settings,
                focus,
                weights,
                scales,
                products,
            )
            for p in range(0, m, 2):
                at = p * real * WIDTH
                other = min(p + 1, m - 1) * real * WIDTH
                first = second = zero
                if not mean:
                    first, second = quadratic(weights, at, other, real, lower)
                for place, start, square in ((p, at, first), (p + 1, other, second)):
                    if place < m:
                        q = alive[place]
                        own = load_some(squares, q * width + y, lanes)
                        own = above(own, zero, own, endless)
                        value = fit(weights, products, start, n)
                        value = value / (summed(weights, start, n) if mean else root(larger(square * own, floor)))
                        store_some(found, (x * queries + q) * width + y, lanes, value)


@part
def turned(at, other, m, tall, gathered):
    """Adds a_c b_k of all queries of a block to (tall, tall, lanes), but for what lies above the diagonal's blocks."""
    step = tall * WIDTH
    for c in range(0, tall, TALL):
        for k in range(0, c + TALL, 2):
            g = (c * tall + k) * WIDTH
            down = tall * WIDTH
            a0, b0 = load(gathered, g), load(gathered, g + WIDTH)
            a1, b1 = load(gathered, g + down), load(gathered, g + down + WIDTH)
            a2, b2 = load(gathered, g + 2 * down), load(gathered, g + 2 * down + WIDTH)
            a3, b3 = load(gathered, g + 3 * down), load(gathered, g + 3 * down + WIDTH)
            for p in range(m):
                u, w = p * step + c * WIDTH, p * step + k * WIDTH
                u0, u1 = load(at, u), load(at, u + WIDTH)
                u2, u3 = load(at, u + 2 * WIDTH), load(at, u + 3 * WIDTH)
                w0, w1 = load(other, w), load(other, w + WIDTH)
                a0 += u0 * w0
                a1 += u1 * w0
                a2 += u2 * w0
                a3 += u3 * w0
                b0 += u0 * w1
                b1 += u1 * w1
                b2 += u2 * w1
                b3 += u3 * w1
            store(gathered, g, a0)
            store(gathered, g + WIDTH, b0)
            store(gathered, g + down, a1)
            store(gathered, g + down + WIDTH, b1)
            store(gathered, g + 2 * down, a2)
            store(gathered, g + 2 * down + WIDTH, b2)
            store(gathered, g + 3 * down, a3)
            store(gathered, g + 3 * down + WIDTH, b3)


@part
def write_gram(gathered, tall, numbers, n, first, count, grads):
    """Sums the lanes of what was gathered into a symmetric (count, count), zero where fragments are not real."""
    for i in range(n):
        for j in range(i + 1):
            value = total(load(gathered, (i * tall + j) * WIDTH))
            grads[first + numbers[i] * count + numbers[j]] = value
            grads[first + numbers[j] * count + numbers[i]] = value


@part
def unweigh(products, deltas, direct, weights, i, m, tall, n, settings, scales):
    """Turns gradients of the logarithms of an item's weights into those of its products, for context fragment i.

    deltas: (m, tall, lanes), overwritten; direct: (m, lanes), what weights are multiplied by and added.
    """
    lam, slope, norm = settings[0], settings[1], settings[2]
    zero, one = many(0, products), many(1, products)
    steep, factor = many(slope, products), many(lam, products)
    over, slope_of = load(scales, i * WIDTH), load(scales, (n + i) * WIDTH)
    along = zero
    if norm > 0:
        for p in range(m):
            at = (p * tall + i) * WIDTH
            s = load(products, at)
            along += load(deltas, at) * larger(s, steep * s)
    along = along * factor * over * over * slope_of
    over = over * factor
    for p in range(m):
        at = (p * tall + i) * WIDTH
        s = load(products, at)
        change = load(deltas, at) * over
        if norm == 2:
            change -= along * larger(s, steep * s)
        elif norm == 1:
            change -= along * above(s, zero, one, above(zero, s, zero - one, zero))
        change = above(s, zero, change, change * steep)
        store(deltas, at, change + load(direct, p * WIDTH) * load(weights, at))


@kept
def cosines_back(
    scores, gram, squares, mask, shape, span, settings, focus, mean, least, grads, to_scores, to_gram, to_squares
):
    """The gradients of `cosines` with respect to scores and gram, written, and to squares, added.

    grads: (X, Q, Y); the others are as large as what they are gradients of.
    """
    count, queries, width = shape
    tall = (count + TALL - 1) // TALL * TALL
    numbers, alive = np.empty(count, np.int64), np.empty(queries + 1, np.int64)
    wide, lower = aligned(tall * tall, scores), aligned(tall * tall, scores)
    weights, products = aligned((queries + 1) * tall * WIDTH, scores), aligned(queries * tall * WIDTH, scores)
    deltas = aligned((queries + 1) * tall * WIDTH, scores)
    scales, attended = aligned(2 * count * WIDTH, scores), aligned(2 * tall * WIDTH, scores)
    direct, squared = aligned((queries + 1) * WIDTH, scores), aligned((queries + 1) * WIDTH, scores)
    gathered = aligned(tall * tall * WIDTH, scores)
    zero, half, one, twice = many(0, scores), many(0.5, scores), many(1, scores), many(2, scores)
    floor, endless = many(least[0], scores), many(least[1], scores)
    for x in range(span[0], span[1]):
        n = real_fragments(mask, x * count, count, numbers)
        real = (n + TALL - 1) // TALL * TALL
        read_gram(gram, x * count * count, count, numbers, n, real, wide, lower)
        for i in range(real * real):
            store(gathered, i * WIDTH, zero)
        for y in range(0, width, WIDTH):
            lanes = min(WIDTH, width - y)
            base = x * count * queries * width + y
            m = read_queries(squares, width, queries, y, lanes, alive)
            asked = False
            for p in range(m):
                asked = asked or not all_zero(load_some(grads, (x * queries + alive[p]) * width + y, lanes))
            if not asked or m < queries or n < count:
                for row in range(count * queries):
                    store_some(to_scores, base + row * width, lanes, zero)
            if not asked:
                continue
            weigh(
                scores,
                base,
                queries * width,
                width,
                lanes,
                numbers,
                n,
                real,
                alive,
                m,
                settings,
                focus,
                weights,
                scales,
                products,
            )
            for p in range(0, m, 2):
                at = p * real * WIDTH
                other = min(p + 1, m - 1) * real * WIDTH
                if not mean:
                    mixed(weights, at, other, real, wide, attended)
                for second in range(min(2, m - p)):
                    q, first = alive[p + second], (p + second) * real * WIDTH
                    met = second * real * WIDTH
                    grad = load_some(grads, (x * queries + q) * width + y, lanes)
                    if mean:
                        whole = one / summed(weights, first, n)
                        to_fit, middle = grad * whole, whole * fit(weights, products, first, n)
                        for i in range(n):
                            c = first + i * WIDTH
                            store(deltas, c, to_fit * (load(products, c) - middle) * load(weights, c))
                        store(direct, (p + second) * WIDTH, to_fit)
                        continue
                    own = load_some(squares, q * width + y, lanes)
                    known = above(own, zero, own, endless)
                    square = zero
                    for i in range(n):
                        square += load(weights, first + i * WIDTH) * load(attended, met + i * WIDTH)
                    product = square * known
                    over = one / root(larger(product, floor))
                    to_fit = grad * over
                    to_product = zero - half * to_fit * over * over * fit(weights, products, first, n)
                    to_product = above(product, floor, to_product, zero)
                    to_own = load_some(to_squares, q * width + y, lanes) + above(own, zero, to_product * square, zero)
                    store_some(to_squares, q * width + y, lanes, to_own)
                    to_square = to_product * known
                    store(direct, (p + second) * WIDTH, to_fit)
                    store(squared, (p + second) * WIDTH, to_square)
                    to_square = twice * to_square
                    along = zero
                    for i in range(n):
                        c = i * WIDTH
                        change = to_fit * load(products, first + c) + to_square * load(attended, met + c)
                        change = change * load(weights, first + c)
                        along += change
                        store(deltas, first + c, change)
                    if settings[3]:  # weights of sum 1
                        for i in range(n):
                            at_i = first + i * WIDTH
                            store(deltas, at_i, load(deltas, at_i) - along * load(weights, at_i))
            for i in range(n):
                unweigh(products, deltas, direct, weights, i, m, real, n, settings, scales)
                start = base + numbers[i] * queries * width
                for p in range(m):
                    store_some(to_scores, start + alive[p] * width, lanes, load(deltas, (p * real + i) * WIDTH))
            for p in range(0 if mean else m):
                to_square = load(squared, p * WIDTH)
                for i in range(real):
                    at_i = (p * real + i) * WIDTH
                    store(deltas, at_i, to_square * load(weights, at_i))
            if not mean:
                turned(deltas, weights, m, real, gathered)
        for i in range(count * count):
            to_gram[x * count * count + i] = 0
        write_gram(gathered, real, numbers, n, x * count * count, count, to_gram)
