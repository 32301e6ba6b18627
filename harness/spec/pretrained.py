"""Pretrained models as rows, as they are asked for: `--row NAME=MODEL[,OPTION=VALUE...]`.  No weights are read here.

MODEL is a folder as `save_pretrained` of `transformers` writes it, or the name of a model on the hub.  Its class, which
`config.json` names, says which kind of row it is.  Nobody here trained it: it is shown beside the rows that were, with
the number of image-text pairs it was trained on where the option `pairs` says it, and is never ranked among them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import contents
from harness.spec.job import SpecError
from harness.spec.names import nearest
from harness.spec.row_options import row_options

CONFIG = "config.json"
RECIPE = 1  # raised when the behaviour of all such rows changes; older records are stale
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
HUB = r"[\w.-]+/[\w.-]+"  # owner/name
SHOWN_DIGITS = 16
SHORTLIST = 128  # BLIP's own k on Flickr30K (its train_retrieval.py); 256 on COCO
MOST_K = 10**6


@dataclass(frozen=True)
class Kind:
    """What a class of models can be asked for."""

    family: str  # of its closest look at a pair
    staged: bool = False  # embeddings find a shortlist, which is then looked at pair by pair (BLIP, BLIP-2)
    mark: bool = False  # whether the first token of a close look is [ENC] or [CLS] (BLIP)


INDEPENDENT = Kind("independent")
KINDS: Mapping[str, Kind] = {
    "CLIPModel": INDEPENDENT,
    "SiglipModel": INDEPENDENT,
    "Siglip2Model": INDEPENDENT,
    "ChineseCLIPModel": INDEPENDENT,
    "AltCLIPModel": INDEPENDENT,
    "BlipForImageTextRetrieval": Kind("interactive", staged=True, mark=True),
    "Blip2ForImageTextRetrieval": Kind("interactive", staged=True),
    "ViltForImageAndTextRetrieval": Kind("interactive"),
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "precision": ("auto", "fp32", "fp16", "bf16"),  # auto: fp16 on a GPU, fp32 elsewhere
    "head": ("none", "probe"),  # probe: frozen embeddings under a projection that is trained under the protocol
    "score": ("itm", "itc"),  # the close look too, or embeddings alone
    "mark": ("enc", "cls"),
}
NUMBERS = ("k", "k_i2t", "k_t2i")
OPTIONS = (*CHOICES, *NUMBERS, "prompt", "pairs")
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class Request:
    """What one `--row` says."""

    name: str
    model: str  # folder, or name on the hub
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pretrained:
    """A model that can be loaded: a folder, and how it is a row."""

    name: str  # of the row
    folder: Path
    kind: str  # class of transformers, one of `KINDS`
    digest: str  # of all the folder holds
    options: tuple[tuple[str, Any], ...]  # all that matter to its kind, resolved

    @property
    def identity(self) -> str:
        """What tells the model from others: class and content, wherever it lies and whatever the row is called."""
        return f"{self.kind} {self.digest[:SHOWN_DIGITS]}"

    @property
    def family(self) -> str:
        """Embeddings alone make an independent row of a staged model."""
        return "independent" if dict(self.options).get("score") == "itc" else KINDS[self.kind].family

    @property
    def trains(self) -> bool:
        """Whether anything of the row is trained here."""
        return dict(self.options).get("head") == "probe"


def is_model(text: str) -> bool:
    """Whether `NAME=WHAT...` names a model: a folder that has a `config.json`, or owner/name where no file is."""
    source = text.partition("=")[2].partition(",")[0]
    path = Path(source)
    return path.is_dir() or (not path.exists() and not path.suffix and re.fullmatch(HUB, source) is not None)


def parsed(text: str) -> Request:
    """`clip=models/clip-b32,pairs=400M`.  Raises SpecError."""
    name, equals, rest = text.partition("=")
    if not equals or not rest or not re.fullmatch(NAME, name):
        raise SpecError(
            "--row takes NAME=FILE or NAME=MODEL[,OPTION=VALUE], NAME of letters, digits, '.', '_', '-', "
            f"got {text!a:.80}"
        )
    model, *told = rest.split(",")
    return Request(name, model, row_options(name, told, OPTIONS, CHOICES))


def pretrained(request: Request, folder: Path, taken: Collection[str], device: str) -> Pretrained:
    """The model in a folder as the row that was asked for.

    taken: names of other rows and methods.  Raises SpecError, one line: a name that is taken, no or another class, an
    option that means nothing to it.
    """
    if request.name in taken:
        raise SpecError(f"--row {request.name}: another row or method has that name")
    kind = _kind(request.name, folder)
    usual = _usual(kind, device)
    changes = _values(request)
    if "k" in changes:
        k = changes.pop("k")
        changes = {"k_i2t": k, "k_t2i": k} | changes
    for option in changes:
        if option not in usual:
            raise SpecError(f"--row {request.name}: {option} means nothing to {kind}{nearest(option, usual)}")
    options = usual | changes
    if options["precision"] == "auto":
        options["precision"] = usual["precision"]
    if options.get("score") == "itc":
        if lost := [name for name in ("k_i2t", "k_t2i", "mark") if name in changes]:
            raise SpecError(f"--row {request.name}: {lost[0]} means nothing where score=itc")
        options = {name: value for name, value in options.items() if name not in ("k_i2t", "k_t2i", "mark")}
    return Pretrained(request.name, folder.resolve(), kind, contents.digest(folder), tuple(sorted(options.items())))


def _kind(name: str, folder: Path) -> str:
    """The class of the model in a folder, one of `KINDS`.  Raises SpecError."""
    config = folder / CONFIG
    if not config.is_file():
        raise SpecError(f"--row {name}: {folder} has no {CONFIG}, it is no folder of a transformers model")
    try:
        found = json.loads(config.read_text(encoding="utf-8"))["architectures"]
        (kind,) = list(found) if isinstance(found, list) else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SpecError(f"--row {name}: {config} names no class of model (architectures)") from None
    if kind not in KINDS:
        known = nearest(str(kind), KINDS)
        raise SpecError(f"--row {name}: {config} names the class {kind!a:.60}, of which no row can be made{known}")
    return kind


def _usual(kind: str, device: str) -> dict[str, Any]:
    """Options of a class, as they are unless said."""
    usual: dict[str, Any] = {"precision": "fp16" if device.startswith("cuda") else "fp32", "prompt": "", "pairs": 0}
    if KINDS[kind].staged:
        usual |= {"score": "itm", "k_i2t": SHORTLIST, "k_t2i": SHORTLIST}
    if KINDS[kind].mark:
        usual |= {"mark": "enc"}
    if KINDS[kind] == INDEPENDENT:
        usual |= {"head": "none"}
    return usual


def _values(request: Request) -> dict[str, Any]:
    """Numbers as numbers.  Raises SpecError."""
    values: dict[str, Any] = dict(request.options)
    for option in NUMBERS:
        if option in values:
            text = values[option]
            if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= MOST_K:
                raise SpecError(f"--row {request.name}: {option} must be a whole number from 1, got {text!a:.40}")
            values[option] = int(text)
    if "pairs" in values:
        told = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMB]?)", values["pairs"])
        if told is None:
            raise SpecError(f"--row {request.name}: pairs must be a number such as 400M, got {values['pairs']!a:.40}")
        values["pairs"] = round(float(told[1]) * UNITS[told[2]])
    return values


_chosen: list[tuple[Pretrained, ...]] = [()]


def chosen() -> tuple[Pretrained, ...]:
    return _chosen[0]


def choose(rows: Sequence[Pretrained] = ()) -> None:
    """Which pretrained rows this process knows from now on."""
    _chosen[0] = tuple(rows)
