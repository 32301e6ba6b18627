"""Suite `paper`: every row as it was published, on the data it was published for."""

import pytest

from harness.spec import paper, registry, suites
from harness.spec.job import Data, SpecError

F30K, COCO = Data(name="f30k_precomp"), Data(name="coco")
# rate, epochs, epochs to the drop, batch, width as the papers and their scripts have them
SCHEDULES = {
    ("vsepp", "f30k"): (2e-4, 30, 15, 128, 1024),
    ("vsrn", "f30k"): (2e-4, 30, 10, 128, 2048),
    ("vsrn", "coco"): (2e-4, 30, 15, 128, 2048),
    ("camera+selfalign", "coco"): (1e-4, 40, 20, 128, 2048),
    ("saem", "f30k"): (1e-4, 30, 10, 64, 256),
    ("scan:t2i-avg", "f30k"): (2e-4, 30, 15, 128, 1024),
    ("scan:t2i-avg", "coco"): (5e-4, 20, 10, 128, 1024),
    ("gsmn", "coco"): (5e-4, 20, 5, 32, 1024),
    ("sgraf:sgr", "f30k"): (2e-4, 40, 30, 128, 1024),
    ("sgraf:saf", "f30k"): (2e-4, 30, 20, 128, 1024),
    ("naaf", "coco"): (5e-4, 20, 10, 256, 1024),
    ("chan", "coco"): (5e-4, 25, 15, 384, 1024),
}


def row(label, data=F30K, **more):
    return suites.jobs("paper", data, only=[label], seeds=[0], **more)[0]


@pytest.mark.parametrize(("label", "of"), SCHEDULES)
def test_schedules_are_the_published_ones(label, of):
    s = row(label, F30K if of == "f30k" else COCO).settings
    assert (s.lr, s.epochs, s.drop_every, s.batch, s.dim) == SCHEDULES[label, of]


def test_every_method_is_there_but_what_cannot_be_trained_as_published():
    hosts = {label for label in registry.labels() if "+" not in label}
    assert hosts - set(paper.LABELS) == {"camp", "oracle", "bag"}  # three stages; none
    assert {label for label in paper.LABELS if "+" in label} == {"vsrn+selfalign", "camera+selfalign"}


@pytest.mark.parametrize("of", paper.DATA)
@pytest.mark.parametrize("label", paper.LABELS)
def test_every_value_is_one_that_the_row_has(label, of):
    assert row(label, Data(), paper_of=of).model.label == label


def test_options_differ_by_data_set():
    assert row("scan:i2t-lse").model.options["mu"] == 5
    assert row("scan:i2t-lse", COCO).model.options["mu"] == 20
    assert row("scan:i2t-avg", COCO).model.options["lam"] == 4
    assert row("imram:image").model.options["steps"] == 1
    assert row("vsrn", COCO).model.options["first_norm"] == "region"


def test_prototypes_are_frozen_in_the_first_epoch():
    for label in ("vsrn+selfalign", "camera+selfalign"):
        selfalign = row(label).model.selfalign
        assert selfalign is not None
        assert selfalign["freeze_epochs"] == 1
        assert row(label, changes={"selfalign.freeze_epochs": 0}).model.selfalign["freeze_epochs"] == 0
    assert registry.model("vsrn+selfalign").selfalign["freeze_epochs"] == 0


def test_what_the_user_asks_for_goes_last():
    job = row("chan", changes={"settings.epochs": 2, "model.pooling": "mean"})
    assert (job.settings.epochs, job.settings.margin, job.model.options["pooling"]) == (2, 0.05, "mean")


def test_a_text_model_goes_where_one_was_published():
    read = {
        job.model.label: job.settings.text_model
        for job in suites.jobs("paper", F30K, changes={"settings.text_model": "bert-base-uncased"})
    }
    assert {label for label, model in read.items() if model} == {"camera", "camera+selfalign", "saem"}
    assert {job.settings.text_model for job in suites.jobs("paper", F30K)} == {""}


def test_a_text_model_changes_all_rows_of_other_suites():
    jobs = suites.jobs("full", F30K, changes={"settings.text_model": "bert"})
    assert {job.settings.text_model for job in jobs} == {"bert"}


@pytest.mark.parametrize(
    ("suite", "more", "says"),
    [
        ("paper", {}, "hyper-parameters were published for f30k and coco, not for scenes; --paper-of f30k"),
        ("paper", {"paper_of": "f3k"}, "unknown --paper-of 'f3k'; did you mean f30k"),
        ("full", {"paper_of": "f30k"}, "--paper-of belongs to suite paper, not to full"),
    ],
)
def test_data_without_published_settings_are_refused(suite, more, says):
    with pytest.raises(SpecError, match=says):
        suites.jobs(suite, Data(), **more)
