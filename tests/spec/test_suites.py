"""Suites are lists of jobs: narrowed by name, varied by setting, repeated over seeds."""

import pytest

from harness.spec import registry, suites
from harness.spec.job import Data, SpecError


def labels(jobs):
    return list(dict.fromkeys(job.model.label for job in jobs))


def test_full_has_every_row():
    assert tuple(labels(suites.jobs("full", Data()))) == registry.labels()


def test_baselines_leave_selfalign_out():
    assert not any("selfalign" in label for label in labels(suites.jobs("baselines", Data())))


def test_keys_are_unique_in_every_suite():
    for name in suites.SUITES:
        keys = [job.key for job in suites.jobs(name, Data(name="f30k"))]
        assert len(keys) == len(set(keys))


def test_seeds_replace_those_of_the_suite():
    jobs = suites.jobs("full", Data(), only=["vsepp"], seeds=[5, 7])
    assert [job.settings.seed for job in jobs] == [5, 7]


def test_only_takes_names_families_of_variants_and_wildcards():
    assert labels(suites.jobs("full", Data(), only=["scan"])) == [
        label for label in registry.labels() if label.startswith("scan:")
    ]
    assert labels(suites.jobs("full", Data(), only=["*+selfalign"])) == [
        label for label in registry.labels() if "+" in label
    ]
    assert labels(suites.jobs("full", Data(), only=["vsepp"])) == ["vsepp"]


def test_settings_are_the_same_for_all_rows():
    for name, suite in suites.SUITES.items():
        if suite.published or suite.tuning:
            continue
        shared = {str({**vars(job.settings), "seed": None}) for job in suites.jobs(name, Data())}
        assert len(shared) == 1


def test_tuning_never_looks_at_test():
    assert {job.data.ranked for job in suites.jobs("tune", Data())} == {"dev"}


def test_selfalign_settings_reach_the_rows_that_have_it():
    jobs = suites.jobs("full", Data(), only=["vsepp*"], seeds=[0], changes={"selfalign.prototypes": 11})
    assert [None if job.model.selfalign is None else job.model.selfalign["prototypes"] for job in jobs] == [None, 11]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: suites.jobs("ful", Data()), "unknown suite 'ful'; did you mean full"),
        (lambda: suites.jobs("full", Data(), only=["vsren"]), "unknown method 'vsren'; did you mean vsrn"),
        (lambda: suites.jobs("smoke", Data(), only=["scan:i2t-avg"]), "'scan:i2t-avg' names no row of this suite"),
        (lambda: suites.jobs("full", Data(), changes={"settings.lrr": 1.0}), "settings has no field 'lrr'"),
    ],
)
def test_wrong_names_are_answered(call, says):
    with pytest.raises(SpecError, match=says):
        call()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("selfalign.protoypes", "selfalign has no option 'protoypes'; did you mean prototypes"),
        ("selfalign.prototypes", "selfalign.prototypes reaches no row: none of those chosen has SelfAlign"),
    ],
)
def test_what_is_set_of_selfalign_must_reach_a_row(path, says):
    with pytest.raises(SpecError, match=says):
        suites.jobs("full", Data(), only=["vsepp", "chance"], changes={path: 3})
