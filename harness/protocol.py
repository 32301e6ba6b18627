"""What a retrieval model is to this harness: what goes in, what comes out, what it must answer.

Imports torch and nothing of ours, so that `models` and `baselines` can depend on it alone.
Letters in shapes: B items of a batch, N fragments, R regions, L words, D feature width, d embedding width, K views.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Family = Literal["independent", "interactive", "scale"]


def _moved(value, device: torch.device | str):
    if isinstance(value, Tensor | _Movable):
        return value.to(device)
    if isinstance(value, Mapping):
        return {name: _moved(inner, device) for name, inner in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], Tensor):
        return tuple(_moved(inner, device) for inner in value)
    return value


class _Movable:
    def to(self, device: torch.device | str):
        """The same value with every tensor on `device`, those of the values within too."""
        return replace(self, **{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})  # type: ignore[type-var]


@dataclass(frozen=True)
class ImageBatch(_Movable):
    """Images as sets of fragments (regions of a detector or cells of a grid), as pixels, or both.

    A method that NEEDS fragments, or boxes, gets them; for another they are None, whatever their type says.
    """

    fragments: Tensor = None  # type: ignore[assignment]  # (B, R, D) float
    mask: Tensor = None  # type: ignore[assignment]  # (B, R) bool, True = a real fragment
    boxes: Tensor | None = None  # (B, R, 4) x1, y1, x2, y2 in pixels
    sizes: Tensor | None = None  # (B, 2) width, height in pixels
    ids: tuple[str, ...] | None = None  # (B,) of the data; None where nobody named them
    pixels: tuple[Tensor, ...] | None = None  # B of (3, H, W) uint8 RGB, for a method that NEEDS them
    places: Tensor | None = None  # (B,) int64 of the images in their split, for a row that is told `fits`
    kept: Tensor | None = None  # (B, all) bool: which R of an image's regions these are, in order; None = all of them

    def __len__(self) -> int:
        return next(len(value) for value in (self.fragments, self.pixels, self.ids) if value is not None)


@dataclass(frozen=True)
class TextBatch(_Movable):
    """Captions as word (or word-piece) numbers, and as they were written."""

    tokens: Tensor  # (B, L) int64, 0 where padded
    mask: Tensor  # (B, L) bool, True = a real word; real words come first
    ids: tuple[str, ...] | None = None  # (B,) `IMAGE#k` is caption k of an image; None where nobody named them
    strings: tuple[str, ...] | None = None  # (B,) raw, for a method that NEEDS them
    places: Tensor | None = None  # (B,) int64 of the captions in their split, for a row that is told `fits`
    # (B, N) bool: which of the N images of its split a caption fits, for a row that NEEDS `truth` or `bag`
    fits: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """(B,) int64 number of real words."""
        return self.mask.sum(1)

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class PairBatch(_Movable):
    """B matching image-caption pairs, as training sees them."""

    images: ImageBatch
    texts: TextBatch
    image_index: Tensor  # (B,) int64 which training image; two pairs may share one
    epoch: int = 0  # 0-based
    update: int = 0  # 0-based, over all epochs
    caption_index: Tensor | None = None  # (B,) int64 which training caption; None where nobody numbered them
    identity_index: Tensor | None = None  # (B,) int64 whom the image shows; None where the data do not tell

    @property
    def subject(self) -> Tensor:
        """(B,) int64: pairs of one subject, an identity or else an image, match each other."""
        return self.image_index if self.identity_index is None else self.identity_index


@dataclass(frozen=True)
class Encoded(_Movable):
    """One side, encoded on its own. A model fills what it needs; `None` means it has no such thing."""

    embedding: Tensor | None = None  # (B, d), or (B, K, d) where an image has K views
    fragments: Tensor | None = None  # (B, N, d) after the first projection, before context modelling
    contextual: Tensor | None = None  # (B, N, d) after the model's context modelling
    mask: Tensor | None = None  # (B, N) bool, True = real
    shared: Tensor | None = None  # (B, c) a block whose inner product is added to every view's score
    extras: Mapping[str, Tensor] = field(
        default_factory=dict
    )  # first axis B; whatever else the model's own losses or similarity read

    def __len__(self) -> int:
        return len(next(t for t in self.tensors().values()))

    def tensors(self) -> dict[str, Tensor]:
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extras"}
        return {name: t for name, t in own.items() if t is not None} | dict(self.extras)

    def select(self, rows: Tensor | slice) -> Encoded:
        """The items `rows` names, in that order."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extras"}
        picked = {name: None if t is None else t[rows] for name, t in own.items()}
        return Encoded(**picked, extras={name: t[rows] for name, t in self.extras.items()})

    def trim(self, length: int) -> Encoded:
        """Only the first `length` fragments of each item (the others must be padding in all of them)."""
        if self.mask is not None and self.mask[:, length:].any():
            raise ValueError(f"trimming to {length} fragments would drop real ones")
        cut = {
            n: None if (t := getattr(self, n)) is None else t[:, :length] for n in ("fragments", "contextual", "mask")
        }
        return replace(self, **cut)


def from_tensors(tensors: Mapping[str, Tensor]) -> Encoded:
    """The inverse of `Encoded.tensors`."""
    names = {f.name for f in fields(Encoded)} - {"extras"}
    own = {name: tensor for name, tensor in tensors.items() if name in names}
    return Encoded(**own, extras={name: tensor for name, tensor in tensors.items() if name not in names})


