"""Weights that a run kept, as a model that works: nothing of the data it was trained on need be there.

trained = load(Path("results/full-mine"), KEY)
side = trained.read(split)                        # of any data with features of the same backbone
trained.model, trained.settings                   # as `harness.measure.evaluator` takes them
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.data.prepared import Side, as_side, inputs, tokenizer_of
from harness.data.split import DataError, Split
from harness.data.vocabulary import UNKNOWN_AT_MOST, Tokenizer
from harness.learn.build import build
from harness.learn.checkpoint import CheckpointError, Checkpoints
from harness.protocol import Retriever
from harness.record import Record, RecordError
from harness.spec import registry
from harness.spec.job import Job, Settings, SpecError, text_model_identity
from harness.store import Store


@dataclass(frozen=True)
class Trained:
    """A model with the weights of its best epoch, and all it takes to use it."""

    job: Job  # that trained it; its settings say where the model is
    run: str  # name of the results folder
    model: Retriever  # in evaluation mode
    tokenizer: Tokenizer
    words: tuple[str, ...]  # spelling of each token number
    image_dim: int  # width of the fragments it reads
    regions: int  # most fragments of an image
    weights: str  # hash of weights and vocabulary, 32 hex digits

    @property
    def settings(self) -> Settings:
        return self.job.settings

    def read(self, split: Split) -> Side:
        """A split with its captions in the model's own words.

        Raises DataError where the fragments are not such as it was trained on, or hardly a word is known to it.
        """
        here, label = split.images, self.job.model.label
        if here.dim != self.image_dim:
            raise DataError(f"{label} was trained on features of width {self.image_dim}, these have {here.dim}")
        if here.regions > self.regions:
            raise DataError(
                f"{label} was trained on up to {self.regions} fragments an image, these have {here.regions}"
            )
        side = as_side(split, self.tokenizer, self.settings.max_words)
        if side.tokens.unknown > UNKNOWN_AT_MOST:
            raise DataError(f"{side.tokens.unknown:.0%} of the words of these captions are unknown to {label}")
        return side


def load(folder: Path, key: str, *, text_model: str = "", **place: Any) -> Trained:
    """What a results folder keeps of one job.

    place: settings of this machine, which mean nothing to the numbers: device, threads, score_memory_mib.
    text_model: where the job's text model lies, if it was one in a folder.
    Raises RecordError where there is no such record; SpecError where its recipe, its plugin or its text model is not
    what it was, or weights or vocabulary are missing or damaged.
    """
    record = Store(folder).record(key)
    if record is None:
        raise RecordError(f"{folder}: no record {key}")
    if record.status != "ok" or record.members or record.evaluated:
        state = "failed" if record.status != "ok" else "trained nothing of its own"
        raise SpecError(f"{record.label} {state}: there are no weights")
    job = _job(record, text_model, {"device": "cpu", **place})
    checkpoints = Checkpoints(Store(folder).checkpoints(key))
    try:
        weights = checkpoints.digest
        words, captions = checkpoints.load_vocabulary()
        tokenizer = tokenizer_of(words, job.settings.text_model)
        words = tokenizer.spelled  # older vocabularies hold none of a text model
        image_dim, regions, vocabulary = _sizes(record)
        read = inputs(
            job.settings, image_dim=image_dim, regions=regions, vocabulary=vocabulary, words=words, captions=captions
        )
        model = build(job.model, read, job.settings.seed, fragments_read=False).to(job.settings.device)
        checkpoints.load_best(model)
    except CheckpointError as error:
        raise SpecError(f"{job.name} cannot be loaded: {error} (--force trains it anew)") from None
    return Trained(job, folder.resolve().name, model.eval(), tokenizer, words, image_dim, regions, weights)


def _job(record: Record, text_model: str, place: Mapping[str, Any]) -> Job:
    """The record's job, here.  Raises SpecError, and RecordError where it is none."""
    try:
        job = Job.from_dict(record.job)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise RecordError(f"records/{record.key}.json holds no job: {error}") from None
    label = job.model.label
    if job.model.method not in registry.methods():
        raise SpecError(
            f"{job.model.label} is of {job.model.origin or 'a method'}, which is not here: name its file by --plugin"
        )
    if not registry.current(job.model):
        raise SpecError(f"{label} is stale: its recipe or its source has changed since, run it again")
    stored = job.settings.text_model
    if text_model and text_model_identity(text_model) != stored:
        raise SpecError(
            f"{job.model.label} was trained with {stored or 'no text model'}, not {text_model_identity(text_model)}"
        )
    if "@" in stored and not text_model:
        raise SpecError(
            f"{job.model.label} was trained with {stored}: say where it lies by --set settings.text_model=FOLDER"
        )
    settings = replace(job.settings, text_model=text_model or stored, **place)
    return replace(job, settings=settings)


def _sizes(record: Record) -> tuple[int, int, int]:
    """Width and most fragments of the images it was trained on, and its number of words.  Raises RecordError."""
    sides = [side for side in record.data.values() if isinstance(side, Mapping)]
    found: list[Any] = [
        next((side.get("dim") for side in sides), None),
        max((side.get("regions", 0) for side in sides if isinstance(side.get("regions", 0), int)), default=None),
        record.data.get("vocabulary"),
    ]
    if any(type(number) is not int or number < 1 for number in found):
        raise RecordError(f"records/{record.key}.json: data do not tell what the weights read, got {found!a:.80}")
    return found[0], found[1], found[2]
