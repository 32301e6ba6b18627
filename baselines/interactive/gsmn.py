"""GSMN, dense (Liu et al., CVPR 2020): cosines of blocks of features, passed along a graph of regions and one of words.

Every fragment is compared, block by block, with what it attends to on the other side; a graph convolution mixes these
comparisons among the fragments of one side, and a small network makes a number of each.  The score is the mean over the
regions plus the mean over the words.

In the official code both convolutions read the node's own comparison where its neighbours' are meant, so nothing
travels along the edges: `propagate="official"`; the published numbers were most likely produced that way.  It divides
the boxes by the image size in place whenever an image is read; here they stay as they are.  Its scalar weight per
kernel of the text graph cancels in the normalisation that follows and is left out, and so is the bias of the last map,
which shifts all scores alike.  What makes the kernels of an edge sum to 1 is a softmax of their logarithms here: the
same quotient, without 0 / 0 where all kernels underflow.

Published: batch 64 (Flickr30K) and 32 (COCO), lam 20 and 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from harness.protocol import Encoded, ImageBatch, Inputs, Retriever
from models import fused
from models.activations import tanh
from models.attention import (
    EPS,
    gram,
    products,
    unscaled_weights,
    without_padding,
)
from models.fragments import FragmentModel
from models.options import above_zero, at_least, one_of
from models.places import BOXES, grid_side, located

RECIPE = 2
PAPER = "Liu et al., Graph Structured Network for Image-Text Matching, CVPR 2020, arXiv 2004.00277"
VARIANTS: dict[str, dict] = {"": {}}
NEEDS = ("fragments", "boxes", "tokens")
SPARED = {"boxes": {"boxes": "grid"}}  # cells of a grid have known places

TILE = 2**23  # numbers in the attended vectors formed at once: a few such tensors fit the cache


@dataclass(frozen=True)
class Options:
    """Raises ValueError for a name that is not known, or a number out of its range."""

    propagate: str = "neighbours"  # what a graph convolution reads: neighbours | official, the node alone
    boxes: str = "stored"  # places of the regions: stored | grid, cells of a square grid, row by row
    lam: float = 20.0  # multiplies products before a softmax: over the context, and over the words of the text graph
    blocks: int = 16  # of features, compared one by one
    kernels: int = 8  # Gaussians over the place of a region as seen from another
    hidden: int = 32  # width after a graph convolution, shared out among the kernels

    def __post_init__(self) -> None:
        one_of("propagate", self.propagate, ("neighbours", "official"))
        one_of("boxes", self.boxes, BOXES)
        above_zero("lam", self.lam)
        at_least("blocks", self.blocks, 1)
        at_least("kernels", self.kernels, 1)
        if self.hidden < 1 or self.hidden % self.kernels:
            raise ValueError(f"hidden={self.hidden!r} must be a multiple of kernels={self.kernels!r}")


def centres(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Of boxes, as shares of width and height.  boxes: (B, R, 4) x1, y1, x2, y2, sizes: (B, 2) -> (B, R, 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2 / sizes[:, None]


class PolarKernels(nn.Module):
    """Gaussian kernels over distance and direction between regions, whose weights sum to 1 for every ordered pair."""

    def __init__(self, kernels: int) -> None:
        super().__init__()
        self.distance = nn.Parameter(torch.rand(kernels))
        self.distance_width = nn.Parameter(torch.rand(kernels))
        self.angle = nn.Parameter((2 * torch.rand(kernels) - 1) * math.pi)
        self.angle_width = nn.Parameter(torch.rand(kernels))

    def forward(self, centres: Tensor) -> Tensor:
        """centres: (X, R, 2) -> (X, R, R, K), how far each kernel answers for region j as seen from region i."""
        x, y = (centres[:, :, None] - centres[:, None]).unbind(-1)  # (X, R, R)
        distance, angle = torch.hypot(x, y)[..., None], torch.atan2(x, y)[..., None]
        turn = (angle - self.angle).abs()
        turn = torch.minimum(turn, (2 * math.pi - turn).abs())
        exponent = (distance - self.distance).square() / (1e-14 + self.distance_width.square())
        exponent = exponent + turn.square() / (1e-14 + self.angle_width.square())
        return (-exponent / 2).softmax(-1)


class GraphConvolution(nn.Module):
    """`concat_k(H_k sum_j e_ijk m_j)`, then a weight-normalised two-layer network: one number per fragment."""

    def __init__(self, options: Options, kernels: int, bias: bool) -> None:
        super().__init__()
        self.kernels = kernels
        self.alone = options.propagate == "official"
        self.project = nn.Linear(options.blocks, options.hidden, bias=bias)  # all H_k in one
        self.hidden = weight_norm(nn.Linear(options.hidden, options.hidden))
        self.out = weight_norm(nn.Linear(options.hidden, 1, bias=False))  # a bias would shift all scores alike

    def forward(self, matches: Tensor, edges: Tensor) -> Tensor:
        """matches: (G, blocks, O, N) of G items with N fragments, edges: (G, K, N, N) -> (G, O, N)."""
        items, _, others, count = matches.shape
        nodes = _mapped(self.project, matches.flatten(2)).view(items * self.kernels, -1, count)  # (G K, hidden/K O, N)
        edges = edges.flatten(0, 1)  # (G K, N, N)
        # alone a node's own comparison is weighed by the sum of its edges
        mixed = nodes * edges.sum(2)[:, None] if self.alone else nodes @ edges.mT
        hidden = tanh(_mapped(self.hidden, mixed.reshape(items, -1, others * count)))  # (G, hidden, O N)
        return _mapped(self.out, hidden).view(items, others, count)


def _mapped(linear: nn.Module, columns: Tensor) -> Tensor:
    """A linear map of features that lie in columns.  columns: (G, in, n) -> (G, out, n)."""
    weight, bias = (getattr(linear, name) for name in ("weight", "bias"))
    mapped = weight.expand(len(columns), -1, -1) @ columns
    return mapped if bias is None else mapped + bias[:, None]


def block_cosines(a: Tensor, b: Tensor, blocks: int) -> Tensor:
    """Cosines of blocks of features, 0 for a zero block; vectors are columns.

    a: (X, d, n), b: (d, n) -> (X, blocks, n).
    """
    a, b = a.unflatten(1, (blocks, -1)), b.unflatten(0, (blocks, -1))
    if fused.pays(a, b):
        return fused.block_cosines(a, b, EPS**2)
    lengths = (a.square().sum(2) * b.square().sum(1)).clamp(min=EPS**2).sqrt()
    return (a * b).sum(2) / lengths


class GSMN(FragmentModel):
    """Node matching by cross attention in both directions, then a graph convolution per side."""

    def __init__(self, inputs: Inputs, options: Options) -> None:
        super().__init__(inputs)
        if inputs.dim % options.blocks:
            raise ValueError(f"dim={inputs.dim} cannot be cut into blocks={options.blocks} of equal size")
        self.options = options
        self.kernels = PolarKernels(options.kernels)
        self.image_graph = GraphConvolution(options, options.kernels, bias=False)
        self.text_graph = GraphConvolution(options, 1, bias=True)  # its kernels would all weigh alike
        self.side = grid_side(options.boxes, inputs.regions)

    def encode_images(self, images: ImageBatch) -> Encoded:
        """`extras["centres"]`, (B, R, 2), says where the regions are, 0 where padded."""
        found = centres(*located(images, self.side, "GSMN")).expand(len(images), -1, -1)
        found = found.masked_fill(~images.mask[..., None], 0.0)
        return replace(super().encode_images(images), extras={"centres": found})

    def prepared(self, images: Encoded) -> Encoded:
        """With `extras["edges"]`, (B, K, R, R), 0 towards padding, in place of the centres they are made of."""
        if "edges" in images.extras:
            return images
        regions, mask = without_padding(images)
        edges = self.kernels(images.extras["centres"][:, : regions.shape[1]]).movedim(3, 1)  # (X, K, R, R)
        if mask is not None:
            edges = edges.masked_fill(~mask[:, None, None], 0.0)
        return replace(images, extras={"edges": edges})

    def tile_pairs(self, length: int) -> int:
        return TILE // (self.inputs.dim * (self.inputs.regions + length))

    def tile_scores(self, images: Encoded, texts: Encoded) -> Tensor:
        """(X, Y).  The images bring `edges`, (X, K, R, R), 0 towards padding."""
        regions, region_mask = without_padding(images)
        words, word_mask = without_padding(texts)
        relations = self.options.lam * gram(words)  # (Y, L, L)
        if word_mask is not None:
            relations = relations.masked_fill(~word_mask[:, None], float("-inf"))
        scores = products(regions, words)  # (X, R, L, Y)
        of_words = self._matches(words, regions, scores, region_mask)  # (Y, blocks, X, L)
        of_regions = self._matches(regions, words, scores.permute(3, 2, 1, 0).contiguous(), word_mask)
        text = self.text_graph(of_words, relations.softmax(2)[:, None])  # (Y, X, L)
        image = self.image_graph(of_regions, images.extras["edges"])  # (X, Y, R)
        return _mean(image, region_mask) + _mean(text, word_mask).T

    def _matches(self, queries: Tensor, context: Tensor, scores: Tensor, context_mask: Tensor | None) -> Tensor:
        """Block cosines of every query with what it attends to.

        queries: (Y, Q, d), context: (X, C, d), scores: their products (X, C, Q, Y) -> (Y, blocks, X, Q).
        """
        weights = unscaled_weights(scores, self.options.lam, "clipped_l2norm", None, context_mask).mT  # (X, C, Y, Q)
        columns = queries.flatten(0, 1).T.contiguous()  # (d, Y Q)
        cosines = block_cosines(context.mT @ weights.flatten(2), columns, self.options.blocks)  # (X, blocks, Y Q)
        return cosines.unflatten(2, weights.shape[2:]).permute(2, 1, 0, 3)


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Over the real fragments.  values: (G, O, N), mask: (G, N) -> (G, O)."""
    if mask is None:
        return values.mean(2)
    return values.masked_fill(~mask[:, None], 0.0).sum(2) / mask.sum(1, keepdim=True)


def build(inputs: Inputs, options: Options) -> Retriever:
    """An untrained model for these inputs."""
    return GSMN(inputs, options)
