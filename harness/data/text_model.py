"""A pretrained text model as the words' front end: its word pieces and its last hidden states.

Any encoder in the layout of BERT or RoBERTa (XLM-R, CamemBERT) that `transformers.AutoModel` loads from a
local folder or the hub, frozen (the default) or fine-tuned; or `minilm`, which a package brings
(`spec.text_models`).  While a row is trained and ranked, the states of a frozen model are computed once per caption,
whatever row reads it, and kept on disk by content.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from harness import contents
from harness.data import kept, pretrained
from harness.data.split import DataError
from harness.spec import text_models

LEAST_POSITIONS = 3  # [CLS], a piece, [SEP]
BEGINS = ("\u0120", "\u2581")  # the marks of a piece that begins a word, of byte-level BPE and of SentencePiece
OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "mpnet",
)  # begin after padding


def positions(config: PreTrainedConfig) -> int | None:
    """How many tokens a model reads: its position embeddings, less those before the first token; None = no limit."""
    count = getattr(config, "max_position_embeddings", None)
    if count is None or config.model_type not in OFFSET_POSITIONS:
        return count
    return count - 1 - (config.pad_token_id or 0)


def spelled(pieces: Sequence[str], special: Collection[str]) -> tuple[str, ...]:
    """`Gdog` or `_dog` (with the marks of `BEGINS`) -> dog, `ing` -> ##ing; BERT's own and special ones as they are."""
    if not any(piece.startswith(BEGINS) for piece in pieces):
        return tuple(pieces)
    return tuple(
        piece if piece in special else piece[1:] if piece.startswith(BEGINS) else f"##{piece}" for piece in pieces
    )


class WordPieces:
    """The model's own tokenizer; padding is written as 0 whatever number the model uses."""

    def __init__(self, name: str) -> None:
        self._tokenizer = _loaded(AutoTokenizer, name)
        assert isinstance(self._tokenizer, PreTrainedTokenizerBase)
        if self.size <= len(self._tokenizer.all_special_ids):  # without its files the library makes an empty one
            raise DataError(f"text model {name} cannot be loaded: its tokenizer has no words, are its files missing?")
        self.unknown: int | None = self._tokenizer.unk_token_id  # type: ignore[assignment]
        self.longest = positions(_loaded(AutoConfig, name))
        if self.longest is not None and self.longest < LEAST_POSITIONS:
            raise DataError(f"text model {name} reads {self.longest} tokens, need {LEAST_POSITIONS} or more")

    @property
    def size(self) -> int:
        return len(self._tokenizer)

    @property
    def spelled(self) -> tuple[str, ...]:
        """Pieces as BERT writes them, whichever mark the model has for the beginning of a word."""
        pieces = self._tokenizer.convert_ids_to_tokens(range(self.size))
        return spelled(pieces, set(self._tokenizer.all_special_tokens))

    def encode(self, caption: str) -> list[int]:
        """[CLS] pieces [SEP]"""
        return list(self._tokenizer(caption)["input_ids"])  # type: ignore[arg-type]


class TokenStates(nn.Module):
    """Last hidden states.  A frozen model stays in eval mode (no dropout) and gets no gradient."""

    keeps = False  # whether states are kept on disk by their captions (`kept.keeping`), but of a model that is trained

    def __init__(self, name: str, train_weights: bool) -> None:
        super().__init__()
        self.model = _loaded(AutoModel, name)
        folder = Path(text_models.located(name))
        self._content = contents.digest(folder) if folder.is_dir() else ""
        self._shelf: kept.Shelf | None = None
        self.width = int(self.model.config.hidden_size)
        self.padding = int(self.model.config.pad_token_id or 0)
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
        plain = not torch.is_autocast_enabled(tokens.device.type)
        if self.keeps and self._content and plain and not self.train_weights:
            return self._kept(tokens, mask)
        return self._computed(tokens, mask)

    def _computed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.train_weights and torch.is_grad_enabled()):
            tokens = tokens.masked_fill(~mask, self.padding)
            return self.model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state

    def _kept(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """As `_computed`, of captions whose states are not on disk alone; zero where padded."""
        numbers, lengths = tokens.cpu().numpy(), mask.sum(1).tolist()
        captions = [numbers[row, :length] for row, length in enumerate(lengths)]  # real tokens come first

        def compute(rows: list[int]) -> list[np.ndarray]:
            states = self._computed(tokens[rows], mask[rows]).float().cpu().numpy()
            return [states[place, : lengths[row]] for place, row in enumerate(rows)]

        if self._shelf is None:
            self._shelf = kept.Shelf(kept.folder(f"{self._content}-{tokens.device.type}") / "states", self.width)
        found = self._shelf.of([kept.digest(caption.tobytes()) for caption in captions], compute)
        states = np.zeros((*numbers.shape, self.width), np.float32)
        for row, array in enumerate(found):
            states[row, : len(array)] = array
        return torch.from_numpy(states).to(tokens.device)


def _loaded(kind, name: str):
    """A folder that lacks files, or a name no hub answers to, becomes one clear line."""
    if text_models.missing(name):
        raise DataError(f"text model {name} needs `pip install 'selfalign-harness[{name}]'`")
    name = text_models.located(name)
    folder = Path(name)
    if folder.is_dir() and not (folder / pretrained.CONFIG).exists():
        raise DataError(f"text model folder {name} has no {pretrained.CONFIG}")
    try:
        return pretrained.loaded(kind, name)
    except (OSError, ValueError) as error:
        raise DataError(f"text model {name} cannot be loaded: {str(error).splitlines()[0]}") from None
