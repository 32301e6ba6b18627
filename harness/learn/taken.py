"""Stored rows at work in the training of another: as frozen teachers, or as encoders that a method stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.kept import keeping
from harness.data.prepared import Prepared, Side
from harness.learn.build import build
from harness.learn.checkpoint import CheckpointError, load_weights
from harness.protocol import Encoded, PairBatch, Retriever, TextBatch, from_tensors
from harness.record import RecordError
from harness.spec import registry
from harness.spec.job import Job, SpecError
from harness.spec.taken import Taken, weights_hash
from harness.store import Store

CACHED_MIB = 4096  # of a teacher's encodings; what would need more is encoded again for every batch


def hand_over(model: Retriever, job: Job, data: Prepared, store: Store) -> None:
    """Gives a fresh model the rows that it takes.

    Raises SpecError where weights are no longer those of the job's identity, CheckpointError and RecordError.
    """
    for path in registry.wanted(job.model):
        section, _, option = path.partition(".")
        other = frozen(Taken.read(job.model.taken[path]), job, data, store)
        if section == "model":
            model.take(option, other)
            continue
        lesson: Any = model.get_submodule(f"lessons.{section}")
        lesson.teacher = Teacher(other, data.train, CACHED_MIB)
        model.needs = tuple(dict.fromkeys((*model.needs, *other.needs)))


def frozen(taken: Taken, job: Job, data: Prepared, store: Store) -> Retriever:
    """A stored row with its weights, on the device of a job that takes it, not to be trained."""
    record = store.record(taken.key)
    if record is None:
        raise RecordError(f"records/{taken.key}.json is gone, whose weights {job.name} takes")
    if weights_hash(store, taken.key) != taken.weights:
        raise SpecError(f"the weights of {record.label} ({taken.key}) changed since {job.name} was asked for")
    its = Job.from_dict(record.job)
    settings = replace(its.settings, text_model=job.settings.text_model)  # the same, but where it lies here
    other = build(its.model, data.inputs(settings), settings.seed)
    try:
        other.load_state_dict(load_weights(taken.key, store.folder))
    except RuntimeError as error:
        raise CheckpointError(f"the weights of {taken.key} are of another model: {error}") from None
    return other.to(job.settings.device).eval().requires_grad_(False)


class Teacher:
    """Scores of training batches by a frozen row.  What it makes of an item is computed once and kept.

    As a callable it is no module: its weights are no part of whom it teaches.
    """

    def __init__(self, model: Retriever, train: Side, most_mib: float) -> None:
        self.model = model
        self.width = train.tokens.ids.shape[1]  # of captions: all encodings are equally wide
        self.images = _Kept(len(train.split.images), most_mib / 2)
        self.texts = _Kept(len(train.split.captions), most_mib / 2)

    @torch.no_grad()
    def __call__(self, batch: PairBatch) -> Tensor:
        """(B, B) of a batch of training pairs."""
        assert batch.caption_index is not None
        with keeping(self.model):
            images = self.images.of(batch.image_index, lambda rows: self.model.encode_images(_some(batch.images, rows)))
            texts = self.texts.of(
                batch.caption_index, lambda rows: self.model.encode_texts(self._captions(batch, rows))
            )
        return self.model.similarity(images, texts)

    def _captions(self, batch: PairBatch, rows: Tensor) -> TextBatch:
        """Some captions of a batch, as wide as the longest of all."""
        some = _some(batch.texts, rows)
        room = (0, self.width - some.tokens.shape[1])
        return replace(some, tokens=F.pad(some.tokens, room), mask=F.pad(some.mask, room))


def _some(side, rows: Tensor):
    """The items `rows` names of an ImageBatch or a TextBatch."""
    places = rows.tolist()

    def of(value):
        if isinstance(value, tuple):
            return tuple(value[place] for place in places)
        return None if value is None else value[rows]

    return type(side)(**{f.name: of(getattr(side, f.name)) for f in fields(side)})


class _Kept:
    """Encodings of numbered items, each computed once; nothing is kept where all would need more than `most_mib`."""

    def __init__(self, items: int, most_mib: float) -> None:
        self.known = torch.zeros(items, dtype=torch.bool)
        self.most = most_mib * 2**20
        self.tensors: dict[str, Tensor] | None = None

    def of(self, index: Tensor, encode: Callable[[Tensor], Encoded]) -> Encoded:
        """The items `index` names; `encode` computes those at some places of it."""
        here = index.cpu()
        missing = (~self.known[here]).nonzero()[:, 0]
        if len(missing):
            found = encode(missing.to(index.device)).tensors()
            if self.tensors is None:
                size = sum(t[0].numel() * t.element_size() for t in found.values()) * len(self.known)
                if size > self.most:
                    return from_tensors(found)  # of the whole batch, for nothing is known yet
                self.tensors = {name: t.new_zeros(len(self.known), *t.shape[1:]) for name, t in found.items()}
            for name, tensor in found.items():
                self.tensors[name][index[missing.to(index.device)]] = tensor
            self.known[here[missing]] = True
        assert self.tensors is not None
        return from_tensors({name: tensor[index] for name, tensor in self.tensors.items()})
