"""A figure before it is drawn, and whether it need be: one drawn of the same may lie where it would go, untouched.

An SVG ends with its seal, a comment of three hashes: of all that it was drawn of, of the drawing, of the PNG beside it.
What was drawn of other values, by other code or libraries, or was changed since by anybody, is drawn anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from harness import ROOT
from harness.report.figures.values import Picture

HERE = "harness/report/figures"
ALSO = ("harness/report/formats.py", "harness/measure/tuning_curve.py")  # what drawings are made with besides
LIBRARIES = ("matplotlib", "numpy", "pillow")
SEAL = re.compile(rb"<!-- drawn of ([0-9a-f]{16}), as ([0-9a-f]{16}) beside ([0-9a-f]{16}) -->\n\Z")


@dataclass(frozen=True)
class Sketch:
    """All that a figure is drawn of."""

    title: str
    caption: str
    by: str  # the function that draws it: `scatter.accuracy_time`
    values: tuple[Any, ...]  # its arguments before title and caption, plain values
    more: Mapping[str, Any]  # and those after

    def identity(self) -> str:
        """The same for the same values, code and libraries."""
        told = [self.by, self.title, self.caption, self.values, dict(self.more), drawing()]
        return _hash(json.dumps(told, default=_plain).encode())

    def draw(self, *, slide: bool = False) -> Picture:
        """slide: its PNG as fine as slides want it."""
        from harness.report.figures import style  # matplotlib takes long to import, and drawing longer

        module, _, name = self.by.partition(".")
        make = getattr(import_module(f"{HERE.replace('/', '.')}.{module}"), name)
        with style.styled(style.SLIDE_DPI if slide else style.DPI):
            figure = make(*self.values, title=self.title, caption=self.caption, **self.more)
            return style.picture(figure, self.title, self.caption)

    def drawn(self, at: Path, *, png: bool = True) -> Picture:
        """The picture whose files are `at` with the endings .svg and .png; drawn where those are not of this sketch.

        png: whether its PNG is wanted; else that may be another or none.  Raises OSError.
        """
        identity = self.identity()
        return _lying(at, self, identity, png=png) or sealed(self.draw(), identity)


def sealed(picture: Picture, identity: str) -> Picture:
    seal = f"<!-- drawn of {identity}, as {_hash(picture.svg)} beside {_hash(picture.png)} -->\n"
    return Picture(picture.title, picture.caption, picture.svg + seal.encode(), picture.png)


def unsealed(svg: bytes) -> bytes:
    """The drawing alone."""
    return SEAL.sub(b"", svg)


def _lying(at: Path, sketch: Sketch, identity: str, *, png: bool) -> Picture | None:
    """What was drawn of this sketch and lies there as it was written; None where a file that is wanted is another."""
    svg, beside = (_read(at.with_name(f"{at.name}.{kind}")) for kind in ("svg", "png"))
    seal = SEAL.search(svg)
    if seal is None or (seal[1].decode(), seal[2].decode()) != (identity, _hash(unsealed(svg))):
        return None
    return None if png and seal[3].decode() != _hash(beside) else Picture(sketch.title, sketch.caption, svg, beside)


def _read(path: Path) -> bytes:
    """Nothing where there is no such file."""
    return path.read_bytes() if path.is_file() else b""


@cache
def drawing() -> str:
    """Hash of the code and the versions of the libraries that draw."""
    files = [*sorted((ROOT / HERE).glob("*.py")), *(ROOT / name for name in ALSO)]
    versions = [f"{name} {version(name)}".encode() for name in LIBRARIES]
    return _hash(b"\0".join([*versions, *(file.read_bytes() for file in files)]))


def _plain(value: Any) -> Any:
    """As JSON can say it.  Raises TypeError for what is no plain value."""
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, _hash(np.ascontiguousarray(value).tobytes())]
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a figure is drawn of plain values, got {type(value).__name__}")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
