"""How products become weights, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Weighing:
    """`exp(lam * norm(leaky_relu(products)))` of what a query attends to, and what of it is kept.

    Fields are those of `models.attention` and BFAN; a norm across queries by a softmax is not served.
    """

    lam: float
    slope: float  # of negative products; 1 = they are not clipped
    order: int  # of the norm across queries: 1, 2, or 0 = none
    shifted: bool  # whether the largest exponent is taken from all and weights sum to 1, for they are not bounded
    eps: float  # added to a norm
    least: float  # square of the least product of two lengths
    endless: float  # squared length that stands for that of a zero query
    focus: str = ""  # which weights are kept: "" = all | equal | prob (BFAN) | threshold (NAAF)
    value: float = 0.0  # weights that differ by less, relatively, are equal; or what a product has to be above
    mean: bool = False  # the mean of the products by their weights, not a cosine with what is attended to
