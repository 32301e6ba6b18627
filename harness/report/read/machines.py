"""Records of several machines: which there are, in words, and a group with the times of one alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.report.read.groups import Group
from harness.report.read.rows import Row


def machine_words(machine: Mapping[str, Any]) -> str:
    """`AMD EPYC, 2 threads, precision fp32`"""
    told = [str(machine["device"])] if machine.get("device") else []
    told += [f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"] if machine.get("threads") else []
    rest = sorted((name, value) for name, value in machine.items() if name not in ("device", "threads"))
    return ", ".join([*told, *(f"{name} {value}" for name, value in rest if value not in (None, False, ""))])


def machines(groups: Sequence[Group]) -> dict[str, Mapping[str, Any]]:
    """In words -> as stored: those that single models trained here were timed on, in the order of the rows."""
    costs = [run.cost for group in groups for row in group.rows if not row.is_scale for run in row.runs]
    return {machine_words(cost.machine): cost.machine for cost in costs if cost is not None}


def is_asked(words: str, machine: Mapping[str, Any], asked: str) -> bool:
    """Whether a machine is what `cpu`, `cuda` or some of its words ask for."""
    if asked.lower() in ("cpu", "cuda"):
        return (machine.get("cuda") is not None) == (asked.lower() == "cuda")
    return asked.lower() in words.lower()


def on_machine(group: Group, machine: Mapping[str, Any]) -> Group:
    """The group with the times of that machine alone."""
    wanted = json.dumps(machine, sort_keys=True, default=str)

    def kept(row: Row) -> Row:
        runs = [
            replace(run, cost=None)
            if run.cost is not None and json.dumps(run.cost.machine, sort_keys=True, default=str) != wanted
            else run
            for run in row.runs
        ]
        return replace(row, runs=tuple(runs))

    return replace(group, rows=tuple(kept(row) for row in group.rows))
