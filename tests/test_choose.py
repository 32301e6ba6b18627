"""The command that chooses: its answer, its table within 80 columns, and what it refuses in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from harness.choose import app
from tests.report.conftest import Maker, filled
from tests.report.tables.test_candidates import lawful, pair


@pytest.fixture
def timed(tmp_path) -> Maker:
    make = filled(Maker(tmp_path / "full-scenes"))
    for label, intercept in {"vsepp": 1.0, "vsepp+selfalign": 5.0, "scan:t2i-lse": 100.0}.items():
        lawful(make, label, intercept=intercept)
    pair(make)
    return make


def asked(make: Maker, *options: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, [str(make.folder), "--no-plugins", *options], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert "…" not in done.stdout
    return done.stdout


def flat(text: str) -> str:
    return " ".join(text.split())


def refusal(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_the_answer_names_row_accuracy_cost_runner_up_and_what_lies_outside(timed):
    shown = asked(timed, "--gallery", "1M", "--budget-ms", "20", "--memory", "4GiB")
    first, rest = flat(shown).split(" Runner-up: ")
    assert first.startswith("Take vsepp+selfalign: Rsum ")
    assert first.endswith("2 seeds; ≈17.0 ms a query, 977 MiB among 1,000,000 images.")
    assert rest.startswith("vsepp, Rsum 245.0 [")
    assert "≈13.0 ms a query, 977 MiB; +" in rest
    assert "Rsum: not told apart." in rest
    lines = [line.split() for line in shown.splitlines()]
    outside = lines.index(["outside", "the", "budget:"])
    assert [line[0] for line in lines[outside - 5 : outside - 2]] == ["vsepp+selfalign", "vsepp", "vsepp,"]
    assert lines[outside + 1][0] == "scan:t2i-lse"
    assert lines[outside + 1][-3:] == ["≈112", "977", "MiB"]
    assert "Accuracy was measured among 12 images, not 1,000,000" in flat(shown)
    assert (
        "beyond the largest gallery measured (100,000 images), along the row's law, which is off by up to 25%"
        in flat(shown)
    )
    assert "single queries on abacus, 2 threads" in flat(shown)


def test_among_images_that_were_measured_nothing_is_marked(timed):
    shown = asked(timed, "--gallery", "100K", "--budget-ms", "20")
    assert "≈" not in shown
    assert "4.00 ms a query" in flat(shown)


def test_memory_and_figure_change_the_answer(timed):
    cost = timed.store.cost(timed.job("vsepp+selfalign").key)
    timed.store.save_cost(replace(cost, index_bytes_per_image=10_240))
    shown = asked(timed, "--gallery", "1000000", "--budget-ms", "20", "--memory", "1073741824")
    assert shown.startswith("Take vsepp: ")
    best = asked(timed, "--gallery", "1M", "--budget-ms", "1000", "--by", "i2t-r1")
    assert best.startswith("Take scan:t2i-lse: i2t R@1 100.0, 1 seed; ")
    assert "95% of" in best


def test_long_names_wrap_and_numbers_stay_whole(timed):
    shown = asked(timed, "--gallery", "10000000", "--budget-ms", "1e9")
    assert "vsepp, then" in shown
    assert "k=10" in shown
    assert "19.1 GiB" in shown


def test_machines_are_asked_for_where_there_are_several(timed):
    cost = timed.store.cost(timed.job("vsepp").key)
    timed.store.save_cost(replace(cost, machine={"device": "loom", "threads": 2, "cuda": "13.0"}))
    given = [str(timed.folder), "--gallery", "1M", "--budget-ms", "20"]
    said = refusal(*given)
    assert "several machines, name one by --device: loom, 2 threads, cuda 13.0; abacus, 2 threads" in said
    assert asked(timed, *given[1:], "--device", "cuda").startswith("Take vsepp: ")
    assert asked(timed, *given[1:], "--device", "abacus").startswith("Take vsepp+selfalign: ")
    assert "nothing was timed there, but on loom" in refusal(*given, "--device", "tpu")


def test_records_of_other_settings_are_answered_apart(timed):
    for label in ("vsepp", "scan:t2i-lse"):
        timed.add(timed.job(label, lr=8e-4), timed.ranks([0, 1], [0, 1, 0, 1, 0]))
    job = timed.job("vsepp", lr=8e-4)
    timed.time(job, 1.0)
    stored = timed.store.cost(timed.job("vsepp").key)
    timed.store.save_cost(replace(stored, key=job.key))
    shown = asked(timed, "--gallery", "1M", "--budget-ms", "20")
    assert shown.count("Take ") == 2
    assert "Of the records with settings.lr=0.0008\nTake vsepp: " in shown
    some = asked(timed, "--gallery", "1M", "--budget-ms", "14", "--device", "cpu")
    assert some.count("Take vsepp: ") == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gallery", "0"], "--gallery takes images from 1 to 10,000,000,000"),
        (["--gallery", "-5"], "--gallery takes images"),
        (["--gallery", "nan"], "--gallery takes images"),
        (["--gallery", "99999999M"], "--gallery takes images"),
        (["--gallery", "1" * 5000], "(5,000 characters)"),
        (["--budget-ms", "0"], "--budget-ms must be above 0, got 0"),
        (["--budget-ms", "-1"], "--budget-ms must be above 0, got -1"),
        (["--budget-ms", "nan"], "--budget-ms must be finite"),
        (["--budget-ms", "inf"], "--budget-ms must be finite"),
        (["--budget-ms", "soon"], "invalid value for '--budget-ms'"),
        (["--memory", "4 parsecs"], "--memory takes a size above 0 in bytes, KB"),
        (["--memory", "0GiB"], "--memory takes a size above 0"),
        (["--memory", "-4GiB"], "--memory takes a size above 0"),
        (["--memory", "inf"], "--memory takes a size above 0"),
        (["--by", "rsums"], "--by must be rsum, t2i-r1, i2t-r1, got 'rsums'; did you mean rsum?"),
        (["--device", "a\nb"], "--device holds characters"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, says, timed):
    given = ["--gallery", "1M", "--budget-ms", "20"]
    assert says in refusal(str(timed.folder), *given, *options)


@pytest.mark.parametrize(
    ("memory", "size"),
    [("4GiB", 4 * 2**30), ("500 MB", 5e8), ("1.5kib", 1536), ("12", 12), ("7 bytes", 7), ("2TB", 2e12), ("3b", 3)],
)
def test_sizes_are_read_with_their_units(memory, size):
    from harness.choose import _bytes

    assert _bytes(memory) == size


def test_a_budget_that_nothing_fits_tells_the_fastest_and_the_smallest(timed):
    given = [str(timed.folder), "--gallery", "1M", "--budget-ms", "1"]
    assert refusal(*given).endswith(
        "nothing fits 1 ms among 1,000,000 images: the fastest is vsepp (≈13.0 ms a query, 977 MiB)"
    )
    cost = timed.store.cost(timed.job("scan:t2i-lse").key)
    timed.store.save_cost(replace(cost, index_bytes_per_image=1))
    assert refusal(*given, "--memory", "1MiB").endswith(
        "1 ms and 1.00 MiB among 1,000,000 images: the fastest is vsepp (≈13.0 ms a query, 977 MiB), "
        "the smallest scan:t2i-lse (≈112 ms a query, 977 KiB)"
    )


def test_folders_without_records_or_times_are_refused_by_name(timed, tmp_path):
    given = ["--gallery", "1M", "--budget-ms", "20"]
    assert "nowhere is not a folder" in refusal(str(tmp_path / "nowhere"), *given)
    (tmp_path / "empty").mkdir()
    assert "empty holds no records" in refusal(str(tmp_path / "empty"), *given)
    for path in (timed.folder / "costs").iterdir():
        cost = json.loads(path.read_text())
        path.write_text(json.dumps(cost | {"galleries": [], "law": {}}))
    assert "full-scenes: no row tells how long a query among 1,000,000 images takes" in refusal(
        str(timed.folder), *given
    )
    for path in (timed.folder / "costs").iterdir():
        path.unlink()
    assert "full-scenes: no row was timed" in refusal(str(timed.folder), *given)
