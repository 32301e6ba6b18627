"""CVSE (Wang et al., ECCV 2020): both sides also choose among concepts that a graph of co-occurring words places.

A score is 0.95 <f_v, f_t> + 0.05 <u_v, u_t>, with f the instance vector mixed with the consensus vector u; both lie in
one embedding, each scaled by the root of its share, so that retrieval stays one matrix product.

Departs from the paper:
- Concepts are the most frequent words of the training captions that are no function words (`STOP_WORDS`), as they are
  spelt, in place of 7 : 2 : 1 nouns, adjectives and verbs that a tagger finds and a lemmatiser matches.
- There are no GloVe vectors: a concept's node starts from the model's own, trained vector of that word.
- The labels of a caption are the concepts in that caption alone, in training too; the paper joins those of all captions
  of an image, which a batch does not show.  They are not completed by the labels of neighbouring test captions, which
  makes the published scores depend on the whole test set.
- The hinge of weight 3 is taken on the score, so that what is trained is what is searched (`consensus_share=0.0`: on f
  alone, as published; in the published code the share belongs to retrieval only).
- Regions are normalised per feature, as a set; the official code has a statistic for each place in the file.
- A linear map of the word vectors before the GRU, which SelfAlign needs of a host (`word_projection=False`: without).
  SelfAlign's blocks enter the score, and with it the hinge of weight 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, Retriever, TextBatch
from models.activations import tanh
from models.encoders import BiGRU, RegionProjection, WordVectors, unit
from models.kept import kept
from models.norm import MaskedBatchNorm
from models.options import at_least, between
from models.pooling import masked_mean
from models.retrievers import Independent
from models.rows import mapped

RECIPE = 1
PAPER = "Wang et al., Consensus-Aware Visual-Semantic Embedding for Image-Text Matching, ECCV 2020, arXiv 2007.08883"
VARIANTS: dict[str, dict] = {"": {}}

FUNCTION_WORDS = """
    a an the this that these those some any no every each all both few many much more most several other others another
    such same own half one two three four five six seven eight nine ten i me my mine you your yours he him his she her
    hers it its we us our ours they them their theirs himself herself itself themselves oneself something someone
    anything anyone nothing everyone everything who whom whose which what where when why how there here and or but nor
    so yet if then than as because while although though whilst until unless whether of in on at by for with without
    within about above across after against along alongside amid among amongst around away back before behind below
    beneath beside besides between beyond down during except from inside into like near next off onto out outside over
    past per through throughout to together toward towards under underneath up upon via is are was were be been being am
    has have had having do does did doing done can could may might must shall should will would not only just also very
    too again once still already now ever never even almost quite rather really well it's there's that's he's she's
    they're don't doesn't isn't aren't s t d m re ll ve
"""
STOP_WORDS = frozenset(FUNCTION_WORDS.split())
EPS = 1e-6  # added to the column sums of the graph


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a number out of range."""

    concepts: int = 300  # most there can be; fewer where the vocabulary has fewer
    graph_hidden: int = 512  # width between the two graph layers
    sharpness: float = 10.0  # of the choice among concepts
    label_share: float = 0.35  # of a caption's own concept words in its choice; the paper takes 0.4 for COCO
    instance_share: float = 0.85  # of the instance vector in f; the paper takes 0.9 for COCO in retrieval
    consensus_share: float = 0.05  # of <u_v, u_t> in a score
    hinge_weight: float = 3.0  # of the score
    instance_weight: float = 5.0  # of a hinge on the instance vectors
    consensus_weight: float = 1.0  # of a hinge on the consensus vectors
    agreement_weight: float = 2.0  # of the divergence between the concepts of an image and of its caption
    dropout: float = 0.4
    word_projection: bool = True  # Linear(E -> d) before the GRU

    def __post_init__(self) -> None:
        at_least("concepts", self.concepts, 1)
        at_least("graph_hidden", self.graph_hidden, 1)
        for option in ("sharpness", "hinge_weight", "instance_weight", "consensus_weight", "agreement_weight"):
            at_least(option, getattr(self, option), 0)
        for option in ("label_share", "instance_share", "consensus_share", "dropout"):
            between(option, getattr(self, option), 0, 1)


# Concepts and their graph, from training captions alone


def captions_with(tokens: Tensor, vocabulary: int) -> Tensor:
    """In how many captions each token occurs.  tokens: (M, L) integers -> (vocabulary,) int64."""
    ordered = tokens.sort(1).values
    first = F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)  # a repeated word counts once
    return ordered[first].bincount(minlength=vocabulary)


def chosen_concepts(words: Sequence[str], counts: Tensor, most: int) -> Tensor:
    """Tokens of the words in most captions, without function words and what is no word (`<unk>`, `[SEP]`, a
    full stop, a piece that begins none); ties go to the lower token.

    words: spelling of each token; counts: (vocabulary,) -> (C,) int64, C <= most.
    """
    candidates = [
        token
        for token, (word, count) in enumerate(zip(words, counts.tolist(), strict=True))
        if count and word not in STOP_WORDS and word[:1].isalnum()
    ]
    return torch.tensor(sorted(candidates, key=lambda token: -int(counts[token]))[:most], dtype=torch.int64)


