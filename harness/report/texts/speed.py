"""What benchmarks said of speed, as `tests.perf.ratios` kept it: tables, and the machine they are of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

import pandas as pd

from harness.progress import counted
from harness.record import RecordError
from harness.report.formats import ABSENT, Sheet, decimals, markdown, significant
from harness.report.texts.facts import Facts

BENCHED, PUBLISHED = "speed.json", "speed-published.json"  # in results/reference
MOST_APART = 1e-4  # scores of the same weights, by single precision


def benched(facts: Facts) -> str:
    """Where and when the benchmarks ran; a sentence.  Raises RecordError and OSError, as all of these do."""
    return _where(_read(facts, BENCHED))


def measured(facts: Facts, kind: str, *whats: str) -> str:
    """Of one kind of benchmarks, such as `step`, these measures, all if none is named, a column each.

    A Markdown table; what has a goal tells it, and whether it is short of it.
    """
    rows: dict[str, dict[str, str]] = {}
    for line in _read(facts, BENCHED)["lines"]:
        of, _, name = line["measure"].rstrip("]").partition("[")
        if of == kind and (not whats or line["what"] in whats):
            name = name.removesuffix("-fast")
            goal = line["goal"].replace(">=", "at least").replace("<=", "at most").replace(ABSENT, "")
            rows.setdefault(name, {kind: name})[line["what"]] = _beside_goal(line["value"], goal, bool(line["short"]))
    if not rows:
        raise RecordError(f"{BENCHED} holds no benchmark of {kind}")
    return _table(rows.values())


def _beside_goal(value: str, goal: str, short: bool) -> str:
    return value + (goal and f" (goal: {goal}{', short' if short else ''})")


def spent(facts: Facts, kind: str) -> str:
    """What the time of one kind of benchmarks, `score` or `step`, is spent on, in percent; a Markdown table."""
    named = ((name.rstrip("]").partition("["), shares) for name, shares in _read(facts, BENCHED)["spent"].items())
    return _table(
        {kind: name} | {what: decimals(0)(share) for what, share in shares.items()}
        for (of, _, name), shares in named
        if of == kind
    )


def beside_published(facts: Facts) -> str:
    """All pairs by the published code and here, in turns in one process; a Markdown table and where that was."""
    told = _read(facts, PUBLISHED)
    notes = [f"- `{row['label']}`: {row['note']}." for row in told["rows"] if row["note"]]
    return "\n".join([_table(_turns(row) for row in told["rows"]), *notes, "", _where(told), ""])


def _turns(row: Mapping[str, Any]) -> dict[str, str]:
    ours, published, goal = median(row["ours_s"]), median(row["published_s"]), row["goal"]
    apart = row["max_difference"] if row["same_weights"] else None
    return {
        "row": row["label"],
        "pairs": f"{row['images']} x {row['captions']}",
        "published, ms": significant(1000 * published),
        "here, ms": significant(1000 * ours),
        "times faster": _beside_goal(
            decimals(1)(published / ours), f"at least {goal}" if goal else "", published / ours < (goal or 0)
        ),
        "scores": ABSENT if apart is None else ("equal" if apart <= MOST_APART else f"up to {apart:.1g} apart"),
        "code": f"{row['repository']}@{row['commit'][:7]}",
    }


def _where(told: Mapping[str, Any]) -> str:
    return f"{told['machine']}, {counted(told['threads'], 'thread')}, {told['date']}."


def _read(facts: Facts, name: str) -> dict[str, Any]:
    path = facts.results / "reference" / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordError(f"{path}: {error}") from None


def _table(cells: Iterable[Mapping[str, str]]) -> str:
    table = pd.DataFrame(list(cells), dtype=str).fillna(ABSENT)
    return markdown(Sheet("", table, table, names=1)).partition("\n\n")[2]
