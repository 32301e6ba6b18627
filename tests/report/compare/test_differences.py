"""`python -m harness.compare A B`: what is compared with what, which interval is used, when a verdict is given."""

from __future__ import annotations

import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner

from harness import report, results
from harness.compare import app
from harness.measure.intervals import welch_difference
from harness.report.compare.differences import Pair, changes, conditions, paired, sheets
from harness.report.read.contrasts import compared
from harness.report.read.groups import collect

HIT, NEAR, MISS, FAR = [0, 0], [0, 4], [9, 10], [10, 10]


class Two:
    """Folders A and B, each filled by a Maker."""

    def __init__(self, make, folder: Path) -> None:
        self.a, self.b = type(make)(folder / "a"), type(make)(folder / "b")

    def run(self, which: str, row: str, ranks_of_seeds: dict[int, list[int]], **settings) -> None:
        make = getattr(self, which)
        for seed, i2t in ranks_of_seeds.items():
            make.add(make.job(row, seed, **settings), make.ranks(i2t, [0, 0, 4, 9, 10]))

    def pair(self) -> Pair:
        ((pair,), only_a, only_b) = paired(collect(self.a.folder), collect(self.b.folder))
        assert not only_a
        assert not only_b
        return pair

    def change(self):
        (change,) = changes(self.pair())
        return change


@pytest.fixture
def two(make, tmp_path) -> Two:
    return Two(make, tmp_path)


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_equal_seeds_are_paired(two):
    two.run("a", "vsepp", {0: MISS, 1: NEAR})
    two.run("b", "vsepp", {0: NEAR, 1: HIT})
    change = two.change()
    (alone,) = compared([(change.b, change.a)])
    assert alone.interval is not None
    assert (change.difference, change.interval, change.over) == (alone.value, alone.interval, "seeds and images")
    assert change.difference is not None
    assert change.difference > 0


def test_other_seeds_are_not_paired(two):
    two.run("a", "vsepp", {0: MISS, 1: NEAR, 2: MISS})
    two.run("b", "vsepp", {0: HIT, 1: HIT})
    change = two.change()
    expected = welch_difference(list(change.b.rsums.values()), list(change.a.rsums.values()))
    assert (change.difference, change.interval, change.over) == (expected.mean, expected.interval, "seeds (Welch)")


def test_one_seed_has_no_interval_and_no_verdict(two):
    two.run("a", "vsepp", {0: MISS})
    two.run("b", "vsepp", {0: HIT})
    change = two.change()
    assert change.difference == 250  # from R@10 50 to three times 100
    assert (change.interval, change.over, change.verdict) == (None, "—", "not enough seeds")


@pytest.mark.parametrize(("many", "one"), [("a", "b"), ("b", "a")])
def test_one_seed_beside_several_is_one_of_them_or_is_not(two, many, one):
    """Where a sixth value lies, by five: mean ± t(4) sd (1 + 1/5)^½, whichever folder has them."""
    two.run(many, "vsepp", {0: MISS, 1: NEAR, 2: MISS, 3: HIT, 4: NEAR})
    two.run(one, "vsepp", {7: HIT})
    change = two.change()
    values = list((change.a if many == "a" else change.b).rsums.values())
    reach = stats.t.ppf(0.975, 4) * np.std(values, ddof=1) * (1 + 1 / 5) ** 0.5
    assert change.interval == pytest.approx((change.difference - reach, change.difference + reach))
    assert (change.over, change.verdict) == ("one further seed", "within noise")


def test_one_seed_far_from_all_others_is_beyond_their_noise(two):
    two.run("a", "vsepp", {0: MISS, 1: MISS, 2: MISS})
    two.run("b", "vsepp", {3: HIT})
    assert two.change().verdict == "beyond noise"


def test_rows_are_tested_together(two):
    for label in ("vsepp", "vsrn"):
        two.run("a", label, {0: MISS, 1: NEAR})
        two.run("b", label, {0: NEAR, 1: HIT})
    found = changes(two.pair())
    assert [change.interval for change in found] == [c.interval for c in compared([(c.b, c.a) for c in found])]
    (alone,) = compared([(found[0].b, found[0].a)])
    assert found[0].interval is not None
    assert alone.interval is not None
    assert found[0].interval[0] < alone.interval[0]


