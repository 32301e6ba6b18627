"""Counts the trained parameters of every row at the default settings on the embedded scenes.

python -m tests.parameters      writes baselines/parameters.json, which --list shows and the contract tests check
"""

from __future__ import annotations

import json

from harness.data.prepared import prepare
from harness.learn.build import build
from harness.learn.trainer import trained_parameters
from harness.protocol import Inputs
from harness.spec import registry
from harness.spec.job import Data, Settings


def inputs() -> Inputs:
    """What the scenes and the default settings fix for every method."""
    return prepare(Data(), Settings()).inputs(Settings())


def count(label: str, given: Inputs) -> int:
    return trained_parameters(build(registry.model(label), given, seed=0))


def text(counts: dict[str, int]) -> str:
    return json.dumps(counts, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    given = inputs()
    registry.PARAMETERS.write_text(text({label: count(label, given) for label in registry.labels()}))
