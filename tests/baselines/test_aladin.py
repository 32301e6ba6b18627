"""ALADIN's two heads: what each learns from, what retrieval reads, and that padding is nowhere."""

from __future__ import annotations

import pytest
import torch

from baselines.independent.aladin import Options, build
from harness import contract
from harness.learn.build import build as from_job
from harness.spec import registry, suites
from harness.spec.job import Data
from models.distillation import listwise, max_regions_sum_words
from models.losses import hinge


def made(**options):
    torch.manual_seed(0)
    return build(contract.INPUTS, Options(**options))


def test_losses_are_the_alignments_hinge_and_what_the_matching_head_learns_from_it():
    model, batch = made().eval(), contract.pairs("aladin")
    images, texts = contract.encodings(model, batch)
    scores = max_regions_sum_words(images.contextual, images.mask, texts.contextual, texts.mask)
    terms = model.losses(images, texts, batch)
    torch.testing.assert_close(terms["alignment"], hinge(scores))
    student = 6 * images.embedding @ texts.embedding.T
    torch.testing.assert_close(terms["distilled"], listwise(student, scores))
    assert terms["hinge"] == 0


def test_the_matching_head_may_have_a_hinge_of_its_own():
    batch = contract.pairs("aladin")
    tenth, whole = (contract.losses(made(hinge=weight).eval(), batch)["hinge"] for weight in (0.1, 1.0))
    assert whole > 0
    torch.testing.assert_close(10 * tenth, whole)


def test_retrieval_is_the_inner_product_of_the_matching_head():
    model, batch = made().eval(), contract.pairs("aladin")
    images, texts = contract.encodings(model, batch)
    assert model.indexed(images).contextual is None
    torch.testing.assert_close(contract.scores(model, batch), images.embedding @ texts.embedding.T)


def test_both_sides_share_one_head():
    model = made()
    assert sum(name.startswith("head.") for name, _ in model.named_parameters()) == 1 + 2 * 12


def test_it_is_a_row_where_it_is_named_and_a_host():
    assert "aladin" not in suites.find("full").labels()
    assert [job.model.label for job in suites.jobs("full", Data(), only=["aladin"], seeds=[0])] == ["aladin"]
    assert registry.model("aladin+selfalign").label == "aladin+selfalign"
    with pytest.raises(ValueError, match="multiple of heads=3"):
        made(heads=3)


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_context_blocks_are_ranked_by_where_the_matching_head_has_a_hinge(weight):
    model = from_job(registry.model("aladin+selfalign", {"hinge": weight}), contract.INPUTS, 0).train()
    contract.total(contract.losses(model, contract.pairs("aladin"))).backward()
    for head in (model.context.images, model.context.texts):
        assert head.guide.weight.grad.any()
        learned = [p.grad is not None and bool(p.grad.any()) for p in head.gate.parameters()]
        assert any(learned) == bool(weight)