def test_single_seeds_on_other_data_get_no_verdict(two):
    two.run("a", "vsepp", {0: MISS}, data={"fingerprint": "old"})
    two.run("b", "vsepp", {0: HIT}, data={"fingerprint": "new"})
    change = two.change()
    assert (change.difference, change.interval, change.verdict) == (250, None, "other data, no verdict")


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ({0: FAR, 1: FAR}, {0: HIT, 1: HIT}, "beyond noise"),
        ({0: HIT, 1: HIT}, {0: FAR, 1: FAR}, "beyond noise"),
        ({0: MISS, 1: MISS}, {0: HIT, 1: HIT}, "beyond noise"),
        ({0: MISS, 1: HIT}, {0: HIT, 1: MISS}, "within noise"),
        ({0: MISS, 1: HIT}, {0: MISS, 1: HIT}, "same ranks"),
        ({0: [0, 9], 1: HIT}, {0: [9, 0], 1: HIT}, "within noise"),
    ],
)
def test_a_verdict_rests_on_the_interval(two, a, b, verdict):
    two.run("a", "vsepp", a)
    two.run("b", "vsepp", b)
    assert two.change().verdict == verdict


def test_times_are_compared_on_equal_machines_alone(two):
    for which, score in (("a", 0.04), ("b", 0.09)):
        two.run(which, "vsepp", {0: HIT})
        make = getattr(two, which)
        make.time(make.job("vsepp"), score)
    assert two.change().time_ratio == pytest.approx((0.09 + 0.01) / (0.04 + 0.01))
    two.b.time(two.b.job("vsepp"), 0.09, machine={"device": "abacus", "threads": 3})
    assert two.change().time_ratio is None
    (sheet, _) = sheets(collect(two.a.folder), collect(two.b.folder), ("a", "b"))
    assert "No time ratio, A and B were not timed alike (machine.threads 2, 3): vsepp." in sheet.notes
    assert list(sheet.text["time"]) == ["—"]


def test_rows_of_one_folder_alone_and_failed_ones_are_named(two):
    two.run("a", "vsepp", {0: HIT})
    two.run("b", "vsepp", {0: HIT})
    two.run("a", "vsrn", {0: HIT})
    two.run("b", "scan:t2i-lse", {0: HIT})
    two.b.add(two.b.job("vsrn"), None, status="failed", error="LossError: nan")
    (sheet, _) = sheets(collect(two.a.folder), collect(two.b.folder), ("a", "b"))
    assert "Only in B: scan:t2i-lse." in sheet.notes
    assert any(note.startswith("B. Left out: vsrn seed 0") for note in sheet.notes)
    assert dict(zip(sheet.text["row"], sheet.text["verdict"], strict=True)) == {
        "vsepp": "same ranks",
        "vsrn": "nothing to compare",
    }


def test_what_differs_is_listed(two):
    two.run("a", "vsepp", {0: HIT}, lr=1e-4)
    two.run("b", "vsepp", {0: HIT}, lr=2e-4)
    two.b.add(
        two.b.job("vsrn", lr=2e-4), two.b.ranks(HIT, [0, 0, 4, 9, 10]), provenance={"commit": "def", "finished": "x"}
    )
    sheet = conditions(two.pair())
    rows = {row["what"]: (row["A"], row["B"]) for _, row in sheet.text.iterrows()}
    assert rows == {"settings.lr": ("0.0001", "0.0002"), "provenance.commit": ("abc", "abc, def")}


def test_folders_of_several_settings_are_matched_by_them(two):
    for lr in (1e-4, 2e-4):
        two.run("a", "vsepp", {0: HIT}, lr=lr)
    for lr in (2e-4, 3e-4):
        two.run("b", "vsepp", {0: HIT}, lr=lr, threads=7)
    pairs, only_a, only_b = paired(collect(two.a.folder), collect(two.b.folder))
    assert [(pair.a.settings["lr"], pair.b.settings["lr"]) for pair in pairs] == [(2e-4, 2e-4)]
    assert [group.settings["lr"] for group in (*only_a, *only_b)] == [1e-4, 3e-4]
    last = sheets(collect(two.a.folder), collect(two.b.folder), ("a", "b"))[-1]
    assert last.notes == (
        "Only in A: settings `settings.lr=0.0001`, rows vsepp.",
        "Only in B: settings `settings.lr=0.0003`, rows vsepp.",
    )


