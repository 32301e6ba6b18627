"""SelfAlign: its losses against loops written from the paper, and every switch against what it says."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.independent import vsepp, vsrn
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, TextBatch
from models import selfalign
from models.encoders import unit
from models.retrievers import Independent, Interactive
from models.selfalign import (
    OWN,
    ConceptAlignment,
    ContextHead,
    Options,
    SelfAlign,
    concept_loss,
    context_loss,
    sinkhorn,
    word_targets,
)

INPUTS = Inputs(image_dim=13, regions=5, vocabulary=17, dim=11, word_dim=7)
COUNTS, LENGTHS = (5, 1, 3), (2, 7, 1)  # one-region image and one-word caption included


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def first(counts, longest):
    return torch.arange(longest) < torch.tensor(counts)[:, None]


def pairs(counts=COUNTS, lengths=LENGTHS, padding=0, epoch=0):
    """Pairs with these numbers of regions and words, `padding` more padded positions, rubbish in padded regions."""
    generator = torch.Generator().manual_seed(1)
    regions = torch.randn(len(counts), 5, 13, generator=generator)
    tokens = torch.randint(1, 17, (len(lengths), 7), generator=generator)
    region_mask, word_mask = first(counts, 5 + padding), first(lengths, 7 + padding)
    regions = nn.functional.pad(regions, (0, 0, 0, padding)).masked_fill(~region_mask[..., None], 9.0)
    tokens = nn.functional.pad(tokens, (0, padding)) * word_mask
    return PairBatch(
        ImageBatch(regions, region_mask), TextBatch(tokens, word_mask), torch.arange(len(counts)), epoch=epoch
    )


def awake(host):
    """The host with graph layers that do something, as after some training."""
    for layer in getattr(host, "graph", ()):
        nn.init.ones_(layer.norm.weight)
    return host


def build(module=vsrn, **options):
    torch.manual_seed(0)
    return SelfAlign(awake(module.build(INPUTS, module.Options())), Options(**({"prototypes": 19} | options)))


def encode(model, batch):
    return model.encode_images(batch.images), model.encode_texts(batch.texts)


def losses(model, batch):
    images, texts = encode(model, batch)
    return model.losses(images, texts, batch)


# Concept level


def slow_sinkhorn(scores, iterations, eps):
    """The paper's order of things, constants included: K x M, then back."""
    q = [[math.exp(row[k] / eps) for row in scores] for k in range(len(scores[0]))]
    total = sum(map(sum, q))
    q = [[value / total for value in row] for row in q]
    prototypes, fragments = len(q), len(scores)
    for _ in range(iterations):
        q = [[value / sum(row) / prototypes for value in row] for row in q]
        columns = [sum(row[m] for row in q) for m in range(fragments)]
        q = [[row[m] / columns[m] / fragments for m in range(fragments)] for row in q]
    return [[q[k][m] * fragments for k in range(prototypes)] for m in range(fragments)]


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_sinkhorn_equals_its_slow_twin(iterations):
    scores = noise(13, 7).tanh()
    expected = slow_sinkhorn(scores.double().tolist(), iterations, eps=0.3)
    torch.testing.assert_close(sinkhorn(scores, iterations, eps=0.3), torch.tensor(expected))


@pytest.mark.parametrize("iterations", [0, 1, 2, 10])
def test_sinkhorn_is_the_same_in_factors_and_in_logarithms(iterations, monkeypatch):
    scores = unit(noise(53, 3)) @ unit(noise(31, 3, seed=1)).T  # at eps 0.05 nearly as far apart as they can be
    factors = sinkhorn(scores, iterations, eps=0.05)
    monkeypatch.setattr(selfalign, "SPAN", 0.0)
    torch.testing.assert_close(factors, sinkhorn(scores, iterations, eps=0.05), rtol=1e-4, atol=1e-7)


def test_sinkhorn_gives_every_fragment_one_unit_and_in_the_end_every_prototype_as_much():
    assignment = sinkhorn(noise(13, 7).tanh(), iterations=300, eps=0.3)
    torch.testing.assert_close(assignment.sum(1), torch.ones(13))
    torch.testing.assert_close(assignment.sum(0), torch.full((7,), 13 / 7), rtol=1e-3, atol=0)


