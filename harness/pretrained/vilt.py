"""ViLT (Kim et al., ICML 2021): one transformer over words and patches together, so that every pair is a pass.

Nothing of an image can be reused but its patch embeddings, which are made once, picture by picture: in a batch of
pictures of several shapes its scores would depend on the padding.  Every pair is scored, which takes hours on a
benchmark; `data.test_images` keeps it small.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.pretrained.embedders import AT_ONCE, Frozen
from harness.protocol import Encoded, ImageBatch, PairScorer, TextBatch

SEED = 0  # the library draws which patches stay where a limit is set, and their order


class Vilt(Frozen, PairScorer):
    """A learned ranking score of an image with a caption."""

    def encode_images(self, images: ImageBatch) -> Encoded:
        """fragments: (B, N, d) patch embeddings with their positions, the first one for the whole picture."""
        embeddings = self.model.vilt.embeddings
        found = []
        for picture in self.pictures(images):
            inputs = self.on_device(self.loaded.pictures.read([picture]))
            with torch.random.fork_rng():
                torch.manual_seed(SEED)
                patches, _, _ = embeddings.visual_embed(
                    inputs["pixel_values"], inputs["pixel_mask"], max_image_length=self.model.config.max_image_length
                )
            found.append(patches[0])
        longest = max(map(len, found))
        mask = torch.stack([torch.arange(longest, device=self.place) < len(patches) for patches in found])
        return Encoded(
            fragments=torch.stack([F.pad(patches, (0, 0, 0, longest - len(patches))) for patches in found]), mask=mask
        )

    def encode_texts(self, texts: TextBatch) -> Encoded:
        """Token numbers: words are read beside the image alone."""
        strings = list(self.strings(texts))
        parts = []
        for start in range(0, len(strings), AT_ONCE):
            inputs = self.loaded.captions.read(strings[start : start + AT_ONCE])
            short = self.loaded.captions.length - inputs["input_ids"].shape[1]
            parts.append([F.pad(inputs[name], (0, short)) for name in ("input_ids", "attention_mask")])
        ids, mask = (torch.cat(part).to(self.place) for part in zip(*parts, strict=True))
        return Encoded(extras={"ids": ids, "attention": mask})

    def pairs(self, images: Encoded, texts: Encoded) -> Tensor:
        assert images.fragments is not None
        assert images.mask is not None
        words, patches = texts.extras["attention"], images.mask
        longest, most = int(words.sum(1).max()), int(patches.sum(1).max())
        found = self.model(
            input_ids=texts.extras["ids"][:, :longest],
            attention_mask=words[:, :longest],
            image_embeds=images.fragments[:, :most].to(self.dtype),
            pixel_mask=patches[:, :most].long(),
        )
        return found.logits[:, 0].float()
