"""Settings of the embedded data: SelfAlign's proportions are its paper's, and a length told in another way wins."""

import pytest

from harness.data import scenes
from harness.spec import embedded, suites
from harness.spec.job import Data
from harness.spec.override import yielding

SCENES = embedded.EMBEDDED["scenes"]
BATCH, REGIONS, PROTOTYPES, NEGATIVES = 128, 36, 1024, 512  # of SelfAlign's paper on Flickr30K


def test_a_batch_of_scenes_has_as_many_regions_per_prototype_as_the_paper():
    counts = scenes.load("train").images.counts
    assert counts is not None
    regions, batch = counts.mean(), SCENES["settings.batch"]
    assert SCENES["selfalign.prototypes"] == round(batch * regions / (BATCH * REGIONS / PROTOTYPES))
    others, theirs = (batch - 1) * regions, (BATCH - 1) * REGIONS  # regions of the other images
    assert SCENES["selfalign.negatives"] == round(others * NEGATIVES / theirs)


def test_selfaligns_own_go_to_rows_with_it_and_to_arms_that_put_it_on():
    data = Data("scenes", fingerprint="f")
    asked = suites.asked("full", data, only=["vsepp", "vsepp+selfalign", "ablations/submodules/vsepp"], seeds=[0])
    host, with_module = asked.rows
    assert host.model.selfalign is None
    assert with_module.model.selfalign is not None
    assert with_module.model.selfalign["prototypes"] == SCENES["selfalign.prototypes"]
    (posed,) = asked.posed
    assert posed.arms["both"].key == with_module.key
    assert posed.arms["concept-only"].model.selfalign == {**with_module.model.selfalign, "context": False}


def test_data_of_ones_own_have_the_defaults():
    (job,) = suites.jobs("full", Data("scenes", own=True), only=["vsepp+selfalign"], seeds=[0])
    assert job.model.selfalign is not None
    assert job.model.selfalign["prototypes"] == 1024
    assert job.settings.updates == 0


USUAL = {"settings.updates": 1000, "settings.warmup_updates": 800, "settings.lr": 1e-3}


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ({}, USUAL),
        ({"settings.dim": 3}, USUAL),
        ({"settings.epochs": 3}, {"settings.lr": 1e-3}),
        ({"settings.updates": 0}, {"settings.lr": 1e-3}),
        ({"settings.warmup_epochs": 1}, {"settings.updates": 1000, "settings.lr": 1e-3}),
        ({"settings.updates": 50}, USUAL | {"settings.warmup_updates": 40}),
        ({"settings.updates": 50, "settings.epochs": 3}, USUAL | {"settings.warmup_updates": 40}),
    ],
)
def test_what_yields_to_a_length_told_in_another_way(told, left):
    assert yielding(USUAL, told) == left


def test_nothing_yields_where_nothing_is_usual():
    assert yielding({}, {"settings.updates": 50}) == {}
    assert yielding({"settings.lr": 1e-3}, {"settings.epochs": 5}) == {"settings.lr": 1e-3}


@pytest.mark.parametrize("changes", [{"settings.epochs": 2}, {"settings.updates": 30}])
def test_a_length_that_is_told_is_the_length(changes):
    (job,) = suites.jobs("full", Data(), only=["vsepp"], seeds=[0], changes=changes)
    assert job.settings.updates == changes.get("settings.updates", 0)
    assert job.settings.warmup_updates == (24 if job.settings.updates else 0)
    assert changes.get("settings.epochs", 5) == job.settings.epochs
