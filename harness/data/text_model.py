"""A pretrained BERT-layout text model as the words' front end: its word pieces and its last hidden states.

Any model `transformers.AutoModel` loads from a local folder or the hub, frozen (the default) or fine-tuned.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from harness.data.split import DataError


class WordPieces:
    """The model's own tokenizer; padding is written as 0 whatever number the model uses."""

    def __init__(self, name: str) -> None:
        self._tokenizer = _loaded(AutoTokenizer, name)
        assert isinstance(self._tokenizer, PreTrainedTokenizerBase)
        if self.size <= len(self._tokenizer.all_special_ids):  # without its files the library makes an empty one
            raise DataError(f"text model {name} cannot be loaded: its tokenizer has no words, are its files missing?")
        if self._tokenizer.pad_token_id != 0:
            raise DataError(
                f"text model {name} pads with token {self._tokenizer.pad_token_id}, a BERT layout pads with 0"
            )

    @property
    def size(self) -> int:
        return len(self._tokenizer)

    def encode(self, caption: str) -> list[int]:
        """[CLS] pieces [SEP]"""
        return list(self._tokenizer(caption)["input_ids"])  # type: ignore[arg-type]


class TokenStates(nn.Module):
    """Last hidden states.  A frozen model stays in eval mode (no dropout) and gets no gradient."""

    def __init__(self, name: str, train_weights: bool) -> None:
        super().__init__()
        self.model = _loaded(AutoModel, name)
        self.width = int(self.model.config.hidden_size)
        self.train_weights = train_weights
        self.model.requires_grad_(train_weights)
        self.train(self.training)

    def train(self, mode: bool = True) -> TokenStates:
        super().train(mode)
        if not self.train_weights:
            self.model.eval()
        return self

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """tokens, mask: (B, L).  Returns (B, L, width)."""
        with torch.set_grad_enabled(self.train_weights and torch.is_grad_enabled()):
            return self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state


def _loaded(kind, name: str):
    """A folder that lacks files, or a name no hub answers to, becomes one clear line."""
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").exists():
        raise DataError(f"text model folder {name} has no config.json")
    logging.disable_progress_bar()  # of reading a file that lies on the disk
    try:
        return kind.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise DataError(f"text model {name} cannot be loaded: {str(error).splitlines()[0]}") from None
