"""CAMERA: attention and views against twins written from the formulas, and what must not change them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.independent.camera import BRANCHES, CAMERA, Options, box_features, build, mixtures, overlap
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from models import selfalign
from models.agsa import GatedSelfAttention
from models.encoders import unit
from models.places import grid

pytestmark = pytest.mark.usefixtures("double")

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=14, word_dim=11)
SMALL = Options(heads=2, views=3)
COUNTS, LENGTHS = (5, 1, 3), (2, 7, 1)  # one region and one word included


def first(counts, longest):
    return torch.arange(longest) < torch.tensor(counts)[:, None]


def images(padding=0, rubbish=0.0):
    """Three images; padded fragments hold `rubbish`, padded boxes are none."""
    generator = torch.Generator().manual_seed(1)
    regions = torch.randn(3, 5, 13, generator=generator)
    corner, extent = (torch.rand(3, 5, 2, generator=generator) * 50 + 2 for _ in range(2))
    boxes = torch.cat([corner, corner + extent], 2)
    mask = first(COUNTS, 5 + padding)
    regions, boxes = (
        nn.functional.pad(x, (0, 0, 0, padding)).masked_fill(~mask[..., None], filler)
        for x, filler in ((regions, rubbish), (boxes, torch.nan))
    )
    return ImageBatch(regions, mask, boxes, torch.tensor([[110.0, 130.0], [170.0, 110.0], [190.0, 230.0]]))


def texts(padding=0, rubbish=0):
    tokens = torch.randint(1, 17, (3, 7), generator=torch.Generator().manual_seed(2))
    mask = first(LENGTHS, 7 + padding)
    return TextBatch(nn.functional.pad(tokens, (0, padding)).masked_fill(~mask, rubbish), mask)


def batch(**padding):
    return PairBatch(images(**padding), texts(**padding), torch.arange(3))


def model(inputs=INPUTS, **options):
    torch.manual_seed(0)
    return build(inputs, replace(SMALL, **options))


def encode(retriever, pairs):
    return retriever.encode_images(pairs.images), retriever.encode_texts(pairs.texts)


def losses(retriever, pairs):
    return retriever.losses(*encode(retriever, pairs), pairs)


# Parts


def slow_attention(layer, x, position):
    """One item, one query, one head at a time, from the formulas; evaluation mode."""
    z = x * position
    width = x.shape[1] // layer.heads
    heads = torch.zeros_like(x)
    for head in range(layer.heads):
        part = slice(head * width, (head + 1) * width)
        query, key, value = (linear(z)[:, part] for linear in (layer.query, layer.key, layer.value))
        gates = torch.sigmoid(layer.gate(layer.gate_query(query) * layer.gate_key(key)))
        query, key = query * gates[:, :width], key * gates[:, width:]
        for i in range(len(x)):
            scores = [math.exp(float(query[i] @ key[j]) / math.sqrt(width)) for j in range(len(x))]
            heads[i, part] = sum(score / sum(scores) * value[j] for j, score in enumerate(scores))
    norm = layer.norm
    return x + (heads - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias


@torch.no_grad()
def test_gated_self_attention_equals_its_slow_twin():
    torch.manual_seed(0)
    layer = GatedSelfAttention(14, heads=2).eval()
    for tensor in layer.norm.state_dict().values():
        nn.init.uniform_(tensor, 0.5, 2.0) if tensor.is_floating_point() else None
    x, position, mask = torch.randn(3, 5, 14), torch.rand(3, 5, 14), first(COUNTS, 5)
    out = layer(x, mask, position)
    for row, count in enumerate(COUNTS):
        torch.testing.assert_close(out[row, :count], slow_attention(layer, x[row, :count], position[row, :count]))
    assert not out[~mask].any()


def test_queries_keys_and_values_start_alike_and_part_in_training():
    layer = GatedSelfAttention(14, heads=2)
    assert torch.equal(layer.query.weight, layer.key.weight)
    assert torch.equal(layer.query.weight, layer.value.weight)
    assert len({id(parameter) for parameter in layer.parameters()}) == 14
    layer(torch.randn(3, 5, 14), first(COUNTS, 5)).square().sum().backward()
    assert not torch.allclose(layer.query.weight.grad, layer.key.weight.grad)


def test_where_a_box_is():
    boxes = torch.tensor([[[0.0, 0.0, 50.0, 20.0], [25.0, 10.0, 75.0, 10.5]]])
    expected = [[0.0, 0.0, 0.5, 0.5, 2.5, 0.25], [0.25, 0.25, 0.5, 0.0125, 50.0, 0.00625]]  # less than a pixel: as one
    torch.testing.assert_close(box_features(boxes, torch.tensor([[100.0, 40.0]])), torch.tensor([expected]))


def test_where_a_cell_of_a_grid_is():
    assert box_features(*grid(2))[0, 3].tolist() == [0.5, 0.5, 0.5, 0.5, 1.0, 0.25]


@torch.no_grad()
def test_the_views_equal_a_sum_over_taps():
    camera = model().eval()
    x = torch.randn(5, 14)
    joined = []
    for (channels, kernel, dilation), branch in zip(BRANCHES, camera.view_logits.branches, strict=True):
        out = branch.bias.expand(5, channels).clone()
        for r in range(5):
            for tap in range(kernel):
                seen = r + dilation * (tap - kernel // 2)
                if 0 <= seen < 5:
                    out[r] += branch.weight[:, :, tap] @ x[seen]
        joined.append(out.relu())
    logits = camera.view_logits.linear(torch.cat(joined, 1))  # (R, K)
    torch.testing.assert_close(camera.view_logits(x[None])[0], logits)
    weights = logits.exp() / logits.exp().sum(0)
    expected = unit(torch.stack([sum(weights[r, k] * x[r] for r in range(5)) for k in range(3)]))
    torch.testing.assert_close(mixtures(x[None], logits[None], first((5,), 5))[0], expected)


def test_views_of_different_regions_overlap_not_and_equal_views_do():
    apart = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [9.0, 9.0]]])
    alike = torch.tensor([[[2.0, 1.0], [4.0, 2.0], [9.0, -9.0]]])
    logits, mask = torch.cat([apart, alike]), first((2, 2), 3)  # the last region is padding
    torch.testing.assert_close(overlap(logits, mask), torch.tensor([0.0, 2.0]))  # off the diagonal: twice 1


# The whole


def test_shapes_and_lengths():
    encoded_images, encoded_texts = encode(model(), batch())
    assert encoded_images.embedding.shape == (3, 3, 14)
    torch.testing.assert_close(encoded_images.embedding.norm(dim=2), torch.ones(3, 3))
    torch.testing.assert_close(encoded_texts.embedding.norm(dim=1), torch.ones(3))
    for encoded, length in ((encoded_images, 5), (encoded_texts, 7)):
        assert encoded.fragments.shape == encoded.contextual.shape == (3, length, 14)


def test_the_best_view_counts():
    camera = model()
    encoded_images, encoded_texts = encode(camera, batch())
    scores = camera.similarity(encoded_images, encoded_texts)
    for i in range(3):
        for j in range(3):
            best = max((view @ encoded_texts.embedding[j]).item() for view in encoded_images.embedding[i])
            assert scores[i, j].item() == pytest.approx(best, abs=1e-6)


def test_one_view_is_a_plain_embedding():
    camera = model(views=1)
    assert encode(camera, batch())[0].embedding.shape == (3, 14)
    assert camera.similarity(*encode(camera, batch())).shape == (3, 3)


def test_the_diversity_term_is_the_weighted_sum_of_a_training_batch():
    camera = model(diversity_weight=0.5)
    encoded_images, encoded_texts = encode(camera, batch())
    terms = camera.losses(encoded_images, encoded_texts, batch())
    assert list(terms) == ["hinge", "diversity"]
    torch.testing.assert_close(terms["diversity"], 0.5 * encoded_images.extras["overlap"].sum())
    assert terms["diversity"] > 0
    assert not encode(camera.eval(), batch())[0].extras
    assert list(losses(camera, batch())) == ["hinge"]


@pytest.mark.parametrize("norm_axis", ["feature", "region"])
@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_matter(norm_axis, training):
    plain, padded = (model(norm_axis=norm_axis, word_norm=True).train(training) for _ in range(2))
    more = PairBatch(images(padding=3, rubbish=9.0), texts(padding=4, rubbish=5), torch.arange(3))
    for ours, theirs in zip(encode(padded, more), encode(plain, batch()), strict=True):
        torch.testing.assert_close(ours.embedding, theirs.embedding)
        torch.testing.assert_close(ours.contextual[:, : theirs.mask.shape[1]], theirs.contextual)
    terms = losses(padded, more)
    torch.testing.assert_close(terms, losses(plain, batch()))
    sum(terms.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in padded.parameters())


def test_an_item_alone_is_the_item_among_others():
    camera = model().eval()
    pictures, captions = images(), texts()
    whole = camera.similarity(*encode(camera, batch()))
    for i in range(3):
        n = COUNTS[i]
        some = (pictures.fragments[i : i + 1, :n], pictures.mask[i : i + 1, :n], pictures.boxes[i : i + 1, :n])
        image = camera.encode_images(ImageBatch(*some, pictures.sizes[i : i + 1]))
        for j in range(3):
            n = LENGTHS[j]
            text = camera.encode_texts(TextBatch(captions.tokens[j : j + 1, :n], captions.mask[j : j + 1, :n]))
            torch.testing.assert_close(camera.similarity(image, text), whole[i : i + 1, j : j + 1])


def test_words_from_a_table_are_a_bag():
    camera = model().eval()
    tokens, mask = torch.tensor([[3, 5, 7], [7, 3, 5]]), torch.ones(2, 3, dtype=torch.bool)
    one, other = camera.encode_texts(TextBatch(tokens, mask)).embedding
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("pretrained", [True, False])
def test_gradients_reach_every_parameter(pretrained):
    class States(nn.Module):
        width = 11

        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(17, 11)

        def forward(self, tokens, mask):  # noqa: ARG002
            return self.table(tokens)

    camera = model(replace(INPUTS, token_states=States if pretrained else None)).train()
    sum(losses(camera, batch()).values()).backward()
    silent = {name for name, p in camera.named_parameters() if p.grad is None or p.grad.norm() < 1e-6}
    # the BN behind them takes a constant out again
    assert silent <= {"output.bias", "region_attention.value.bias", "word_attention.value.bias"}


@pytest.mark.parametrize("training", [True, False])
def test_a_lone_pair_of_one_region_and_one_word_is_finite(training):
    mask = torch.ones(1, 1, dtype=torch.bool)
    picture = ImageBatch(torch.ones(1, 1, 13), mask, torch.tensor([[[0.0, 3.0, 7.0, 3.0]]]), torch.tensor([[7.0, 5.0]]))
    pairs = PairBatch(picture, TextBatch(torch.ones(1, 1, dtype=torch.int64), mask), torch.zeros(1, dtype=torch.int64))
    camera = model().train(training)
    terms = losses(camera, pairs)
    assert all(term.isfinite() for term in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in camera.parameters() if p.grad is not None)


def test_it_learns_eight_pairs_by_heart():
    torch.manual_seed(0)
    camera = build(replace(INPUTS, dim=16), Options(heads=2, views=2))
    mask = torch.ones(8, 5, dtype=torch.bool)
    boxes = torch.tensor([0.0, 0.0, 10.0, 10.0]).expand(8, 5, 4)
    pictures = ImageBatch(torch.randn(8, 5, 13), mask, boxes, torch.full((8, 2), 30.0))
    pairs = PairBatch(pictures, TextBatch(torch.randint(1, 17, (8, 5)), mask), torch.arange(8))
    optimiser = torch.optim.Adam(camera.parameters(), lr=2e-3)
    for _ in range(150):
        optimiser.zero_grad()
        sum(losses(camera, pairs).values()).backward()
        optimiser.step()
    scores = camera.eval().similarity(*encode(camera, pairs))
    assert scores.argmax(0).tolist() == scores.argmax(1).tolist() == list(range(8))


# Options


@pytest.mark.parametrize(
    ("change", "sides"),
    [
        ({"heads": 7}, "both"),
        ({"norm_axis": "region"}, "images"),
        ({"norm_axis": "region", "word_norm": True}, "both"),
        ({"word_norm": True}, "texts"),
        ({"dropout": 0.5}, "both"),
    ],
)
def test_every_option_changes_its_side(change, sides):
    def embeddings(**options):
        camera = model(**options)
        torch.manual_seed(1)
        return {side: e.embedding for side, e in zip(("images", "texts"), encode(camera, batch()), strict=True)}

    plain, changed = embeddings(), embeddings(**change)
    for side in plain:
        assert torch.allclose(changed[side], plain[side]) == (sides not in ("both", side))


def test_on_a_square_grid_no_boxes_are_needed():
    square = replace(INPUTS, regions=9)
    camera = model(square, boxes="grid").eval()
    regions, mask = torch.randn(2, 9, 13), first((9, 4), 9)
    plain = camera.encode_images(ImageBatch(regions, mask)).embedding
    boxes, sizes = grid(3)
    stored = model(square).eval()
    boxed = ImageBatch(regions, mask, 10 * boxes.expand(2, 9, 4), 10 * sizes.expand(2, 2))
    torch.testing.assert_close(stored.encode_images(boxed).embedding, plain)


def test_missing_boxes_and_regions_that_are_no_cells_are_refused():
    with pytest.raises(ValueError, match=r"CAMERA needs the place of every region, but there is no _boxes\.npy beside"):
        model().encode_images(replace(images(), boxes=None))
    with pytest.raises(ValueError, match="boxes='grid' was made for 9 regions, got 5"):
        model(replace(INPUTS, regions=9), boxes="grid").encode_images(images())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 0}, "heads=0 must be at least 1"),
        ({"views": 0}, "views=0 must be at least 1"),
        ({"diversity_weight": -1.0}, r"diversity_weight=-1\.0"),
        ({"dropout": 1.1}, r"dropout=1\.1 must be between 0 and 1"),
        ({"norm_axis": "word"}, "norm_axis='word' is not known; choose one of feature, region"),
        ({"boxes": "none"}, "boxes='none' is not known; choose one of stored, grid"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_options_that_do_not_fit_the_inputs_are_refused():
    with pytest.raises(ValueError, match="heads=3 must divide the embedding width 14"):
        model(heads=3)
    with pytest.raises(ValueError, match="boxes='grid' needs a square number of regions, got 5"):
        model(boxes="grid")


# As a host


@pytest.mark.parametrize("training", [True, False])
def test_selfalign_scores_its_block_once_for_all_views(training):
    host = model().train(training)
    plain = host.similarity(*encode(host, batch()))
    module = selfalign.SelfAlign(model(), selfalign.Options(prototypes=19)).train(training)
    sides = encode(module, batch())
    blocks = sides[0].shared @ sides[1].shared.T
    torch.testing.assert_close(module.similarity(*sides), plain + blocks)
    assert sides[0].embedding.shape == (3, 3, 14)
    assert sides[0].shared.shape == sides[1].shared.shape == (3, 28)
    assert set(module.indexed(sides[0]).tensors()) == {"embedding", "shared"}
    terms = losses(module, batch())
    assert list(terms) == ["hinge", *(["diversity"] if training else []), "concept", "context"]
    assert isinstance(module.host, CAMERA)
