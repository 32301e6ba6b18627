"""What stored records say of sizes that nobody ran: along the law of a row, item by item, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor, log10

import numpy as np
import pandas as pd

from harness.measure.law import Law
from harness.record import CostRecord, RecordError
from harness.report.formats import ABOUT, ABSENT, Sheet, decimals, markdown, significant, whole
from harness.report.read.rows import Row
from harness.report.read.times import GALLERY, stage_ms
from harness.report.texts.facts import Facts, listed
from harness.spec.tuning import ORDER

SIZES = (GALLERY, 10**6, 10**9)
LARGE = SIZES[1:]
SECONDS = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "days": 86_400, "years": 365.25 * 86_400}
BYTES = {"MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40, "PiB": 2.0**50}
PER_IMAGE = 5  # captions of an image in the data of the field
HALF = 2  # bytes of a number of a stored feature in half precision
METHODS = 100
DOUBLED = 2  # a run of twice the length is as much as two


def queries(facts: Facts, folder: str, names: Sequence[str]) -> str:
    """One caption, encoded already, among a thousand, a million and a billion images; a Markdown table."""
    cells = []
    for name in names:
        cost = _cost(facts, folder, name)
        law, most = _law(folder, name, cost), _measured(cost)
        at = {f"among {_named(n)}": (ABOUT if n > most else "") + lasts(law.ms(n) / 1000) for n in SIZES}
        index = {f"index of {_named(n)}": holds(cost.index_bytes_per_image * n) for n in LARGE}
        off = {"law off by": f"{decimals(0)(100 * law.residual)}%"}
        cells.append({"row": name, **at, **index, "measured to": whole(most), **off})
    return _table(cells)


def matrices(facts: Facts, folder: str, names: Sequence[str]) -> str:
    """All pairs of images and captions, scored and ranked in batches by one thread or GPU; a Markdown table."""
    cells = []
    for name in names:
        cost = _cost(facts, folder, name)
        each = stage_ms(cost, ("score", "rank"), "queries")
        if each is None:
            raise RecordError(f"{folder}: scoring of {name} in batches was not timed")
        pair_s = each / 1000 / cost.sizes["gallery"]
        sizes = (5_000, 100_000, 10**6)
        at = {f"{_named(n)} images": ABOUT + lasts(pair_s * n * n * PER_IMAGE) for n in sizes}
        cells.append({"row": name, "pairs a second": whole(float(f"{1 / pair_s:.2g}")), **at})
    return _table(cells)


def encoded(facts: Facts, folder: str, names: Sequence[str]) -> str:
    """Images encoded once, their features being there, shortest and longest of some rows."""
    costs = [_cost(facts, folder, name) for name in names]
    device = listed(sorted({str(cost.machine["device"]) for cost in costs}))
    each = sorted(ms for cost in costs if (ms := stage_ms(cost, ("encode_images",), "images")) is not None)
    if not each:
        raise RecordError(f"{folder}: no encoding of images was timed")
    ends = each[0], each[-1]
    spans = [" to ".join(lasts(ms / 1000 * n) for ms in ends) for n in LARGE]
    least, most = (significant(ms, 2) for ms in ends)
    return f"{device}: {least} to {most} ms an image, {spans[0]} for a million, {spans[1]} for a billion.\n"


def features(facts: Facts, folder: str) -> str:
    """What stored features of a million and a billion images take, in half precision."""
    data = facts.rows(folder)[0].runs[0].record.data["test"]
    image = data["regions"] * data["dim"] * HALF
    sizes = " and ".join(f"{holds(image * n)} for {_named(n)} images" for n in LARGE)
    return f"{data['regions']} regions of {whole(data['dim'])} numbers in half precision are {sizes}.\n"


def trained(facts: Facts, folder: str) -> str:
    """A hundred methods, tuned and repeated as the protocol asks, by the mean run of each family."""
    run_s = {family: _run_s(facts.rows(folder, family)) for family in ("independent", "interactive")}
    seeds = max(len(row.runs) for row in facts.rows(folder))
    runs = len(ORDER) + DOUBLED + seeds
    each = [f"{lasts(seconds)} for an {family} row" for family, seconds in run_s.items()]
    of_all = [f"{lasts(seconds * runs * METHODS)} for {METHODS} {family} ones" for family, seconds in run_s.items()]
    return (
        f"A run takes {listed(each)} (means over `{folder}`). {len(ORDER)} trials, one run of twice the length and "
        f"{seeds} seeds are the time of {runs} runs a method, of one thread: {listed(of_all)}.\n"
    )


def lasts(seconds: float) -> str:
    """`12 ms`, `35 s`, `9.7 h`, `1,500 years`: two figures of the largest unit that is not below one."""
    return _in_units(seconds, SECONDS)


def holds(size: float) -> str:
    """`0.98 MiB`, `34 GiB`, likewise."""
    return _in_units(size, BYTES)


def _in_units(value: float, units: dict[str, float]) -> str:
    name = next((name for name in reversed(units) if value >= units[name]), next(iter(units)))
    number = float(f"{value / units[name]:.2g}")
    return f"{whole(number) if number >= 10 else significant(number, 2)} {name}"


def _named(images: int) -> str:
    """`1,000`, `1M`, `1B`."""
    power = floor(log10(images))
    letter, unit = {6: ("M", 10**6), 9: ("B", 10**9)}.get(power // 3 * 3, ("", 1))
    return f"{images // unit:,}{letter}"


def _cost(facts: Facts, folder: str, name: str) -> CostRecord:
    cost = facts.row(folder, name).cost
    if cost is None:
        raise RecordError(f"{folder}: {name} was not timed")
    return cost


def _law(folder: str, name: str, cost: CostRecord) -> Law:
    try:
        told = (float(cost.law[part]) for part in ("intercept_ms", "ms_per_item", "residual"))
        return Law(*told, fitted=tuple(cost.law["fitted_items"]))
    except (KeyError, TypeError, ValueError):
        raise RecordError(f"{folder}: {name} has no law") from None


def _measured(cost: CostRecord) -> int:
    """The largest gallery that was measured."""
    return max(entry["items"] for entry in cost.galleries if entry["measured"])


def _run_s(rows: Sequence[Row]) -> float:
    """Mean seconds of a run: trained, encoded, scored."""
    seconds = [sum(run.record.seconds.values()) for row in rows for run in row.runs]
    if not seconds:
        raise RecordError("there are no runs to tell how long one takes")
    return float(np.mean(seconds))


def _table(cells: Sequence[Mapping[str, str]]) -> str:
    table = pd.DataFrame(cells, dtype=str)
    return markdown(Sheet("", table, table)).partition("\n\n")[2] or ABSENT
