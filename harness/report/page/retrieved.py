"""What was retrieved: the first answers of two methods side by side, drawn from stored ranks as one page.

FOLDER/retrieved.html is self-contained: pictures are inside, nothing is loaded.  Captions come from the data, which are
made again (`scenes`) or read from the folder given; no model is run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from harness import ROOT
from harness.atomic import write_atomically
from harness.data import sources
from harness.data.split import DataError, Split
from harness.record import Ranks, RecordError
from harness.report.page import queries
from harness.report.page.album import Album, Drawn, Empty, Stored, file_names
from harness.report.page.concept_cards import Frame, concept_cards
from harness.report.page.overview import RETRIEVED
from harness.report.read.described import header_lines
from harness.report.read.groups import Group, Row, collect
from harness.report.read.runs import Run
from harness.spec.job import SpecError
from harness.spec.names import nearest
from harness.store import Store

SHOWN = 5  # answers of a query
COUNTS = {"t2i": 6, "i2t": 4}  # queries of a section
WORDS = {"t2i": "captions that look for their picture", "i2t": "pictures that look for their captions"}


@dataclass(frozen=True)
class Sources:
    """Where captions and pictures of a user's data are; nothing of it for embedded data."""

    data: str = ""  # folder in the precomp layout
    images: Path | None = None
    captions: Path | None = None  # tells the file of a picture where ids are no file names


@dataclass(frozen=True)
class Method:
    """One of the two that are compared: a run of its row."""

    row: Row
    run: Run

    @property
    def ranks(self) -> Ranks:
        return self.run.usable_ranks


def write(folder: Path, pair: str, sources_: Sources, chosen: str = "") -> Path:
    """Makes FOLDER/retrieved.html anew.  pair: two row names, comma-separated; chosen: see `queries.chosen`.

    Raises RecordError, DataError, SpecError and OSError.
    """
    group, methods, note = find(collect(folder), pair)
    split = split_of(group, sources_.data)
    for method in methods:
        _check_sizes(method, split)
    album, notes = album_of(folder, group, split, sources_)
    frame = Frame(split, album)
    page = {
        "title": f"What {methods[0].row.name} and {methods[1].row.name} retrieved",
        "header": [line.replace("`", "") for line in header_lines(group, folder)],
        "notes": [text for text in (note, *notes) if text],
        "methods": [_introduced(method) for method in methods],
        "sections": sections(methods, split, frame, chosen),
        "concepts": [
            concept_cards(method.row.name, Store(folder).concepts(method.run.record.key), frame)
            for method in methods
            if method.row.model.selfalign is not None
        ],
        "pictures": frame,
    }
    html = _environment().get_template("retrieved.html.j2").render(page)
    write_atomically(folder / RETRIEVED, lambda file: file.write(html.encode()))
    return folder / RETRIEVED


def find(groups: Sequence[Group], pair: str) -> tuple[Group, tuple[Method, Method], str]:
    """The group that has both rows, a run of each (of one seed where they share one), and a note on what was left.

    Raises SpecError.
    """
    names = [name.strip() for name in re.split(r",(?![^(]*\))", pair) if name.strip()]
    if len(names) != 2 or names[0] == names[1]:
        raise SpecError(f"--retrieved takes two different rows, comma-separated, got {pair!r}")
    known = list(dict.fromkeys(row.name for group in groups for row in group.rows if row.runs))
    for name in names:
        if name not in known:
            raise SpecError(f"no row {name!r} with ranks in these records{nearest(name, known)}")
    found = [
        (group, [rows[name] for name in names])
        for group in groups
        if set(names) <= (rows := {row.name: row for row in group.rows if row.runs}).keys()
    ]
    if not found:
        raise SpecError(f"{names[0]} and {names[1]} were never run with the same data and settings")
    group, (a, b) = found[0]
    shared = sorted(a.rsums.keys() & b.rsums.keys())
    seeds = (shared[0], shared[0]) if shared else (min(a.rsums), min(b.rsums))
    note = f"Of {len(found)} groups of settings that have both rows, this is the first." if len(found) > 1 else ""
    one, other = (
        Method(row, next(run for run in row.runs if run.seed == seed)) for row, seed in zip((a, b), seeds, strict=True)
    )
    return group, (one, other), note


