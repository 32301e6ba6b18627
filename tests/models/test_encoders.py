"""The parts that encoders are made of: each against a hand-made value or an item-by-item twin."""

import pytest
import torch
from torch import nn

from harness.protocol import Inputs, TextBatch
from models.encoders import BiGRU, CaptionReader, ForwardGRU, RegionProjection, WordVectors, l2, unit
from models.graph import GraphReasoning
from models.norm import MaskedBatchNorm
from models.options import above_zero, at_least, one_of
from models.pooling import masked_max, masked_mean

LENGTHS = torch.tensor([5, 1, 3])
MASK = torch.arange(5) < LENGTHS[:, None]  # (3, 5)
INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("normalise", [l2, unit])
def test_a_vector_gets_unit_length_and_zero_stays_zero(normalise):
    assert normalise(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [pytest.approx([0.6, 0.8]), [0.0, 0.0]]


def test_the_constant_of_l2_is_added_to_the_norm():
    assert float(l2(torch.tensor([1e-8]))) == pytest.approx(0.5)
    assert float(unit(torch.tensor([1e-8]))) == pytest.approx(1.0)


def test_the_region_projection_starts_uniform_without_bias():
    projection = RegionProjection(13, 11)
    bound = (6 / (13 + 11)) ** 0.5
    assert 0.9 * bound < float(projection.linear.weight.detach().abs().max()) <= bound
    assert not projection.linear.bias.any()
    assert projection(noise(2, 3, 13)).shape == (2, 3, 11)


def test_word_vectors_come_from_a_small_uniform_table():
    words = WordVectors(INPUTS)
    assert words.width == 7
    assert float(words.source.weight.detach().abs().max()) <= 0.1
    assert words(TextBatch(torch.tensor([[1, 2]]), torch.ones(1, 2, dtype=torch.bool))).shape == (1, 2, 7)


class Doubled(nn.Module):
    """A text model of width 2 whose states say the token and whether it is real."""

    width = 2

    def forward(self, tokens, mask):
        return torch.stack([tokens.float(), mask.float()], -1)


def test_word_vectors_may_come_from_a_text_model():
    words = WordVectors(Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, token_states=Doubled))
    states = words(TextBatch(torch.tensor([[5, 0]]), torch.tensor([[True, False]])))
    assert words.width == 2
    assert states.tolist() == [[[5.0, 1.0], [0.0, 0.0]]]


def test_a_bidirectional_gru_reads_each_caption_as_if_alone():
    gru = BiGRU(7, 11)
    states = gru(noise(3, 5, 7), MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        forward, backward = gru.gru(noise(3, 5, 7)[row : row + 1, :length])[0].chunk(2, dim=-1)
        torch.testing.assert_close(states[row, :length], (forward + backward)[0] / 2)
        assert not states[row, length:].any()


def test_captions_of_one_length_are_read_as_if_packed_and_are_not(monkeypatch):
    gru, vectors, mask = BiGRU(7, 11), noise(4, 5, 7), torch.tensor([[1] * 5, [1] * 5, [1] * 5, [1] * 4 + [0]]).bool()
    packed = gru(vectors, mask)[:3]
    monkeypatch.delattr("models.encoders.pack_padded_sequence")
    torch.testing.assert_close(gru(vectors[:3], mask[:3]), packed)


def test_a_forward_gru_reads_each_caption_as_if_alone():
    gru = ForwardGRU(7, 11)
    states, last = gru(noise(3, 5, 7), MASK)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, final = gru.gru(noise(3, 5, 7)[row : row + 1, :length])
        torch.testing.assert_close(states[row, :length], alone[0])
        torch.testing.assert_close(last[row], final[0, 0])
        assert not states[row, length:].any()


@pytest.mark.parametrize("projected", [True, False])
def test_the_caption_reader_shows_words_of_width_d_only_where_it_projects_them(projected):
    reader = CaptionReader(INPUTS, word_projection=projected)
    encoded = reader(TextBatch(torch.arange(15).view(3, 5), MASK))
    assert encoded.embedding.shape == (3, 11)
    assert encoded.contextual.shape == (3, 5, 11)
    assert encoded.embedding.norm(dim=1).tolist() == pytest.approx([1.0] * 3)
    assert (encoded.fragments is not None) == projected
    torch.testing.assert_close(encoded.embedding[1], unit(encoded.contextual[1, 0]))  # a caption of one word


def test_pooling_looks_at_real_fragments_only():
    x = torch.tensor([[[1.0, -8.0], [3.0, -2.0], [99.0, 99.0]]])
    mask = torch.tensor([[True, True, False]])
    assert masked_mean(x, mask).tolist() == [[2.0, -5.0]]
    assert masked_max(x, mask).tolist() == [[3.0, -2.0]]
    assert masked_mean(x, torch.zeros_like(mask)).tolist() == [[0.0, 0.0]]


def test_masked_batch_norm_is_batch_norm_of_the_real_rows():
    ours, plain = MaskedBatchNorm(11), nn.BatchNorm1d(11)
    x = noise(3, 5, 11)
    for training in (True, True, False):
        ours.train(training)
        plain.train(training)
        out = ours(x, MASK)
        torch.testing.assert_close(out[MASK], plain(x[MASK]))
        assert not out[~MASK].any()
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())


