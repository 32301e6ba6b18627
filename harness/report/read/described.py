"""Words under a table or a figure: which data, which settings, how it was timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from harness import ROOT
from harness.data import sources
from harness.report.formats import ABSENT
from harness.report.read.groups import Group
from harness.spec.job import Settings, idle
from harness.spec.tuning import BY_HAND

ALWAYS = ("epochs", "batch", "optimiser", "lr", "dim", "margin", "warmup_epochs", "precision")  # settings named


def data_line(group: Group) -> str:
    """`Data scenes, split test: 400 images, 2000 captions; seeds 0, 1, 2.`"""
    ranked = group.data["ranked"]
    counts = next((run.record.data[ranked] for run in [*group.runs, *group.left_out] if ranked in run.record.data), {})
    seeds = sorted({run.seed for run in group.runs})
    return (
        f"Data {group.data['name']}, split {ranked}: "
        f"{counts.get('images', ABSENT)} images, {counts.get('captions', ABSENT)} captions; "
        f"seeds {', '.join(map(str, seeds)) or ABSENT}."
    )


def header_lines(group: Group, folder: Path) -> tuple[str, ...]:
    """Which data, which seeds, how to make the file again; and in what this group differs from the others."""
    what = f"{data_line(group)} Made by `python -m harness.report {shown(folder)}`."
    lines = [what]
    if group.differs:
        lines.append(f"Only records with {described(group.differs)}.")
    if group.own_settings:
        lines.append("Published settings of each method, not identical: what differs is in the column `settings`.")
    if of := group.data.get("trained_on"):
        lines.append(f"Evaluated: nothing was trained here, the weights are of {of.partition(' ')[0]}.")
    if not sources.embedded(group.data["name"], group.data.get("own", False)):
        lines.append("Not comparable with published numbers unless features and splits are the published ones.")
    return tuple(lines)


def evaluated_lines(group: Group) -> list[str]:
    """Whose weights the rows have that were trained elsewhere, a line each."""
    lines = []
    for row in group.rows:
        of = {
            f"{run.record.evaluated['run']} {run.record.evaluated['key']}" for run in row.runs if run.record.evaluated
        }
        if of:
            lines.append(f"{row.name}: evaluated with the weights of {', '.join(sorted(of))}")
    return lines


def settings_line(group: Group) -> str:
    """The settings that matter most, and all that are not the default, without those that others stand in for."""
    usual = asdict(Settings())
    tuned = set(BY_HAND) if group.is_tuned else set()
    hidden = {"score_memory_mib", "seed"} | idle(group.settings) | tuned
    named = {
        name: value
        for name, value in group.settings.items()
        if name not in hidden and (name in ALWAYS or (name in usual and value != usual[name]))
    }
    images = group.data.get("train_images")
    if not named:  # rows from files alone
        return ""
    trained = f"trained on {images} images, " if images else ""
    by_row = "; rate, schedule and length of each row as tuned" if tuned else ""
    return f"Settings: {trained}{', '.join(f'{name} {value}' for name, value in named.items())}{by_row}."


def timing_line(group: Group) -> str:
    """How the rows were timed; "" where none was."""
    cost = next((row.cost for row in group.rows if row.cost), None)
    if cost is None:
        return ""
    machine = cost.machine
    told = [
        str(machine["device"]) if machine.get("device") else "",
        str(machine.get("precision", "")),
        f"threads {machine['threads']}" if machine.get("threads") else "",
    ]
    where = ", ".join(part for part in told if part)
    return (
        f"Times are medians ({where}); "
        f"a query is scored against {cost.sizes.get('gallery', ABSENT)} encoded images, then ranked."
    )


def described(differs: Mapping[str, object]) -> str:
    """`settings.lr=0.0002`, fingerprints by their first digits."""
    return ", ".join(
        f"`{name}={str(value)[: 8 if name.endswith('.fingerprint') else None]}`" for name, value in differs.items()
    )


def shown(folder: Path) -> str:
    """As typed from the project's folder; results elsewhere by the name of their folder alone."""
    folder = folder.resolve()
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else f"results/{folder.name}"
