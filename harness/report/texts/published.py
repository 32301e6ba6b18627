"""What suite `paper` should come to, by the runs that others published with their deviation over seeds."""

from __future__ import annotations

import pandas as pd

from harness.measure.intervals import Interval, next_mean_interval
from harness.report.formats import Sheet, decimals, interval, markdown
from harness.report.read.published import Published, read
from harness.report.texts.facts import Facts
from harness.spec import registry, suites

UNLIKE = "randomly initialised"  # a text encoder that no row here has


def expected(_: Facts) -> str:
    """A line for each row that was published as a mean over seeds with its deviation; a Markdown table.

    Raises RecordError and OSError.
    """
    told = [line for line in read() if line["rsum_sd"] and line.label and UNLIKE not in line["text_encoder"]]
    table = pd.DataFrame([_cells(line) for line in told], dtype=str)
    return markdown(Sheet("", table, table, names=4)).partition("\n\n")[2]


def _cells(line: Published) -> dict[str, str]:
    seeds = len(suites.find("paper").seeds[registry.methods()[line.method or ""].family])
    digits = decimals(1)
    mean, sd = (float(line.figure(name) or 0) for name in ("rsum", "rsum_sd"))
    return {
        "row": str(line.label),
        "data": line["dataset"],
        "features": line["image_features"],
        "text": line["text_encoder"],
        "published Rsum": f"{digits(mean)} ± {digits(sd)}",
        "seeds here": str(seeds),
        "their mean within": interval(_within(line, mean, sd, seeds)),
    }


def _within(line: Published, mean: float, sd: float, seeds: int) -> Interval:
    published = int("".join(filter(str.isdigit, line["runs"])))
    return next_mean_interval(mean, sd, published, seeds)
