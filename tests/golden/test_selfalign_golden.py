"""SelfAlign against its official code: both losses with gradients, VSRN's image side, and the whole model on VSRN.

The official weights are loaded into our modules by name, so that nothing but the arithmetic can agree or differ.
"""

import pytest
import torch

from baselines.independent import vsrn
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, TextBatch
from models.encoders import unit
from models.selfalign import ConceptAlignment, Options, SelfAlign, concept_loss, context_loss, sinkhorn

DIM = 32


def close(ours, theirs, atol=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def lengths_mask(lengths, longest):
    return torch.arange(longest) < lengths[:, None]


# selfalign_losses


def test_the_sinkhorn_assignment_equals_the_official_one(golden):
    file = golden("selfalign_losses")
    scores = file["regions"].flatten(0, 1) @ file["prototypes_after_normalise"].T  # (54, 24)
    for iterations, name in ((2, "sinkhorn_q"), (3, "sinkhorn_q_iter3")):
        close(sinkhorn(scores, iterations, eps=0.05), file[name])


def test_the_concept_loss_and_its_gradients_equal_the_official_ones(golden):
    file = golden("selfalign_losses")
    regions, words, prototypes = (
        file[name].clone().requires_grad_() for name in ("regions", "words", "prototypes_after_normalise")
    )
    everything = torch.ones(regions.shape[:2], dtype=torch.bool)
    real_words = lengths_mask(file["word_lens"], words.shape[1])
    loss = concept_loss(regions, everything, words, real_words, prototypes, iterations=2, eps=0.05, temperature=0.1)
    loss.backward()
    close(loss, file["concept_loss"])
    close(words.grad, file["concept_grad_words"])
    close(prototypes.grad, file["concept_grad_prototypes"])
    assert regions.grad is None  # the file says exactly zero
    assert not file["concept_grad_regions"].any()


def test_a_training_call_normalises_the_prototypes_in_place(golden):
    file = golden("selfalign_losses")
    concept = ConceptAlignment(DIM, Options(prototypes=24))
    with torch.no_grad():
        concept.prototypes.copy_(file["prototypes_before"])
    everything = torch.ones(file["regions"].shape[:2], dtype=torch.bool)
    images = Encoded(fragments=file["regions"], mask=everything)
    texts = Encoded(fragments=file["words"], mask=lengths_mask(file["word_lens"], file["words"].shape[1]))
    loss = concept(images, texts, epoch=0)
    close(concept.prototypes.detach(), file["prototypes_after_normalise"])
    close(loss, file["concept_loss"])


@pytest.mark.parametrize("temperature", [0.7, 0.1])
@pytest.mark.parametrize("negatives", [0, 5, 20])
def test_the_context_loss_and_its_gradients_equal_the_official_ones(golden, negatives, temperature):
    file = golden("selfalign_losses")
    guides, fragments = (file[name].clone().requires_grad_() for name in ("context_global", "context_locals"))
    everything = torch.ones(fragments.shape[:2], dtype=torch.bool)
    loss = context_loss(guides, fragments, everything, temperature, negatives)
    loss.backward()
    case = f"neg{negatives}.T{temperature}"
    close(loss, file[f"context_loss.{case}"])
    close(guides.grad, file[f"context_grad_global.{case}"])
    close(fragments.grad, file[f"context_grad_locals.{case}"])


# The whole model: ours -> official name


def head(ours, official):
    return {
        f"context.{ours}.guide": f"{official}ctx_fc",
        f"context.{ours}.guide_norm": f"{official}ctx_fc_bn1",
        f"context.{ours}.local_norm": f"{official}ctx_fc_bn2",
        f"context.{ours}.gate.0": f"{official}fusion_fn.0",
        f"context.{ours}.gate.2": f"{official}fusion_fn.2",
    }


def image_names(official):
    layer = {"g": "g", "theta": "theta", "phi": "phi", "w": "W.0", "norm": "W.1"}
    graph = {
        f"host.graph.{i}.{ours}": f"{official}Rs_GCN_{i + 1}.{theirs}"
        for i in range(4)
        for ours, theirs in layer.items()
    }
    return graph | {
        "host.regions.linear": f"{official}fc",
        "host.reader.gru": f"{official}img_rnn",
        "host.state_norm": f"{official}bn",
        **head("images", official),
    }


TEXT_NAMES = {
    "host.captions.words.source": "text.embed",
    "host.captions.projection": "text.local_fc",
    "host.captions.gru.gru": "text.rnn",
    **head("texts", "text."),
}


def load(model, file, names):
    """Copies every official array that `names` covers; what is left of ours is returned."""
    left = set()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            module, _, parameter = name.rpartition(".")
            if module in names:
                tensor.copy_(file[f"{names[module]}.{parameter}"].view(tensor.shape))
            else:
                left.add(name)
    return left


def selfalign_vsrn(vocabulary=20, negatives=20, official_padding=False):
    inputs = Inputs(image_dim=48, regions=36, vocabulary=vocabulary, dim=DIM, word_dim=12)
    host = vsrn.VSRN(inputs, vsrn.Options(region_norm="region"))
    return SelfAlign(host, Options(prototypes=24, negatives=negatives, official_padding=official_padding))


def image_batch(file):
    return ImageBatch(file["images"], torch.ones(file["images"].shape[:2], dtype=torch.bool))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_image_side_equals_the_official_encoder(golden, mode):
    file = golden("selfalign_vsrn_image_encoder")
    model = selfalign_vsrn()
    left = load(model, file, image_names("w."))
    assert not [name for name in left if name.startswith(("host.graph", "host.reader", "context.images"))]
    model.train(mode == "train")
    host = model.host.encode_images(image_batch(file))
    context = model.context.images(host.contextual, host.mask)
    close(host.embedding, file[f"{mode}.embedding"])
    close(vsrn.normalised(host.contextual, "region"), file[f"{mode}.gcn_regions_l2dim1"])
    close(unit(host.fragments), file[f"{mode}.regions_fc_unit"])
    close(context.fragments, file[f"{mode}.context_locals"])
    close(context.guide, file[f"{mode}.context_guide"])
    close(context.fused, file[f"{mode}.context_fused"])


def official_model(file, negatives, official_padding):
    model = selfalign_vsrn(negatives=negatives, official_padding=official_padding)
    assert load(model, file, image_names("image.") | TEXT_NAMES) == {"concept.prototypes"}
    with torch.no_grad():
        model.concept.prototypes.copy_(file["concept.v_prototypes.weight"])
    return model


def in_our_order(embedding):
    """[host ; 0.5 fused ; 0.5 mean locals] and [host ; mean locals ; fused] with the last two blocks exchanged."""
    host, second, third = embedding.split(DIM, dim=1)
    return torch.cat([host, third, second], 1)


@pytest.mark.parametrize("negatives", [0, 20])
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", ["selfalign_vsrn_full", "selfalign_vsrn_full_padded"])
def test_the_whole_model_equals_the_official_one(golden, name, mode, negatives):
    file = golden(name)
    model = official_model(file, negatives, official_padding=name.endswith("padded")).train(mode == "train")
    tokens = file["caption_ids"]
    texts = TextBatch(tokens, lengths_mask(file["cap_lens"], tokens.shape[1]))
    batch = PairBatch(image_batch(file), texts, torch.arange(len(tokens)))
    images, captions = model.encode_images(batch.images), model.encode_texts(batch.texts)
    close(images.embedding, in_our_order(file[f"{mode}.image_embedding"]))
    close(captions.embedding, in_our_order(file[f"{mode}.caption_embedding"]))
    close(model.similarity(images, captions), file[f"{mode}.similarity"])
    if mode == "train":
        terms = model.losses(images, captions, batch)
        assert set(terms) == {"hinge", "concept", "context"}
        close(terms["hinge"], file["train.hinge"], atol=1e-4)
        close(terms["concept"], file["train.concept_loss"], atol=1e-4)
        close(terms["context"], file[f"train.context_loss.neg{negatives}"], atol=1e-4)
        if negatives == 20:
            close(sum(terms.values()), file["train.total_without_captioning"], atol=1e-4)