def split_of(group: Group, data: str) -> Split:
    """The ranked split again.  Raises DataError where it is not that of the records."""
    stored = group.data
    if not data and not sources.embedded(stored["name"], stored.get("own", False)):
        raise DataError(f"captions of {stored['name']} are in no record: --data names the folder they lie in")
    opened = sources.find(data or stored["name"])
    if opened.fingerprint != stored["fingerprint"]:
        if not data:
            raise DataError(
                f"these records are of another edition of {stored['name']} ({stored['fingerprint'][:8]}) than is made "
                f"today ({opened.fingerprint[:8]}), so there are no captions and pictures to show"
            )
        raise DataError(f"{data} holds other data than those of the records (or a changed copy)")
    images = stored["dev_images"] if stored["ranked"] == "dev" else stored["test_images"]
    return opened.load(stored["ranked"]).first(images)


def _check_sizes(method: Method, split: Split) -> None:
    found = (len(method.ranks.i2t), len(method.ranks.t2i))
    if found != (len(split.images), len(split.captions)):
        raise RecordError(
            f"ranks/{method.run.record.key}.npz has {found[0]} + {found[1]} queries, "
            f"the data {len(split.images)} + {len(split.captions)}"
        )


def album_of(folder: Path, group: Group, split: Split, given: Sources) -> tuple[Album, list[str]]:
    """The pictures, and what is to be said of them.  Raises DataError."""
    if sources.embedded(group.data["name"], group.data.get("own", False)):
        return Drawn(group.data["ranked"]), []
    if given.images is None:
        return Empty(), ["Pictures are not shown: --images names the folder or tar they lie in."]
    if folder.resolve().is_relative_to(ROOT / "results" / "reference"):
        raise DataError(f"{folder}: pictures of other people are not written into reference results; copy the folder")
    album = Stored(given.images, split.images.ids, file_names(given.captions))
    return album, [f"{album.missing} of {len(split.images)} pictures were not found."] if album.missing else []


def _introduced(method: Method) -> dict[str, Any]:
    return {
        "name": method.row.name,
        "seed": method.run.seed,
        "rsum": f"{method.run.accuracy['rsum']:.1f}",
        "r1": {way: f"{method.run.accuracy[f'{way}_r1']:.1f}" for way in queries.WAYS},
        "key": method.run.record.key,
    }


def sections(methods: tuple[Method, Method], split: Split, frame: Frame, chosen: str) -> list[dict[str, Any]]:
    """Both directions: where either is far ahead, where both fail, and queries that were asked for or evenly spread."""
    a, b = (method.row.name for method in methods)
    sizes = {"t2i": len(split.captions), "i2t": len(split.images)}
    asked = queries.chosen(chosen, sizes)
    found = []
    for way in queries.WAYS:
        ranks_a, ranks_b = (getattr(method.ranks, way) for method in methods)
        count = COUNTS[way]
        owner = split.caption_to_image if way == "t2i" else np.arange(sizes[way])
        picked = {
            f"Where {b} is ahead": queries.disagreements(ranks_b, ranks_a, owner, count),
            f"Where {a} is ahead": queries.disagreements(ranks_a, ranks_b, owner, count),
            "Worst failures of both": queries.failures(ranks_a, ranks_b, owner, count),
        }
        if chosen:
            picked["Asked for"] = asked[way]
        else:
            picked["Evenly spread, whatever came of them"] = queries.spread(sizes[way], count)
        found += [
            {
                "title": title,
                "way": way,
                "words": WORDS[way],
                "cards": [_card(way, q, methods, split, frame) for q in qs],
            }
            for title, qs in picked.items()
        ]
    return [section for section in found if section["cards"] or section["title"] != "Asked for"]


def _card(way: str, query: int, methods: Sequence[Method], split: Split, frame: Frame) -> dict[str, Any]:
    """One query and what each method gave first."""
    owner = split.caption_to_image
    image = int(owner[query]) if way == "t2i" else query
    return {
        "way": way,
        "query": query,
        "text": split.captions[query] if way == "t2i" else "",
        "image": frame.use(image),
        "sides": [
            {
                "name": method.row.name,
                "rank": int(getattr(method.ranks, way)[query]) + 1,
                "answers": [
                    _answer(way, int(item), image, owner, split, frame)
                    for item in getattr(method.ranks, f"{way}_top")[query][:SHOWN]
                ],
            }
            for method in methods
        ],
    }


def _answer(way: str, item: int, image: int, owner: np.ndarray, split: Split, frame: Frame) -> Mapping[str, Any]:
    if way == "t2i":
        return {"image": frame.use(item), "right": item == image}
    return {"text": split.captions[item], "right": int(owner[item]) == image}


def _environment() -> Environment:
    """Everything that is put in is escaped: captions are other people's text."""
    return Environment(
        loader=PackageLoader("harness.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
