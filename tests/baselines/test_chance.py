"""Chance: vectors that know an item but not what it shows."""

import torch

from baselines.independent.chance import Options, build
from harness.protocol import ImageBatch, Inputs, TextBatch
from models.noise import mixed, noise

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=997, dim=101, word_dim=7)


def built(seed):
    torch.manual_seed(seed)
    return build(INPUTS, Options())


def texts(count, length=7, padding=0):
    tokens = torch.randint(1, 997, (count, length), generator=torch.Generator().manual_seed(3))
    mask = torch.arange(length + padding) < length
    return TextBatch(torch.nn.functional.pad(tokens, (0, padding)), mask.expand(count, -1))


def images(count, padding=0):
    fragments = torch.randn(count, 5, 13, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(5 + padding) < 5
    return ImageBatch(torch.nn.functional.pad(fragments, (0, 0, 0, padding)), mask.expand(count, -1))


def test_the_mixer_is_splitmix64():
    # first outputs of the published generator from state 0 and from state 1234567, as signed numbers
    expected = [0xE220A8397B1DCDAF - 2**64, 6457827717110365317]
    assert mixed(torch.tensor([0, 1234567])).tolist() == expected


def test_noise_is_standard_normal():
    drawn = noise(torch.arange(1009), 101)
    assert abs(float(drawn.mean())) < 0.01
    assert abs(float(drawn.std()) - 1) < 0.01
    assert float(torch.corrcoef(drawn.T).fill_diagonal_(0).abs().max()) < 0.2


def test_an_item_has_one_vector_whatever_its_batch_and_padding():
    model = built(0)
    for batch, padded, encode in (
        (images(11), images(11, padding=2), model.encode_images),
        (texts(11), texts(11, padding=2), model.encode_texts),
    ):
        vectors = encode(batch).embedding
        assert torch.equal(encode(padded).embedding, vectors)
        assert len(vectors.unique(dim=0)) == 11
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(11))
    order = torch.randperm(11)
    shuffled = TextBatch(texts(11).tokens[order], texts(11).mask)
    assert torch.equal(model.encode_texts(shuffled).embedding, model.encode_texts(texts(11)).embedding[order])


def test_the_same_seed_agrees_and_another_does_not():
    vectors = built(0).encode_texts(texts(3)).embedding
    assert torch.equal(built(0).encode_texts(texts(3)).embedding, vectors)
    assert not torch.allclose(built(1).encode_texts(texts(3)).embedding, vectors)


def test_ranks_are_those_of_chance():
    model = built(0)
    scores = model.similarity(model.encode_images(images(499)), model.encode_texts(texts(499)))
    ranks = (scores > scores.diagonal()[:, None]).sum(1).float()
    assert abs(float(ranks.mean()) - 249) < 30  # 144 / sqrt(499) = 6.4 is one standard error


def test_there_is_nothing_to_train_and_a_checkpoint_brings_the_vectors_back():
    model, other = built(0), built(1)
    assert list(model.parameters()) == []
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.encode_texts(texts(3)).embedding, model.encode_texts(texts(3)).embedding)
