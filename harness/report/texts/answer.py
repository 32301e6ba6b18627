"""The README's table and its answer in five lines, of one folder of reference results."""

from __future__ import annotations

from math import floor, log10

import numpy as np
import pandas as pd

from harness.measure.intervals import mean_sd
from harness.report.formats import ABSENT, Sheet, decimals, markdown, signed
from harness.report.read.rows import Row
from harness.report.read.times import GALLERY, QueryTime, shown_ms
from harness.report.tables.checklist import checklist
from harness.report.tables.headline import mean_rsum
from harness.report.texts.facts import Facts, listed
from harness.spec import registry

PLATEAU, FARTHEST = 3, 10  # dev Rsum that rows may still gain by twice the length: their median, any of them
LONG_ENOUGH = f"the length is long enough by its rule (a median below {PLATEAU}, no row above {FARTHEST})"


def best(facts: Facts, folder: str, each: int = 5) -> str:
    """The best rows of each family, each method and each host with SelfAlign once, best first; a Markdown table."""
    chosen = []
    for family in ("independent", "interactive"):
        by_model: dict[tuple[str, bool, tuple[str, ...]], Row] = {}
        for row in sorted(facts.ranked(folder, family), key=mean_rsum, reverse=True):
            model = row.model
            by_model.setdefault((model.method, model.selfalign is not None, tuple(model.modules)), row)
        chosen += list(by_model.values())[:each]
    times = facts.times(folder, GALLERY)
    cells = [_cells(row, times.get(row.name)) for row in sorted(chosen, key=mean_rsum, reverse=True)]
    table = pd.DataFrame(cells, dtype=str)
    return markdown(Sheet("", table, table, names=2)).partition("\n\n")[2]


def _cells(row: Row, time: QueryTime | None) -> dict[str, str]:
    def over_seeds(metric: str) -> str:
        mean, sd = mean_sd([run.accuracy[metric] for run in row.runs])
        return " ± ".join(decimals(1)(value) for value in (mean, sd) if value is not None)

    return {
        "method": row.name,
        "family": row.family,
        "Rsum": over_seeds("rsum"),
        "i2t R@1": over_seeds("i2t_r1"),
        "t2i R@1": over_seeds("t2i_r1"),
        "ms/query": shown_ms(time) if time else ABSENT,
        "seeds": str(len(row.runs)),
    }


def answer(facts: Facts, folder: str) -> str:
    """What the records say and what they cannot, as a list of five."""
    lines = (leaders, added, unseen, half_trained, not_run)
    return "\n".join(f"{place}. {line(facts, folder)}" for place, line in enumerate(lines, start=1)) + "\n"


def leaders(facts: Facts, folder: str) -> str:
    """The best row of every order of magnitude of query time."""
    best_of: dict[int, Row] = {}
    for row in facts.ranked(folder):
        if (found := facts.times(folder, GALLERY).get(row.name)) is not None:
            order = floor(log10(found.ms))
            best_of[order] = max(best_of.get(order, row), row, key=mean_rsum)
    told = [
        f"`{row.name}` ({facts.rsum(folder, row.name)} in {facts.query_ms(folder, row.name)} ms) "
        f"from {_power(order)} to {_power(order + 1)} ms"
        for order, row in sorted(best_of.items())
    ]
    return f"**Which rows lead**, by Rsum, at which time of a query among {GALLERY:,} images: {listed(told)}."


def _power(order: int) -> str:
    return f"{10.0**order:,.10g}"


def added(facts: Facts, folder: str) -> str:
    """What SelfAlign adds to each host, and how sure that is."""
    told = [f"`{gain.host.name}` {facts.gain(folder, gain.host.name)}" for gain in facts.gains(folder)]
    return (
        f"**What SelfAlign adds to its host**, in Rsum with a 95% interval over seeds and images, corrected for the "
        f"{len(told)} host{'s' * (len(told) != 1)} asked (Holm): {', '.join(told)}."
    )


def unseen(facts: Facts, folder: str) -> str:
    """How large a true difference would have gone unseen."""
    sizes = {gain.host.name: size for gain in facts.gains(folder) if (size := gain.unseen) is not None}
    if not sizes:
        return "**What could not be seen**: one seed a row does not tell."
    told = [f"{decimals(0)(sizes[name])} (on `{name}`)" for name in sorted(sizes, key=sizes.__getitem__)]
    return (
        "**What could not be seen**: more than one in five such experiments would miss a true difference below "
        f"{' to '.join(dict.fromkeys([told[0], told[-1]]))} Rsum, even before the correction; undecided is not the "
        "same as none."
    )


def half_trained(facts: Facts, folder: str) -> str:
    """What twice the length would add; where nobody tried, how many runs end while they still improve."""
    rows, untuned = facts.rows(folder), _untuned(facts, folder)
    rates = f"{len(untuned)} of the {len(rows)} rows have had no trials of their own"
    if len(untuned) in (0, len(rows)):
        rates = (
            "all rows share one learning rate, for which they were not asked equally often"
            if untuned
            else "the rate and the warm-up of each row are the best of its own trials, no other setting is"
        )
    return f"**What is not settled**: {_length(facts, folder)}; {rates}."


def _length(facts: Facts, folder: str) -> str:
    more = facts.doubled(folder)
    if not more:
        ended, trained = facts.rising(folder)
        return f"{ended} of {trained} runs end at their best dev epoch, so longer training may change their order"
    typical, most = float(np.median(list(more.values()))), max(more, key=more.__getitem__)
    short = [name for name, gained in more.items() if gained > PLATEAU]
    long_enough = typical < PLATEAU and more[most] <= FARTHEST
    return (
        f"one run of twice the length adds {signed(typical)} dev Rsum to a row (median of {len(more)}), at most "
        f"{signed(more[most])} to `{most}` and more than {PLATEAU} to {len(short)} of them; "
        + (LONG_ENOUGH if long_enough else "longer training may change their order")
    )


def _untuned(facts: Facts, folder: str) -> list[Row]:
    return [row for row in facts.rows(folder) if not row.is_settled]


def not_run(facts: Facts, folder: str) -> str:
    """Rows that are not there, and rows of a single seed."""
    rows = facts.rows(folder)
    here = {row.name for row in rows}
    missing = [f"`{label}`" for label in registry.labels() if label not in here and not registry.scale(label)]
    single, untuned = sum(len(row.runs) == 1 for row in rows), len(_untuned(facts, folder))
    search = f"a search of its own settings for {'any row' if untuned == len(rows) else f'{untuned} of them'}"
    seeds = f"more than one seed of {single} of the {len(rows)} rows, which therefore have no interval over seeds"
    told = [f"rows that are missing: {listed(missing)}", *([seeds] if single else []), *([search] if untuned else [])]
    return f"**What was not run**: {'; '.join(told)}."


def claimed(facts: Facts, folder: str) -> str:
    """What became of the paper's claims, a line each; a Markdown table."""
    first, *_ = checklist(facts.group(folder))
    return markdown(first).partition("\n\n")[2].partition("\n\n")[0]


def took(facts: Facts, folder: str) -> str:
    """How long the runs of a folder took, as they say themselves."""
    minutes, runs, threads = facts.minutes(folder)
    return (
        f"The {runs} runs of the reference, `{folder}`, took {decimals(0)(minutes)} minutes to train, encode and "
        f"score, on {threads} CPU thread{'s' * (threads != '1')} each, about {decimals(0)(minutes / 2)} on two idle "
        "cores; timing and installation come on top.\n"
    )
