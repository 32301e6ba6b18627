"""VSRN: reasoning over regions, then reading them in order."""

import pytest
import torch
from torch import nn

from baselines.independent.vsrn import Options, build, normalised
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from models.encoders import unit

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)
COUNTS = (5, 1, 3)


def images(padding=0, rubbish=0.0):
    regions = torch.randn(3, 5, 13, generator=torch.Generator().manual_seed(1))
    mask = torch.arange(5 + padding) < torch.tensor(COUNTS)[:, None]
    regions = torch.cat([regions, torch.zeros(3, padding, 13)], 1)
    return ImageBatch(torch.where(mask[..., None], regions, rubbish), mask)


def awake(model):
    """The model with graph layers that do something, as after some training."""
    for layer in model.graph:
        nn.init.ones_(layer.norm.weight)
    return model


def test_untrained_it_reads_the_projected_regions_in_order():
    model = build(INPUTS, Options(state_norm=False, region_norm="none"))
    embedding = model.encode_images(images()).embedding
    for row, count in enumerate(COUNTS):
        _, last = model.reader.gru(model.regions(images().fragments[row : row + 1, :count]))
        torch.testing.assert_close(embedding[row], unit(last[0, 0]))


def test_a_norm_has_its_axis():
    x = torch.tensor([[[3.0, 0.0], [4.0, 2.0]]])
    assert normalised(x, "none") is x
    torch.testing.assert_close(normalised(x, "region"), torch.tensor([[[0.6, 0.0], [0.8, 1.0]]]))
    torch.testing.assert_close(normalised(x, "feature")[0, 0], torch.tensor([1.0, 0.0]))
    assert normalised(torch.zeros(1, 2, 3), "region").isfinite().all()


@pytest.mark.parametrize("norm", ["region", "feature", "none"])
@pytest.mark.parametrize("training", [True, False])
def test_padded_regions_do_not_matter(norm, training):
    torch.manual_seed(0)
    model = awake(build(INPUTS, Options(first_norm=norm, region_norm=norm))).train(training)
    plain = model.encode_images(images()).embedding
    torch.testing.assert_close(model.encode_images(images(padding=2, rubbish=7.0)).embedding, plain)


def test_every_option_changes_the_embedding():
    def embedding(**options):
        torch.manual_seed(0)
        return awake(build(INPUTS, Options(**options))).encode_images(images()).embedding

    plain = embedding()
    for change in ({"layers": 1}, {"state_norm": False}, {"first_norm": "region"}, {"region_norm": "region"}):
        assert not torch.allclose(embedding(**change), plain), change


def pairs():
    tokens = torch.randint(1, 17, (3, 4), generator=torch.Generator().manual_seed(2))
    return PairBatch(images(), TextBatch(tokens, torch.ones(3, 4, dtype=torch.bool)), torch.arange(3))


@pytest.mark.parametrize("captioning", [True, False])
def test_gradients_reach_every_parameter(captioning):
    torch.manual_seed(0)
    model = awake(build(INPUTS, Options(captioning=captioning)))
    batch = pairs()
    sum(model.losses(model.encode_images(batch.images), model.encode_texts(batch.texts), batch).values()).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or p.grad.norm() < 1e-6}
    # the BN behind it takes a constant out again
    assert silent <= {f"graph.{layer}.w.bias" for layer in range(4)}


def test_a_batch_of_one_image_with_one_region_is_finite():
    model = build(INPUTS, Options()).train()
    encoded = model.encode_images(ImageBatch(torch.ones(1, 1, 13), torch.ones(1, 1, dtype=torch.bool)))
    assert encoded.embedding.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region_norm": "words"}, "region_norm='words' is not known; choose one of region, feature, none"),
        ({"first_norm": ""}, "first_norm='' is not known"),
        ({"layers": -1}, "layers=-1 must be at least 0"),
        ({"captioning_weight": -1.0}, r"captioning_weight=-1\.0 must be at least 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_the_captioner_reads_what_the_gru_reads_and_changes_nothing_else():
    def made(**options):
        torch.manual_seed(0)
        return awake(build(INPUTS, Options(**options))).eval()

    batch = pairs()
    without, plain, double = made(), made(captioning=True), made(captioning=True, captioning_weight=2.0)
    sides = [(m.encode_images(batch.images), m.encode_texts(batch.texts)) for m in (without, plain, double)]
    for ours, theirs in zip(sides[0], sides[1], strict=True):
        assert torch.equal(ours.embedding, theirs.embedding)
    terms = [m.losses(*both, batch) for m, both in zip((without, plain, double), sides, strict=True)]
    assert [list(t) for t in terms] == [["hinge"], ["hinge", "captioning"], ["hinge", "captioning"]]
    read = normalised(sides[1][0].contextual, "feature")
    torch.testing.assert_close(terms[1]["captioning"], plain.captioner(read, batch.images.mask, batch.texts))
    torch.testing.assert_close(terms[2]["captioning"], 2 * terms[1]["captioning"])
