"""Scenes: the embedded data set, made from a seed in seconds, that asks about binding and relations on their own.

A scene has 3 to 6 things (category, colour, size, material) in the cells of a 3 x 3 grid.  A share of the images are
hard twins, images 2k and 2k + 1 of a split: *binding* twins exchange one attribute between two things (same bag of
attributes, other binding), *relation* twins exchange the places of two things (same things, other relation).  After
Winoground (Thrush et al., CVPR 2022) and ARO (Yuksekgonul et al., ICLR 2023).

The sizes are chosen so that what is learned is not memorised: 3,000 training images of 5 captions, where edition 1 had
800, and twins are a fifth of the images, where they were two fifths.  Nothing here is tuned towards a method, nor
towards the published order of the methods.

A detector is imitated as simply as can be: every thing is one fragment, the sum of the vectors of its attributes and
of its place, plus Gaussian noise; clutter fragments see some attributes of a thing, or background.  So a fragment holds
the binding within a thing, while the sum over fragments is the same, up to noise and clutter, for both twins.

Captions are true of their image, and as in real data they may be true of others too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import combinations
from zlib import crc32

import numpy as np

from harness.data.grammar import (
    ATTRIBUTES,
    GRID,
    OBJECTS,
    PICTURES,
    SHIFT,
    Scene,
    Statement,
    Thing,
    Twin,
    pick,
    statement_of,
    tells,
    wording,
)
from harness.data.scenes_scale import bags_hold, truths
from harness.data.split import SPLITS, Images, Source, Split

PIXELS = 96  # longer side of a picture
RECIPE = 2  # raised whenever the default, or the data of the same settings, are others

EXCHANGED: Mapping[Twin, tuple[tuple[str, ...], ...]] = {  # what the two things of a twin exchange: one of these
    "binding": (("colour",), ("size",), ("material",)),
    "relation": (("cell", "shift"),),
}

# How strongly a fragment shows what: a detector is trained for categories, and sees attributes and places less clearly.
SHOWN = {"category": 1.0, "colour": 0.8, "size": 0.6, "material": 0.6}
PLACE_SHOWN = 0.8  # times the centre of the box, which runs from -1 to 1
BACKGROUND_SHOWN = 0.6
TEXTURES = 6  # directions of the background
LATENTS = {pair: i for i, pair in enumerate((name, value) for name, words in ATTRIBUTES.items() for value in words)}
ATTRIBUTE_OF = np.array([tuple(ATTRIBUTES).index(name) for name, _ in LATENTS])  # (latents,)


@dataclass(frozen=True)
class Settings:
    """What is generated.  Raises ValueError where it cannot be."""

    seed: int = 0
    train_images: int = 3000
    dev_images: int = 500
    test_images: int = 1000
    captions_per_image: int = 5
    regions: int = 12  # most fragments of an image
    dim: int = 64  # width of a fragment
    noise: float = 0.25  # standard deviation of each feature, where a category's vector has a length of about 1
    binding_share: float = 0.1  # of the images
    relation_share: float = 0.1
    telling_captions: int = 2  # at least so many captions of a twin are false of the other

    def __post_init__(self) -> None:
        least = {"seed": 0, "train_images": 1, "dev_images": 1, "test_images": 1, "captions_per_image": 1, "dim": 1}
        least |= {"regions": OBJECTS[1], "noise": 0, "binding_share": 0, "relation_share": 0, "telling_captions": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name} must be at least {bound}, got {getattr(self, name)}")
        if self.binding_share + self.relation_share > 1:
            raise ValueError(f"shares of twins add up to {self.binding_share + self.relation_share}, more than 1")
        if self.telling_captions > self.captions_per_image:
            raise ValueError(f"{self.telling_captions} telling captions, but only {self.captions_per_image} per image")


DEFAULT = Settings()


@dataclass(frozen=True)
class Caption:
    image: int  # index into the scenes of its split
    statement: Statement
    text: str
    tells: Twin | None  # the kind of twin it tells its image from


def scenes(split: str, settings: Settings = DEFAULT) -> tuple[Scene, ...]:
    """The scenes of a split.  Raises ValueError for an unknown split.

    No bag of attributes is found in two splits, so no scene is either, whatever the seed and the sizes.
    """
    rng = _generator(settings, split, "scenes")
    images = {"train": settings.train_images, "dev": settings.dev_images, "test": settings.test_images}[split]
    kinds: list[Twin | None] = [None] * (images // 2)  # one a pair of neighbours
    order = rng.permutation(len(kinds)).tolist()
    binding = round(settings.binding_share * images / 2)
    relation = round(settings.relation_share * images / 2)
    for pair in order[:binding]:
        kinds[pair] = "binding"
    for pair in order[binding : binding + relation]:
        kinds[pair] = "relation"
    made: list[Scene] = []
    for kind in kinds:
        made += (_scene(rng, split), _scene(rng, split)) if kind is None else _twins(rng, split, kind)
    return (*made, _scene(rng, split)) if images % 2 else tuple(made)


def captions(drawn: Sequence[Scene], split: str, settings: Settings = DEFAULT) -> tuple[Caption, ...]:
    """What is said of the scenes of a split, image by image."""
    rng = _generator(settings, split, "captions")
    said: list[Caption] = []
    for image, scene in enumerate(drawn):
        other = drawn[image ^ 1] if scene.twin else None
        for number in range(settings.captions_per_image):
            statement = statement_of(rng, scene)
            while other and number < settings.telling_captions and not tells(statement, other):
                statement = statement_of(rng, scene)
            told = scene.twin if other and tells(statement, other) else None
            said.append(Caption(image, statement, wording(rng, statement), told))
    return tuple(said)


def load(split: str, settings: Settings = DEFAULT) -> Split:
    """A split; its groups are the captions that tell `binding` and `relation` twins.  Raises ValueError as `scenes`."""
    drawn = scenes(split, settings)
    said = captions(drawn, split, settings)
    return Split(
        images=_images(drawn, split, settings),
        captions=tuple(caption.text for caption in said),
        caption_to_image=np.array([caption.image for caption in said], dtype=np.int64),
        groups={kind: np.array([caption.tells == kind for caption in said]) for kind in EXCHANGED},
        fits={
            name: partial(found, [caption.statement for caption in said], drawn)
            for name, found in {"truth": truths, "bag": bags_hold}.items()
        },
    )


def source(settings: Settings = DEFAULT) -> Source:
    """The data set as a whole; its fingerprint is that of the settings and the recipe."""
    identity = json.dumps({"recipe": RECIPE, **asdict(settings)}, sort_keys=True)
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    offers = frozenset({"fragments", "boxes", "tokens", "strings", "pixels", "truth", "bag"})
    return Source("scenes", fingerprint, partial(load, settings=settings), offers)


def _generator(settings: Settings, split: str, purpose: str) -> np.random.Generator:
    """Its own stream for every purpose, so that no split or stage depends on another."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}, there are {', '.join(SPLITS)}")
    return np.random.default_rng([settings.seed, *f"{split} {purpose}".encode()])