def test_no_iteration_is_a_softmax_and_a_tiny_eps_stays_finite():
    scores = noise(13, 7)
    torch.testing.assert_close(sinkhorn(scores, 0, eps=0.5), (scores / 0.5).softmax(1))
    assert sinkhorn(scores, 2, eps=1e-4).isfinite().all()


def slow_concept_loss(regions, region_counts, words, word_counts, prototypes, teacher):
    """One caption, one word at a time; defaults of the paper."""
    real = [regions[i, r] for i, count in enumerate(region_counts) for r in range(count)]
    scores = [[float(region @ p) for p in prototypes] for region in real]
    assignments = iter(torch.tensor(slow_sinkhorn(scores, 2, 0.05)))
    captions = []
    for i, (count, length) in enumerate(zip(region_counts, word_counts, strict=True)):
        own = [next(assignments) for _ in range(count)]
        costs = []
        for w in range(length):
            nearness = [float(words[i, w] @ regions[i, r]) for r in range(count)]
            if teacher == "argmax":
                target = own[nearness.index(max(nearness))]
            else:
                weights = [math.exp(value / 0.1) for value in nearness]
                target = sum(weight / sum(weights) * q for weight, q in zip(weights, own, strict=True))
            predicted = torch.log_softmax(prototypes @ words[i, w] / 0.1, 0)
            costs.append(-float(target @ predicted))
        captions.append(sum(costs) / len(costs))
    return sum(captions) / len(captions)


def fragments():
    """Unit regions (3, 5, 11), words (3, 7, 11) and prototypes (19, 11); padding holds unit vectors too."""
    return unit(noise(3, 5, 11)), unit(noise(3, 7, 11, seed=1)), unit(noise(19, 11, seed=2))


@pytest.mark.parametrize("teacher", ["argmax", "attention"])
def test_the_concept_loss_equals_its_slow_twin(teacher):
    regions, words, prototypes = fragments()
    loss = concept_loss(regions, first(COUNTS, 5), words, first(LENGTHS, 7), prototypes, teacher=teacher)
    assert float(loss) == pytest.approx(
        slow_concept_loss(regions, COUNTS, words, LENGTHS, prototypes, teacher), abs=1e-5
    )


def test_padding_has_no_part_in_the_concept_loss():
    regions, words, prototypes = fragments()
    words.requires_grad_()
    plain = concept_loss(regions, first(COUNTS, 5), words, first(LENGTHS, 7), prototypes)
    plain.backward()
    assert not words.grad[~first(LENGTHS, 7)].any()
    longer = nn.functional.pad(regions, (0, 0, 0, 2), value=0.5), nn.functional.pad(words, (0, 0, 0, 2), value=0.5)
    again = concept_loss(longer[0], first(COUNTS, 7), longer[1], first(LENGTHS, 9), prototypes)
    torch.testing.assert_close(again, plain)


def test_attention_becomes_the_nearest_region_as_it_cools():
    similarity, assignments = noise(3, 7, 5), noise(3, 5, 19).softmax(2)
    similarity[1, :, 1:] = float("-inf")
    words = first(LENGTHS, 7)
    nearest = word_targets(similarity, words, assignments, "argmax", 0.1)
    torch.testing.assert_close(word_targets(similarity, words, assignments, "attention", 1e-4), nearest)
    torch.testing.assert_close(nearest[2:9], assignments[1, :1].expand(7, 19))  # after the two of the first caption


def test_the_prototypes_rest_for_the_epochs_they_are_frozen():
    for epoch, frozen in ((0, True), (1, True), (2, False)):
        model = build(freeze_epochs=2, context=False)
        losses(model, pairs(epoch=epoch))["concept"].backward()
        assert (model.concept.prototypes.grad is None) == frozen
        assert model.host.captions.projection.weight.grad.any()
        assert model.host.regions.linear.weight.grad is None  # the region side teaches, it does not learn


