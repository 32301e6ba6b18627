"""What is to be run, as a frozen value: data, model and the settings that all rows of a comparison share.

The identity of a job is a hash of all of it, without where it runs (device, threads, paths).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness import contents
from harness.spec import text_models


class SpecError(ValueError):
    """A job that cannot be: an unknown name or a value that does not fit.  One line for the user."""


PLACE: dict[str, bool] = {"identity": False}  # where a job runs, not what it is
ADDED: dict[str, bool] = {"added": True}  # came after records were stored: written out only where not the default


@dataclass(frozen=True)
class Data:
    """Which data, and how much of it."""

    name: str = "scenes"
    path: str = field(default="", metadata=PLACE)  # folder of the fragments; "" for embedded data
    fingerprint: str = ""  # changes whenever the data would
    train_images: int = 0  # only the first so many, 0 = all
    dev_images: int = 500
    test_images: int = 0
    ranked: str = "test"  # split the ranks come from; settings are chosen on "dev"
    own: bool = field(default=False, metadata=ADDED)  # a folder, though it may be called like an embedded set
    trained_on: str = field(default="", metadata=ADDED)  # name and fingerprint of other data the weights are of

    def __post_init__(self) -> None:
        if self.ranked not in RANKED:
            raise SpecError(f"data.ranked must be one of {', '.join(RANKED)}, got {self.ranked!r}")
        for name in ("train_images", "dev_images", "test_images"):
            if not 0 <= getattr(self, name) <= MOST_IMAGES:
                raise SpecError(f"data.{name} must be from 0 to {MOST_IMAGES}, got {getattr(self, name)}")


RANKED = ("train", "dev", "test")
MOST_IMAGES = 10**9


@dataclass(frozen=True)
class Model:
    """Which model, every option written out."""

    method: str
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    selfalign: Mapping[str, Any] | None = None  # None = the host alone
    recipes: Mapping[str, int] = field(default_factory=dict)
    # the host alone, made as large as SelfAlign would make it in one respect, one of `CONTROLS`
    control: str = field(default="", metadata=ADDED)
    # of the control `parameters`: options of the SelfAlign whose number it is to have; {} = the usual ones
    matched: Mapping[str, Any] = field(default_factory=dict, metadata=ADDED)
    # of a method by others: distribution, version and a hash of its source
    origin: str = field(default="", metadata=ADDED)
    # what else is put on the host, by its name in the label -> its options
    modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, metadata=ADDED)
    # path of an option that names another row -> whose stored weights it is (`harness.spec.taken`); rows of several
    # seeds are of one model, though each takes those of its own
    taken: Mapping[str, str] = field(default_factory=dict, compare=False, metadata=ADDED)
    # path of an option of a method that stands on another row -> what of that row, as it was stored, its label does
    # not tell: path -> value, as `override` takes them
    stands_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, metadata=ADDED)
    # of a row from files (`harness.spec.given`): hash of what they hold; "" of a model that runs here
    given: str = field(default="", metadata=ADDED)
    files: tuple[str, ...] = field(default=(), metadata=PLACE)  # where they lie; () of a record
    ids_file: str = field(default="", metadata=PLACE)
    # class and content of a pretrained model (`harness.spec.pretrained`); "" of one that starts from nothing
    pretrained: str = field(default="", metadata=ADDED)

    def as_dict(self) -> dict[str, Any]:
        elsewhere = _elsewhere(type(self))
        return {name: own for name, own in _written(self).items() if name not in elsewhere}

    @property
    def label(self) -> str:
        """`file[:variant][+selfalign][+module...]`, the row's name everywhere."""
        return "+".join((self.host, *([] if self.selfalign is None else ["selfalign"]), *self.modules))

    @property
    def host(self) -> str:
        """The label without what is put on it: `file[:variant]`."""
        return self.method + (f":{self.variant}" if self.variant else "")


CONTROLS = ("final-width", "parameters", "width")  # of the embedding that is searched, in all, of every layer


