"""Methods by somebody else, as a file and as an installed package of one file."""

from collections.abc import Mapping
from pathlib import Path

from harness.spec import plugins

INDEPENDENT = '''"""Bags of words and means of regions, by somebody else."""
from dataclasses import dataclass
from torch import nn
from harness.protocol import Encoded
from models.encoders import WordVectors, unit
from models.pooling import masked_mean
from models.retrievers import Independent

FAMILY = "independent"
RECIPE = 1
PAPER = ""
HOSTS = False

@dataclass(frozen=True)
class Options:
    slope: float = 1.0

class Bags(Independent):
    def __init__(self, inputs):
        super().__init__(inputs)
        self.image = nn.Linear(inputs.image_dim, inputs.dim)
        self.vectors = WordVectors(inputs)
        self.word = nn.Linear(self.vectors.width, inputs.dim)
    def encode_images(self, images):
        return Encoded(embedding=unit(masked_mean(self.image(images.fragments), images.mask)))
    def encode_texts(self, texts):
        return Encoded(embedding=unit(masked_mean(self.word(self.vectors(texts)), texts.mask)))

def build(inputs, options):
    return Bags(inputs)
'''
INTERACTIVE = INDEPENDENT.replace('FAMILY = "independent"', 'FAMILY = "interactive"').replace(
    "class Bags(Independent):", 'class Bags(Independent):\n    family = "interactive"'
)


STRINGS = '''"""Captions as sums of hashed pieces of their letters; no token number is read."""
from dataclasses import dataclass
from zlib import crc32

import torch
from torch import nn

from harness.protocol import Encoded
from models.encoders import unit
from models.pooling import masked_mean
from models.retrievers import Independent

FAMILY = "independent"
RECIPE = 1
PAPER = ""
NEEDS = ("fragments", "strings")

@dataclass(frozen=True)
class Options:
    buckets: int = 199

class Letters(Independent):
    def __init__(self, inputs, options):
        super().__init__(inputs)
        self.image = nn.Linear(inputs.image_dim, inputs.dim)
        self.pieces = nn.EmbeddingBag(options.buckets, inputs.dim)
    def encode_images(self, images):
        return Encoded(embedding=unit(masked_mean(self.image(images.fragments), images.mask)))
    def encode_texts(self, texts):
        pieces = [[crc32(word.encode()) % self.pieces.num_embeddings for word in s.split()] for s in texts.strings]
        starts = torch.tensor([0, *map(len, pieces)]).cumsum(0)[:-1]
        device = self.pieces.weight.device
        flat = torch.tensor([piece for row in pieces for piece in row], device=device)
        return Encoded(embedding=unit(self.pieces(flat, starts.to(device))))

def build(inputs, options):
    return Letters(inputs, options)
'''
PIXELS = '''"""Colours that are seen against colours that are named; there is nothing to learn."""
from dataclasses import dataclass

import torch

from harness.protocol import Encoded, Untrained
from models.encoders import unit
from models.retrievers import inner_product

FAMILY = "independent"
RECIPE = 1
PAPER = ""
NEEDS = ("pixels", "strings")
COLOURS = {"red": (206, 43, 43), "blue": (45, 98, 214), "green": (46, 150, 72), "yellow": (240, 200, 30),
           "purple": (128, 56, 168), "orange": (240, 130, 25), "pink": (244, 140, 178)}

@dataclass(frozen=True)
class Options:
    pass

class Colours(Untrained):
    family = "independent"
    def __init__(self):
        super().__init__()
        self.register_buffer("colours", torch.tensor(list(COLOURS.values())).float())
    def encode_images(self, images):
        seen = []
        for picture in images.pixels:
            points = picture.flatten(1).T.to(self.colours)
            seen.append(((points[:, None] - self.colours).abs().amax(2) < 40).to(self.colours).mean(0))
        return Encoded(embedding=unit(torch.stack(seen) ** 0.5))
    def encode_texts(self, texts):
        named = torch.tensor([[float(colour in s.split()) for colour in COLOURS] for s in texts.strings])
        return Encoded(embedding=unit(named.to(self.colours)))
    def similarity(self, images, texts):
        return inner_product(images, texts)

def build(inputs, options):
    return Colours()
'''


def written(folder: Path, name: str, text: str = INDEPENDENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(text)
    return file


def installed(folder: Path, distribution: str, module: str, name: str, text: str) -> None:
    """A package of one file, as an installer leaves it."""
    written(folder, module, text)
    packaged(folder, distribution, plugins.GROUP, {name: module})


def packaged(folder: Path, distribution: str, group: str, points: Mapping[str, str]) -> None:
    """What an installer writes of the entry points of a package."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
