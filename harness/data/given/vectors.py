"""Embeddings from a file: which row is which item, how two vectors are scored, every value looked at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.data.given import places
from harness.data.given.places import Truth
from harness.data.split import DataError
from harness.spec.given import BOTH, SINGLE, VIEWS

BLOCK_BYTES = 2**25  # looked at together


@dataclass(frozen=True)
class Side:
    """The vectors of one side, as they are stored."""

    vectors: np.ndarray  # (rows, d) or (rows, K, d), possibly memory-mapped
    rows: np.ndarray  # (n,) row of each item
    mask: np.ndarray | None = None  # (rows, K) bool, True = a real vector
    scale: np.ndarray | None = None  # () or (rows,): what int8 is multiplied with
    shared: np.ndarray | None = None  # (rows, c): its inner product with that of the other side is added to every score

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def in_order(self) -> bool:
        """Whether the rows lie as the items do, each once."""
        return len(self.rows) == len(self.vectors) and bool((self.rows == np.arange(len(self.rows))).all())

    def take(self, index: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Items in float32, (B, d) or (B, K, d), zero where padded; and their mask (B, K)."""
        rows = self.rows[index]
        with np.errstate(over="ignore"):  # float64 beyond float32 is told by `_check`
            vectors = np.asarray(self.vectors[rows]).astype(np.float32, copy=False)  # taken by rows, so a copy already
        if self.scale is not None:
            scale = np.asarray(self.scale, np.float32)
            vectors *= scale[rows].reshape(-1, *[1] * (vectors.ndim - 1)) if scale.ndim else scale
        mask = None if self.mask is None else np.asarray(self.mask[rows], bool)
        if mask is not None:
            vectors[~mask] = 0
        return vectors, mask


@dataclass(frozen=True)
class Embeddings:
    """Vectors of N images and M captions, and how two of them are scored."""

    images: Side
    captions: Side
    scorer: str  # one of `harness.spec.given.SCORERS`
    notes: tuple[str, ...] = ()


def read(name: str, arrays: Mapping[str, np.ndarray], truth: Truth, asked: str | None = None) -> Embeddings:
    """Raises DataError."""
    images, captions = arrays["images"], arrays["captions"]
    check_shapes(name, arrays)
    if images.shape[-1] != captions.shape[-1]:
        raise DataError(f"{name}: images have shape {images.shape}, captions {captions.shape}: widths must be equal")
    if len(images) == truth.captions != truth.images == len(captions):
        raise DataError(f"{name}: {len(images):,} images and {len(captions):,} captions: exchanged?")
    scorer = _scorer(name, images.ndim, captions.ndim, asked)
    of_images, folded = places.image_rows(
        len(images), arrays.get("image_ids"), truth, places.equal_rows(images), f"{name}: images"
    )
    of_captions = places.caption_rows(len(captions), arrays.get("caption_ids"), truth, f"{name}: captions")
    places.check_owners(arrays.get("image_of_caption"), truth, of_images, of_captions, name)
    _check_shared(name, images, captions, scorer, arrays)
    return Embeddings(
        _side(name, "image", images, of_images, arrays),
        _side(name, "caption", captions, of_captions, arrays),
        scorer,
        (folded,) if folded else (),
    )


