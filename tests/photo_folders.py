"""A folder of seven pictures with their captions, and the door that makes features of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import ViTConfig, ViTImageProcessor, ViTModel
from typer.testing import CliRunner

from harness import features
from harness.data.extracted.backbones import Backbone

SIZES = {f"p{i}.png": (40 + 3 * i, 31 + 5 * i) for i in range(7)}  # width, height; five train, one dev, one test
SPLITS = ("train",) * 5 + ("val", "test")


def write_pictures(folder: Path) -> Path:
    """Seven noisy pictures of different sizes."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / name)
    return folder


def write_captions(path: Path) -> Path:
    """Of those pictures: picture i has 1 + i % 3."""
    images = [
        {
            "filename": name,
            "imgid": i,
            "split": split,
            "sentences": [{"raw": f"picture {i}, {c}"} for c in range(1 + i % 3)],
        }
        for i, (name, split) in enumerate(zip(SIZES, SPLITS, strict=True))
    ]
    path.write_text(json.dumps({"images": images}))
    return path


def write_vit(folder: Path) -> Path:
    """A tiny ViT with random weights, made for pictures of 64 x 64."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=13, image_size=64, patch_size=16
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)
    return folder


def door(captions: Path, pictures: Path, out: Path, *more: object) -> tuple[int, str]:
    """Exit code and standard error of the command."""
    arguments = ["--captions", captions, "--pictures", pictures, "--out", out, *more]
    result = CliRunner().invoke(features.app, [str(a) for a in arguments], catch_exceptions=False)
    return result.exit_code, result.stderr.strip()


def grey_backbone(size: int = 8, stop_after: int | None = None, ceiling: float = 1.0) -> Backbone:
    """Means of the four quarters' colours; may be interrupted after so many batches."""
    looked = 0

    def cells(squares: Sequence[Image.Image]) -> Tensor:
        nonlocal looked
        if looked == stop_after:
            raise KeyboardInterrupt
        looked += 1
        pixels = torch.tensor(np.stack([np.asarray(s, dtype=np.float32) for s in squares])) / 255 * ceiling
        half = size // 2
        return pixels.unflatten(1, (2, half)).unflatten(3, (2, half)).mean((2, 4))  # (B, 2, 2, 3)

    return Backbone("quarters", size, (2, 2), 3, cells)


def stored(out: Path, split: str, kind: str = "ims") -> np.ndarray:
    return np.load(out / f"{split}_{kind}.npy")
