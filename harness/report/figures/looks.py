"""How families are told apart, in figures and on the page: colour and marker.

Families differ in both, so that a grey print still tells them apart; the colours are those of Okabe and Ito (2008),
which colour-blind readers can tell apart as well.
"""

from __future__ import annotations

from dataclasses import dataclass

INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


@dataclass(frozen=True)
class Look:
    """How the members of a family are drawn."""

    colour: str
    marker: str  # matplotlib's letter
    symbol: str  # plotly's word for the same
    hatch: str


GIVEN, PRETRAINED = ELSEWHERE = "given", "pretrained"  # whatever their scores are made of: in no front
LOOKS = {
    "independent": Look(PALETTE[0], "o", "circle", ""),
    "independent + SelfAlign": Look(PALETTE[1], "D", "diamond", "///"),
    "interactive": Look(PALETTE[2], "s", "square", "\\\\\\"),
    GIVEN: Look(PALETTE[4], "P", "cross", "..."),
    PRETRAINED: Look(PALETTE[5], "v", "triangle-down", "oo"),
}
OTHER = Look(PALETTE[3], "^", "triangle-up", "xx")


def look(family: str) -> Look:
    return LOOKS.get(family, OTHER)
