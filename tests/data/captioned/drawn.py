"""Small pictures for tests of readers."""

import io

import numpy as np
from PIL import Image


def drawn(seed: int, ending: str = "PNG") -> bytes:
    """A noisy picture of 8 x 6 pixels, another one for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, ending)
    return file.getvalue()
