"""CVSE: concepts and their graph from training captions, and the two vectors that a score is made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from baselines.independent.cvse import (
    STOP_WORDS,
    Options,
    build,
    captions_with,
    chosen_concepts,
    concept_labels,
    consensus_graph,
    named_together,
)
from harness.data.prepared import Prepared, Side
from harness.data.split import Images, Split
from harness.data.vocabulary import Vocabulary, tokens
from harness.protocol import ImageBatch, Inputs, PairBatch, TextBatch
from harness.spec.job import Settings
from models.encoders import unit
from models.retrievers import inner_product

CAPTIONS = ("a red dog", "the dog and a dog", "red ball on a mat", "a ball", "dog with a red ball", "the mat")
VOCABULARY = Vocabulary.build(CAPTIONS, min_count=1)
WORDS = ("<pad>", "<start>", "<end>", "<unk>", *VOCABULARY.known)
TRAINING = torch.from_numpy(tokens(CAPTIONS, VOCABULARY, 60).ids)  # (6, 7) int32
CONCEPTS = ("ball", "dog", "red", "mat")  # in 3, 3, 3 and 2 captions
INPUTS = Inputs(
    image_dim=13,
    regions=5,
    vocabulary=len(WORDS),
    dim=11,
    word_dim=7,
    words=WORDS,
    caption_tokens=TRAINING,
)
COUNTS, LENGTHS = (5, 1, 3), (5, 7, 1)
SMALL = Options(graph_hidden=19)


def built(options=SMALL, inputs=INPUTS):
    torch.manual_seed(0)
    return build(inputs, options)


def pairs(padding=0, rubbish=0.0, counts=COUNTS, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    regions = torch.randn(len(counts), 5, 13, generator=generator)
    region_mask = torch.arange(5 + padding) < torch.tensor(counts)[:, None]
    word_mask = torch.arange(7 + padding) < torch.tensor(lengths)[:, None]
    regions = nn.functional.pad(regions, (0, 0, 0, padding)).masked_fill(~region_mask[..., None], rubbish)
    words = nn.functional.pad(TRAINING[: len(lengths)].long(), (0, padding))
    words = words.masked_fill(~word_mask, WORDS.index("mat") if rubbish else 0)
    return PairBatch(ImageBatch(regions, region_mask), TextBatch(words, word_mask), torch.arange(len(counts)))


def encode(model, batch):
    return model.encode_images(batch.images), model.encode_texts(batch.texts)


def losses(model, batch):
    return model.losses(*encode(model, batch), batch)


# Concepts and their graph


def test_a_word_counts_once_per_caption():
    counts = dict(zip(WORDS, captions_with(TRAINING, len(WORDS)).tolist(), strict=True))
    assert [counts[word] for word in ("dog", "red", "ball", "mat", "a", "the", "<start>", "<unk>")] == [
        3,
        3,
        3,
        2,
        5,
        2,
        6,
        0,
    ]


def test_concepts_are_the_most_frequent_words_that_mean_something():
    counts = captions_with(TRAINING, len(WORDS))
    found = [WORDS[token] for token in chosen_concepts(WORDS, counts, 300)]
    assert set(found[:3]) == set(CONCEPTS[:3])
    assert found[3:] == ["mat"]
    assert found[:3] == sorted(found[:3], key=WORDS.index)  # ties: the lower token first
    assert [WORDS[token] for token in chosen_concepts(WORDS, counts, 2)] == found[:2]


def test_pieces_that_begin_no_word_and_marks_are_no_concepts():
    words = ("[PAD]", "[CLS]", ".", "##es", "fox", "the", "9")
    assert chosen_concepts(words, torch.tensor([9, 9, 9, 9, 1, 9, 2]), 300).tolist() == [6, 4]


def test_function_words_are_no_concepts():
    assert {"a", "the", "with", "is", "two", "and"} <= STOP_WORDS
    assert not STOP_WORDS & {"dog", "man", "red", "standing", "small", "left", "right", "metal"}


def places_of(concepts):
    places = torch.full((len(WORDS),), len(concepts))
    places[[WORDS.index(word) for word in concepts]] = torch.arange(len(concepts))
    return places


def test_labels_are_the_concepts_in_a_caption():
    found = concept_labels(TRAINING[:3], places_of(CONCEPTS), 4)
    assert found.tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [1, 0, 1, 1]]


def test_concepts_are_counted_together():
    together = named_together(TRAINING, places_of(CONCEPTS), 4)
    for i, first in enumerate(CONCEPTS):
        for j, second in enumerate(CONCEPTS):
            assert together[i, j] == sum({first, second} <= set(caption.split()) for caption in CAPTIONS)


def slow_graph(together):
    n = len(together)
    edges = [[0.0] * n for _ in range(n)]
    for a in range(n):
        for b in range(n):
            share = 0.0 if a == b else together[a][b] / together[a][a]
            edges[a][b] = 1.0 if 5 ** (share - 0.02) - 5**-0.02 >= 0.3 else 0.0
    columns = [sum(edges[a][b] for a in range(n)) for b in range(n)]
    mixed = [[(a == b) + 0.25 * edges[a][b] / (columns[b] + 1e-6) for b in range(n)] for a in range(n)]
    rows = [sum(row) for row in mixed]
    return [[mixed[b][a] / (rows[a] * rows[b]) ** 0.5 for b in range(n)] for a in range(n)]


def test_the_graph_equals_its_slow_twin():
    generator = torch.Generator().manual_seed(0)
    named = (torch.rand(31, 7, generator=generator) < 0.3).float()
    named[0] = 1.0
    together = named.T @ named
    torch.testing.assert_close(consensus_graph(together), torch.tensor(slow_graph(together.tolist())))


def test_an_edge_needs_a_share_of_about_a_sixth():
    def edge(of_a_thousand):  # is named together with the second concept
        together = torch.tensor([[1000.0, of_a_thousand], [of_a_thousand, 1000.0]])
        return bool(consensus_graph(together)[0, 1])

    assert not edge(0)
    assert not edge(167)
    assert edge(168)


def test_concepts_without_company_keep_to_themselves():
    torch.testing.assert_close(consensus_graph(torch.diag(torch.tensor([3.0, 2.0, 7.0]))), torch.eye(3))


def test_the_model_learns_its_concepts_from_the_training_captions():
    model = built()
    assert {WORDS[token] for token in model.concepts.tokens} == set(CONCEPTS)
    assert model.concepts.graph.shape == (4, 4)
    assert len(built(replace(SMALL, concepts=2)).concepts.tokens) == 2
    rows = torch.tensor([WORDS.index(word) for word in ("dog", "a", "ball")])[None]
    named = model.concepts.labels(TextBatch(rows, torch.tensor([[True, True, False]])))[0]  # padding names nothing
    assert {WORDS[token] for token in model.concepts.tokens[named.bool()]} == {"dog"}


def test_concept_vectors_are_two_layers_over_the_graph():
    model = built()
    concepts, words = model.concepts, model.words.source.weight[model.concepts.tokens]
    hidden = nn.functional.leaky_relu(concepts.graph @ words @ concepts.inner.weight.T, 0.2)
    torch.testing.assert_close(concepts(model.words), unit(concepts.graph @ hidden @ concepts.outer.weight.T))
    assert 0.9 * 19**-0.5 < float(concepts.inner.weight.detach().abs().max()) <= 19**-0.5


# The two vectors


def mixture(weights, fragments):
    return unit(sum(w * x for w, x in zip(weights, fragments, strict=True)))


def slow_instance(pooling, fragments, gist):
    """One item in evaluation, untrained BN.  fragments: (n, d), gist: (d,) -> (d,)."""
    scale = (1 + 1e-5) ** -0.5 if pooling.local_norm is not None else 1.0
    logits = [pooling.score((pooling.local(x) * scale).tanh() * (pooling.gist(gist) * scale).tanh()) for x in fragments]
    return mixture(torch.cat(logits).softmax(0), fragments)


def slow_choice(choice, concepts, instance):
    scale = (1 + 1e-5) ** -0.5
    query = (choice.instance(instance) * scale).tanh()
    logits = [10 * choice.score((choice.concept(z) * scale).tanh() * query) for z in concepts]
    return torch.cat(logits).softmax(0)


def test_both_sides_equal_their_slow_twins():
    model, batch = built().eval(), pairs()
    images, texts = encode(model, batch)
    concepts = model.concepts(model.words)
    for row, (count, length) in enumerate(zip(COUNTS, LENGTHS, strict=True)):
        regions = unit(model.regions(batch.images.fragments[row, :count]))
        instance = slow_instance(model.image_pooling, regions, regions.mean(0))
        torch.testing.assert_close(images.extras["instance"][row], instance)
        weights = slow_choice(model.image_choice, concepts, instance)
        torch.testing.assert_close(images.extras["log_weights"][row].exp(), weights)
        torch.testing.assert_close(images.extras["consensus"][row], mixture(weights, concepts))

        words = batch.texts.tokens[row, :length]
        states = model.gru(model.projection(model.words.source(words))[None], torch.ones(1, length, dtype=torch.bool))
        instance = slow_instance(model.text_pooling, unit(states[0]), unit(unit(states[0]).mean(0)))
        torch.testing.assert_close(texts.extras["instance"][row], instance)
        named = torch.tensor([float(token in words) for token in model.concepts.tokens])
        weights = 0.35 * (10 * named).softmax(0) + 0.65 * slow_choice(model.text_choice, concepts, instance)
        torch.testing.assert_close(texts.extras["log_weights"][row].exp(), weights)
        torch.testing.assert_close(texts.extras["consensus"][row], mixture(weights, concepts))


def test_a_score_is_19_parts_of_the_fused_vectors_and_one_of_the_consensus():
    model, batch = built().eval(), pairs()
    images, texts = encode(model, batch)
    assert images.embedding.shape == (3, 22)
    torch.testing.assert_close(images.embedding.norm(dim=1), torch.ones(3))
    fused = [unit(0.85 * side.extras["instance"] + 0.15 * side.extras["consensus"]) for side in (images, texts)]
    consensus = [side.extras["consensus"] for side in (images, texts)]
    expected = 0.95 * fused[0] @ fused[1].T + 0.05 * consensus[0] @ consensus[1].T
    torch.testing.assert_close(inner_product(images, texts), expected)


@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_matter(training):
    options = replace(SMALL, dropout=0.0)
    for plain, padded in zip(
        encode(built(options).train(training), pairs()),
        encode(built(options).train(training), pairs(padding=3, rubbish=9.0)),
        strict=True,
    ):
        torch.testing.assert_close(padded.embedding, plain.embedding)


# Losses


def test_there_are_three_hinges_and_a_divergence():
    model, batch = built().eval(), pairs()
    images, texts = encode(model, batch)

    def slow_hinge(scores):
        costs = (scores[i, :] - scores[i, i] + 0.2 for i in range(3))
        other = (scores[:, i] - scores[i, i] + 0.2 for i in range(3))
        return sum(
            max(0.0, *(float(row[j]) for j in range(3) if j != i))
            for rows in (costs, other)
            for i, row in enumerate(rows)
        )

    instance, consensus = (images.extras[n].detach() @ texts.extras[n].detach().T for n in ("instance", "consensus"))
    chosen, wanted = (side.extras["log_weights"].exp().tolist() for side in (images, texts))
    expected = {
        "hinge": 3 * slow_hinge(model.similarity(images, texts).detach()),
        "instance": 5 * slow_hinge(instance),
        "consensus": slow_hinge(consensus),
        "agreement": 2
        * sum(
            w * float(np.log(w / c))
            for row, other in zip(wanted, chosen, strict=True)
            for w, c in zip(row, other, strict=True)
        ),
    }
    found = {name: float(value.detach()) for name, value in model.losses(images, texts, batch).items()}
    assert found == pytest.approx(expected, rel=1e-4)


def test_gradients_reach_every_parameter():
    model = built()
    sum(losses(model, pairs()).values()).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or p.grad.norm() < 1e-6}
    constants = {f"{side}_choice.{part}.bias" for side in ("image", "text") for part in ("concept", "instance")}
    assert silent <= constants | {"image_pooling.local.bias", "image_pooling.gist.bias"}  # a BN takes them out again


def test_a_lone_pair_of_one_region_and_one_word_is_finite():
    model = built().train()
    terms = losses(model, pairs(counts=(1,), lengths=(1,)))
    assert all(value.isfinite() for value in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_every_option_changes_a_loss():
    def total(options, training=False):
        torch.manual_seed(0)
        return sum(losses(build(INPUTS, options).train(training), pairs()).values())

    plain = total(SMALL)
    for change in (
        {"concepts": 3},
        {"graph_hidden": 23},
        {"sharpness": 1.0},
        {"label_share": 0.0},
        {"instance_share": 0.5},
        {"consensus_share": 0.5},
        {"hinge_weight": 1.0},
        {"instance_weight": 1.0},
        {"consensus_weight": 3.0},
        {"agreement_weight": 1.0},
        {"word_projection": False},
    ):
        assert not torch.allclose(total(replace(SMALL, **change)), plain), change
    assert not torch.allclose(total(replace(SMALL, dropout=0.9), training=True), total(SMALL, training=True))


# What it needs


def test_the_harness_hands_over_training_captions_and_spellings():
    images = Images(np.zeros((6, 5, 13), dtype=np.float32), np.arange(6), tuple("abcdef"))
    side = Side(Split(images, CAPTIONS, np.arange(6)), tokens(CAPTIONS, VOCABULARY, 60))
    inputs = Prepared(side, side, side, VOCABULARY.size, WORDS).inputs(Settings())
    assert inputs.words == WORDS
    assert inputs.caption_tokens is not None
    assert torch.equal(inputs.caption_tokens, TRAINING)


@pytest.mark.parametrize("missing", [{"words": ()}, {"caption_tokens": None}])
def test_inputs_without_word_statistics_are_refused(missing):
    with pytest.raises(ValueError, match="its inputs need `caption_tokens` and `words`"):
        build(replace(INPUTS, **missing), SMALL)


def test_captions_of_function_words_alone_are_refused():
    with pytest.raises(ValueError, match=f"none of the {len(WORDS)} words of the training captions can be a concept"):
        build(replace(INPUTS, caption_tokens=torch.tensor([[1, WORDS.index("a"), 2]])), SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concepts": 0}, "concepts=0 must be at least 1"),
        ({"graph_hidden": 0}, "graph_hidden=0 must be at least 1"),
        ({"sharpness": -1.0}, "sharpness=-1.0 must be at least 0"),
        ({"label_share": 1.5}, "label_share=1.5 must be between 0 and 1"),
        ({"instance_share": -0.1}, "instance_share=-0.1 must be between 0 and 1"),
        ({"consensus_share": 2.0}, "consensus_share=2.0 must be between 0 and 1"),
        ({"dropout": 2.0}, "dropout=2.0 must be between 0 and 1"),
        ({"agreement_weight": -2.0}, "agreement_weight=-2.0 must be at least 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)