def test_prototypes_are_normalised_in_training_and_left_alone_in_evaluation():
    concept = ConceptAlignment(11, Options(prototypes=19))
    regions, words, _ = fragments()
    images, texts = Encoded(fragments=regions, mask=first(COUNTS, 5)), Encoded(fragments=words, mask=first(LENGTHS, 7))
    nn.init.constant_(concept.prototypes, 3.0)
    concept.eval()(images, texts, epoch=0)
    assert (concept.prototypes == 3.0).all()
    concept.train()(images, texts, epoch=0)
    torch.testing.assert_close(concept.prototypes.detach(), torch.full((19, 11), 11**-0.5))


def test_the_assignment_is_in_float32_under_autocast():
    concept = ConceptAlignment(11, Options(prototypes=19))
    regions, words, _ = fragments()
    images, texts = Encoded(fragments=regions, mask=first(COUNTS, 5)), Encoded(fragments=words, mask=first(LENGTHS, 7))
    plain = concept(images, texts, epoch=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(concept(images, texts, epoch=0), plain)
        terms = losses(build(), pairs())
    assert all(value.isfinite() for value in terms.values())


# Context level


def slow_context_loss(guides, keys, counts, temperature, negatives):
    costs = []
    for i, guide in enumerate(guides):
        others = [OWN] * counts[i]
        for j, count in enumerate(counts):
            if j != i:
                others += [float(guide @ keys[j, m]) / temperature for m in range(count)]
        kept = sorted(others, reverse=True)[: negatives or None]
        for n in range(counts[i]):
            positive = float(guide @ keys[i, n]) / temperature
            costs.append(math.log(sum(map(math.exp, [positive, *kept]))) - positive)
    return sum(costs) / len(costs)


@pytest.mark.parametrize("negatives", [0, 1, 4, 1000])
@pytest.mark.parametrize("counts", [COUNTS, (5, 5, 5), (1, 1, 1)])
def test_the_context_loss_equals_its_slow_twin(negatives, counts):
    guides, keys = unit(noise(3, 11)), unit(noise(3, 5, 11, seed=1))
    loss = context_loss(guides, keys, first(counts, 5), 0.7, negatives)
    assert float(loss) == pytest.approx(slow_context_loss(guides, keys, counts, 0.7, negatives), abs=1e-5)


@pytest.mark.parametrize("negatives", [0, 12])  # 12: more than the real negatives of any query
def test_padding_has_no_part_in_the_context_loss(negatives):
    guides, keys = unit(noise(3, 11)).requires_grad_(), unit(noise(3, 5, 11, seed=1)).requires_grad_()
    plain = context_loss(guides, keys, first(COUNTS, 5), 0.1, negatives)
    plain.backward()
    assert not keys.grad[~first(COUNTS, 5)].any()
    assert guides.grad.isfinite().all()
    longer = nn.functional.pad(keys, (0, 0, 0, 4), value=50.0)
    torch.testing.assert_close(context_loss(guides, longer, first(COUNTS, 9), 0.1, negatives), plain)


def test_a_lone_pair_has_only_its_own_fragments_to_be_told_from():
    guides, keys = unit(noise(1, 11)), unit(noise(1, 5, 11, seed=1))
    positive = float(guides[0] @ keys[0, 0]) / 0.7
    loss = float(context_loss(guides, keys, first((1,), 5), 0.7, 512))
    assert loss == pytest.approx(math.log1p(math.exp(OWN - positive)), rel=1e-3)


def head(**options):
    torch.manual_seed(0)
    return ContextHead(11, Options(**options)).eval()


def test_a_fixed_gate_fuses_in_closed_form():
    x, mask = noise(3, 5, 11), first(COUNTS, 5)
    mean = torch.stack([x[row, :count].mean(0) for row, count in enumerate(COUNTS)])
    zero, one, half = (head(gate=gate)(x, mask) for gate in ("zero", "one", "mean"))
    torch.testing.assert_close(zero.fused, zero.guide)
    torch.testing.assert_close(one.fused, unit(mean))
    guide = torch.relu(head().guide(mean) / (1 + 1e-5) ** 0.5)  # the BN of an untrained head
    torch.testing.assert_close(half.guide, unit(guide))
    torch.testing.assert_close(half.fused, unit(0.5 * mean + 0.5 * guide))


def test_a_learned_gate_lies_between_and_is_built_only_where_it_is_used():
    x, mask = noise(3, 5, 11), first(COUNTS, 5)
    learned = head()
    nn.init.zeros_(learned.gate[2].weight)
    for bias, gate in ((50.0, "one"), (-50.0, "zero"), (0.0, "mean")):
        nn.init.constant_(learned.gate[2].bias, bias)
        torch.testing.assert_close(learned(x, mask).fused, head(gate=gate)(x, mask).fused)
    assert not hasattr(head(gate="mean"), "gate")


def test_without_relu_guide_and_locals_have_negative_features():
    x, mask = noise(3, 5, 11), first(COUNTS, 5)
    bent, straight = head()(x, mask), head(relu=False)(x, mask)
    for ours, theirs in ((bent.guide, straight.guide), (bent.fragments, straight.fragments)):
        assert (ours >= 0).all()
        assert (theirs < 0).any()


def test_one_direction_is_its_term_and_both_are_the_mean():
    batch = pairs()
    found = {}
    for directions in ("both", "text-to-image", "image-to-text"):
        model = build(directions=directions)
        images, texts = encode(model, batch)
        found[directions] = model.losses(images, texts, batch)["context"]
    torch.testing.assert_close(found["both"], (found["text-to-image"] + found["image-to-text"]) / 2)
    caption_guides, regions = texts.extras["selfalign_guide"], images.extras["selfalign_fragments"]
    expected = context_loss(caption_guides, regions, batch.images.mask, 0.7, 512)
    torch.testing.assert_close(found["text-to-image"], expected)


# The module on its host

OFF = {"concept": False, "context": False}


@pytest.mark.parametrize("module", [vsepp, vsrn])
def test_with_both_levels_off_it_is_the_host_bit_for_bit(module):
    def trained(make):
        torch.manual_seed(0)
        model = make(awake(module.build(INPUTS, module.Options())))
        drawn = torch.get_rng_state()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        history = []
        for step in range(3):
            terms = losses(model, pairs(epoch=step))
            history.append({name: value.item() for name, value in terms.items()})
            optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()
        images, texts = encode(model.eval(), pairs())
        return model, drawn, history, images, texts

    host, host_drawn, host_history, *host_sides = trained(lambda host: host)
    ours, drawn, history, *sides = trained(lambda host: SelfAlign(host, Options(**OFF)))
    assert torch.equal(drawn, host_drawn)
    assert history == host_history
    weights = {name.removeprefix("host."): tensor for name, tensor in ours.state_dict().items()}
    assert list(weights) == list(host.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in host.state_dict().items())
    for mine, theirs in zip(sides, host_sides, strict=True):
        assert mine.tensors().keys() == theirs.tensors().keys()
        assert all(torch.equal(mine.tensors()[name], tensor) for name, tensor in theirs.tensors().items())
    assert torch.equal(ours.similarity(*sides), host.similarity(*host_sides))


def test_the_host_has_the_same_weights_with_and_without_the_module():
    torch.manual_seed(0)
    host = awake(vsrn.build(INPUTS, vsrn.Options()))
    for name, tensor in host.state_dict().items():
        assert torch.equal(build().host.state_dict()[name], tensor)


@pytest.mark.parametrize("training", [True, False])
def test_the_score_is_the_hosts_plus_both_context_products(training):
    model = build().train(training)
    images, texts = encode(model, pairs())
    model.load_state_dict(build().state_dict())  # as before the call, running statistics included
    host_images, host_texts = encode(model.host, pairs())
    v = model.context.images(host_images.contextual, host_images.mask)
    t = model.context.texts(host_texts.contextual, host_texts.mask)
    for i, regions in enumerate(COUNTS):
        for j, words in enumerate(LENGTHS):
            host = host_images.embedding[i] @ host_texts.embedding[j]
            one = v.fragments[i, :regions].mean(0) @ t.fused[j]
            other = v.fused[i] @ t.fragments[j, :words].mean(0)
            torch.testing.assert_close(model.similarity(images, texts)[i, j], host + 0.5 * one + 0.5 * other)


def test_without_retrieval_blocks_they_score_in_training_alone():
    model, usual = build(retrieval_blocks=False), build()
    batch = pairs()
    for mode in (True, False):
        model.train(mode)
        usual.train(mode)
        images, texts = encode(model, batch)
        assert images.embedding.shape[1] == (33 if mode else 11)
        same = torch.equal(model.similarity(images, texts), usual.similarity(*encode(usual, batch)))
        assert same == mode
    torch.testing.assert_close(images.embedding, model.host.encode_images(batch.images).embedding)
    torch.testing.assert_close(model.losses(images, texts, batch)["context"], losses(usual, batch)["context"])


def test_an_index_keeps_embeddings_alone():
    model = build()
    for encoded in encode(model, pairs()):
        assert set(model.indexed(encoded).tensors()) == {"embedding"}


class Views(Independent):
    """A host with three views of each image, and a block of its own that the views share."""

    views = 3

    def __init__(self, shares):
        super().__init__(INPUTS)
        self.shares = shares

    def encode_images(self, images):
        return self.encoded(images.mask, noise(len(images), 3, 11, seed=4))

    def encode_texts(self, texts):
        return self.encoded(texts.mask, noise(len(texts), 11, seed=5))

    def encoded(self, mask, embedding):
        x = noise(*mask.shape, 11, seed=6)
        shared = noise(len(mask), 2, seed=7) if self.shares else None
        return Encoded(embedding=embedding, fragments=x, contextual=x, mask=mask, shared=shared)

    def own_losses(self, images, texts, batch):  # noqa: ARG002
        for encoded in (images, texts):
            assert encoded.embedding.shape[-1] == 11
            assert (encoded.shared is not None) == self.shares
            assert encoded.shared is None or encoded.shared.shape[1] == 2
        return {"own": torch.tensor(7.0)}


@pytest.mark.parametrize("shares", [True, False])
def test_several_views_share_the_context_block(shares):
    host = Views(shares)
    model = SelfAlign(host, Options(prototypes=19)).eval()
    images, texts = encode(model, pairs())
    v, t = (
        side(encoded.contextual, encoded.mask)
        for side, encoded in ((model.context.images, images), (model.context.texts, texts))
    )
    blocks = model.context.image_block(v) @ model.context.text_block(t).T
    expected = host.similarity(*encode(host, pairs())) + blocks
    torch.testing.assert_close(model.similarity(images, texts), expected)
    assert images.embedding.shape == (3, 3, 11)
    assert set(model.indexed(images).tensors()) == {"embedding", "shared"}
    assert list(losses(model, pairs())) == ["hinge", "own", "concept", "context"]


def test_a_host_that_hides_its_views_is_refused():
    host = Views(shares=False)
    host.views = 1
    with pytest.raises(ValueError, match="Views makes several views of an image but says `views` = 1"):
        SelfAlign(host, Options(prototypes=19)).encode_images(pairs().images)


@pytest.mark.parametrize("module", [vsepp, vsrn])
@pytest.mark.parametrize("training", [True, False])
def test_padding_does_not_matter(module, training):
    plain, padded = (build(module).train(training) for _ in range(2))
    for ours, theirs in zip(encode(plain, pairs()), encode(padded, pairs(padding=3)), strict=True):
        torch.testing.assert_close(ours.embedding, theirs.embedding)
    torch.testing.assert_close(losses(padded, pairs(padding=3)), losses(plain, pairs()))


def test_official_padding_counts_padding():
    model = build(official_padding=True).eval()
    for ours, theirs in zip(encode(model, pairs()), encode(model, pairs(padding=3)), strict=True):
        torch.testing.assert_close(ours.embedding[:, :11], theirs.embedding[:, :11])  # the host's part
        assert not torch.allclose(ours.embedding, theirs.embedding)


@pytest.mark.parametrize("training", [True, False])
def test_official_padding_is_no_difference_where_nothing_is_padded(training):
    batch = pairs(counts=(5, 5, 5), lengths=(7, 7, 7))
    official, ours = (build(official_padding=flag).train(training) for flag in (True, False))
    torch.testing.assert_close(losses(official, batch), losses(ours, batch))


@pytest.mark.parametrize(
    ("change", "term"),
    [
        ({"prototypes": 23}, "concept"),
        ({"sinkhorn_iterations": 5}, "concept"),
        ({"eps": 0.1}, "concept"),
        ({"word_temperature": 0.2}, "concept"),
        ({"teacher": "attention"}, "concept"),
        ({"concept_weight": 3.0}, "concept"),
        ({"directions": "image-to-text"}, "context"),
        ({"temperature": 0.1}, "context"),
        ({"negatives": 3}, "context"),
        ({"relu": False}, "context"),
        ({"context_weight": 3.0}, "context"),
        ({"official_padding": True}, "context"),
        ({"gate": "zero"}, "hinge"),
        ({"gate": "one"}, "hinge"),
        ({"gate": "mean"}, "hinge"),
    ],
)
def test_every_switch_changes_its_term(change, term):
    plain, changed = losses(build(), pairs()), losses(build(**change), pairs())
    assert not torch.allclose(changed[term], plain[term])


def test_a_weight_multiplies_and_a_level_that_is_off_has_no_term():
    plain = losses(build(), pairs())
    weighted = losses(build(concept_weight=3.0, context_weight=0.5), pairs())
    torch.testing.assert_close(weighted["concept"], 3 * plain["concept"])
    torch.testing.assert_close(weighted["context"], 0.5 * plain["context"])
    assert list(losses(build(context=False), pairs())) == ["hinge", "concept"]
    assert list(losses(build(concept=False), pairs())) == ["hinge", "context"]


@pytest.mark.parametrize("module", [vsepp, vsrn])
def test_gradients_reach_every_parameter(module):
    model = build(module)
    sum(losses(model, pairs()).values()).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or p.grad.norm() < 1e-6}
    # a BN takes the constant before it out again
    constants = {f"host.graph.{layer}.w.bias" for layer in range(4)} | {
        f"context.{side}.guide.bias" for side in ("images", "texts")
    }
    assert silent <= constants


