"""Weights and training state on disk: written whole or not at all, holding tensors and plain values only."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from harness.record import atomic_path


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or belongs to something else."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one job: `last.pt` to go on from, `best.safetensors` to measure."""

    folder: Path

    @property
    def last(self) -> Path:
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    def save_last(self, state: dict[str, Any]) -> None:
        """state: nested plain containers of tensors, numbers and strings."""
        with atomic_path(self.last) as temporary:
            torch.save(state, temporary)

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
        with atomic_path(self.best) as temporary:
            save_file({name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}, temporary)

    def load_best(self, model: nn.Module) -> None:
        """Weights into `model`.  Raises CheckpointError where they are missing, damaged or of another model."""
        try:
            model.load_state_dict(load_file(self.best))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{self.best.name} of {self.folder.name} cannot be used: {error}") from None

    def finish(self) -> None:
        """The run is recorded: nothing is left to go on from, the best weights stay for timing."""
        for left in (self.last, *self.folder.glob(".*.tmp")):  # what a killed process was writing included
            left.unlink(missing_ok=True)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
