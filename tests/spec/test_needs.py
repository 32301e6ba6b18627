"""A row that reads what the data lack is left out before anything starts, and says so."""

import pytest

from harness.spec import methods, needs, plugins, registry, suites
from harness.spec.job import Data, SpecError

PLAIN = frozenset({"fragments", "tokens"})


def labels(asked):
    return {job.model.label for job in asked.jobs}


def test_rows_without_what_they_need_are_left_out_in_one_line_each():
    asked = suites.asked("full", Data(name="mine"), only=["camera", "gsmn", "vsepp"], seeds=[0, 1])
    left, lines = needs.served(asked, PLAIN)
    assert labels(left) == {"vsepp"}
    assert lines == [f"Left out: {label} needs boxes, which mine does not have" for label in ("camera", "gsmn")]
    assert needs.served(asked, PLAIN | {"boxes"}) == (asked, [])


def test_rows_of_the_scale_are_for_embedded_data_alone():
    asked = suites.asked("full", Data(name="mine"), only=["oracle", "bag", "chance"], seeds=[0])
    left, lines = needs.served(asked, PLAIN | {"boxes", "strings", "pixels"})
    assert labels(left) == {"chance"}
    assert lines == [
        "Left out: bag needs bag, which mine does not have",
        "Left out: oracle needs truth, which mine does not have",
    ]


def test_a_row_of_the_scale_has_one_run_whatever_the_seeds():
    asked = suites.asked("full", Data(), only=["oracle", "chance"], seeds=[3, 5])
    assert [(job.model.label, job.settings.seed) for job in asked.rows] == [("chance", 3), ("chance", 5), ("oracle", 0)]


def test_an_option_may_spare_a_need():
    asked = suites.asked("full", Data(name="mine"), only=["gsmn"], seeds=[0], changes={"model.boxes": "grid"})
    assert needs.served(asked, PLAIN) == (asked, [])


def test_a_question_goes_with_its_base():
    asked = suites.asked("full", Data(name="mine"), seeds=[0])
    assert needs.served(asked, {"tokens"} | PLAIN)[0].posed == asked.posed
    with pytest.raises(SpecError, match="vsepp needs fragments, which mine does not have"):
        needs.served(suites.asked("full", Data(name="mine"), only=["vsepp"]), {"tokens"})


@pytest.mark.parametrize(
    ("says", "needed", "hosts"),
    [
        ("", ("fragments", "tokens"), True),
        ('NEEDS = ("pixels", "strings")', ("pixels", "strings"), False),
        ("HOSTS = False", ("fragments", "tokens"), False),
    ],
)
def test_a_file_says_what_it_needs_and_hosts(tmp_path, says, needed, hosts):
    file = tmp_path / "mine.py"
    file.write_text(f'"""Mine."""\nRECIPE = 1\nPAPER = ""\n{says}\n')
    method = methods.read(file, "independent")
    assert (method.needs, method.hosts) == (needed, hosts)


def test_a_file_says_whether_it_is_the_floor(tmp_path):
    file = tmp_path / "dice.py"
    file.write_text('"""Dice."""\nRECIPE = 1\nPAPER = ""\nFAMILY = "independent"\nFLOOR = True\n')
    plugins.choose([file])
    assert [name for name in registry.methods() if registry.floor(name)] == ["chance", "dice"]
    plugins.choose()
    assert not registry.floor("dice")  # it is gone, and its records are still read


def test_an_unknown_need_is_one_line(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text('"""Mine."""\nRECIPE = 1\nPAPER = ""\nNEEDS = ("boxs",)\n')
    with pytest.raises(SpecError, match=r"mine.py: unknown need 'boxs' in NEEDS; did you mean boxes"):
        methods.read(file, "independent")
