"""What a pretrained model reads: pictures and captions as its own processor and tokenizer make them.

Lengths are those its class was trained or is evaluated with, cut where it has fewer positions.  Classes that pool the
last position without a mask (SigLIP) were trained on captions padded to their length, which is part of the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.data.split import DataError
from harness.data.text_model import LEAST_POSITIONS, positions


@dataclass(frozen=True)
class Reading:
    """How captions of a class are read."""

    length: int  # tokens, both marks included
    padded: bool = False  # to the length, whatever the batch; no mask is given
    cleaned: bool = False  # as BLIP's scripts do before its tokenizer


READINGS: Mapping[str, Reading] = {
    "CLIPModel": Reading(77),  # Radford et al. 2021
    "SiglipModel": Reading(64, padded=True),  # Zhai et al. 2023
    "Siglip2Model": Reading(64, padded=True),  # Tschannen et al. 2025
    "ChineseCLIPModel": Reading(52),  # Yang et al. 2022, its evaluation script
    "AltCLIPModel": Reading(77),  # Chen et al. 2022
    "BlipForImageTextRetrieval": Reading(35, cleaned=True),  # Li et al. 2022, train_retrieval.py
    "Blip2ForImageTextRetrieval": Reading(32, cleaned=True),  # Li et al. 2023, LAVIS: max_txt_len
    "ViltForImageAndTextRetrieval": Reading(40),  # Kim et al. 2021: max_text_len
}
CLEANED_WORDS = 30  # of a caption, in BLIP's scripts
DROPPED = re.compile(r"([.!\"()*#:;~])")


def cleaned(caption: str) -> str:
    """Lower case, marks as blanks, one blank between words, 30 words at most (BLIP, `pre_caption`)."""
    return " ".join(DROPPED.sub(" ", caption.lower()).split()[:CLEANED_WORDS])


class Captions:
    """Captions -> input_ids and, where the model takes one, attention_mask; both (B, L) int64."""

    def __init__(self, tokenizer: Any, config: Any, kind: str, prompt: str) -> None:
        """Raises DataError where the tokenizer has no words or the model reads next to nothing."""
        self._tokenizer, self._reading, self.prompt = tokenizer, READINGS[kind], prompt
        if len(tokenizer) <= len(tokenizer.all_special_ids):  # without its files the library makes an empty one
            raise DataError(f"{kind}: its tokenizer has no words, are its files missing?")
        text = getattr(config, "qformer_config", None) or getattr(config, "text_config", None) or config
        most = positions(text)
        self.length = min(self._reading.length, most or self._reading.length)
        if self.length < LEAST_POSITIONS:
            raise DataError(f"{kind} reads {self.length} tokens, need {LEAST_POSITIONS} or more")

    @property
    def size(self) -> int:
        """Words and marks of the tokenizer."""
        return len(self._tokenizer)

    def number(self, token: str) -> int | None:
        """Of a token; None where the tokenizer does not have it."""
        return self._tokenizer.get_vocab().get(token)

    def read(self, strings: Sequence[str]) -> dict[str, Tensor]:
        texts = [f"{self.prompt} {text}".strip() for text in strings]
        if self._reading.cleaned:
            texts = [cleaned(text) for text in texts]
        found = self._tokenizer(
            texts,
            padding="max_length" if self._reading.padded else "longest",
            truncation=True,
            max_length=self.length,
            return_tensors="pt",
        )
        names = ("input_ids",) if self._reading.padded else ("input_ids", "attention_mask")
        return {name: found[name] for name in names}


class Pictures:
    """Pictures -> what the model's own image processor makes of them."""

    def __init__(self, processor: Callable[..., Any]) -> None:
        self._processor = processor

    @property
    def backend(self) -> str:
        """Which processor: those that resize by Pillow and by torchvision are not bit-identical."""
        return type(self._processor).__name__

    def read(self, pixels: Sequence[Tensor]) -> dict[str, Tensor]:
        """pixels: B of (3, H, W) uint8 RGB.  Raises DataError for a picture that the processor refuses."""
        try:
            found = self._processor(
                images=[picture.cpu().numpy() for picture in pixels],
                input_data_format="channels_first",
                return_tensors="pt",
            )
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise DataError(f"{self.backend} cannot read a picture: {str(error).splitlines()[0]}") from error
        return dict(found)
