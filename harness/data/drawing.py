"""A scene as a picture: colour is colour, category the outline, material the texture, and its box is where a thing is.

Metal shines in diagonal bands, wood has a grain, rubber has knobs, and glass lets the paper through.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from harness.data.grammar import Scene, Thing

PAPER = (246, 244, 238)
INK = (38, 36, 40)
COLOURS = {
    "red": (206, 43, 43),
    "blue": (45, 98, 214),
    "green": (46, 150, 72),
    "yellow": (240, 200, 30),
    "purple": (128, 56, 168),
    "orange": (240, 130, 25),
    "black": (62, 62, 68),
    "pink": (244, 140, 178),
}
FINE = 4  # shapes are drawn so many times larger, then reduced

_ANGLE = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_CIRCLE = np.stack([np.sin(_ANGLE), -np.cos(_ANGLE)], axis=1)  # (72, 2), from the top clockwise
_SPIKES = np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]  # (10, 1) radii of a star's corners
_HEART_Y = -sum(size * np.cos(k * _ANGLE) for k, size in enumerate((13, -5, -2, -1), start=1))
_BITE = np.array([0.5, -0.15])  # centre of the disc that leaves the moon a crescent
_FROM_BITE = np.roll(_CIRCLE, -15, axis=0)  # the circle, starting where it is bitten
_BITTEN = 0.85 * _FROM_BITE + _BITE

# Outline, then holes: polygons (corners, 2) of x, y from -1 to 1, y downwards.
SHAPES: dict[str, tuple[np.ndarray, ...]] = {
    "ball": (_CIRCLE,),
    "box": (np.array([(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)]),),
    "pyramid": (np.array([(0, -1), (1, 0.9), (-1, 0.9)]),),
    "star": (_SPIKES * np.stack([np.sin(np.arange(10) * np.pi / 5), -np.cos(np.arange(10) * np.pi / 5)], axis=1),),
    "ring": (_CIRCLE, 0.5 * _CIRCLE),
    "cross": (
        np.array(
            [(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)]
        )
        / 3,
    ),
    "heart": (np.stack([16 * np.sin(_ANGLE) ** 3, _HEART_Y - 2.5], axis=1) / 16,),
    "moon": (
        np.concatenate([_FROM_BITE[np.hypot(*(_FROM_BITE - _BITE).T) > 0.85], _BITTEN[np.hypot(*_BITTEN.T) < 1][::-1]]),
    ),
    "drop": (np.array([(0, -1), *(0.64 * _CIRCLE[12:61] + (0, 0.34))]),),
    "arrow": (np.array([(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)]),),
    "diamond": (np.array([(-0.5, -0.7), (0.5, -0.7), (1, -0.2), (0, 0.95), (-1, -0.2)]),),
    "house": (
        np.array([(0, -1), (1, -0.1), (0.75, -0.1), (0.75, 0.95), (-0.75, 0.95), (-0.75, -0.1), (-1, -0.1)]),
        np.array([(-0.22, 0.95), (-0.22, 0.25), (0.22, 0.25), (0.22, 0.95)]),
    ),
}


def draw(scene: Scene, size: int = 480) -> Image.Image:
    """An RGB picture of the scene; `size` is its longer side in pixels.  Raises ValueError if that is below 1."""
    if size < 1:
        raise ValueError(f"a picture needs at least 1 pixel a side, got {size}")
    scale = size / max(scene.picture)
    width, height = (max(1, round(side * scale)) for side in scene.picture)
    canvas = Image.new("RGB", (width, height), PAPER)
    for thing, box in zip(scene.things, scene.boxes * scale, strict=True):
        left, top, right, _ = (int(edge) for edge in box.round())
        side = max(1, right - left)
        inside, edge = _masks(thing.category, side)
        opacity = 0.45 if thing.material == "glass" else 1.0
        seen = inside.point([round(opacity * value) for value in range(256)])
        canvas.paste(_texture(thing, side), (left, top), seen)
        canvas.paste(INK, (left, top), edge)
    return canvas


def _masks(category: str, side: int) -> tuple[Image.Image, Image.Image]:
    """Where a shape is and where its edge is: two grey pictures of side x side, 255 = wholly."""
    fine = side * FINE
    inside, edge = Image.new("L", (fine, fine)), Image.new("L", (fine, fine))
    line = max(1, fine // 30)
    for number, polygon in enumerate(SHAPES[category]):
        corners = [(float(x), float(y)) for x, y in (polygon * 0.96 + 1) * fine / 2]
        ImageDraw.Draw(inside).polygon(corners, fill=0 if number else 255)
        ImageDraw.Draw(edge).line([*corners, corners[0], corners[1]], fill=255, width=line, joint="curve")
    return inside.reduce(FINE), edge.reduce(FINE)


def _texture(thing: Thing, side: int) -> Image.Image:
    """A square of the thing's colour, lighter (up to white) and darker (down to black) as its material has it."""
    y, x = np.mgrid[:side, :side] / side
    if thing.material == "metal":
        light = 0.75 * np.exp(-(((x + y - 0.75) / 0.13) ** 2)) - 0.35 * np.exp(-(((x + y - 1.3) / 0.2) ** 2))
    elif thing.material == "wood":
        light = -0.35 * (np.sin(2 * np.pi * (6 * y + 0.5 * np.sin(4 * x))) > 0.3)
    elif thing.material == "rubber":
        light = 0.35 * ((x * 6 % 1 - 0.5) ** 2 + (y * 6 % 1 - 0.5) ** 2 < 0.07)
    else:
        light = 0.8 * ((x + y > 0.62) & (x + y < 0.74))
    light = light[..., None]  # (side, side, 1)
    colour = np.array(COLOURS[thing.colour])
    return Image.fromarray((colour + np.where(light > 0, light * (255 - colour), light * colour)).astype(np.uint8))