def _scene(rng: np.random.Generator, split: str) -> Scene:
    """A scene whose bag of attributes belongs to the split."""
    while True:
        picture = PICTURES[int(rng.integers(len(PICTURES)))]
        cells = rng.permutation(GRID * GRID)[: int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))].tolist()
        things = tuple(
            Thing(
                **{name: pick(rng, tuple(words)) for name, words in ATTRIBUTES.items()},
                cell=divmod(cell, GRID),
                shift=(float(rng.uniform(-SHIFT, SHIFT)), float(rng.uniform(-SHIFT, SHIFT))),
            )
            for cell in cells
        )
        scene = Scene(things, picture)
        if _distinct(scene) and _home(scene) == split:
            return scene


def _distinct(scene: Scene) -> bool:
    return len({thing.attributes for thing in scene.things}) == len(scene.things)


def _home(scene: Scene) -> str:
    """The one split that may hold scenes with this bag of attributes; a twin has the same."""
    bag = json.dumps({name: dict(sorted(counts.items())) for name, counts in scene.bag.items()})
    return SPLITS[crc32(bag.encode()) % len(SPLITS)]


def _twins(rng: np.random.Generator, split: str, kind: Twin) -> tuple[Scene, Scene]:
    """Two scenes such that each is told from the other by some statement."""
    while True:
        scene = replace(_scene(rng, split), twin=kind)
        found = [
            twin
            for a, b in combinations(scene.things, 2)
            for exchanged in EXCHANGED[kind]
            if (kind == "relation" or a.category != b.category)
            and _distinct(twin := _exchanged(scene, a, b, exchanged))
            and twin != scene
        ]
        if found:
            return scene, found[int(rng.integers(len(found)))]


