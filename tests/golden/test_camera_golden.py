"""CAMERA's parts against the published ones, and the whole of CAMERA + SelfAlign against its official code.

The official weights are loaded into our modules by name, so that nothing but the arithmetic can agree or differ.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from baselines.independent.camera import CAMERA, Options, PositionCode, ViewLogits, mixtures, overlap
from harness.protocol import Encoded, ImageBatch, Inputs, PairBatch, TextBatch
from models import selfalign
from models.agsa import GatedSelfAttention
from models.encoders import unit
from models.retrievers import inner_product

DIM, HEADS, VIEWS = 32, 4, 3


def close(ours, theirs, atol=2e-5):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def load(model, file, names):
    """Copies the official arrays; `names` maps the prefix of one of our parameters to the official prefix."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            module, _, parameter = name.rpartition(".")
            tensor.copy_(file[f"{names[module]}.{parameter}"].view(tensor.shape))
    return model.eval()


def attention_names(ours, official):
    linears = {"query": "linears.0", "key": "linears.1", "value": "linears.2"}
    gates = {"gate_query": "fc_q", "gate_key": "fc_k", "gate": "fc_g"}
    inside = {f"{ours}{name}": f"{official}att_layers.0.{theirs}" for name, theirs in (linears | gates).items()}
    return inside | {f"{ours}norm": f"{official}bns.0"}


def summary_names(ours, official):
    branches = {f"{ours}branches.{i}": f"{official}convs_dilate.{i}" for i in range(7)}
    return branches | {f"{ours}linear": f"{official}convs_fc"}


# The parts


def everywhere(fragments):
    return torch.ones(fragments.shape[:2], dtype=torch.bool)


def test_the_position_code_equals_the_published_one(golden):
    file = golden("camera")
    code = load(PositionCode(DIM), file, {"linear": "pos.proj"})
    close(code(file["boxes"], file["image_wh"], everywhere(file["regions"])), file["position"])


def test_gated_self_attention_equals_the_published_one(golden):
    file = golden("camera")
    attention = load(GatedSelfAttention(DIM, HEADS), file, attention_names("", "agsa."))
    regions, mask = file["regions"], everywhere(file["regions"])
    close(attention(regions, mask, file["position"]), file["agsa_image"])
    close(attention(regions, mask), file["agsa_text"])


def test_summary_views_match_and_diversity_equal_the_published_ones(golden):
    file = golden("camera")
    summary = load(ViewLogits(DIM, VIEWS), file, summary_names("", "smry."))
    shown = unit(file["agsa_image"])
    logits = summary(shown)
    views = mixtures(shown, logits, everywhere(shown))
    close(logits, file["summary_logits"])
    close(views, file["views"])
    close(inner_product(Encoded(embedding=views), Encoded(embedding=file["captions"])), file["match"])
    close(overlap(logits, everywhere(shown)).sum(), file["diversity"])


# The whole


class Given(nn.Module):
    """Token states that a file holds, in the place of a text model's."""

    def __init__(self, states):
        super().__init__()
        self.states = states
        self.width = states.shape[2]

    def forward(self, tokens, mask):  # noqa: ARG002
        return self.states


def head(ours, official):
    return {
        f"context.{ours}.guide": f"{official}ctx_fc",
        f"context.{ours}.guide_norm": f"{official}ctx_fc_bn1",
        f"context.{ours}.local_norm": f"{official}ctx_fc_bn2",
        f"context.{ours}.gate.0": f"{official}fusion_fn.0",
        f"context.{ours}.gate.2": f"{official}fusion_fn.2",
    }


NAMES = {
    "host.regions.linear": "image.fc",
    "host.position.linear": "image.position_enc.proj",
    **attention_names("host.region_attention.", "image.agsa."),
    **summary_names("host.view_logits.", "image.mvs."),
    "host.mapping": "text.mapping",
    **attention_names("host.word_attention.", "text.agsa."),
    "host.hidden": "text.fc1",
    "host.output": "text.fc2",
    "host.output_norm": "text.bn",
    **head("images", "image."),
    **head("texts", "text."),
    "concept": "concept",
}


def official_model(file, negatives):
    states = file["token_states"]
    inputs = Inputs(image_dim=48, regions=9, vocabulary=5, dim=DIM, token_states=lambda: Given(states))
    host = CAMERA(inputs, Options(heads=HEADS, views=VIEWS, norm_axis="region", word_norm=True))
    model = selfalign.SelfAlign(host, selfalign.Options(prototypes=24, negatives=negatives))
    return load(model, {**file, "concept.prototypes": file["concept.v_prototypes.weight"]}, NAMES)


@pytest.mark.parametrize("negatives", [0, 20])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_whole_model_equals_the_official_one(golden, mode, negatives):
    file = golden("selfalign_camera_full")
    model = official_model(file, negatives).train(mode == "train")
    regions, states = file["images"], file["token_states"]
    # the official code masks no token but in the concept loss
    tokens = TextBatch(torch.ones(states.shape[:2], dtype=torch.int64), everywhere(states))
    boxed = ImageBatch(regions, everywhere(regions), file["boxes"], file["image_wh"])
    images, texts = model.encode_images(boxed), model.encode_texts(tokens)

    host, means, fused = file[f"{mode}.image_views"].split(DIM, dim=2)
    close(images.embedding, host, atol=1e-5)
    close(images.shared, torch.cat([means, fused], 2)[:, 0], atol=1e-5)
    host, fused, means = file[f"{mode}.caption_embedding"].split(DIM, dim=1)
    close(texts.embedding, host, atol=1e-5)
    close(texts.shared, torch.cat([fused, means], 1), atol=1e-5)
    close(model.similarity(images, texts), file[f"{mode}.similarity"], atol=1e-5)

    if mode == "train":
        real = torch.arange(states.shape[1]) < file["cap_lens"][:, None]
        terms = model.losses(images, replace(texts, mask=real), PairBatch(boxed, tokens, torch.arange(len(regions))))
        assert set(terms) == {"hinge", "diversity", "concept", "context"}
        close(terms["hinge"], file["train.hinge"], atol=1e-4)
        close(terms["diversity"], 0.01 * file["train.diversity"], atol=1e-5)
        close(terms["concept"], file["train.concept_loss"], atol=1e-4)
        close(terms["context"], file[f"train.context_loss.neg{negatives}"], atol=1e-4)
        if negatives == 20:
            close(sum(terms.values()), file["train.total"], atol=1e-4)
