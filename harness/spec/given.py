"""Rows from files, as they are asked for: `--row NAME=FILE[,FILE][,OPTION=VALUE...]`.  Nothing is opened here.

Embeddings of both sides, a matrix of scores, or lists of what was retrieved, made anywhere (`harness.data.given` says
how each is read).  Such a row is marked "given" wherever it is shown: nothing here says how it was trained.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.spec import registry
from harness.spec.job import Data, Job, Model, Settings, SpecError
from harness.spec.override import override
from harness.spec.row_options import row_options

FAMILY = "given"  # of its record: beside the others, never ranked among them
KINDS = ("embeddings", "scores", "lists")
AXES = ("images-captions", "captions-images")  # what rows and columns of a matrix are
SINGLE = ("dot", "cosine")  # scorers of one vector an item
VIEWS = ("max", "max-cosine")  # of several vectors an image and one a caption: the best of them
BOTH = tuple(f"{name}{unit}" for name in ("max-sum", "max-mean", "sum-max") for unit in ("", "-cosine"))
SCORERS = (*SINGLE, *VIEWS, *BOTH)
CHOICES: Mapping[str, tuple[str, ...]] = {"kind": KINDS, "scorer": SCORERS, "axes": AXES}
OPTIONS = (*CHOICES, "ids")  # ids: a JSON file of ids, where the file itself has none
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
MOST_FILES = 2


@dataclass(frozen=True)
class Request:
    """What one `--row` says."""

    name: str
    files: tuple[Path, ...]
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def read(self) -> tuple[Path, ...]:
        """Every file whose content the row depends on."""
        return (*self.files, *((Path(self.options["ids"]),) if "ids" in self.options else ()))


def parsed(text: str) -> Request:
    """`clip=a.npz`, `clip=images.npy,captions.npy,scorer=cosine`.  Raises SpecError."""
    name, equals, rest = text.partition("=")
    if not equals or not rest or not re.fullmatch(NAME, name):
        raise SpecError(
            f"--row takes NAME=FILE[,FILE][,OPTION=VALUE], NAME of letters, digits, '.', '_' and '-', got {text!a:.80}"
        )
    if name in registry.methods():
        raise SpecError(f"--row {name}: a method has that name, give the row another")
    parts = rest.split(",")
    files = [Path(part) for part in parts if "=" not in part]
    options = row_options(name, (part for part in parts if "=" in part), OPTIONS, CHOICES)
    if not 1 <= len(files) <= MOST_FILES or not all(file.name for file in files):
        raise SpecError(f"--row {name} takes one or two files, got {len(files)}")
    return Request(name, tuple(files), options)


def all_parsed(texts: Collection[str]) -> list[Request]:
    """Raises SpecError, also where two rows have one name."""
    found = [parsed(text) for text in texts]
    for place, request in enumerate(found):
        if request.name in {other.name for other in found[:place]}:
            raise SpecError(f"--row: two rows are named {request.name}")
    return found


def model(request: Request, kind: str, digest: str) -> Model:
    """digest: of the content of `request.read`."""
    return Model(
        request.name,
        options={"kind": kind, **{name: value for name, value in request.options.items() if name in CHOICES}},
        given=digest,
        files=tuple(map(str, request.files)),
        ids_file=request.options.get("ids", ""),
    )


def job(request: Request, kind: str, digest: str, data: Data, changes: Mapping[str, Any], settings: Settings) -> Job:
    """The row on the ranked split of the data.

    Its identity is what the files hold, how they are read, and the data; of the settings only where it runs matters.
    digest: of the content of `request.read`.  Raises SpecError for changes of the data that cannot be.
    """
    place = Settings(device=settings.device, threads=settings.threads, score_memory_mib=settings.score_memory_mib)
    of_data = {path: value for path, value in changes.items() if path in ("data.ranked", "data.test_images")}
    return override(Job(replace(data, train_images=0), model(request, kind, digest), place), of_data)


def family(model: Model) -> str:
    """How scores come about: independent or interactive; "" of a row from files that are the scores."""
    if not model.given:
        return registry.methods()[model.method].family
    if model.options["kind"] != "embeddings":
        return ""
    return "interactive" if model.options.get("scorer") in BOTH else "independent"


def scores_alone(model: Model) -> bool:
    """Whether a row is a matrix of scores from a file."""
    return bool(model.given) and model.options["kind"] == "scores"


def reranks(model: Model) -> bool:
    """Whether a row puts shortlists in order: an interactive one, or a matrix of scores, whatever they are of."""
    return family(model) == "interactive" or scores_alone(model)


def same_split(one: Data, other: Data) -> bool:
    """Whether two jobs rank the same queries."""
    return all(getattr(one, name) == getattr(other, name) for name in SPLIT)


SPLIT = ("name", "fingerprint", "ranked", "test_images", "own")  # of the data: which queries are ranked


def request_of(model: Model) -> Request:
    """As it was asked for.  Raises SpecError where the files are not known, as in a record."""
    if not model.files:
        raise SpecError(f"{model.label} was given as a file: name it once more by --row {model.label}=FILE")
    options = {name: str(value) for name, value in model.options.items() if name in CHOICES}
    ids = {"ids": model.ids_file} if model.ids_file else {}
    return Request(model.method, tuple(map(Path, model.files)), options | ids)
