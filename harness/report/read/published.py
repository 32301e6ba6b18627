"""What papers claim: `results/published.csv`, read strictly, and which of our rows each line is about.

A published number was found on other features, splits or machines than ours, so it stands beside a measured one and
never in a ranking or a mean with it.  Numbers are kept as printed; a cell that is empty was not printed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness import ROOT
from harness.record import RECALLS, RecordError
from harness.spec import registry

PATH = ROOT / "results" / "published.csv"
DATASETS = ("flickr8k", "flickr30k", "coco1k", "coco5k")
FAMILIES = ("", "independent", "interactive")

FIGURES = (*RECALLS, "rsum", "rsum_sd")
COLUMNS = (
    *("dataset", "method", "variant", "family", "image_features", "text_encoder", "runs"),
    *FIGURES,
    *("source", "note"),
)
RUNS = re.compile(r"|single|ensemble\d*|mean_of_\d+_seeds")  # "" = not stated; an ensemble without its size: the same
GAIN = re.compile(r"Rsum gain of (\d+(?:\.\d+)?) ")  # a note that opens so

METHODS: Mapping[str, str] = {  # as published -> our file
    "VSE++": "vsepp",
    "VSE-infinity": "vse_infty",
    "GPO": "vse_infty",
    "VSRN": "vsrn",
    "CAMERA": "camera",
    "SAEM": "saem",
    "CVSE": "cvse",
    "SCAN": "scan",
    "CAMP": "camp",
    "BFAN": "bfan",
    "IMRAM": "imram",
    "GSMN": "gsmn",
    "SGRAF": "sgraf",
    "NAAF": "naaf",
    "CHAN": "chan",
    "SelfAlign": registry.SELFALIGN,
}
LABELS: Mapping[str, Mapping[str, str]] = {  # file -> variant as published -> our row
    "scan": {
        "T2I_AVE": "scan:t2i-avg",
        "I2T_AVE": "scan:i2t-avg",
        "i2t AVG": "scan:i2t-avg",
        "I2T_LSE": "scan:i2t-lse",
    },
    "bfan": {"prob": "bfan:prob", "equal": "bfan:equal"},
    "imram": {"Image": "imram:image", "Text": "imram:text", "Full": "imram:full"},
    "sgraf": {"SGR": "sgraf:sgr", "SAF": "sgraf:saf"},
    "gsmn": {"dense": "gsmn", "sparse": ""},  # "" = a variant that is not built here
}


@dataclass(frozen=True)
class Published:
    """One line of the file."""

    line: int
    cells: Mapping[str, str]  # column -> text as it stands there

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    @property
    def ensemble(self) -> bool:
        return self["runs"].startswith("ensemble")

    @property
    def runs(self) -> str:
        """`single`, `ensemble`, `mean of 10 seeds` or `not stated`."""
        return "ensemble" if self.ensemble else self["runs"].replace("_", " ") or "not stated"

    @property
    def method(self) -> str | None:
        """Our file, `selfalign`, or None for a method that is not built here."""
        return METHODS.get(self["method"])

    @property
    def label(self) -> str | None:
        """Our row that is this very variant in a single run; None where there is none, or the variant is not stated."""
        if self.method is None or self.method == registry.SELFALIGN or self.ensemble:
            return None
        if self["variant"] in LABELS.get(self.method, {}):
            return LABELS[self.method][self["variant"]] or None
        return self.method if self.method in registry.methods()[self.method].labels else None

    @property
    def gain(self) -> Decimal | None:
        """Rsum gained over a host, where no more than that was printed."""
        found = GAIN.match(self["note"])
        return Decimal(found[1]) if found else None

    def figure(self, column: str) -> Decimal | None:
        return Decimal(self[column]) if self[column] else None


def read(path: Path | None = None) -> tuple[Published, ...]:
    """Every line, in the order of the file.  Raises RecordError, one line that names file and line, and OSError."""
    path = PATH if path is None else path
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, _size: int) -> tuple[Published, ...]:
    found: list[Published] = []
    seen: dict[tuple[str, ...], int] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if tuple(header) != COLUMNS:
                raise RecordError(f"{path.name} line 1: columns must be {','.join(COLUMNS)}; got {','.join(header)}")
            for cells in lines:
                where = f"{path.name} line {lines.line_num}"
                if len(cells) != len(COLUMNS):
                    raise RecordError(f"{where}: {len(cells)} cells, need {len(COLUMNS)}")
                row = Published(lines.line_num, dict(zip(COLUMNS, cells, strict=True)))
                _check(row, where)
                identity = tuple(row[name] for name in COLUMNS if name != "note")
                if identity in seen:
                    raise RecordError(f"{where}: the same as line {seen[identity]}")
                seen[identity] = row.line
                found.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path.name} cannot be read: {error}") from None
    return tuple(found)


def _check(row: Published, where: str) -> None:
    """Raises RecordError for what cannot be."""
    for name, text in row.cells.items():
        if text != " ".join(text.split()):
            raise RecordError(f"{where}: {name} has stray blanks or a line break: {text!r}")
    for name, known in (("dataset", DATASETS), ("family", FAMILIES)):
        if row[name] not in known:
            raise RecordError(f"{where}: {name} must be one of {', '.join(filter(None, known))}, got {row[name]!r}")
    if not RUNS.fullmatch(row["runs"]):
        raise RecordError(f"{where}: runs must be single, ensemble<n> or mean_of_<n>_seeds, got {row['runs']!r}")
    for name in ("method", "source"):
        if not row[name]:
            raise RecordError(f"{where}: {name} is missing")
    for name in FIGURES:
        _check_figure(row[name], 600 if name.startswith("rsum") else 100, f"{where}: {name}")
    for way in ("i2t", "t2i"):
        places = [figure for k in (1, 5, 10) if (figure := row.figure(f"{way}_r{k}")) is not None]
        if places != sorted(places):
            raise RecordError(f"{where}: {way} recall falls as K grows: {', '.join(map(str, places))}")
    if row["rsum_sd"] and not row["runs"].startswith("mean_of"):
        raise RecordError(f"{where}: rsum_sd without several seeds")
    _check_sum(row, where)


def _check_figure(text: str, most: int, where: str) -> None:
    try:
        if text and not (re.fullmatch(r"\d+(\.\d+)?", text) and Decimal(text) <= most):
            raise InvalidOperation
    except InvalidOperation:
        raise RecordError(f"{where} must be a number from 0 to {most}, got {text!r}") from None


def _check_sum(row: Published, where: str) -> None:
    """Rsum is there exactly where all six recalls are, and their sum but for the rounding of what was printed."""
    recalls = [row.figure(name) for name in RECALLS]
    present = [recall for recall in recalls if recall is not None]
    rsum = row.figure("rsum")
    if (rsum is not None) != (len(present) == len(RECALLS)):
        raise RecordError(f"{where}: rsum goes with all six recalls, {len(present)} are there")
    if rsum is None:
        return
    slack = sum((_half_unit(number) for number in (*present, rsum)), Decimal())
    if abs(sum(present, Decimal()) - rsum) > slack:
        raise RecordError(f"{where}: rsum is {rsum}, the six recalls add up to {sum(present, Decimal())}")


def _half_unit(number: Decimal) -> Decimal:
    """Of the last place that was printed."""
    exponent = number.as_tuple().exponent
    return Decimal(5).scaleb(int(exponent) - 1)


def about(label: str, rows: Sequence[Published] | None = None) -> list[tuple[Published, str]]:
    """The lines to show beside a row, each with how it fits, in the order of the file.  Raises RecordError and OSError.

    `this variant`; `variant not stated` where the paper's row may be another variant; `ensemble`.  A row that is an
    ensemble itself (its name ends in `*`) gets ensembles alone, a SelfAlign row what is published of SelfAlign.
    """
    rows = read() if rows is None else rows
    label = label.partition(" (")[0]
    base, _, module = label.rstrip("*").partition("+")
    own_method = registry.SELFALIGN if module == registry.SELFALIGN else base.partition(":")[0]
    return [
        (row, fit) for row in rows if row.method == own_method and (fit := _fit(row, base, label.endswith("*"))) != ""
    ]


def _fit(row: Published, base: str, ensemble: bool) -> str:
    if row.method == registry.SELFALIGN:
        return "" if ensemble else "host not stated"
    if row.ensemble:
        return "ensemble"
    if ensemble:
        return ""
    if row.label == base:
        return "this variant"
    assert row.method is not None
    known = row["variant"] in LABELS.get(row.method, {})
    return "" if known or row.label is not None else "variant not stated"


def gains(lines: Sequence[Published] | None = None) -> dict[str, float]:
    """Data -> the Rsum that the paper of SelfAlign says it gains there.  Raises RecordError and OSError."""
    return {
        line["dataset"]: float(line.gain)
        for line in (read() if lines is None else lines)
        if line.method == registry.SELFALIGN and line.gain is not None
    }


def rows_for(label: str) -> list[dict[str, Any]]:
    """What is published beside a row, as plain mappings: the columns of the file, figures as numbers or None.

    And `fit` (see `about`), `ensemble` (True, False) and `runs` in words.  Raises RecordError and OSError.
    """
    return [
        {name: text for name, text in row.cells.items() if name not in FIGURES}
        | {name: None if (figure := row.figure(name)) is None else float(figure) for name in FIGURES}
        | {"runs": row.runs, "ensemble": row.ensemble, "fit": fit}
        for row, fit in about(label)
    ]
