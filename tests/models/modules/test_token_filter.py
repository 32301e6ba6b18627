"""The token filter: which regions stay, on every family, and what it costs nothing to keep."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness import api, contract
from harness.learn.build import build
from harness.learn.stored import load
from harness.protocol import ImageBatch
from harness.spec import registry
from harness.spec.job import SpecError
from models.modules.token_filter import Options, kept, unlikeness
from models.places import grid
from tests.learn.test_taken import TINY

LABELS = ("vsepp+token-filter", "camera+token-filter", "scan:t2i-lse+token-filter", "gsmn+token-filter")


def made(label, **options):
    return build(registry.model(label, module_options={"token-filter": options}), contract.INPUTS, 0).eval()


def test_the_most_important_real_regions_stay_in_order():
    mask = torch.tensor([[True, True, True, True, False], [True, False, False, False, False]])
    importance = torch.tensor([[0.1, 0.9, 0.2, 0.8, 7.0], [0.0, 5.0, 5.0, 5.0, 5.0]])
    places = kept(importance, mask, 2)
    assert places[0].tolist() == [1, 3]
    assert mask.gather(1, places).sum(1).tolist() == [2, 1]  # an image with fewer keeps all it has
    assert kept(importance, mask, 9).shape == (2, 5)


def test_regions_unlike_the_mean_are_important():
    fragments = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [9.0, 9.0]]])
    found = unlikeness(fragments, torch.tensor([[True, True, True, False]]))
    assert found[0, :3].argmax() == 2


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("importance", ["learned", "similarity", "random"])
def test_a_filter_keeps_so_many_regions_for_whatever_reads_them(label, importance):
    model = made(label, keep=3, importance=importance)
    images = model.encode_images(contract.pairs(label).images)
    assert images.mask.shape == (5, 3)
    assert model.family == registry.parse(label)[0].family


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("importance", ["similarity", "random"])
def test_one_that_keeps_all_is_the_host_bit_for_bit(label, importance):
    host = label.partition("+")[0]
    model = made(label, keep=contract.REGIONS, importance=importance)
    assert torch.equal(
        contract.scores(model, contract.pairs(host)), contract.scores(contract.built(host), contract.pairs(host))
    )


@pytest.mark.parametrize("method", ["camera", "gsmn"])
def test_cells_of_a_grid_that_are_kept_stay_where_they_are(method):
    """A filter before a grid's regions sees what it would see before their boxes, stored with the features."""
    boxes, sizes = grid(3)
    inputs, mask = replace(contract.INPUTS, regions=9), torch.ones(2, 9, dtype=torch.bool)
    images = ImageBatch(torch.randn(2, 9, contract.IMAGE_DIM), mask, boxes.expand(2, 9, 4), sizes.expand(2, 2))
    label, keep = f"{method}+token-filter", {"token-filter": {"keep": 4, "importance": "similarity"}}
    stored, cells = (
        build(registry.model(label, {"boxes": where}, module_options=keep), inputs, 0).eval().encode_images(images)
        for where in ("stored", "grid")
    )
    assert stored.tensors().keys() == cells.tensors().keys()
    assert all(torch.equal(value, cells.tensors()[name]) for name, value in stored.tensors().items())


def test_a_learned_importance_learns():
    model = made("vsepp+token-filter", keep=3).train()
    contract.total(contract.losses(model, contract.pairs("vsepp"))).backward()
    assert model.score.weight.grad.any()


def test_lessons_beside_a_filter_are_given():
    assert "efa" in contract.losses(contract.built("vsepp+efa+token-filter").train(), contract.pairs("vsepp"))


@pytest.mark.parametrize("label", ["vsrn", "vsrn+selfalign"])
def test_a_peer_sees_all_regions_and_the_captioner_those_that_are_kept(label):
    label, batch = f"{label}+distilled+token-filter", contract.pairs(label)
    options = {"distilled": {"teacher": "peer"}, "token-filter": {"keep": 3, "importance": "random"}}
    model = build(registry.model(label, {"captioning": True}, module_options=options), contract.INPUTS, 0).train()
    seen = []
    real = model.lessons["distilled"].peer.encode_images
    model.lessons["distilled"].peer.encode_images = lambda images: seen.append(images) or real(images)
    terms = contract.losses(model, batch)
    assert {"hinge", "captioning", "distilled", "peer distilled", "peer captioning"} <= terms.keys()
    assert all(term.isfinite() for term in terms.values())
    assert [images.mask.shape for images in seen] == [(5, contract.REGIONS)]


def test_a_stored_teacher_sees_all_regions(tmp_path):
    api.run("scan:t2i-lse", tmp_path, changes=TINY)
    taught = TINY | {"distilled.teacher": "scan:t2i-lse", "token-filter.keep": 2}
    record = api.run("vsepp+distilled+token-filter", tmp_path, changes=taught)
    assert record.status == "ok", record.error


def test_two_stages_stand_on_a_filtered_row(tmp_path):
    api.run("vsepp+token-filter", tmp_path, changes=TINY | {"token-filter.keep": 3})
    record = api.run("two_stage", tmp_path, changes=TINY | {"model.encoder": "vsepp+token-filter"})
    assert record.status == "ok", record.error
    assert load(tmp_path, record.key).model.encoder.options.keep == 3
    with pytest.raises(SpecError, match=r"cannot be put on two_stage: .* \(encoder=vsepp\+token-filter\)$"):
        registry.parse("two_stage+token-filter")


def test_what_cannot_be_is_refused():
    for wrong in ({"keep": 0}, {"importance": "guessed"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Options(**wrong)
    with pytest.raises(SpecError, match="token-filter cannot be put on chance"):
        registry.parse("chance+token-filter")
