"""SelfAlign (Zhuang et al., IEEE TMM 2023): self-supervised fine-grained alignment, a module on an independent host.

Two losses make the fragments of both sides agree while each side is still encoded alone: words and regions that mean
the same get the same soft cluster (concept level), and a caption's gist is nearer to the regions of its own image
than to those of others (context level).  The context level also adds two blocks to each embedding; retrieval remains
an inner product.

Departs from the official code: padding is masked (`official_padding=True` brings back its treatment in training; ranked
captions have no padding), only fragments of real items enter the cluster assignment, and a batch of one pair normalises
by running statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor, nn

from harness.protocol import Encoded, ImageBatch, PairBatch, Retriever, TextBatch
from models.encoders import unit
from models.lessons import lifted, required
from models.norm import MaskedBatchNorm
from models.options import above_zero, at_least, one_of
from models.pooling import masked_mean
from models.retrievers import Independent
from models.rows import moved, real

RECIPE = 1
ADDED = ("own_negatives",)
PAPER = (
    "Zhuang et al., Towards Fast and Accurate Image-Text Retrieval with Self-Supervised Fine-Grained Alignment, "
    "IEEE TMM 2023, arXiv 2308.14009"
)

NAME = "SelfAlign"
TEACHERS = ("argmax", "attention")
DIRECTIONS = ("both", "text-to-image", "image-to-text")
GATES = ("learned", "zero", "one", "mean")
SPAN = 42.0  # of logits: e^-84 is still a float32, as products of two factors may be; unit vectors at eps 0.05 span 40
OWN = -10.0  # what stands in for a query's own fragments among its negatives, after the division by the temperature


@dataclass(frozen=True)
class Options:
    """Every switch of the module.  Raises ValueError for a choice that is not known or a number out of range."""

    concept: bool = True  # the concept level
    context: bool = True  # the context level; both off = the host alone
    prototypes: int = 1024  # K
    sinkhorn_iterations: int = 2  # 0 = each region's softmax over the prototypes
    eps: float = 0.05  # temperature of the regions' assignment
    word_temperature: float = 0.1
    freeze_epochs: int = 0  # the prototypes get no gradient in the first so many epochs
    teacher: str = "argmax"  # of a word: its nearest region, or all regions by "attention"
    directions: str = "both"  # of the context loss: both | text-to-image | image-to-text
    temperature: float = 0.7  # of the context loss
    negatives: int = 512  # the largest so many are kept, 0 = all
    own_negatives: bool = False  # an item's own fragments are not kept apart from its negatives, the positive included
    gate: str = "learned"  # share of the mean fragment in the fused one: learned | zero | one | mean
    relu: bool = True  # on guide and locals
    retrieval_blocks: bool = True  # the context blocks score in retrieval too, not in training alone
    concept_weight: float = 1.0
    context_weight: float = 1.0
    official_padding: bool = False  # padding counts as fragments on the context level; ranked captions have none

    def __post_init__(self) -> None:
        one_of("teacher", self.teacher, TEACHERS)
        one_of("directions", self.directions, DIRECTIONS)
        one_of("gate", self.gate, GATES)
        at_least("prototypes", self.prototypes, 1)
        for option in ("sinkhorn_iterations", "freeze_epochs", "negatives", "concept_weight", "context_weight"):
            at_least(option, getattr(self, option), 0)
        for option in ("eps", "word_temperature", "temperature"):
            above_zero(option, getattr(self, option))


# Concept level


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int, eps: float) -> Tensor:
    """Soft clusters of about equal size (Sinkhorn-Knopp, as in SwAV, Caron et al. 2020).

    scores: (M, K), M fragments against K prototypes -> (M, K) assignments, rows sum to 1, without gradient.  A factor
    per prototype and one per fragment scale the exponentials, which are computed once.  Where logits lie further apart
    than `SPAN`, all is done in logarithms, where no eps can overflow.
    """
    logits = scores / eps
    lowest, highest = logits.aminmax()
    if not iterations or highest - lowest > SPAN:
        for _ in range(iterations):
            logits = logits.log_softmax(0).log_softmax(1)
        return logits.softmax(1)
    plan = logits.sub_(highest).exp_()
    fragments, prototypes = plan.shape
    of_prototypes, of_fragments = plan.new_ones(prototypes), plan.new_ones(fragments)
    for _ in range(iterations):
        of_prototypes = fragments / prototypes / (of_fragments @ plan)  # equal prototypes, then equal fragments
        of_fragments = 1 / (plan @ of_prototypes)
    return plan.mul_(of_prototypes).mul_(of_fragments[:, None])


def word_targets(
    similarity: Tensor, word_mask: Tensor, assignments: Tensor, teacher: str, temperature: float
) -> Tensor:
    """The cluster assignment each real word should have, by the regions of its own image.

    similarity: (B, L, R) words x regions, -inf at padded regions; word_mask: (B, L) bool; assignments: (B, R, K).  The
    teacher "argmax" is the nearest region, "attention" the mixture by softmax(similarity / temperature).  Returns
    (W, K) of W real words.
    """
    if teacher == "attention":
        return ((similarity / temperature).softmax(2) @ assignments)[word_mask]
    item, word = word_mask.nonzero(as_tuple=True)
    return assignments[item, similarity[item, word].argmax(1)]


def concept_loss(
    regions: Tensor,
    region_mask: Tensor,
    words: Tensor,
    word_mask: Tensor,
    prototypes: Tensor,
    *,
    iterations: int = 2,
    eps: float = 0.05,
    temperature: float = 0.1,
    teacher: str = "argmax",
) -> Tensor:
    """Cross-entropy of the words' clusters against those of their regions (TMM 2023, local concept alignment).

    regions: (B, R, d), words: (B, L, d), prototypes: (K, d), all unit rows; masks: (B, R), (B, L) bool.  Mean over a
    caption's real words, then over captions; gradients reach words and prototypes only.  Returns ().
    """
    with torch.no_grad():
        similarity = (words @ regions.transpose(1, 2)).masked_fill(~region_mask[:, None], float("-inf"))  # (B, L, R)
        assignments = _assigned(regions, region_mask, prototypes, iterations, eps)  # (B, R, K)
        targets = word_targets(similarity, word_mask, assignments, teacher, temperature)  # (W, K), W real words
        share = (word_mask / word_mask.sum(1, keepdim=True).clamp(min=1))[word_mask]  # (W,) of a word in its caption
    real_words = moved(words.flatten(0, 1), *real(word_mask))  # (W, d)
    predicted = (real_words / temperature @ prototypes.T).log_softmax(1)  # (W, K)
    return -((targets * predicted).sum(1) @ share.to(predicted)) / len(words)


def _assigned(regions: Tensor, mask: Tensor, prototypes: Tensor, iterations: int, eps: float) -> Tensor:
    """Clusters of the real regions, (B, R, K); padding gets no share of them, and zero."""
    if mask.all():
        return sinkhorn(regions.flatten(0, 1) @ prototypes.T, iterations, eps).view(*mask.shape, -1)
    assignments = regions.new_zeros(*mask.shape, len(prototypes))
    assignments[mask] = sinkhorn(regions[mask] @ prototypes.T, iterations, eps)
    return assignments


class ConceptAlignment(nn.Module):
    """The prototypes, and the loss that makes a word choose those of its region."""

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.prototypes = nn.Parameter(unit(torch.randn(options.prototypes, dim)))

    def forward(self, images: Encoded, texts: Encoded, epoch: int) -> Tensor:
        """Loss () of the fragments of B matching pairs, never in half precision: exponents reach 1 / eps."""
        if self.training:
            with torch.no_grad():
                self.prototypes.copy_(unit(self.prototypes))
        regions, region_mask = required(images, "images", "fragments", self.prototypes.shape[1], NAME)
        words, word_mask = required(texts, "texts", "fragments", self.prototypes.shape[1], NAME)
        frozen = epoch < self.options.freeze_epochs
        with torch.autocast(device_type=words.device.type, enabled=False):
            return concept_loss(
                unit(lifted(regions)),
                region_mask,
                unit(lifted(words)),
                word_mask,
                self.prototypes.detach() if frozen else self.prototypes,
                iterations=self.options.sinkhorn_iterations,
                eps=self.options.eps,
                temperature=self.options.word_temperature,
                teacher=self.options.teacher,
            )


# Context level


def context_loss(
    guides: Tensor, fragments: Tensor, mask: Tensor, temperature: float, negatives: int, own_negatives: bool = False
) -> Tensor:
    """InfoNCE of one side's gist against the other side's fragments (TMM 2023, context representation alignment).

    guides: (B, d) of one side, fragments: (B, N, d) of the other, unit rows; mask: (B, N) bool, padding is no key at
    all.  The `negatives` largest scores of other items' fragments are kept, 0 = all; a query's own fragments stay
    among them as `OWN`, or as they are with `own_negatives`. Mean over all real (query, own fragment).  Returns ().
    """
    places, back = real(mask)
    item = places // mask.shape[1]  # (W,) whose each real fragment is
    scores = lifted(guides @ moved(fragments.flatten(0, 1), places, back).T) / temperature  # (B, W)
    positives = scores.gather(0, item[None]).squeeze(0)  # (W,)
    others = scores if own_negatives else scores.masked_fill(_of(item, len(mask)), OWN)
    if 0 < negatives < others.shape[1]:
        others = others.topk(negatives, dim=1, sorted=False).values
    rest = others.logsumexp(1)  # (B,)
    return torch.nn.functional.softplus(rest[item] - positives).mean()  # -log(e^p / (e^p + e^rest))


def _of(item: Tensor, items: int) -> Tensor:
    """(B, W) bool, True where a fragment is an item's own.  item: (W,) whose each is."""
    return torch.arange(items, device=item.device)[:, None] == item