def _exchanged(scene: Scene, a: Thing, b: Thing, names: Sequence[str]) -> Scene:
    """The scene after `a` and `b` have exchanged the fields `names`."""
    new = {
        a: replace(a, **{name: getattr(b, name) for name in names}),
        b: replace(b, **{name: getattr(a, name) for name in names}),
    }
    return replace(scene, things=tuple(new.get(thing, thing) for thing in scene.things))


def _images(drawn: Sequence[Scene], split: str, settings: Settings) -> Images:
    """The fragments of the scenes: seen attributes and places, mixed by one matrix for all splits, plus noise."""
    rng = _generator(settings, split, "fragments")
    latents = len(LATENTS) + TEXTURES + 2  # K: attributes, background, place
    seen = np.zeros((len(drawn), settings.regions, latents))  # (N, R, K)
    boxes = np.zeros((len(drawn), settings.regions, 4), dtype=np.float32)
    counts = np.zeros(len(drawn), dtype=np.int64)
    for image, scene in enumerate(drawn):
        shown, where = _fragments(rng, scene, settings.regions)
        counts[image] = len(shown)
        order = rng.permutation(len(shown))
        seen[image, : len(shown)], boxes[image, : len(shown)] = shown[order], where[order]
    mix = np.random.default_rng([settings.seed, *b"mix"]).standard_normal((latents, settings.dim)) / settings.dim**0.5
    features = seen @ mix + settings.noise * rng.standard_normal((*seen.shape[:2], settings.dim))  # (N, R, D)
    real = np.arange(settings.regions) < counts[:, None]  # (N, R)
    ids = tuple(f"{split}-{i}" for i in range(len(drawn)))
    return Images(
        features=(features * real[..., None]).astype(np.float32),
        rows=np.arange(len(drawn)),
        ids=ids,
        counts=counts,
        boxes=boxes,
        sizes=np.array([scene.picture for scene in drawn], dtype=np.float32),
        pixels=partial(_drawn, dict(zip(ids, drawn, strict=True))),
    )


def _drawn(drawn: Mapping[str, Scene], name: str) -> np.ndarray:
    """(H, W, 3) uint8."""
    from harness.data.drawing import draw  # Pillow, for the few methods that look at pictures

    return np.asarray(draw(drawn[name], PIXELS))


def _fragments(rng: np.random.Generator, scene: Scene, regions: int) -> tuple[np.ndarray, np.ndarray]:
    """What is seen (n, K) and in which boxes (n, 4): all things, then clutter, n <= regions.

    Half of the clutter shows a part of a thing, each attribute visible with probability 1/2, half is background.
    Its boxes are half as wide and high as that of the thing, or as the picture.
    """
    things = np.zeros((len(scene.things), len(LATENTS)))
    for row, thing in zip(things, scene.things, strict=True):
        for name, shown in SHOWN.items():
            row[LATENTS[name, getattr(thing, name)]] = shown
    clutter = int(rng.integers(regions - len(things) + 1))
    part = rng.random((clutter, 1)) < 0.5  # else background
    whole = rng.integers(len(things), size=clutter)  # the thing it is a part of
    visible = rng.random((clutter, len(ATTRIBUTES))) < 0.5
    parts = things[whole] * visible[:, ATTRIBUTE_OF] * part  # (clutter, len(LATENTS))
    background = BACKGROUND_SHOWN * rng.standard_normal((clutter, TEXTURES)) * ~part
    frame = np.where(part, scene.boxes[whole], (0, 0, *scene.picture))  # (clutter, 4)
    extent = (frame[:, 2:] - frame[:, :2]) / 2
    corner = frame[:, :2] + rng.random((clutter, 2)) * extent
    boxes = np.concatenate([scene.boxes, np.concatenate([corner, corner + extent], axis=1)])  # (n, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / np.array(scene.picture) - 1  # (n, 2) from -1 to 1
    attributes = np.concatenate([things, parts])
    textures = np.concatenate([np.zeros((len(things), TEXTURES)), background])
    return np.concatenate([attributes, textures, PLACE_SHOWN * centres], axis=1), boxes
