"""Saying the caption of an image word by word from regions: the text generation loss of VSRN (Li et al., ICCV 2019).

A GRU reads the regions, another writes the caption while it attends to what the first one read.  It always goes on
from the true words before (teacher forcing), so nothing is generated and no search is needed.

Departs from the official code: as many steps as the longest caption of the batch has words, not 59, which changes no
number; padded regions are neither read nor attended to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import TextBatch
from models.encoders import ForwardGRU


class Captioner(nn.Module):
    """Encoder and decoder with additive attention; drops out inputs of both GRUs in training.

    Weights of the region and word maps are Xavier-normal, everything else is PyTorch's initialisation.
    """

    def __init__(self, dim: int, vocabulary: int, word_dim: int = 300, hidden: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        self.region_map = nn.Linear(dim, hidden)
        self.reader = ForwardGRU(hidden, hidden)
        self.word_vectors = nn.Embedding(vocabulary, word_dim)
        self.attention = nn.Linear(2 * hidden, hidden)  # of [read ; state]
        self.relevance = nn.Linear(hidden, 1, bias=False)
        self.writer = nn.GRUCell(word_dim + hidden, hidden)
        self.word_map = nn.Linear(hidden, vocabulary)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_normal_(self.region_map.weight)
        nn.init.xavier_normal_(self.word_map.weight)

    def forward(self, regions: Tensor, mask: Tensor, texts: TextBatch) -> Tensor:
        """Negative log-likelihood of the captions, summed over words and divided by the number of captions.

        regions: (B, R, d), mask: (B, R) bool with the real regions first; captions of L words, the first of which is
        given.  After its last word a caption must end: padding is expected there, once.  Returns ().
        """
        states = self.states(regions, mask, texts.tokens)
        following = F.pad(texts.tokens[:, 1:], (0, 1))  # (B, L), 0 after the last word
        logits = self.word_map(states[texts.mask])  # (M, V), M words that are followed by something
        return F.cross_entropy(logits.float(), following[texts.mask], reduction="sum") / len(texts)

    def states(self, regions: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """The writer's states after each true word.  regions: (B, R, d), mask: (B, R), tokens: (B, L) -> (B, L, h)."""
        regions = regions.masked_fill(~mask[..., None], 0.0)
        read, state = self.reader(self.dropout(self.region_map(regions)), mask)  # (B, R, h), (B, h)
        of_read, of_state = self.attention.weight.chunk(2, dim=1)  # of the map of [read ; state], one part each
        known = F.linear(read, of_read, self.attention.bias)  # (B, R, h), the same in every step
        written = []
        for word in self.word_vectors(tokens).unbind(1):  # (B, E), steps in time
            relevance = self.relevance((known + F.linear(state, of_state)[:, None]).tanh()).squeeze(2)  # (B, R)
            weights = relevance.masked_fill(~mask, float("-inf")).softmax(1)
            seen = (weights[:, None] @ read).squeeze(1)  # (B, h)
            state = self.writer(self.dropout(torch.cat([word, seen], 1)), state)
            written.append(state)
        return torch.stack(written, 1)