def concatenate(parts: Sequence[Encoded]) -> Encoded:
    """Batches after one another; fragment axes are padded with zeros (mask: False) to the longest."""
    longest = max((p.mask.shape[1] for p in parts if p.mask is not None), default=0)

    def joined(name: str) -> Tensor | None:
        tensors = [getattr(p, name) for p in parts]
        if tensors[0] is None:
            return None
        if name in ("fragments", "contextual", "mask"):
            tensors = [F.pad(t, (0, 0) * (t.ndim - 2) + (0, longest - t.shape[1])) for t in tensors]
        return torch.cat(tensors)

    own = {f.name: joined(f.name) for f in fields(Encoded) if f.name != "extras"}
    return Encoded(**own, extras={name: torch.cat([p.extras[name] for p in parts]) for name in parts[0].extras})


@dataclass(frozen=True)
class Inputs:
    """What the data and the shared settings fix for every method before it is built."""

    image_dim: int  # D of the stored fragments
    regions: int  # most fragments an image has
    vocabulary: int  # number of word numbers, specials included
    dim: int  # embedding width d
    word_dim: int = 300
    margin: float = 0.2
    warmup_updates: int = 0  # updates in which the hinge sums over all negatives, not the hardest alone
    same_image_negatives: bool = (
        True  # captions of one image count as each other's negatives, as in every published code
    )
    token_states: Callable[[], nn.Module] | None = (
        None  # a pretrained text model's (tokens, mask) -> (B, L, width); has `.width`
    )
    words: tuple[str, ...] = field(default=(), repr=False)  # spelling of each number; ##piece begins no word
    # (M, L) integers: the training captions as token numbers, 0 where padded; for models that learn word statistics
    caption_tokens: Tensor | None = field(default=None, repr=False, compare=False)


class Retriever(nn.Module, ABC):
    """A model that scores images against captions.

    `family` says what may be indexed ahead of a query: an *independent* model needs one vector (or K views) per item
    and its similarity is an inner product; an *interactive* one needs the fragments of both sides at query time.
    A row of the *scale* is no model: it is told what captions fit, and shows what could be reached.
    """

    family: ClassVar[Family]
    needs: Collection[str] = ("fragments", "tokens")  # what its batches hold: `NEEDS` of its file, once it is built
    encodes: ClassVar[bool] = True  # False: what was encoded elsewhere is looked up, which tells no time

    @abstractmethod
    def encode_images(self, images: ImageBatch) -> Encoded:
        """Images alone, no caption in sight."""

    @abstractmethod
    def encode_texts(self, texts: TextBatch) -> Encoded:
        """Captions alone, no image in sight."""

    @abstractmethod
    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        """Scores, (number of images, number of captions). Scoring in blocks must equal scoring at once."""

    @abstractmethod
    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        """Named scalar terms whose sum is minimised; `images` and `texts` are the encodings of `batch`."""

    def indexed(self, encoded: Encoded) -> Encoded:
        """What a search index has to keep of an encoded side: all that `similarity` reads, and no more."""
        return encoded

    @property
    def late_interaction(self) -> Callable[[Tensor], Tensor] | None:
        """How scores come from best products, (L, X) of L words with the best region of X images each -> (X,).

        None where a score is no such thing.  The unit words and regions are `contextual`, real where `mask` says so.
        """
        return None

    def take(self, option: str, other: Retriever) -> None:
        """Another row, with its stored weights, that an option named in `ROWS` of the method's file stands for."""
        raise NotImplementedError(f"{type(self).__name__} takes no row for {option}, got {type(other).__name__}")

    def prepared(self, images: Encoded) -> Encoded:
        """The images with terms of their own, in `extras`, that `similarity` computes for every block unless given."""
        return images


class Untrained(Retriever):
    """A model with nothing to learn: it writes no losses, and training passes it by."""

    def losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing to minimise."""
        return {}


PAIRS_AT_ONCE = 128  # of a model that looks at pairs one by one: so many copies of an image's tokens are held


class PairScorer(Untrained):
    """An interactive model with nothing to learn that looks at aligned pairs, each on its own."""

    family = "interactive"

    @abstractmethod
    def pairs(self, images: Encoded, texts: Encoded) -> Tensor:
        """(B,) scores of B images with B captions, item by item."""

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        """The close look at every pair, whatever a search would look at."""
        count = len(images) * len(texts)
        places = torch.arange(count, device=next(iter(images.tensors().values())).device)
        parts = [
            self.pairs(images.select(some // len(texts)), texts.select(some % len(texts)))
            for some in places.split(PAIRS_AT_ONCE)
        ]
        return torch.cat(parts).view(len(images), len(texts))


class Staged(PairScorer):
    """An interactive model in two stages: a quick score finds a shortlist, whose pairs alone are looked at closely.

    Its ranks and times are those of both stages: the best `shortlist[0]` captions of an image query and the best
    `shortlist[1]` images of a caption query by `first`, in the order of `pairs`; behind them that of `first` stays.
    """

    shortlist: tuple[int, int]  # captions of an image query, images of a caption query

    @abstractmethod
    def first(self, images: Encoded, texts: Encoded) -> Tensor:
        """Quick scores, (number of images, number of captions), made from what each side is alone."""
