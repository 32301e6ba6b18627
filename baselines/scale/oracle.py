"""Oracle (no paper): is the caption true of the image?  The most that can be reached, for ties are broken by chance.

As in real data, a caption that was written of one image is true of others too; no model can know which was meant.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.protocol import Inputs, Retriever
from models.told import Told

RECIPE = 1
PAPER = ""
NEEDS = ("truth",)
VARIANTS: dict[str, dict] = {"": {}}


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def build(inputs: Inputs, options: Options) -> Retriever:  # noqa: ARG001
    """A row that cannot learn."""
    return Told()
