"""A linear probe: frozen pretrained embeddings under one linear map a side, trained as every row of the comparison is.

The pretrained model sees every picture and every caption once, before training; what is timed is all of it, from
pixels.  A probe starts from the pretrained scores where it can: the maps are orthogonal, and the same for both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from harness.data.prepared import Side, image_batch
from harness.pretrained.embedders import Embedder
from harness.progress import Progress, Watch, unwatched
from harness.protocol import Encoded, ImageBatch, Inputs, TextBatch
from models.encoders import unit
from models.retrievers import Independent

PICTURES, CAPTIONS = 64, 512  # read at a time


class Probe(Independent):
    """Hinge with hardest negatives over `unit(W x)` of either side."""

    def __init__(self, inputs: Inputs, embedder: Embedder) -> None:
        super().__init__(inputs)
        self.embedder = embedder
        self.image = nn.Linear(embedder.width, inputs.dim)
        self.text = nn.Linear(embedder.width, inputs.dim)
        nn.init.orthogonal_(self.image.weight)
        with torch.no_grad():
            self.text.weight.copy_(self.image.weight)
            self.image.bias.zero_()
            self.text.bias.zero_()
        self._pictures: dict[str, int] = {}  # id -> row
        self._captions: dict[str, int] = {}  # as written -> row
        self._rows: dict[str, Tensor] = {}

    def encode_images(self, images: ImageBatch) -> Encoded:
        if images.ids is not None and self._pictures and all(name in self._pictures for name in images.ids):
            frozen = self._found("images", [self._pictures[name] for name in images.ids])
        else:
            frozen = self._frozen(self.embedder.encode_images(images))
        return Encoded(embedding=unit(self.image(frozen)))

    def encode_texts(self, texts: TextBatch) -> Encoded:
        strings = self.embedder.strings(texts)
        if self._captions and all(text in self._captions for text in strings):
            frozen = self._found("texts", [self._captions[text] for text in strings])
        else:
            frozen = self._frozen(self.embedder.encode_texts(texts))
        return Encoded(embedding=unit(self.text(frozen)))

    def look(self, sides: Sequence[Side], watch: Watch = unwatched) -> None:
        """Embeds all pictures and captions once; from then on batches need not hold pixels.  Raises DataError.

        Where splits have different pictures of one id, it says nothing: batches hold pixels as before.
        """
        several: set[str] = set()
        for side in sides:
            images, captions = side.split.images, dict.fromkeys(side.split.captions)
            found = self._embed(
                "images",
                images.ids,
                PICTURES,
                lambda rows, images=images: self.embedder.encode_images(image_batch(images, rows, ("pixels",))),
                watch,
            )
            several |= self._differing(found)
            self._pictures |= found
            new = [text for text in captions if text not in self._captions]
            self._captions |= self._embed(
                "texts",
                new,
                CAPTIONS,
                lambda rows, new=new: self.embedder.encode_texts(
                    TextBatch(torch.empty(0), torch.empty(0), strings=tuple(new[rows]))
                ),
                watch,
            )
        self._pictures = {name: row for name, row in self._pictures.items() if name not in several}
        self.needs = ("pixels", "strings") if several else ("strings",)

    def _differing(self, found: dict[str, int]) -> set[str]:
        """Ids of pictures that are known already, by another embedding.  found: id -> row."""
        both = [name for name in found if name in self._pictures]
        if not both:
            return set()
        before, after = (self._found("images", [rows[name] for name in both]) for rows in (self._pictures, found))
        return {name for name, other in zip(both, (before != after).flatten(1).any(1).tolist(), strict=True) if other}

    @torch.no_grad()
    def _embed(
        self, kind: str, names: Sequence[str], at_once: int, encode: Callable[[slice], Encoded], watch: Watch
    ) -> dict[str, int]:
        """Name -> row of what is known of that kind, to which the names are added in their order."""
        known = self._rows.get(kind)
        first = 0 if known is None else len(known)
        parts = [] if known is None else [known]
        for start in range(0, len(names), at_once):
            parts.append(self._frozen(encode(slice(start, start + at_once))))
            watch(Progress("encode", min(start + at_once, len(names)), len(names)))
        if parts:
            self._rows[kind] = torch.cat(parts)
        return {name: first + place for place, name in enumerate(names)}

    def _found(self, kind: str, rows: Sequence[int]) -> Tensor:
        table = self._rows[kind]
        return table[torch.tensor(rows, device=table.device)]

    @staticmethod
    def _frozen(encoded: Encoded) -> Tensor:
        assert encoded.embedding is not None
        return encoded.embedding
