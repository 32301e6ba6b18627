"""Both sides as one vector each: CLIP and its like, and the first stage of BLIP alone.  Scores are cosines.

The scale and the bias that such models learn beside their embeddings change no order and are left out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data import kept
from harness.pretrained.loading import Loaded
from harness.protocol import Encoded, ImageBatch, Retriever, TextBatch, Untrained
from models.retrievers import inner_product

TEXTS = "texts"
AT_ONCE = 32  # pictures or captions that pass the model together


class Frozen(Retriever):
    """A row that holds a pretrained model which is no part of its own weights: never trained, never stored again."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self._loaded = (loaded,)  # in a tuple, so that torch does not count the weights as this row's own

    @property
    def loaded(self) -> Loaded:
        return self._loaded[0]

    @property
    def model(self) -> Any:
        """Of class `loaded.kind`, in evaluation mode."""
        return self.loaded.model

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        """Moves the pretrained model with the row (`Module.to`)."""
        super()._apply(fn, recurse)
        self.model._apply(fn)
        return self

    @property
    def place(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the picture's side: BLIP-2 keeps other parts in float32 whatever is asked for."""
        return next(getattr(self.model, "vision_model", self.model).parameters()).dtype

    def on_device(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a processor made, on the model's device; pictures in the model's own precision."""
        return {name: t.to(self.place, self.dtype if t.is_floating_point() else None) for name, t in inputs.items()}

    def pictures(self, images: ImageBatch) -> Sequence[Tensor]:
        if images.pixels is None:
            raise ValueError(f"{self.loaded.kind} reads pixels, the batch has none")
        return images.pixels

    def strings(self, texts: TextBatch) -> Sequence[str]:
        if texts.strings is None:
            raise ValueError(f"{self.loaded.kind} reads captions as they were written, the batch has none")
        return texts.strings


class Embedder(Frozen, Untrained):
    """One vector an item, of unit length, or K views of an image."""

    family = "independent"
    keeps = False  # whether what was embedded is kept on disk by its content (`kept.keeping`)
    views = False  # whether an image has several

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self._shelves: dict[str, kept.Shelf] = {}

    @abstractmethod
    def embedded_images(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, d), or (B, K, d); of unit length."""

    @abstractmethod
    def embedded_texts(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, d) of unit length."""

    def encode_images(self, images: ImageBatch) -> Encoded:
        pixels = self.pictures(images)

        def compute(places: Sequence[int]) -> Tensor:
            parts = [
                self.embedded_images(self.on_device(self.loaded.pictures.read([pixels[place] for place in some])))
                for some in _parts(places)
            ]
            return torch.cat(parts).float()

        contents = [_content(picture) for picture in pixels] if self.keeps else []
        return Encoded(embedding=self._kept(f"images-{self.loaded.pictures.backend}", contents, len(pixels), compute))

    def encode_texts(self, texts: TextBatch) -> Encoded:
        strings = self.strings(texts)

        def compute(places: Sequence[int]) -> Tensor:
            parts = [
                self.embedded_texts(self.on_device(self.loaded.captions.read([strings[place] for place in some])))
                for some in _parts(places)
            ]
            return torch.cat(parts).float()

        contents = [kept.digest(f"{self.loaded.captions.prompt}\0{s}".encode()) for s in strings] if self.keeps else []
        return Encoded(embedding=self._kept(TEXTS, contents, len(strings), compute))

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return inner_product(images, texts)

    def _kept(
        self, side: str, contents: Sequence[bytes], count: int, compute: Callable[[Sequence[int]], Tensor]
    ) -> Tensor:
        """(count, d) or (count, K, d): computed, or found by content where the row keeps what it makes.

        Under autocast they are computed: what is kept is of the weights' own precision.
        """
        if not contents or torch.is_autocast_enabled(self.place.type):
            return compute(range(count))
        shelf = self._shelf(side)

        def arrays(places: Sequence[int]) -> list[np.ndarray]:
            made = compute(places).cpu().numpy()
            return list(made if made.ndim == 3 else made[:, None])

        found = np.stack(shelf.of(contents, arrays))  # (count, K, d)
        several = self.views and side != TEXTS
        return torch.from_numpy(found if several else found[:, 0]).to(self.place)

    def _shelf(self, side: str) -> kept.Shelf:
        name = f"{self.loaded.digest}-{str(self.dtype).rpartition('.')[2]}-{self.place.type}"
        return self._shelves.setdefault(side, kept.Shelf(kept.folder(name) / side, self.width))

    @property
    @abstractmethod
    def width(self) -> int:
        """d"""


def _content(picture: Tensor) -> bytes:
    """Of its pixels and shape."""
    return kept.digest(repr(tuple(picture.shape)).encode() + picture.cpu().numpy().tobytes())


def _parts(places: Sequence[int]) -> list[Sequence[int]]:
    return [places[start : start + AT_ONCE] for start in range(0, len(places), AT_ONCE)]


def pooled(found: Any) -> Tensor:
    """The projected embedding of `get_image_features` and `get_text_features`, (B, d), not normalised.

    Since transformers 5 they return an output whose `pooler_output` it is (also SigLIP's, whose `last_hidden_state` it
    is not), before it was the tensor itself.
    """
    return found if isinstance(found, Tensor) else found.pooler_output


class DualEncoder(Embedder):
    """CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023), SigLIP 2, Chinese-CLIP, AltCLIP: two towers."""

    def embedded_images(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return F.normalize(pooled(self.model.get_image_features(**inputs)), dim=-1)

    def embedded_texts(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return F.normalize(pooled(self.model.get_text_features(**inputs)), dim=-1)

    @property
    def width(self) -> int:
        config = self.model.config
        return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)