@dataclass(frozen=True)
class Settings:
    """What every row of a comparison has in common."""

    seed: int = 0
    epochs: int = 5
    batch: int = 128  # image-caption pairs
    optimiser: str = "adam"  # adam | adamw
    lr: float = 3.2e-3  # rate and warm-up: best mean dev Rsum over rows in results/reference/tune-flickr8k
    lr_drop: float = 0.1  # the rate is multiplied by this
    drop_every: int = 4  # every so many epochs
    weight_decay: float = 0.0
    clip: float = 2.0  # largest gradient norm, 0 = no clipping
    dim: int = 256  # embedding width d
    word_dim: int = 300
    margin: float = 0.2
    warmup_epochs: int = 2  # epochs in which the hinge sums over all negatives, not the hardest alone
    same_image_negatives: bool = True
    min_count: int = 4  # a word seen less often in the training captions is unknown
    max_words: int = 60  # longer captions are cut, and counted
    text_model: str = ""  # in place of word embeddings: a BERT-layout model, a folder or hub name, or minilm
    train_text_model: bool = False
    precision: str = "fp32"  # fp32 | bf16: forward passes of encoders and training
    # fp32 | bf16: products within an interactive method's score, test ranks alone; independent rows stay in fp32, for
    # their score is the product, and its rounding would tie most queries
    score_precision: str = field(default="fp32", metadata=ADDED)
    # the length in updates, in place of `epochs`; dev is then looked at after equal parts of it
    updates: int = field(default=0, metadata=ADDED)
    parts: int = field(default=10, metadata=ADDED)
    # step: `lr_drop` every `drop_every` epochs | cosine: linear over the first 5% of the updates, then down to zero
    schedule: str = field(default="step", metadata=ADDED)
    warmup_updates: int = field(default=0, metadata=ADDED)  # of the hinge, in place of `warmup_epochs`
    train_share: float = field(default=1.0, metadata=ADDED)  # of the training images; the seed draws which
    stop_below: float = field(default=0.0, metadata=ADDED)  # training stops where dev Rsum < this share of its best
    tf32: bool = False
    deterministic: bool = True  # cuDNN and torch algorithms
    score_memory_mib: int = field(default=1024, metadata=PLACE)  # for the blocks of all-pairs scoring
    device: str = field(default="cpu", metadata=PLACE)
    threads: int = field(default=1, metadata=PLACE)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"settings.{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in (
            "epochs",
            "parts",
            "batch",
            "drop_every",
            "dim",
            "word_dim",
            "max_words",
            "min_count",
            "threads",
            "score_memory_mib",
        ):
            if getattr(self, name) < 1:
                raise SpecError(f"settings.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lr", "lr_drop"):
            if not 0 < getattr(self, name) < math.inf:
                raise SpecError(f"settings.{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("seed", "weight_decay", "clip", "margin", "warmup_epochs", "updates", "warmup_updates"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SpecError(f"settings.{name} must be at least 0 and finite, got {getattr(self, name)}")
        for name, most in MOST.items():
            if getattr(self, name) > most:
                raise SpecError(f"settings.{name} must be at most {most}, got {getattr(self, name):.6g}")
        if not 0 < self.train_share <= 1:
            raise SpecError(f"settings.train_share must be above 0 and at most 1, got {self.train_share}")
        if not 0 <= self.stop_below < 1:
            raise SpecError(f"settings.stop_below must be at least 0 and below 1, got {self.stop_below}")
        if self.updates and self.parts > self.updates:
            raise SpecError(f"settings.parts must be at most settings.updates, got {self.parts} of {self.updates}")
        if 0 < self.updates <= self.warmup_updates:
            raise SpecError(
                f"settings.warmup_updates must end before settings.updates, got {self.warmup_updates} of {self.updates}"
            )

    @property
    def unit(self) -> str:
        """What ends with a look at dev."""
        return "part" if self.updates else "epoch"


def idle(settings: Mapping[str, Any]) -> set[str]:
    """Names of settings that mean nothing beside the others given, which stand in for them."""
    return {
        *(("epochs",) if settings.get("updates") else ("parts",)),
        *(("warmup_epochs",) if settings.get("warmup_updates") else ()),
        *(("lr_drop", "drop_every") if settings.get("schedule", "step") != "step" else ()),
    }


MOST_SEED = 2**32 - 1  # every generator takes it
MOST = {  # beyond what any machine or training could use: a slip of the hand
    "seed": MOST_SEED,
    "threads": 1024,
    "score_memory_mib": 2**24,
    "epochs": 10**6,
    "updates": 10**9,
    "batch": 10**6,
    "parts": 10**6,
    "drop_every": 10**9,
    "min_count": 10**9,
    "warmup_epochs": 10**6,
    "warmup_updates": 10**9,
    "dim": 2**16,
    "word_dim": 2**16,
    "max_words": 10**5,
}
PRECISIONS = ("fp32", "bf16")
SCHEDULES = ("step", "cosine")
CHOICES = {
    "optimiser": ("adam", "adamw"),
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "score_precision": PRECISIONS,
}


@dataclass(frozen=True)
class Job:
    """One training run and its evaluation."""

    data: Data
    model: Model
    settings: Settings
    arm: str = field(default="", compare=False)  # its name in an ablation, for people; no part of the identity
    weights: str = ""  # hash of stored weights that are evaluated, where nothing is trained

    @cached_property
    def key(self) -> str:
        """Identity: sha256 of the job as sorted JSON, without where it runs; the first 16 hex digits."""
        identity = {
            "data": _identity(self.data),
            "model": self.model.as_dict(),
            "settings": _identity(self.settings),
            **self._weights(),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """For people: `vsrn+selfalign seed 2`, in an ablation `vsrn+selfalign no-context seed 2`."""
        return " ".join(filter(None, (self.model.label, self.arm, f"seed {self.settings.seed}")))

    def as_dict(self) -> dict[str, Any]:
        """For the record: everything but paths, which mean nothing elsewhere."""
        data = _written(self.data)
        del data["path"]
        settings = _portable(_written(self.settings))
        return {"data": data, "model": self.model.as_dict(), "settings": settings, **self._weights()}

    def _weights(self) -> dict[str, str]:
        return {"weights": self.weights} if self.weights else {}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Job:
        parts = Data(**stored["data"]), Model(**stored["model"]), Settings(**stored["settings"])
        return cls(*parts, weights=stored.get("weights", ""))


def _identity(value: Data | Settings) -> dict[str, Any]:
    elsewhere = _elsewhere(type(value))
    return _portable({name: own for name, own in _written(value).items() if name not in elsewhere})


@cache
def _elsewhere(kind: type[Data | Model | Settings]) -> frozenset[str]:
    """Names of fields that say where a job runs, not what it is."""
    return frozenset(f.name for f in fields(kind) if not f.metadata.get("identity", True))


def _written(value: Data | Model | Settings) -> dict[str, Any]:
    """All fields, without what was added later and is as it always was."""
    usual, every = _usual(type(value)), ((name, getattr(value, name)) for name in _names(type(value)))
    return {name: own for name, own in every if name not in usual or own != usual[name]}


@cache
def _names(kind: type[Data | Model | Settings]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


@cache
def _usual(kind: type[Data | Model | Settings]) -> dict[str, Any]:
    """What fields that were added later hold where nobody says otherwise; not to be changed."""
    return {f.name: _default(f) for f in fields(kind) if f.metadata.get("added")}


def _default(of: Field) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()


def _portable(values: dict[str, Any]) -> dict[str, Any]:
    told = values.get("text_model", "")
    return values | {"text_model": text_model_identity(told)} if told else values


READING = 2  # changes when what methods make of the states of a text model does


def text_model_identity(name: str) -> str:
    """One in a folder goes by its name and what it holds: where it lies means nothing elsewhere."""
    model = Path(text_models.located(name))
    if model.name and model.is_dir():
        shown = name if name in text_models.PACKAGED else model.resolve().name
        held = hashlib.sha256(f"{contents.digest(model)} {READING}".encode()).hexdigest()
        return f"{shown}@{held[:16]}"
    return model.name if model.is_absolute() else name


def parse_value(text: str) -> Any:
    """`0.5`, `3`, `true` or `word` as written on a command line.  Raises SpecError for what is too long or deep."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except RecursionError:
        raise SpecError("a value is nested too deeply") from None
    except ValueError:  # Python reads no whole number of more than some thousand digits
        raise SpecError(f"a number of {len(text):,} characters is too long") from None


def with_seed(job: Job, seed: int) -> Job:
    return replace(job, settings=replace(job.settings, seed=seed))