def check_shapes(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raises DataError."""
    for what in ("images", "captions"):
        shape = arrays[what].shape
        if len(shape) not in (2, 3) or 0 in shape:
            raise DataError(f"{name}: {what} have shape {shape}, need (items, width) or (items, vectors, width)")


def _scorer(name: str, images: int, captions: int, asked: str | None) -> str:
    """The scorer, which vectors of several an item must name.  Raises DataError where it does not fit the shapes."""
    fitting = {(2, 2): SINGLE, (3, 2): VIEWS, (3, 3): BOTH}.get((images, captions), ())
    if not fitting:
        raise DataError(f"{name}: one vector an image and several a caption: no scorer is known for these")
    if asked is None and fitting is not SINGLE:
        raise DataError(f"{name}: several vectors an item need scorer={' or '.join(fitting)}")
    if asked is not None and asked not in fitting:
        raise DataError(f"{name}: scorer {asked} does not fit these shapes, need {' or '.join(fitting)}")
    return asked or "dot"


def _check_shared(
    name: str, images: np.ndarray, captions: np.ndarray, scorer: str, arrays: Mapping[str, np.ndarray]
) -> None:
    """Raises DataError where a shared block does not go with the rest."""
    one, other = arrays.get("image_shared"), arrays.get("caption_shared")
    if one is None and other is None:
        return
    if one is None or other is None or scorer not in ("dot", "max"):
        raise DataError(f"{name}: image_shared and caption_shared go together, and with scorer dot or max")
    fits = one.ndim == other.ndim == 2 and one.shape[1] == other.shape[1]
    if not fits or (len(one), len(other)) != (len(images), len(captions)):
        raise DataError(f"{name}: image_shared has shape {one.shape}, caption_shared {other.shape}: they do not fit")
    if one.dtype.kind != "f" or other.dtype.kind != "f" or not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise DataError(f"{name}: image_shared and caption_shared must be finite floating-point numbers")


def _side(name: str, what: str, array: np.ndarray, rows: np.ndarray, arrays: Mapping[str, np.ndarray]) -> Side:
    """Raises DataError."""
    mask, scale = arrays.get(f"{what}_mask"), arrays.get(f"{what}_scale")
    if array.dtype.kind != "f" and array.dtype != np.int8:
        raise DataError(f"{name}: {what}s are {array.dtype}, need float16, float32, float64 or int8")
    if (array.dtype == np.int8) != (scale is not None):
        raise DataError(f"{name}: {what}_scale goes with int8, and int8 with it; {what}s are {array.dtype}")
    if scale is not None and (
        scale.dtype.kind not in "fiu"
        or scale.shape not in ((), (1,), (len(array),))
        or not (np.isfinite(scale).all() and (scale > 0).all())
    ):
        raise DataError(f"{name}: {what}_scale must be one positive number, or one a row, got shape {scale.shape}")
    if mask is not None:
        if array.ndim != 3 or mask.shape != array.shape[:2] or mask.dtype.kind not in "biu":
            raise DataError(f"{name}: {what}_mask has shape {mask.shape}, {what}s {array.shape}")
        mask = mask.astype(bool)
        if empty := int((~mask.any(1)).sum()):
            raise DataError(f"{name}: {empty} {what}s have no real vector, first in row {int((~mask.any(1)).argmax())}")
    side = Side(array, rows, mask, None if scale is None or scale.shape != (1,) else scale[0])
    if scale is not None and scale.shape != (1,):
        side = replace(side, scale=scale)
    side = replace(side, shared=arrays.get(f"{what}_shared"))
    _check(name, what, side)
    return side


def _check(name: str, what: str, side: Side) -> None:
    """Finite, none of them zero, not all the same.  Raises DataError."""
    step = max(1, BLOCK_BYTES // (4 * side.vectors[0].size))
    first, differ = side.take(slice(0, 1))[0], len(side) == 1
    for start in range(0, len(side), step):
        vectors, mask = side.take(slice(start, start + step))
        finite = np.isfinite(vectors).reshape(len(vectors), -1).all(1)
        if not finite.all():
            raise DataError(places.said(f"{name}: {what}s are NaN or infinite", ~finite, side.rows[start:]))
        zero = np.asarray(~vectors.any(-1))  # (B,) or (B, K)
        if mask is not None:
            zero &= mask
        zero = zero.reshape(len(vectors), -1).any(1)
        if zero.any():
            raise DataError(places.said(f"{name}: {what} vectors are all zero", zero, side.rows[start:]))
        differ = differ or bool((vectors != first).any())
    if not differ:
        raise DataError(f"{name}: all {len(side):,} {what}s have the same vectors")