def concept_labels(tokens: Tensor, places: Tensor, concepts: int) -> Tensor:
    """Which concepts a caption names.  tokens: (B, L), 0 where padded; places: (vocabulary,) int64, place of a token
    among the concepts, or their number where it is none -> (B, C) float32, 0 or 1."""
    found = torch.zeros(len(tokens), concepts + 1, device=tokens.device)
    return found.scatter_(1, places[tokens.long()], 1.0)[:, :concepts]


def named_together(tokens: Tensor, places: Tensor, concepts: int) -> Tensor:
    """How many captions name both of two concepts, on the diagonal: name the one.  tokens: (M, L) -> (C, C) float32."""
    blocks = (concept_labels(block, places, concepts) for block in tokens.split(8192))  # bounds the memory
    return torch.stack([block.T @ block for block in blocks]).sum(0)


def consensus_graph(together: Tensor) -> Tensor:
    """The normalised graph that carries messages between concepts (section 3.2; the constants are the official ones).

    together: (C, C) counts as of `named_together`.  With P_ab the share of the captions naming a that name b too, an
    edge leads where `5^(P_ab - 0.02) - 5^-0.02 >= 0.3`.  Returns D^-1/2 A^T D^-1/2 (C, C) for `A = I + 0.25 G / (column
    sums of G)` and D its row sums.
    """
    own = torch.eye(len(together))
    share = together / together.diagonal()[:, None] * (1 - own)
    edges = (5 ** (share - 0.02) - 5**-0.02 >= 0.3).float()
    weighted = own + 0.25 * edges / (edges.sum(0) + EPS)
    root = weighted.sum(1).rsqrt()
    return root[:, None] * weighted.T * root


class Concepts(nn.Module):
    """The concept words of a vocabulary, and two graph layers that turn their word vectors into concept vectors."""

    tokens: Tensor  # (C,) int64
    places: Tensor  # (vocabulary,) int64
    graph: Tensor  # (C, C)

    def __init__(self, inputs: Inputs, width: int, options: Options) -> None:
        """width: of a word vector.  Raises ValueError where there are no captions, spellings or concepts."""
        super().__init__()
        if inputs.caption_tokens is None or not inputs.words:
            raise ValueError(
                "CVSE chooses its concepts among the words of the training captions: its inputs need `caption_tokens` "
                "and `words`"
            )
        counts = captions_with(inputs.caption_tokens, inputs.vocabulary)
        tokens = chosen_concepts(inputs.words, counts, options.concepts)
        if not len(tokens):
            raise ValueError(f"none of the {inputs.vocabulary} words of the training captions can be a concept of CVSE")
        places = torch.full((inputs.vocabulary,), len(tokens)).scatter_(0, tokens, torch.arange(len(tokens)))
        self.register_buffer("tokens", tokens)
        self.register_buffer("places", places)
        self.register_buffer("graph", consensus_graph(named_together(inputs.caption_tokens, places, len(tokens))))
        self.inner = nn.Linear(width, options.graph_hidden, bias=False)
        self.outer = nn.Linear(options.graph_hidden, inputs.dim, bias=False)
        for layer in (self.inner, self.outer):
            nn.init.uniform_(layer.weight, -(layer.out_features**-0.5), layer.out_features**-0.5)

    def forward(self, words: WordVectors) -> Tensor:
        """Unit concept vectors, (C, d): `A lrelu(A X0 W1) W2` (eq. 3), where X0 are their vectors as words."""
        alone = TextBatch(self.tokens[:, None], torch.ones_like(self.tokens[:, None], dtype=torch.bool))
        hidden = F.leaky_relu(self.inner(self.graph @ words(alone)[:, 0]), 0.2)
        return unit(self.outer(self.graph @ hidden))

    def labels(self, texts: TextBatch) -> Tensor:
        """Which concepts captions name.  B captions -> (B, C) float32, 0 or 1."""
        return concept_labels(texts.tokens.masked_fill(~texts.mask, 0), self.places, len(self.tokens))


# The two levels