def test_a_training_step_counts_once_in_the_running_statistics():
    model = build()
    losses(model, pairs())
    assert {int(n) for name, n in model.state_dict().items() if name.endswith("num_batches_tracked")} == {1}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses(model.eval(), pairs())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("module", [vsepp, vsrn])
def test_a_lone_pair_of_one_region_and_one_word_is_finite(module, training):
    batch = PairBatch(
        ImageBatch(torch.ones(1, 1, 13), torch.ones(1, 1, dtype=torch.bool)),
        TextBatch(torch.ones(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.bool)),
        torch.zeros(1, dtype=torch.int64),
    )
    model = build(module).train(training)
    terms = losses(model, batch)
    assert all(value.isfinite() for value in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


# Refusals


class Scan(Interactive):
    """Any interactive model."""

    encode_images = encode_texts = tile_scores = None


def test_an_interactive_host_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"Scan is not: where scores come from .* nothing can be indexed"):
        SelfAlign(Scan(INPUTS), Options())


def test_a_host_that_does_not_show_its_fragments_is_refused():
    host = vsepp.build(INPUTS, vsepp.Options(word_projection=False))
    with pytest.raises(ValueError, match="SelfAlign reads `fragments` of the texts, which its host does not fill"):
        losses(SelfAlign(host, Options(prototypes=19)), pairs())
    losses(SelfAlign(host, Options(concept=False)), pairs())  # the context level does not read them


class Narrow(Views):
    def encoded(self, mask, embedding):
        return replace(super().encoded(mask, embedding), contextual=noise(*mask.shape, 3))


def test_fragments_of_another_width_are_refused():
    model = SelfAlign(Narrow(shares=False), Options(prototypes=19))
    with pytest.raises(ValueError, match="`contextual` of the images of width 11, its host gives 3"):
        model.encode_images(pairs().images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher": "mean"}, "teacher='mean' is not known; choose one of argmax, attention"),
        ({"directions": "t2i"}, "choose one of both, text-to-image, image-to-text"),
        ({"gate": ""}, "choose one of learned, zero, one, mean"),
        ({"prototypes": 0}, "prototypes=0 must be at least 1"),
        ({"sinkhorn_iterations": -1}, "sinkhorn_iterations=-1 must be at least 0"),
        ({"negatives": -512}, "negatives=-512 must be at least 0"),
        ({"concept_weight": -1.0}, "concept_weight=-1.0 must be at least 0"),
        ({"eps": 0.0}, "eps=0.0 must be above 0"),
        ({"temperature": -0.7}, "temperature=-0.7 must be above 0"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)
