"""Methods by somebody else, as a file and as an installed package of one file."""

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


def written(folder: Path, name: str, text: str = INDEPENDENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(text)
    return file


def installed(folder: Path, distribution: str, module: str, name: str, text: str) -> None:
    """A package of one file, as an installer leaves it."""
    written(folder, module, text)
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{name} = {module}\n")