def test_masked_batch_norm_is_plain_where_nothing_is_padded():
    ours, plain = MaskedBatchNorm(11), nn.BatchNorm1d(11)
    x = noise(3, 5, 11)
    expected = plain(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours(x, torch.ones(3, 5, dtype=torch.bool)), expected)


def test_a_single_position_is_normalised_by_the_running_statistics():
    norm = MaskedBatchNorm(3)
    norm.running_mean.fill_(1.0)
    out = norm(torch.full((1, 3), 5.0))
    torch.testing.assert_close(out, torch.full((1, 3), 4.0), rtol=1e-4, atol=0)
    assert norm.running_mean.tolist() == [1.0] * 3
    assert int(norm.num_batches_tracked) == 0


def awake(layer):
    """The same layer with a branch that is not silent, as after some training."""
    nn.init.ones_(layer.norm.weight)
    return layer


def test_an_untrained_graph_layer_is_the_identity():
    x = noise(3, 5, 11)
    assert torch.equal(GraphReasoning(11)(x, MASK), x)


def test_graph_reasoning_is_an_affinity_weighted_sum_over_the_regions_of_an_image():
    layer = awake(GraphReasoning(11)).eval()
    x = noise(3, 5, 11)
    out = layer(x, MASK)
    for row, count in enumerate(LENGTHS.tolist()):
        real = x[row, :count]
        for i in range(count):
            messages = sum(layer.theta(real[i]) @ layer.phi(real[j]) / count * layer.g(real[j]) for j in range(count))
            branch = layer.w(messages) / (1 + layer.norm.eps) ** 0.5  # running mean 0, variance 1
            torch.testing.assert_close(out[row, i], real[i] + branch)


def test_padded_regions_do_not_matter_to_graph_reasoning_even_in_training():
    layer = awake(GraphReasoning(11)).train()
    x = noise(3, 5, 11)
    other = torch.where(MASK[..., None], x, 100 * noise(3, 5, 11, seed=1))
    torch.testing.assert_close(layer(x, MASK)[MASK], layer(other, MASK)[MASK])


def test_impossible_options_are_refused_with_what_is_known():
    one_of("pooling", "max", ("mean", "max"))
    at_least("layers", 0, 0)
    above_zero("eps", 0.1)
    with pytest.raises(ValueError, match="pooling='sum' is not known; choose one of mean, max"):
        one_of("pooling", "sum", ("mean", "max"))
    with pytest.raises(ValueError, match="layers=-1 must be at least 0"):
        at_least("layers", -1, 0)
    with pytest.raises(ValueError, match=r"eps=0\.0 must be above 0"):
        above_zero("eps", 0.0)
    with pytest.raises(ValueError, match="eps=nan"):
        above_zero("eps", float("nan"))


@pytest.mark.parametrize("normalise", [l2, unit])
def test_a_zero_vector_gets_no_gradient(normalise) -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    normalise(x).sum().backward()
    assert x.grad is not None
    assert x.grad[0].tolist() == [0.0, 0.0]
    assert x.grad[1].any()


def test_the_gradient_of_unit_vectors_is_that_of_autograd():
    torch.manual_seed(0)
    x = torch.randn(5, 7, dtype=torch.float64)
    x[1], x[2] = 0.0, 1e-13 * x[2]  # nothing, and what is divided by 1e-12 instead of its length
    x.requires_grad_()
    by = torch.randn(5, 7, dtype=torch.float64)
    length = x.norm(dim=-1, keepdim=True)
    slow = x / length.clamp(min=1e-12).masked_fill(length == 0, float("inf"))
    found, expected = (torch.autograd.grad((y * by).sum(), x)[0] for y in (unit(x), slow))
    assert not found[1].any()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
