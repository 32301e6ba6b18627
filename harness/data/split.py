"""One shape for every data set: images as fragments, captions as text, and which caption belongs to which image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from harness.data.int8 import Int8

SPLITS = ("train", "dev", "test")


class DataError(ValueError):
    """Bad input data; the message is one line that names the file and what is wrong with it."""


@dataclass(frozen=True)
class Fragments:
    """A batch read from the store."""

    features: np.ndarray  # (B, R, D) float32, zero where padded
    mask: np.ndarray  # (B, R) bool
    boxes: np.ndarray | None  # (B, R, 4) float32
    sizes: np.ndarray | None  # (B, 2) float32


def spread(count: int, most: int) -> np.ndarray:
    """Up to `most` evenly spaced numbers below `count`, first and last among them; none of 0."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _single(stored: np.ndarray) -> np.ndarray:
    return np.asarray(stored, dtype=np.float32)


def _real(features: np.ndarray) -> np.ndarray:
    """(B,) number of fragments up to the last that is not zero, at least 1: zero rows at the end are padding.

    features: (B, R, D).
    """
    counts = np.full(len(features), features.shape[1])
    for item in np.flatnonzero(~features[:, -1].any(1)):  # few have any
        real = np.flatnonzero(features[item].any(1))
        counts[item] = real[-1] + 1 if len(real) else 1
    return counts


@dataclass(frozen=True)
class Images:
    """N images whose fragments lie in a (possibly memory-mapped) store; `rows` says where."""

    features: np.ndarray | Int8  # (rows, R, D) float16, float32, float64 or decoded when asked for; never read whole
    rows: np.ndarray  # (N,) int64 store row of each image
    ids: tuple[str, ...]  # (N,)
    counts: np.ndarray | None = None  # (rows,) number of real fragments; None = all but zero rows at the end
    boxes: np.ndarray | None = None  # (rows, R, 4) x1, y1, x2, y2 in pixels
    sizes: np.ndarray | None = None  # (rows, 2) width, height in pixels
    pixels: Callable[[str], np.ndarray] | None = None  # id -> (H, W, 3) uint8 RGB; None = there are no pictures
    file: str = ""  # where the features lie, for errors; "" where they are of no file

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def regions(self) -> int:
        return self.features.shape[1]

    @property
    def dim(self) -> int:
        return self.features.shape[2]

    def take(self, index: np.ndarray | slice, single: Callable[[np.ndarray], np.ndarray] = _single) -> Fragments:
        """The fragments of the images `index` names.  Raises DataError where a feature is not finite.

        single: from a copy of what is stored to float32.
        """
        rows = self.rows[index]
        with np.errstate(over="ignore"):  # float64 beyond float32, told below
            features = single(self.features[rows])
        if not np.isfinite(features.sum()):  # one cheap pass; NaN and infinity survive a sum
            self._refuse_non_finite(features, rows)
        counts = _real(features) if self.counts is None else self.counts[rows]
        mask = np.arange(self.regions) < counts[:, None]
        if self.counts is not None:
            features[~mask] = 0.0
        return Fragments(
            features=features,
            mask=mask,
            boxes=None if self.boxes is None else np.asarray(self.boxes[rows], dtype=np.float32),
            sizes=None if self.sizes is None else np.asarray(self.sizes[rows], dtype=np.float32),
        )

    def _refuse_non_finite(self, features: np.ndarray, rows: np.ndarray) -> None:
        """Raises DataError naming the first bad row, unless only the sum overflowed."""
        bad = ~np.isfinite(features)
        if bad.any():
            first = int(rows[bad.any((1, 2)).argmax()])
            what = "beyond float32" if np.isfinite(self.features[first]).all() else "NaN or infinite"
            where = self.file and f"{self.file}: "
            raise DataError(f"{where}{bad.sum()} features are {what} in this batch, first in feature row {first}")

    def some(self, keep: np.ndarray) -> Images:
        """Those that are kept, in their order.  keep: (N,) bool."""
        return replace(self, rows=self.rows[keep], ids=tuple(i for i, kept in zip(self.ids, keep, strict=True) if kept))

    def first(self, n: int) -> Images:
        return replace(self, rows=self.rows[:n], ids=self.ids[:n])


