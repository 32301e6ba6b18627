"""Distillation: a host learns to score the pairs of a batch as a teacher does, and keeps its speed.

The teacher is a row of this harness with frozen weights (`teacher="scan:t2i-lse"`), a head on the host's own fragments
that is trained with it (`joint`, ALADIN's alignment head), a second host of other weights, each teaching the other
(`peer`), or the identity matrix (`smoothed`, which is label smoothing).  Its scores of a batch are brought to a stated
entropy, so that teachers of all scales teach equally sharply.

Departs from ALADIN: that entropy (`entropy=0` leaves scores as they are) and any host in place of VinVL.  As there
listwise is a mean over queries; squared errors are a mean over pairs, ordinal one over pairs of places, contrastive is
a sum, as the hinge beside it.  The head of `joint` learns by the hinge with hardest negatives from the first update,
whatever warm-up the host's own hinge has.  Captions of one image are positives for a teacher, and not masked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.protocol import PairBatch
from models.distillation import (
    calibrated,
    contrastive,
    listwise,
    max_regions_sum_words,
    ordinal,
    shuffled,
    squared,
)
from models.encoders import unit
from models.lessons import Lesson, Seen, lifted, required
from models.losses import hinge, other_image
from models.options import above_zero, at_least, between, one_of
from models.retrievers import Host, Ranked

RECIPE = 1
PAPER = "Messina et al., ALADIN: distilling fine-grained alignment scores, CBMI 2022, arXiv 2207.14757"
ROWS = {"teacher": ("joint", "peer", "smoothed")}  # any other teacher is a row, whose stored weights are taken

MODES = ("listwise", "mse", "ordinal", "contrastive")
SIDES = ("both", "rows", "columns")
Scorer = Callable[[PairBatch], Tensor]  # (B, B) of a batch


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a name that is not known or a number out of range."""

    teacher: str = "joint"  # joint | peer | smoothed | the label of a row
    mode: str = "listwise"  # listwise | mse | ordinal | contrastive
    sides: str = "both"  # of a block: both | rows (image queries) | columns (caption queries); mse has both
    entropy: float = 0.5  # of the teacher's targets, as a share of the uniform one's; 0 = scores as they are
    scale: float = 6.0  # multiplies the student's scores before their softmax, in listwise
    stride: int = 3  # places between two items whose order counts, in ordinal
    weight: float = 1.0
    hinge: bool = True  # the host's ranking loss stays beside it
    shuffled: bool = False  # the teacher's scores off the diagonal in another order: what is not knowledge
    every: int = 1  # a lesson in every so many updates, weighted so many times

    def __post_init__(self) -> None:
        one_of("mode", self.mode, MODES)
        one_of("sides", self.sides, SIDES)
        between("entropy", self.entropy, 0, 0.99)
        above_zero("scale", self.scale)
        at_least("stride", self.stride, 1)
        at_least("every", self.every, 1)
        at_least("weight", self.weight, 0)
        if self.mode == "mse" and self.sides != "both":
            raise ValueError(f"mode='mse' compares pairs of both sides: sides must be 'both', got {self.sides!r}")
        if self.every > 1 and not self.hinge:
            raise ValueError("every > 1 leaves updates without a lesson: they need the ranking loss (hinge=True)")


class Distilled(Lesson):
    """The student's lesson; a frozen teacher is handed over before training (`teacher`) and is no part of its state."""

    def __init__(self, host: Host, options: Options) -> None:
        super().__init__()
        self.options = options
        self.inputs = host.inputs
        self.ranking = options.hinge
        self.teacher: Scorer | None = None
        self.peer = host.again() if options.teacher == "peer" else None
        if options.mode == "mse":
            self.scale, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, seen: Seen) -> dict[str, Tensor]:
        if seen.batch.update % self.options.every:
            return {}
        student = lifted(seen.scores)
        with torch.autocast(device_type=student.device.type, enabled=False):
            return self._taught(seen, student)

    def _taught(self, seen: Seen, student: Tensor) -> dict[str, Tensor]:
        weight = self.options.weight * self.options.every
        if self.peer is not None:
            return self._mutual(self.peer, seen, student, weight)
        scores, own = self._scores(seen, student)
        lesson = self._lesson(student, self._targets(scores.detach(), seen.batch.update), seen.batch)
        return {**own, "distilled": weight * lesson}

    def _scores(self, seen: Seen, student: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The teacher's block, and what it has to learn itself."""
        kind = self.options.teacher
        if kind == "smoothed":
            return torch.eye(len(student), dtype=student.dtype, device=student.device), {}
        if kind != "joint":
            if self.teacher is None:
                raise ValueError(f"the teacher {kind} has not been handed over: it is a stored row of this harness")
            return self.teacher(seen.batch).to(student), {}
        sides = []
        for encoded, side in ((seen.images, "images"), (seen.texts, "texts")):
            fragments, mask = required(encoded, side, "contextual", self.inputs.dim, "distilled")
            sides += [unit(lifted(fragments)), mask]
        scores = max_regions_sum_words(*sides)
        impostors = None if self.inputs.same_image_negatives else other_image(seen.batch.subject)
        return scores, {"alignment": hinge(scores, self.inputs.margin, True, impostors)}

    def _mutual(self, peer: Ranked, seen: Seen, student: Tensor, weight: float) -> dict[str, Tensor]:
        """Two students, each the other's teacher (deep mutual learning, Zhang et al., CVPR 2018)."""
        batch = seen.batch
        images, texts = peer.encode_images(batch.images), peer.encode_texts(batch.texts)
        other = lifted(peer.similarity(images, texts))
        own = {f"peer {name}": term for name, term in peer.losses(images, texts, batch).items()}
        first, second = (
            self._lesson(learner, self._targets(scores.detach(), batch.update), batch)
            for learner, scores in ((student, other), (other, student))
        )
        return {**own, "distilled": weight * first, "peer distilled": weight * second}

    def _targets(self, scores: Tensor, update: int) -> Tensor:
        """Logits (B, B) of what is taught."""
        options = self.options
        if options.shuffled:
            scores = shuffled(scores, update)
        return calibrated(scores, options.entropy, options.sides) if options.entropy and len(scores) > 1 else scores

    def _lesson(self, student: Tensor, targets: Tensor, batch: PairBatch) -> Tensor:
        """()"""
        options = self.options
        if options.mode == "mse":
            return squared(student, targets, self.scale, self.shift)
        if options.mode == "ordinal":
            return ordinal(student, targets, self.inputs.margin, options.stride, options.sides)
        if options.mode == "contrastive":
            impostors = None if self.inputs.same_image_negatives else other_image(batch.subject)
            return contrastive(student, targets, self.inputs.margin, impostors, options.sides)
        return listwise(options.scale * student, targets, options.sides)


def put(host: Host, options: Options) -> Ranked:
    """The host's model with this lesson."""
    host.model.lessons["distilled"] = Distilled(host, options)
    return host.model
