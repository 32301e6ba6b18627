"""What SelfAlign's concept level assigned, ready to be drawn: words with their regions, prototypes with what is near.

Pure but for the pictures, which a `Frame` fetches when they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.data.split import Split
from harness.record import Concepts, RecordError
from harness.report.page.album import SIDE, Album

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#444444")  # told apart by all
PROTOTYPES = 24  # shown, of those stored


@dataclass
class Frame:
    """The pictures of a split that a page uses, each once, in the pixels its boxes are given in."""

    split: Split
    album: Album
    used: dict[int, str | None] = field(default_factory=dict)  # image -> data URI, None where there is no picture

    def use(self, image: int) -> int:
        if image not in self.used:
            self.used[image] = self.album.uri(image)
        return image

    def has(self, image: int) -> bool:
        return self.used[image] is not None

    def name(self, image: int) -> str:
        return self.split.images.ids[image]

    def size(self, image: int) -> tuple[float, float]:
        """Width and height."""
        images = self.split.images
        if images.sizes is None:
            return SIDE, SIDE
        width, height = (float(side) for side in images.sizes[images.rows[image]])
        return width, height

    def box(self, image: int, region: int) -> tuple[float, float, float, float] | None:
        """x, y, width, height; None where boxes cannot be placed in the picture."""
        images = self.split.images
        if images.boxes is None or images.sizes is None:
            return None
        left, top, right, bottom = (float(edge) for edge in images.boxes[images.rows[image], region])
        return left, top, max(right - left, 1.0), max(bottom - top, 1.0)


def concept_cards(name: str, concepts: Concepts | None, frame: Frame) -> dict[str, Any]:
    """What the template shows of one row; without stored assignments only that there are none."""
    if concepts is None:
        return {"name": name, "missing": True, "samples": [], "prototypes": [], "total": 0, "boxes": False}
    _check(name, concepts, frame.split)
    samples = [_sample(concepts, place, frame) for place in range(len(concepts.captions))]
    return {
        "name": name,
        "missing": False,
        "samples": samples,
        "agreement": _agreement(concepts),
        "prototypes": [
            _prototype(concepts, place, frame) for place in range(min(PROTOTYPES, len(concepts.prototypes)))
        ],
        "total": int(concepts.total),
        "boxes": frame.split.images.boxes is not None and frame.split.images.sizes is not None,
    }


def _check(name: str, concepts: Concepts, split: Split) -> None:
    """Raises RecordError for assignments of other data."""
    images, regions = len(split.images), split.images.regions
    limits = {
        "captions": (concepts.captions, len(split.captions)),
        "regions": (concepts.regions, regions),
        "images of prototypes": (concepts.top_regions[..., 0], images),
        "regions of prototypes": (concepts.top_regions[..., 1], regions),
    }
    for what, (numbers, limit) in limits.items():
        if numbers.size and int(numbers.max()) >= limit:
            raise RecordError(f"concepts of {name}: {what} up to {int(numbers.max())}, the data have {limit}")


def _agreement(concepts: Concepts) -> str:
    """In how many words of the sample word and region have the same prototype."""
    real = concepts.regions >= 0
    same = (concepts.word_prototypes == concepts.region_prototypes) & real
    return f"{int(same.sum())} of {int(real.sum())}"


def _sample(concepts: Concepts, place: int, frame: Frame) -> dict[str, Any]:
    caption = int(concepts.captions[place])
    image = frame.use(int(frame.split.caption_to_image[caption]))
    regions = [int(region) for region in concepts.regions[place] if region >= 0]
    order = {region: number for number, region in enumerate(dict.fromkeys(regions), start=1)}
    colour = {region: COLOURS[(number - 1) % len(COLOURS)] for region, number in order.items()}
    return {
        "image": image,
        "caption": frame.split.captions[caption],
        "boxes": [
            {"box": box, "number": number, "colour": colour[region]}
            for region, number in order.items()
            if (box := frame.box(image, region)) is not None
        ],
        "words": [
            {
                "word": str(concepts.words[place, at]),
                "number": order[region],
                "colour": colour[region],
                "region": region,
                "similarity": f"{float(concepts.similarities[place, at]):.2f}",
                "prototype": int(concepts.word_prototypes[place, at]),
                "of_region": int(concepts.region_prototypes[place, at]),
            }
            for at, region in enumerate(regions)
        ],
    }


def _prototype(concepts: Concepts, place: int, frame: Frame) -> dict[str, Any]:
    words = zip(concepts.top_words[place].tolist(), concepts.top_counts[place].tolist(), strict=True)
    regions = zip(concepts.top_regions[place].tolist(), concepts.top_similarities[place].tolist(), strict=True)
    return {
        "number": int(concepts.prototypes[place]),
        "uses": int(concepts.uses[place]),
        "words": [{"word": word, "count": count} for word, count in words if word],
        "regions": [
            {
                "image": frame.use(image),
                "region": region,
                "box": frame.box(image, region),
                "similarity": f"{similarity:.2f}",
            }
            for (image, region), similarity in regions
            if image >= 0
        ],
    }
