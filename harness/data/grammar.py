"""What a scene is, what may be said of it, when that is true, and how it is worded.

A `Statement` is the meaning of a caption; `holds` decides its truth in any scene, `wording` makes English of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

Words = Mapping[str, tuple[str, ...]]  # value -> its synonyms, the common one first

ATTRIBUTES: Mapping[str, Words] = {
    "category": {
        "ball": ("ball", "sphere"),
        "box": ("box", "cube"),
        "pyramid": ("pyramid", "triangle"),
        "star": ("star",),
        "ring": ("ring", "hoop"),
        "cross": ("cross", "plus sign"),
        "heart": ("heart",),
        "moon": ("moon", "crescent"),
        "drop": ("drop", "droplet", "teardrop"),
        "arrow": ("arrow", "pointer"),
        "diamond": ("diamond", "gem"),
        "house": ("house", "hut", "cabin"),
    },
    "colour": {
        "red": ("red", "scarlet", "crimson"),
        "blue": ("blue", "azure"),
        "green": ("green", "emerald"),
        "yellow": ("yellow", "golden"),
        "purple": ("purple", "violet"),
        "orange": ("orange",),
        "black": ("black", "dark"),
        "pink": ("pink", "rosy"),
    },
    "size": {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")},
    "material": {
        "metal": ("metal", "metallic", "steel"),
        "wood": ("wooden", "timber"),
        "glass": ("glass", "crystal"),
        "rubber": ("rubber", "rubbery"),
    },
}
ANYTHING = ("thing", "object")  # a category left unsaid
PLACES: Words = {
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
    "left": ("on the left", "on the left-hand side"),
    "right": ("on the right", "on the right-hand side"),
    "centre": ("in the middle", "in the centre"),
    "top left": ("in the top left corner", "in the upper left corner"),
    "top right": ("in the top right corner", "in the upper right corner"),
    "bottom left": ("in the bottom left corner", "in the lower left corner"),
    "bottom right": ("in the bottom right corner", "in the lower right corner"),
}
RELATIONS: Words = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "beneath"),
}
FRAMES = ("{}", "there is {}", "a picture of {}", "you can see {}", "this scene shows {}")

OBJECTS = (3, 6)  # fewest and most things of a scene
GRID = 3  # cells a side
PICTURES = ((480, 360), (360, 480), (420, 420))  # width, height in pixels
SIDE = {"small": 0.45, "large": 0.8}  # of a box, in cells
SHIFT = 0.1  # most a centre is off the middle of its cell, in cells, so that the largest box stays inside

# How likely a caption says what: people name the category, often the colour, now and then the rest.
SAID = {"category": 0.95, "colour": 0.6, "size": 0.35, "material": 0.3}
PLACE_SAID = 0.2
RELATION_SAID = 0.35
MENTIONS = (0.2, 0.45, 0.35)  # one, two, three things

Twin = Literal["binding", "relation"]


@dataclass(frozen=True)
class Thing:
    """One object; its fields are keys of `ATTRIBUTES`, and where it is."""

    category: str
    colour: str
    size: str
    material: str
    cell: tuple[int, int]  # row, column
    shift: tuple[float, float]  # x, y of the centre off the middle of the cell, in cells

    @property
    def attributes(self) -> tuple[str, ...]:
        return self.category, self.colour, self.size, self.material

    @property
    def places(self) -> tuple[str, ...]:
        """The names in `PLACES` of where it is."""
        down, across = ("top", "", "bottom")[self.cell[0]], ("left", "", "right")[self.cell[1]]
        return (down, across, f"{down} {across}") if down and across else (down or across or "centre",)


@dataclass(frozen=True)
class Scene:
    things: tuple[Thing, ...]  # no two have the same attributes or the same cell
    picture: tuple[int, int]  # width, height in pixels
    twin: Twin | None = None  # what tells scene i of a split from its twin, scene i ^ 1; None = it has no twin

    @property
    def boxes(self) -> np.ndarray:
        """(things, 4) x1, y1, x2, y2 in pixels; squares, each inside its cell."""
        cell = np.array(self.picture) / GRID  # (2,) width, height
        middles = np.array([(t.cell[1] + t.shift[0], t.cell[0] + t.shift[1]) for t in self.things]) + 0.5
        halves = np.array([SIDE[t.size] for t in self.things])[:, None] * cell.min() / 2
        return np.concatenate([middles * cell - halves, middles * cell + halves], axis=1)

    @property
    def bag(self) -> Mapping[str, Counter[str]]:
        """How often each value of each attribute occurs, whatever it is bound to."""
        return {name: Counter(getattr(thing, name) for thing in self.things) for name in ATTRIBUTES}


@dataclass(frozen=True)
class Mention:
    """Some thing, as far as it is described.  None = unsaid."""

    category: str | None = None
    colour: str | None = None
    size: str | None = None
    material: str | None = None
    place: str | None = None

    def fits(self, thing: Thing) -> bool:
        said = (self.category, self.colour, self.size, self.material)
        return all(s in (None, a) for s, a in zip(said, thing.attributes, strict=True)) and (
            self.place is None or self.place in thing.places
        )


@dataclass(frozen=True)
class Statement:
    """What a caption means: there are different things that fit the mentions, the first two in the relation."""

    mentions: tuple[Mention, ...]
    relation: str | None = None

    @property
    def placeless(self) -> Statement:
        """The same without relation and places."""
        return Statement(tuple(replace(mention, place=None) for mention in self.mentions))


def related(a: Thing, relation: str, b: Thing) -> bool:
    """Whether `a` is left, right, above or below of `b`; on a diagonal it is two of them."""
    down, across = b.cell[0] - a.cell[0], b.cell[1] - a.cell[1]
    along = {"left": across, "right": -across, "above": down, "below": -down}[relation]
    return along == max(abs(down), abs(across))


def holds(statement: Statement, scene: Scene) -> bool:
    """Whether the statement is true of the scene."""
    fitting = [[thing for thing in scene.things if mention.fits(thing)] for mention in statement.mentions]
    return any(
        len(set(chosen)) == len(chosen)
        and (statement.relation is None or related(chosen[0], statement.relation, chosen[1]))
        for chosen in product(*fitting)
    )


def tells(statement: Statement, other: Scene) -> bool:
    """Whether a statement true of a scene is false of its twin `other`, for no reason but the one they are twins for.

    Binding: it stays false without its places and its relation.  Relation: it becomes true without its relation.
    """
    if other.twin == "binding":
        return not holds(statement.placeless, other)
    return not holds(statement, other) and holds(replace(statement, relation=None), other)


def pick(rng: np.random.Generator, values: Sequence[str]) -> str:
    """Any of them, all equally likely."""
    return values[int(rng.integers(len(values)))]


def _word(rng: np.random.Generator, synonyms: Sequence[str]) -> str:
    """The first most often: of two synonyms it is taken in 71 of 100 cases, of three in 58."""
    return synonyms[int(len(synonyms) * rng.random() ** 2)]


def statement_of(rng: np.random.Generator, scene: Scene) -> Statement:
    """Something true of the scene."""
    count = 1 + int(np.searchsorted(np.cumsum(MENTIONS[:-1]), rng.random(), side="right"))
    things = [scene.things[i] for i in rng.permutation(len(scene.things))[:count].tolist()]
    relation = None
    if count > 1 and rng.random() < RELATION_SAID:
        relation = pick(rng, [name for name in RELATIONS if related(things[0], name, things[1])])
    return Statement(tuple(_mention(rng, thing, relation is None) for thing in things), relation)


def _mention(rng: np.random.Generator, thing: Thing, may_place: bool) -> Mention:
    """Some attributes of the thing; a thing whose category is unsaid has its colour said."""
    said = {name: getattr(thing, name) if rng.random() < share else None for name, share in SAID.items()}
    place = pick(rng, thing.places) if may_place and rng.random() < PLACE_SAID else None
    return Mention(**said | ({} if said["category"] else {"colour": thing.colour}), place=place)


def wording(rng: np.random.Generator, statement: Statement) -> str:
    """The statement as an English sentence or phrase."""
    named = [_named(rng, mention) for mention in statement.mentions]
    frame = pick(rng, FRAMES)
    if statement.relation:
        relation = _word(rng, RELATIONS[statement.relation])
        if rng.random() < 0.5:  # a sentence of its own
            relation, frame = f"is {relation}", "{}"
        named[:2] = [f"{named[0]} {relation} {named[1]}"]
    *most, last = named
    joints = (", and ",) if statement.relation else (" and ", " with ") if len(most) == 1 else (" and ", ", and ")
    text = frame.format(", ".join(most) + pick(rng, joints) + last if most else last)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    return text + pick(rng, ("", "."))


def _named(rng: np.random.Generator, mention: Mention) -> str:
    """`a tiny red ball made of wood on the left`"""
    adjectives = {name: getattr(mention, name) for name in ("size", "colour", "material")}
    spoken = [_word(rng, ATTRIBUTES[name][value]) for name, value in adjectives.items() if value]
    after = []
    if mention.material and rng.random() < 0.25:
        spoken.pop()
        after.append(f"made of {mention.material}")
    spoken.append(_word(rng, ATTRIBUTES["category"][mention.category] if mention.category else ANYTHING))
    if mention.place:
        after.append(_word(rng, PLACES[mention.place]))
    article = "an" if spoken[0][0] in "aeiou" else "a"
    return " ".join([_word(rng, (article, "the", "one")), *spoken, *after])
