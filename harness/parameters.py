"""How many parameters a row trains at the default settings on the embedded scenes: counted when asked for."""

from __future__ import annotations

from functools import cache

from harness.data.prepared import prepare
from harness.learn.build import build
from harness.learn.trainer import trained_parameters
from harness.protocol import Inputs
from harness.spec import registry
from harness.spec.job import Data, Settings


@cache
def default_inputs() -> Inputs:
    """What the scenes and the default settings fix for every method."""
    return prepare(Data(), Settings()).inputs(Settings())


def counted(label: str) -> int:
    """Raises what building the model raises."""
    return trained_parameters(build(registry.model(label), default_inputs(), seed=0))


def listed() -> tuple[dict[str, int], list[str]]:
    """Label -> number, and a line for every row that cannot be built."""
    counts: dict[str, int] = {}
    failures = []
    for label in registry.labels():
        try:
            counts[label] = counted(label)
        except Exception as error:  # of a method by others
            failures.append(f"{label} cannot be built: {type(error).__name__}: {error}")
    return counts, failures
