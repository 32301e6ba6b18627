"""A folder of a transformers model -> the model in evaluation mode, with its tokenizer and image processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from harness.data import pretrained
from harness.data.split import DataError
from harness.pretrained.reading import Captions, Pictures
from harness.spec.pretrained import Pretrained

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Loaded:
    """Everything of a folder that a row needs."""

    kind: str
    model: Any  # a PreTrainedModel of that class
    captions: Captions
    pictures: Pictures
    digest: str  # of the folder

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())


def load(row: Pretrained) -> Loaded:
    """Raises DataError, one line, where a file is missing, damaged or of another class."""
    options = dict(row.options)
    if not row.folder.is_dir():
        raise DataError(f"{row.name}: the folder {row.folder} is not here")
    with _quiet():
        choices = {"output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": DTYPES[options["precision"]]}
        model, told = _read(getattr(transformers, row.kind), row, **choices)
        tokenizer = _read(transformers.AutoTokenizer, row)
        processor = _read(transformers.AutoImageProcessor, row)
    for what, names in (("lacks", told["missing_keys"]), ("has other sizes of", told["mismatched_keys"])):
        if wrong := sorted(name if isinstance(name, str) else name[0] for name in names):
            raise DataError(f"{row.name}: {row.folder} {what} {len(wrong)} weights of {row.kind}, first {wrong[0]}")
    model = model.eval().requires_grad_(False)
    try:
        captions = Captions(tokenizer, model.config, row.kind, options["prompt"])
    except DataError as error:
        raise DataError(f"{row.name}: {error}") from None
    return Loaded(row.kind, model, captions, Pictures(processor), row.digest)


def located(model: str) -> Path:
    """Where a model lies: the folder of that name, or that of the hub's cache once it is there.  Raises DataError."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    try:
        return pretrained.fetched(model)
    except (OSError, ValueError) as error:
        raise DataError(f"model {model} cannot be loaded: {str(error).splitlines()[0]}") from None


def _read(kind: Any, row: Pretrained, **choices: Any) -> Any:
    try:
        return kind.from_pretrained(row.folder, local_files_only=True, **choices)
    except Exception as error:  # damaged files raise whatever the reader of their format does
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DataError(f"{row.name}: {row.folder} cannot be loaded as {row.kind}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """What the library says while it reads a folder is ours to say, in one line or none."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