class AttentionPooling(nn.Module):
    """A mixture of fragments, each weighed by what it has in common with their gist (section 3.1)."""

    def __init__(self, dim: int, dropout: float, normalised: bool) -> None:
        super().__init__()
        self.local, self.gist = (nn.Linear(dim, dim) for _ in range(2))
        self.local_norm, self.gist_norm = (MaskedBatchNorm(dim) if normalised else None for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Linear(dim, 1, bias=False)  # a constant would cancel in the softmax

    def forward(self, fragments: Tensor, gist: Tensor, mask: Tensor) -> Tensor:
        """fragments: (B, N, d), gist: (B, d), mask: (B, N) bool -> (B, d) unit rows."""
        local, gist = self.local(fragments), self.gist(gist)
        if self.local_norm is not None and self.gist_norm is not None:
            local, gist = self.local_norm(local, mask), self.gist_norm(gist)
        common = self.dropout(tanh(local)) * self.dropout(tanh(gist))[:, None]  # (B, N, d)
        weights = self.score(common).squeeze(2).masked_fill(~mask, float("-inf")).softmax(1)
        return unit((weights[..., None] * fragments).sum(1))


class ConceptChoice(nn.Module):
    """Which concepts an instance vector calls for (section 3.3)."""

    def __init__(self, dim: int, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.concept, self.instance = (nn.Linear(dim, dim) for _ in range(2))
        self.concept_norm, self.instance_norm = (MaskedBatchNorm(dim) for _ in range(2))
        self.score = nn.Linear(dim, 1, bias=False)

    def keys(self, concepts: Tensor) -> Tensor:
        """What instances are held against.  concepts: (C, d) -> (C, d)."""
        return tanh(self.concept_norm(self.concept(concepts)))

    def forward(self, keys: Tensor, instances: Tensor) -> Tensor:
        """keys: (C, d) of the concepts, instances: (B, d) -> (B, C) logarithms of weights that sum to 1."""
        queries = tanh(self.instance_norm(self.instance(instances)))
        logits = (queries * self.score.weight) @ keys.T  # the score of every product of a query with a key
        return (self.sharpness * logits).log_softmax(1)


class CVSE(Independent):
    """Instance vectors by attention pooling, consensus vectors by a choice among concepts that both sides share."""

    embedding_parts = 2

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        self.options = options
        dim = inputs.dim
        self.regions = RegionProjection(inputs.image_dim, dim)
        self.image_pooling = AttentionPooling(dim, options.dropout, normalised=True)
        self.words = WordVectors(inputs)
        width = dim if options.word_projection else self.words.width
        self.word_dropout = nn.Dropout(options.dropout)
        self.projection = nn.Linear(self.words.width, width) if options.word_projection else None
        self.gru = BiGRU(width, dim)
        self.text_pooling = AttentionPooling(dim, options.dropout, normalised=False)
        self.concepts = Concepts(inputs, self.words.width, options)
        self.image_choice, self.text_choice = (ConceptChoice(dim, options.sharpness) for _ in range(2))

    def encode_images(self, images: ImageBatch) -> Encoded:
        regions = unit(self.regions(images.fragments))  # (B, R, d)
        instance = self.image_pooling(regions, masked_mean(regions, images.mask), images.mask)
        concepts, keys = self._concepts_for(self.image_choice)
        chosen = self.image_choice(keys, instance)
        return self._encoded(instance, concepts, chosen, fragments=regions, contextual=regions, mask=images.mask)

    def encode_texts(self, texts: TextBatch) -> Encoded:
        words = self.word_dropout(self.words(texts))  # (B, L, E)
        projected = None if self.projection is None else mapped(self.projection, words, texts.mask)  # (B, L, d)
        states = unit(self.gru(words if projected is None else projected, texts.mask))
        instance = self.text_pooling(states, unit(masked_mean(states, texts.mask)), texts.mask)
        concepts, keys = self._concepts_for(self.text_choice)
        named = (10.0 * self.concepts.labels(texts)).softmax(1)  # the same for all concepts where none is named
        share = self.options.label_share
        mixed = share * named + (1 - share) * self.text_choice(keys, instance).exp()
        chosen = mixed.clamp(min=1e-30).log()  # without a share of labels a weight may underflow
        return self._encoded(instance, concepts, chosen, fragments=projected, contextual=states, mask=texts.mask)

    def _concepts_for(self, choice: ConceptChoice) -> tuple[Tensor, Tensor]:
        """Concept vectors and keys of one side, (C, d) each, which no image and no caption changes."""

        def made() -> tuple[Tensor, Tensor]:
            concepts = self.concepts(self.words)
            return concepts, choice.keys(concepts)

        return kept(self, choice is self.text_choice, made)

    def _encoded(self, instance: Tensor, concepts: Tensor, chosen: Tensor, **fragments: Tensor | None) -> Encoded:
        """instance: (B, d), concepts: (C, d), chosen: (B, C) logarithms of weights -> embedding (B, 2d)."""
        consensus = unit(chosen.exp().to(concepts.dtype) @ concepts)  # (B, d)
        share = self.options.instance_share
        fused = unit(share * instance + (1 - share) * consensus)
        parts = [(1 - self.options.consensus_share) ** 0.5 * fused, self.options.consensus_share**0.5 * consensus]
        extras = {"instance": instance, "consensus": consensus, "log_weights": chosen}
        return Encoded(embedding=torch.cat(parts, 1), extras=extras, **fragments)

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        return self.options.hinge_weight * super().ranking_loss(scores, batch)

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        image, text = images.extras, texts.extras
        instance = super().ranking_loss(image["instance"] @ text["instance"].T, batch)
        consensus = super().ranking_loss(image["consensus"] @ text["consensus"].T, batch)
        # Kullback-Leibler divergence of the image's choice from the caption's, summed over the batch
        apart = (text["log_weights"].exp() * (text["log_weights"] - image["log_weights"])).sum()
        return {
            "instance": self.options.instance_weight * instance,
            "consensus": self.options.consensus_weight * consensus,
            "agreement": self.options.agreement_weight * apart,
        }


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs.  Raises ValueError where they lack `caption_tokens` or `words`."""
    return CVSE(inputs, options)