@dataclass(frozen=True)
class Split:
    """Images, captions and the ground truth between them.

    `groups` names subsets of caption queries that are reported on their own (True = the caption belongs to the group),
    such as the captions that tell an image from its hard twin.  `fold_images` is the size of the contiguous folds of
    the COCO 1K protocol, 0 where there is none.
    """

    images: Images
    captions: tuple[str, ...]  # (M,)
    caption_to_image: np.ndarray  # (M,) int64, index into images, non-decreasing
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> (M,) bool
    fold_images: int = 0
    notes: tuple[str, ...] = ()  # what a reader found and repaired, for the record
    # need -> () -> (M, N) bool, which images a caption fits; only made data know
    fits: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    identities: tuple[str, ...] | None = None  # (N,) whom an image shows; images of one identity share their captions

    def __post_init__(self) -> None:
        if len(self.captions) != len(self.caption_to_image):
            raise DataError(f"{len(self.captions)} captions but {len(self.caption_to_image)} image indices")
        if self.identities is not None and len(self.identities) != len(self.images):
            raise DataError(f"{len(self.identities)} identities but {len(self.images)} images")
        if len(set(self.images.ids)) != len(self.images.ids):
            raise DataError("image ids are not unique")
        counts = np.bincount(self.caption_to_image, minlength=len(self.images))
        if len(counts) > len(self.images):
            raise DataError(f"a caption names image {len(counts) - 1}, there are only {len(self.images)}")
        if (counts == 0).any():
            raise DataError(
                f"{(counts == 0).sum()} images have no caption, first {self.images.ids[int(counts.argmin())]}"
            )

    @property
    def caption_ids(self) -> tuple[str, ...]:
        """(M,) `IMAGE#k` for caption k of an image, counted from 0."""
        first = np.searchsorted(self.caption_to_image, np.arange(len(self.images)))  # (N,)
        numbers = np.arange(len(self.captions)) - first[self.caption_to_image]
        owners = zip(self.caption_to_image.tolist(), numbers.tolist(), strict=True)
        return tuple(f"{self.images.ids[image]}#{number}" for image, number in owners)

    def identity_numbers(self) -> np.ndarray | None:
        """(N,) int64, equal where two images show the same, in the order of the images; None where data do not tell."""
        if self.identities is None:
            return None
        numbers = {name: number for number, name in enumerate(dict.fromkeys(self.identities))}
        return np.array([numbers[name] for name in self.identities], np.int64)

    def first(self, images: int) -> Split:
        """The first `images` images with all their captions; 0 or more than there are = everything."""
        if not 0 < images < len(self.images):
            return self
        return self.some(np.arange(len(self.images)) < images)

    def some(self, keep: np.ndarray) -> Split:
        """The images that are kept, in their order, with all their captions.  keep: (N,) bool."""
        of_captions = keep[self.caption_to_image]  # (M,)
        places = np.cumsum(keep) - 1  # (N,) of each image among those kept
        return replace(
            self,
            images=self.images.some(keep),
            captions=tuple(c for c, k in zip(self.captions, of_captions, strict=True) if k),
            caption_to_image=places[self.caption_to_image[of_captions]],
            groups={name: mask[of_captions] for name, mask in self.groups.items()},
            fits={name: partial(_among, found, of_captions, keep) for name, found in self.fits.items()},
            identities=self.identities and tuple(i for i, k in zip(self.identities, keep, strict=True) if k),
        )


def _among(found: Callable[[], np.ndarray], captions: np.ndarray, images: np.ndarray) -> np.ndarray:
    """What was found, of these captions and images alone.  captions: (M,) bool, images: (N,) bool."""
    return found()[captions][:, images]


@dataclass(frozen=True)
class Source:
    """A data set that can be opened: `load(split)` reads one of `SPLITS`."""

    name: str
    fingerprint: str  # changes whenever the data would
    load: Callable[[str], Split]
    offers: frozenset[str] = frozenset({"fragments", "tokens", "strings"})  # what a method may need of its items
    identities: bool = False  # whether a split tells whom its images show
