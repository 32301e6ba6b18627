"""BLIP (Li et al., ICML 2022) and BLIP-2 (Li et al., ICML 2023): contrastive embeddings, then image-text matching.

As in BLIP's `train_retrieval.py`: the cosine of the embeddings (ITC) finds k candidates in each direction separately,
which are ordered by the sum of the matching logit (ITM) and the cosine.  An image passes the vision model once, and its
tokens are used for all its pairs.  The script replaces the first token of a caption by [ENC] before it matches
(`mark=enc`); the demo class of transformers keeps [CLS] (`mark=cls`).  Scores differ, so the option is in the record.

Departs from it: behind the k candidates the order of the cosines stays, where the script has ties.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.split import DataError
from harness.pretrained.embedders import AT_ONCE, Embedder, Frozen
from harness.pretrained.loading import Loaded
from harness.protocol import Encoded, ImageBatch, Staged, TextBatch
from models.retrievers import inner_product

MATCH = 1  # which of the two logits says that a pair matches


class Matcher(Frozen, Staged):
    """What both have in common: vision tokens and embeddings of images, tokens and embeddings of captions."""

    def __init__(self, loaded: Loaded, shortlist: tuple[int, int]) -> None:
        super().__init__(loaded)
        self.shortlist = shortlist

    def encode_images(self, images: ImageBatch) -> Encoded:
        parts = []
        for some in _split(list(self.pictures(images))):
            inputs = self.on_device(self.loaded.pictures.read(some))
            tokens = self.model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
            parts.append((tokens, image_embedding(self.model, tokens)))
        tokens, embedding = (torch.cat(part) for part in zip(*parts, strict=True))
        real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Encoded(embedding=embedding, fragments=tokens, mask=real)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        parts = []
        for some in _split(list(self.strings(texts))):
            inputs = self.on_device(self.loaded.captions.read(some))
            embedding = text_embedding(self.model, inputs)
            short = self.loaded.captions.length - inputs["input_ids"].shape[1]
            parts.append((embedding, *(F.pad(inputs[name], (0, short)) for name in ("input_ids", "attention_mask"))))
        embedding, ids, mask = (torch.cat(part) for part in zip(*parts, strict=True))
        return Encoded(embedding=embedding, extras={"ids": ids, "attention": mask})

    def first(self, images: Encoded, texts: Encoded) -> Tensor:
        return inner_product(images, texts)

    def pairs(self, images: Encoded, texts: Encoded) -> Tensor:
        """(B,) matching logit + cosine."""
        assert images.fragments is not None
        assert images.embedding is not None
        assert texts.embedding is not None
        mask = texts.extras["attention"]
        longest = int(mask.sum(1).max())  # captions are padded behind, which no mask lets through
        matched = self.matched(images.fragments.to(self.dtype), texts.extras["ids"][:, :longest], mask[:, :longest])
        views = images.embedding if images.embedding.ndim == 3 else images.embedding[:, None]  # (B, K, d)
        cosine = (views * texts.embedding[:, None]).sum(-1).amax(1)
        return matched.float() + cosine.float()

    def matched(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(B,) matching logits.  tokens: (B, N, d) of images.  ids, mask: (B, L) of captions."""
        raise NotImplementedError


class Blip(Matcher):
    """One text encoder, which reads a caption alone or looks at the image's tokens too."""

    def __init__(self, loaded: Loaded, shortlist: tuple[int, int], mark: str) -> None:
        """mark: enc | cls.  Raises DataError where [ENC] is wanted and there is none."""
        super().__init__(loaded, shortlist)
        self.first_token = enc_token(loaded) if mark == "enc" else None

    def matched(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        if self.first_token is not None:
            ids = ids.clone()
            ids[:, 0] = self.first_token
        states = self.model.text_encoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=tokens,
            encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device),
        ).last_hidden_state
        return self.model.itm_head(states[:, 0])[:, MATCH]


class Blip2(Matcher):
    """A Q-Former: learned queries look at the image's tokens, beside a caption where they are to match."""

    def matched(self, tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        queries = self.model.query_tokens.expand(len(tokens), -1, -1)
        count = queries.shape[1]
        seen = torch.ones(len(tokens), count, dtype=mask.dtype, device=mask.device)
        states = self.model.qformer(
            query_embeds=self.model.embeddings(input_ids=ids, query_embeds=queries),
            query_length=count,
            attention_mask=torch.cat([seen, mask], 1),
            encoder_hidden_states=tokens.to(queries.dtype),
            encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device),
        ).last_hidden_state
        return self.model.itm_head(states[:, :count].to(self.model.itm_head.weight.dtype)).mean(1)[:, MATCH]


class Contrastive(Embedder):
    """The first stage alone, as an independent row (`score=itc`); BLIP-2's images have a view per query."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__(loaded)
        self.views = hasattr(self.model, "qformer")

    def embedded_images(self, inputs: Mapping[str, Tensor]) -> Tensor:
        tokens = self.model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
        return image_embedding(self.model, tokens)

    def embedded_texts(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return text_embedding(self.model, inputs)

    @property
    def width(self) -> int:
        return int(self.model.config.image_text_hidden_size)


def image_embedding(model, tokens: Tensor) -> Tensor:
    """(B, d) of BLIP, (B, K, d) of BLIP-2, unit length.  tokens: (B, N, D) of its vision model."""
    if not hasattr(model, "qformer"):
        return F.normalize(model.vision_proj(tokens[:, 0]), dim=-1)
    queries = model.query_tokens.expand(len(tokens), -1, -1)
    states = model.qformer(
        query_embeds=queries,
        encoder_hidden_states=tokens.to(queries.dtype),
        encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device),
    ).last_hidden_state
    return F.normalize(model.vision_projection(states.to(model.vision_projection.weight.dtype)), dim=-1)


def text_embedding(model, inputs: Mapping[str, Tensor]) -> Tensor:
    """(B, d), unit length.  inputs: input_ids and attention_mask, (B, L)."""
    if not hasattr(model, "qformer"):
        return F.normalize(model.text_proj(model.text_encoder(**inputs).last_hidden_state[:, 0]), dim=-1)
    states = model.qformer(
        query_embeds=model.embeddings(input_ids=inputs["input_ids"]),
        query_length=0,
        attention_mask=inputs["attention_mask"],
    ).last_hidden_state
    return F.normalize(model.text_projection(states[:, 0].to(model.text_projection.weight.dtype)), dim=-1)


def enc_token(loaded: Loaded) -> int:
    """The number of [ENC]: the tokenizer's, or the last row of the embedding where that has rows beyond the tokenizer
    (BERT's words, then [DEC], then [ENC]: how BLIP was made).  Raises DataError where there is neither."""
    if (number := loaded.captions.number("[ENC]")) is not None:
        return number
    rows = int(loaded.model.config.text_config.vocab_size)
    if rows <= loaded.captions.size:
        raise DataError(f"{loaded.kind} has no [ENC] token; mark=cls matches by [CLS]")
    return rows - 1


def _split(items: list) -> list[list]:
    return [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]
