"""Bag of attributes (no paper): do the words of the caption occur in the image, whatever they are bound to?

It knows which attributes an image shows how often, and nothing of which belong together, nor of places and relations:
what is above it needs binding.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.protocol import Inputs, Retriever
from models.told import Told

RECIPE = 1
PAPER = ""
NEEDS = ("bag",)
VARIANTS: dict[str, dict] = {"": {}}


@dataclass(frozen=True)
class Options:
    """Nothing to choose."""


def build(inputs: Inputs, options: Options) -> Retriever:  # noqa: ARG001
    """A row that cannot learn."""
    return Told()