def test_the_door_prints_and_writes(two, tmp_path):
    two.run("a", "vsepp", {0: FAR, 1: FAR})
    two.run("b", "vsepp", {0: HIT, 1: HIT})
    target = tmp_path / "new" / "changes.md"
    done = call(two.a.folder, two.b.folder, "--out", target)
    assert done.exit_code == 0
    assert "beyond" in done.stdout
    assert "noise" in done.stdout
    assert "+300.0" in done.stdout
    text = target.read_text(encoding="utf-8")
    assert text.startswith("# Side by side\n\nA: `results/a`, B: `results/b`.\n")
    assert "## What differs\n\n- Data, settings and provenance are the same in A and B.\n" in text


def test_folders_of_one_name_are_told_apart(two):
    two.run("a", "vsepp", {0: HIT})
    done = call(two.a.folder, two.a.folder)
    assert done.exit_code == 0
    assert str(two.a.folder) in "".join(done.stdout.split("\n"))


def test_bad_folders_are_one_line(two, tmp_path):
    two.run("a", "vsepp", {0: HIT})
    for arguments in ([two.a.folder, tmp_path / "gone"], [tmp_path, two.a.folder]):
        done = call(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert not done.stdout
    (tmp_path / "file").write_text("")
    assert call(two.a.folder, two.a.folder, "--out", tmp_path / "file" / "x.md").exit_code == 2


def test_it_answers_without_torch():
    code = "import sys, harness.compare; sys.exit(' '.join({'torch', 'ray', 'transformers'} & set(sys.modules)) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def of_kernels(two, which: str, instruction_set: str | None) -> None:
    make = getattr(two, which)
    kernels = {} if instruction_set is None else {"kernels": {"instruction_set": instruction_set}}
    make.add(make.job("vsepp"), make.ranks(HIT, [0, 0, 4, 9, 10]), provenance=kernels)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [("AVX2", "DEFAULT", True), ("AVX2", "AVX2", False), (None, "AVX2", False), (None, None, False)],
)
def test_another_instruction_set_is_a_reason_for_other_numbers(two, a, b, told):
    """Records of before it was stored do not tell, and nothing is guessed of them."""
    of_kernels(two, "a", a)
    of_kernels(two, "b", b)
    side_by_side, differs = sheets(collect(two.a.folder), collect(two.b.folder), ("a", "b"))
    line = "A was computed with the instruction set AVX2, B with DEFAULT: sums are rounded otherwise"
    assert any(note.startswith(line) for note in side_by_side.notes) is told
    assert ("provenance.kernels.instruction_set" in differs.text["what"].tolist()) is (a != b)


def test_a_run_says_which_rows_agree_with_the_reference(two, tmp_path, monkeypatch):
    two.run("a", "vsepp", {0: MISS, 1: MISS, 2: MISS})
    two.run("a", "vsrn", {0: MISS, 1: NEAR, 2: MISS})
    two.run("b", "vsepp", {3: HIT})
    two.run("b", "vsrn", {3: NEAR})
    a, b = two.a.folder, two.b.folder
    reference = tmp_path / "results" / "reference"
    reference.mkdir(parents=True)
    monkeypatch.setattr(results, "ROOT", tmp_path)

    def said() -> str:
        out = Console(file=StringIO(), width=200)
        results.agree(b, out)
        return out.file.getvalue()

    assert said() == ""  # there is none
    shutil.copytree(a, reference / b.name)
    assert "1 of 2 rows agree with results/b; beyond its noise: vsepp: " in said()
    assert "| vsepp | " in (b / report.AGREEMENT).read_text(encoding="utf-8")
    (b / report.AGREEMENT).unlink()
    results.agree(reference / b.name, Console(file=StringIO()))
    assert not (reference / b.name / report.AGREEMENT).exists()  # it is itself


def test_rows_of_one_seed_each_agree_with_nothing(two):
    two.run("a", "vsepp", {0: MISS})
    two.run("b", "vsepp", {0: HIT})
    assert report.agreement(two.b.folder, two.a.folder) == ""
    assert not (two.b.folder / report.AGREEMENT).exists()
    two.run("b", "vsepp", {1: MISS, 2: NEAR})
    assert "1 of 1 rows agree" in report.agreement(two.b.folder, two.a.folder)