@dataclass(frozen=True)
class Context:
    """What the context level sees of one side; unit rows."""

    guide: Tensor  # (B, d) the mean fragment, mapped
    fragments: Tensor  # (B, N, d) the locals
    fused: Tensor  # (B, d) between mean fragment and guide
    mask: Tensor  # (B, N) bool, the fragments that count


class ContextHead(nn.Module):
    """Guide, locals and their fusion of one side."""

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.guide = nn.Linear(dim, dim)
        self.guide_norm = MaskedBatchNorm(dim)
        self.local_norm = MaskedBatchNorm(dim)
        if options.gate == "learned":
            self.gate = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, contextual: Tensor, mask: Tensor) -> Context:
        """contextual: (B, N, d) fragments after the host's context modelling, mask: (B, N) bool."""
        if self.options.official_padding:
            mask = torch.ones_like(mask)
        act = torch.relu if self.options.relu else nn.Identity()
        mean = masked_mean(contextual, mask)  # (B, d)
        guide = act(self.guide_norm(self.guide(mean)))  # (B, d)
        fragments = act(self.local_norm(contextual, mask))  # (B, N, d)
        share = self._share(mean, guide)
        fused = share * mean + (1 - share) * guide
        return Context(unit(guide), unit(fragments), unit(fused), mask)

    def _share(self, mean: Tensor, guide: Tensor) -> Tensor | float:
        """Of the mean in the fusion: (B, 1) in 0..1, or a constant."""
        if self.options.gate == "learned":
            return self.gate(torch.cat([mean, guide], 1)).sigmoid()
        return {"zero": 0.0, "one": 1.0, "mean": 0.5}[self.options.gate]


