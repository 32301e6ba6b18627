"""Weights, what they read, and training state on disk: written whole or not at all, tensors and plain values only."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from harness import contents
from harness.atomic import write_atomically


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or belongs to something else."""


def load_weights(key: str, folder: Path) -> dict[str, torch.Tensor]:
    """The stored weights of a job of a results folder, by the names of its model's state.  Raises CheckpointError."""
    try:
        return load_file(Checkpoints(folder / "checkpoints" / key).best)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the weights of {key} cannot be used: {error}") from None


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one job: `last.pt` to go on from, `best.safetensors` and `vocabulary.npz` to measure."""

    folder: Path

    @property
    def last(self) -> Path:
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def vocabulary(self) -> Path:
        return self.folder / "vocabulary.npz"

    def save_vocabulary(self, words: Sequence[str], captions: np.ndarray) -> None:
        """What the weights are about to read; a megabyte or so for 100,000 captions.  Raises Unwritable.

        words: spelling of each token number.  captions: (M, L) training captions as numbers.
        """
        letters = np.frombuffer("\n".join(words).encode(), np.uint8)
        numbers = captions.astype(np.min_scalar_type(int(captions.max(initial=0))))
        arrays: dict[str, Any] = {"words": letters, "captions": numbers}
        write_atomically(self.vocabulary, lambda file: np.savez_compressed(file, **arrays))

    def load_vocabulary(self) -> tuple[tuple[str, ...], np.ndarray]:
        """As it was saved, numbers as int32.  Raises CheckpointError where it is missing or damaged."""
        try:
            with np.load(self.vocabulary, allow_pickle=False) as stored:
                words, captions = bytes(stored["words"]).decode(), stored["captions"]
            if captions.ndim != 2 or captions.dtype.kind != "u":
                raise ValueError(f"captions are {captions.dtype} of shape {captions.shape}")
        except Exception as error:  # whatever numpy and zipfile make of what is damaged
            raise CheckpointError(f"{self._named(self.vocabulary)}: {' '.join(str(error).split())[:200]}") from None
        return tuple(words.split("\n")) if words else (), captions.astype(np.int32)

    @property
    def digest(self) -> str:
        """32 hex digits of the weights and what they read.  Raises CheckpointError where one is missing."""
        both = self._digest(self.best) + self._digest(self.vocabulary)
        return hashlib.blake2b(both.encode(), digest_size=16).hexdigest()

    def _digest(self, path: Path) -> str:
        try:
            return contents.digest(path)
        except OSError as error:
            raise CheckpointError(f"{self._named(path)}: {error.strerror or error}") from None

    def _named(self, path: Path) -> str:
        return f"{path.name} of {self.folder.name} cannot be used"

    def save_last(self, state: dict[str, Any]) -> None:
        """state: nested plain containers of tensors, numbers and strings.  Raises Unwritable."""
        write_atomically(self.last, partial(_save, state))

    def load_last(self, device: str) -> dict[str, Any] | None:
        """None where there is none.  Raises CheckpointError where it is damaged."""
        if not self.last.exists():
            return None
        try:
            return torch.load(self.last, map_location=device, weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{self.last.name} of {self.folder.name} cannot be read (--force trains anew): {error}"
            ) from None

    def save_best(self, model: nn.Module) -> None:
        """Raises Unwritable."""
        weights = save({name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()})
        write_atomically(self.best, lambda file: file.write(weights))

    def load_best(self, model: nn.Module) -> None:
        """Weights into `model`.  Raises CheckpointError where they are missing, damaged or of another model."""
        try:
            model.load_state_dict(load_file(self.best))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{self._named(self.best)}: {error}") from None

    def finish(self) -> None:
        """The run is recorded: nothing is left to go on from, the best weights and their vocabulary stay."""
        for left in (self.last, *self.folder.glob(".*.tmp")):  # what a killed process was writing included
            left.unlink(missing_ok=True)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _save(state: dict[str, Any], file: BinaryIO) -> None:
    """Raises OSError as the file does: torch says of a full disk that a position was not expected."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
