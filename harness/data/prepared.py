"""A job's data, ready for a model: splits read, captions turned into numbers, batches as tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from itertools import combinations

import numpy as np
import torch

from harness.data import sources
from harness.data.split import DataError, Images, Source, Split, spread
from harness.data.vocabulary import (
    PAD,
    SPECIALS,
    UNKNOWN_AT_MOST,
    Tokenizer,
    Tokens,
    Vocabulary,
    picked,
    shortened,
    tokens,
)
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from harness.spec.job import Data, Settings
from harness.spec.methods import FITS, USUAL

APART = {  # why no other split may hold an image of this one
    "train": "what chooses a model or is ranked must not have been trained on (data.ranked=train ranks train itself)",
    "dev": "what is ranked must not have chosen the model (data.ranked=dev ranks dev itself)",
}
PROBED = 8  # places where two splits are compared


@dataclass(frozen=True)
class Side:
    """One split with its captions as numbers."""

    split: Split
    tokens: Tokens
    tokenizer: Tokenizer | None = None  # which made the tokens; None where they came as numbers

    def query(self, caption: int, needs: Collection[str] = USUAL) -> TextBatch:
        """One caption alone, as long as it is: as typed, where a tokenizer reads it, else from its numbers."""
        if self.tokenizer is None:
            return text_batch(self.tokens, slice(caption, caption + 1), needs)
        typed = self.split.captions[caption]
        numbers = shortened(self.tokenizer.encode(typed), self.tokens.most) or [PAD]
        return TextBatch(
            tokens=torch.tensor([numbers]),
            mask=torch.ones(1, len(numbers), dtype=torch.bool),
            ids=(self.tokens.names[caption],) if self.tokens.names else None,
            strings=(typed,) if "strings" in needs else None,
            **_told(self.tokens, slice(caption, caption + 1), needs),
        )


@dataclass(frozen=True)
class Prepared:
    """Everything a job reads."""

    train: Side
    dev: Side
    ranked: Side  # the split whose ranks are reported
    vocabulary_size: int
    words: tuple[str, ...] = ()  # spelling of each token number

    def inputs(self, settings: Settings) -> Inputs:
        return inputs(
            settings,
            image_dim=self.train.split.images.dim,
            regions=max(side.split.images.regions for side in (self.train, self.dev, self.ranked)),
            vocabulary=self.vocabulary_size,
            words=self.words,
            captions=self.train.tokens.ids,
        )


def inputs(
    settings: Settings, *, image_dim: int, regions: int, vocabulary: int, words: tuple[str, ...], captions: np.ndarray
) -> Inputs:
    """What data and settings fix for every method.  captions: (M, L) int32, those of the training split."""
    return Inputs(
        image_dim=image_dim,
        regions=regions,
        vocabulary=vocabulary,
        dim=settings.dim,
        word_dim=settings.word_dim,
        margin=settings.margin,
        warmup_updates=settings.warmup_updates or settings.warmup_epochs * _steps(len(captions), settings.batch),
        same_image_negatives=settings.same_image_negatives,
        token_states=_token_states(settings),
        words=words,
        caption_tokens=torch.from_numpy(captions),
    )


def prepare(data: Data, settings: Settings) -> Prepared:
    """Reads the splits a job needs.  Raises DataError, also where the data are no longer those of the job.

    Where the seed draws a share of the training images, the vocabulary is still that of them all.
    """
    found = _prepare(data, settings.min_count, settings.max_words, settings.text_model)
    return found if settings.train_share == 1 else replace(found, train=_drawn(found.train, settings))


def prepare_ranked(data: Data) -> Prepared:
    """The ranked split alone, in place of the others too, for rows that read neither fragments nor words.

    Raises DataError, also where the data are no longer those of the job.
    """
    images = data.dev_images if data.ranked == "dev" else data.test_images
    side = unread(opened(data).load(data.ranked).first(images))
    return Prepared(side, side, side, len(SPECIALS))


def unread(split: Split) -> Side:
    """A split whose captions go by their ids: no word of them is a number."""
    count = len(split.captions)
    return Side(split, Tokens(np.zeros((count, 1), np.int32), np.ones(count, np.int64), names=split.caption_ids))


def opened(data: Data) -> Source:
    """The data of a job.  Raises DataError where those that lie there are not, or no longer, the ones it names."""
    found = sources.find(data.path or data.name)
    if data.fingerprint in ("", found.fingerprint):
        return found
    if data.path:
        raise DataError(f"{data.path} holds other data than {data.name} of the jobs, or changed since they were made")
    raise DataError(f"data {data.name} changed since the jobs were made")


def _drawn(side: Side, settings: Settings) -> Side:
    """The images that a seed trains on, in their order, with their captions: at least one."""
    images = len(side.split.images)
    order = np.random.default_rng([settings.seed, *b"train share"]).permutation(images)
    keep = np.zeros(images, bool)
    keep[order[: max(1, round(settings.train_share * images))]] = True
    of_captions = keep[side.split.caption_to_image]
    kept = side.tokens.some(of_captions)
    split = side.split.some(keep)
    return replace(side, split=split, tokens=replace(kept, fits=_once(split.fits)))


@lru_cache(maxsize=1)
def _prepare(data: Data, min_count: int, max_words: int, text_model: str) -> Prepared:
    source = opened(data)
    train = source.load("train").first(data.train_images)
    dev = source.load("dev").first(data.dev_images)
    ranked = dev if data.ranked == "dev" else source.load(data.ranked).first(data.test_images)
    for name, split in (("dev", dev), (data.ranked, ranked)):
        if split.images.dim != train.images.dim:
            raise DataError(f"{name} has features of width {split.images.dim}, train has {train.images.dim}")
    images = {"train": train.images, "dev": dev.images, data.ranked: ranked.images}
    check_apart({name: of.ids for name, of in images.items()})
    check_no_copies(images)
    tokenizer: Tokenizer = _word_pieces(text_model) if text_model else Vocabulary.build(train.captions, min_count)
    side = partial(as_side, tokenizer=tokenizer, max_words=max_words)
    trained = side(train)
    if trained.tokens.unknown > UNKNOWN_AT_MOST:
        raise DataError(
            f"data {data.name}: {trained.tokens.unknown:.0%} of the words of its training captions are unknown "
            f"({text_model or f'not found {min_count} times'}), nothing can be learned from them"
        )
    if trained.tokens.wordless == len(train.captions):
        raise DataError(f"data {data.name}: none of its training captions holds a word")
    return Prepared(trained, side(dev), side(ranked), tokenizer.size, tokenizer.spelled)


def check_apart(ids: Mapping[str, Sequence[str]]) -> None:
    """Raises DataError where two splits share an image.  ids: of each split that a job reads, train and dev first.

    Ids that count from 0 in either split name no image beyond it.
    """
    for (used, before), (name, after) in combinations(ids.items(), 2):
        both = set(before) & set(after)
        if both and not (_counted(before) and _counted(after)):
            first = next(image for image in after if image in both)
            raise DataError(
                f"{len(both)} of the {len(after)} images of {name} are in {used} too, {first!r} is one: {APART[used]}"
            )


def check_no_copies(images: Mapping[str, Images]) -> None:
    """Raises DataError where a split is another one once more, whatever its ids: the same features at the same places.

    images: of each split that a job reads, train and dev first.  A few places tell; all of one kind tell nothing.
    """
    for (used, before), (name, after) in combinations(images.items(), 2):
        places = spread(min(len(before), len(after)), PROBED)
        first, second = (side.features[side.rows[places]] for side in (before, after))
        if len(np.unique(second, axis=0)) > 1 and np.array_equal(first, second):
            raise DataError(f"the images of {name} have the features of those of {used}, place by place: {APART[used]}")


def _counted(ids: Sequence[str]) -> bool:
    """Whether they are 0 to their number, in any order."""
    return set(ids) == set(map(str, range(len(ids))))


def as_side(split: Split, tokenizer: Tokenizer, max_words: int) -> Side:
    """With its captions as numbers."""
    found = tokens(split.captions, tokenizer, max_words)
    return Side(split, replace(found, names=split.caption_ids, fits=_once(split.fits)), tokenizer)


def _once(fits: Mapping[str, Callable[[], np.ndarray]]) -> dict[str, Callable[[], np.ndarray]]:
    """Found when first asked for, and kept."""
    return {name: cache(found) for name, found in fits.items()}


def tokenizer_of(words: Sequence[str], text_model: str) -> Tokenizer:
    """The one that weights were trained with.  words: spelling of each token number, where there is no text model."""
    return _word_pieces(text_model) if text_model else Vocabulary(tuple(words[len(SPECIALS) :]))


def _word_pieces(name: str) -> Tokenizer:
    from harness.data.text_model import WordPieces  # transformers takes seconds to import, few runs need it

    return WordPieces(name)


def _token_states(settings: Settings):
    if not settings.text_model:
        return None
    from harness.data.text_model import TokenStates

    return partial(TokenStates, settings.text_model, settings.train_text_model)


def image_batch(images: Images, index: np.ndarray | slice, needs: Collection[str] = USUAL) -> ImageBatch:
    """What a method needs of the images `index` names, on the CPU: fragments as float32, pixels as bytes.

    Raises DataError where pixels are needed and there are none.
    """
    ids = picked(images.ids, index)
    pixels = tuple(_pixels(images, name) for name in ids) if "pixels" in needs else None
    places = torch.arange(len(images))[index] if set(FITS) & set(needs) else None
    if not {"fragments", "boxes"} & set(needs):
        return ImageBatch(ids=ids, pixels=pixels, places=places)
    read = images.take(index, _single)
    return ImageBatch(
        fragments=torch.from_numpy(read.features),
        mask=torch.from_numpy(read.mask),
        boxes=None if read.boxes is None else torch.from_numpy(read.boxes),
        sizes=None if read.sizes is None else torch.from_numpy(read.sizes),
        ids=ids,
        pixels=pixels,
        places=places,
    )


def _pixels(images: Images, name: str) -> torch.Tensor:
    """(3, H, W) uint8."""
    if images.pixels is None:
        raise DataError(f"image {name}: there are no pictures in these data")
    return torch.tensor(images.pixels(name)).permute(2, 0, 1)


def _single(stored: np.ndarray) -> np.ndarray:
    """torch turns half into single precision faster than numpy, which shows in every training step."""
    return torch.from_numpy(np.asarray(stored)).float().numpy()


def text_batch(captions: Tokens, index: np.ndarray | slice, needs: Collection[str] = USUAL) -> TextBatch:
    """The captions `index` names: tokens on the CPU and, for a method that needs them, strings and what they fit."""
    ids, mask = captions.take(index)
    return TextBatch(
        tokens=torch.from_numpy(ids),
        mask=torch.from_numpy(mask),
        ids=picked(captions.names, index) if captions.names else None,
        strings=picked(captions.strings, index) if "strings" in needs else None,
        **_told(captions, index, needs),
    )


def _told(captions: Tokens, index: np.ndarray | slice, needs: Collection[str]) -> dict[str, torch.Tensor]:
    """`places` and `fits` of the captions, for a method that needs what they fit; nothing for any other."""
    told = next((need for need in FITS if need in needs), None)
    if told is None:
        return {}
    return {
        "places": torch.arange(len(captions.lengths))[index],
        "fits": torch.from_numpy(captions.fits[told]()[index]),
    }


def steps_per_epoch(side: Side, batch: int) -> int:
    return _steps(len(side.split.captions), batch)


def _steps(captions: int, batch: int) -> int:
    return max(1, captions // batch)


def update_batches(
    side: Side, batch: int, seed: int, start: int, stop: int, needs: Collection[str] = USUAL
) -> Iterator[PairBatch]:
    """The batches of the updates from `start` up to `stop`, counted from 0 over epoch after epoch."""
    steps = steps_per_epoch(side, batch)
    for epoch in range(start // steps, -(-stop // steps)):
        before = epoch * steps
        some = range(max(start - before, 0), min(stop - before, steps))
        yield from pair_batches(side, batch, seed, epoch, some, needs)


def pair_batches(
    side: Side, batch: int, seed: int, epoch: int, some: range | None = None, needs: Collection[str] = USUAL
) -> Iterator[PairBatch]:
    """Every caption once with its image, in an order that depends on seed and epoch alone.

    A last batch that is not full is left out (unless it is the only one): losses are sums over a batch.
    some: only these steps of the epoch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(side.split.captions))
    steps = steps_per_epoch(side, batch)
    shown = side.split.identity_numbers()
    for step in range(steps) if some is None else some:
        captions = order[step * batch : (step + 1) * batch]
        owner = side.split.caption_to_image[captions]
        yield PairBatch(
            images=image_batch(side.split.images, owner, needs),
            texts=text_batch(side.tokens, captions, needs),
            image_index=torch.from_numpy(owner.astype(np.int64)),
            epoch=epoch,
            update=epoch * steps + step,
            caption_index=torch.from_numpy(captions),
            identity_index=None if shown is None else torch.from_numpy(shown[owner]),
        )