class ContextAlignment(nn.Module):
    """A head per side, the loss between them, and the blocks they add to the embeddings."""

    def __init__(self, dim: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.images = ContextHead(dim, options)
        self.texts = ContextHead(dim, options)

    def image_block(self, images: Context) -> Tensor:
        """(B, 2d) whose product with `text_block` is 0.5 <mean locals_v, fused_t> + 0.5 <fused_v, mean locals_t>."""
        return 0.5 * torch.cat([masked_mean(images.fragments, images.mask), images.fused], 1)

    def text_block(self, texts: Context) -> Tensor:
        """(B, 2d), see `image_block`."""
        return torch.cat([texts.fused, masked_mean(texts.fragments, texts.mask)], 1)

    def forward(self, images: Context, texts: Context) -> Tensor:
        """Loss () of B matching pairs, the mean over the directions asked for."""
        options = self.options
        loss = partial(
            context_loss,
            temperature=options.temperature,
            negatives=options.negatives,
            own_negatives=options.own_negatives,
        )
        terms = []
        if self.options.directions != "image-to-text":
            terms.append(loss(texts.guide, images.fragments, images.mask))
        if self.options.directions != "text-to-image":
            terms.append(loss(images.guide, texts.fragments, texts.mask))
        return torch.stack(terms).mean()


# The module on its host


class SelfAlign(Independent):
    """A host with fragment alignment; with both levels off it is the host and nothing else.

    A single embedding is lengthened by the context block (2d), so retrieval stays one matrix product; where images
    have K views the block is `shared` by all of them.  Raises ValueError for a host that is not independent, or that
    does not show its fragments.
    """

    def __init__(self, host: Independent, options: Options) -> None:
        if not isinstance(host, Independent):
            raise ValueError(
                f"SelfAlign needs an independent host, {type(host).__name__} is not: "
                "where scores come from the fragments of both sides, nothing can be indexed ahead of a query"
            )
        super().__init__(host.inputs)
        self.host = host
        self.options = options
        self.views = host.views
        dim = host.inputs.dim
        self.concept = ConceptAlignment(dim, options) if options.concept else None
        self.context = ContextAlignment(dim, options) if options.context else None

    def encode_images(self, images: ImageBatch) -> Encoded:
        encoded = self.host.encode_images(images)
        if self.context is None or not self._blocks:
            return encoded
        context = self._seen(encoded, "images", self.context.images)
        return self._extended(encoded, context, self.context.image_block(context))

    def encode_texts(self, texts: TextBatch) -> Encoded:
        encoded = self.host.encode_texts(texts)
        if self.context is None or not self._blocks:
            return encoded
        context = self._seen(encoded, "texts", self.context.texts)
        return self._extended(encoded, context, self.context.text_block(context))

    def similarity(self, images: Encoded, texts: Encoded) -> Tensor:
        return self.host.similarity(images, texts)

    def indexed(self, encoded: Encoded) -> Encoded:
        return self.host.indexed(encoded)

    def take(self, option: str, other: Retriever) -> None:
        self.host.take(option, other)

    def ranking_loss(self, scores: Tensor, batch: PairBatch) -> Tensor:
        return self.host.ranking_loss(scores, batch)

    def own_losses(self, images: Encoded, texts: Encoded, batch: PairBatch) -> dict[str, Tensor]:
        terms = dict(self.host.own_losses(self._bare(images), self._bare(texts), batch))
        if self.concept is not None:
            terms["concept"] = self.options.concept_weight * self.concept(images, texts, batch.epoch)
        if self.context is not None:
            seen = self._seen(images, "images", self.context.images), self._seen(texts, "texts", self.context.texts)
            terms["context"] = self.options.context_weight * self.context(*seen)
        return terms

    @property
    def _blocks(self) -> bool:
        """Whether embeddings carry the context block now."""
        return self.training or self.options.retrieval_blocks

    def _seen(self, encoded: Encoded, side: str, head: ContextHead) -> Context:
        """The context of an encoded side.

        In training `_extended` has kept it, for a second run would count twice in the running statistics.
        """
        if "selfalign_guide" in encoded.extras:
            return Context(*(encoded.extras[f"selfalign_{field.name}"] for field in fields(Context)))
        return head(*required(encoded, side, "contextual", self.inputs.dim, NAME))

    def _extended(self, encoded: Encoded, context: Context, block: Tensor) -> Encoded:
        """The encoding with the block (B, 2d) at the end of its embedding, or of what its views share."""
        embedding, shared, extras = encoded.embedding, encoded.shared, encoded.extras
        assert embedding is not None
        if embedding.ndim == 3 and self.views == 1:
            raise ValueError(f"{type(self.host).__name__} makes several views of an image but says `views` = 1")
        if self.training:
            seen = {f"selfalign_{field.name}": getattr(context, field.name) for field in fields(Context)}
            extras = {**extras, **seen}
        if self.views == 1:
            return replace(encoded, embedding=torch.cat([embedding, block], 1), extras=extras)
        return replace(encoded, shared=block if shared is None else torch.cat([shared, block], 1), extras=extras)

    def _bare(self, encoded: Encoded) -> Encoded:
        """What the host encoded, for its own losses."""
        if self.context is None or not self._blocks:
            return encoded
        assert encoded.embedding is not None
        width = 2 * self.inputs.dim
        if self.views == 1:
            return replace(encoded, embedding=encoded.embedding[:, :-width])
        assert encoded.shared is not None
        return replace(encoded, shared=encoded.shared[:, :-width] if encoded.shared.shape[1] > width else None)
