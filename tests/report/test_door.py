"""`python -m harness.report`: what it writes, what it refuses, how fast it answers."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from harness import report
from harness.report.__main__ import app
from tests.processes import imported_by_a_report

TABLES = [
    "claims.csv",
    "claims.md",
    "comparison.csv",
    "comparison.md",
    "comparison.tex",
    "published.csv",
    "published.md",
    "published.tex",
    "runs.csv",
    "settings.md",
    "summary.md",
    "summary.tex",
]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def stored_tables(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "tables").iterdir())}


def test_it_writes_the_tables_and_finds_them_fresh(stored):
    done = call(stored.folder)
    assert done.exit_code == 0
    said = "".join(done.stdout.splitlines())  # where they lie, as it was typed
    assert said.startswith(f"12 tables in {stored.folder}/tablesLeft out: vsrn seed 0 (")
    assert said.endswith(f"page: {stored.folder}/index.html")
    first = stored_tables(stored.folder)
    assert list(first) == TABLES
    assert call("--check", stored.folder).exit_code == 0
    assert sorted(path.name for path in report.write(stored.folder)) == TABLES
    assert stored_tables(stored.folder) == first


def test_a_report_removes_what_a_killed_one_was_writing(stored):
    left = [stored.folder / place / f".a.{10**30}.tmp" for place in ("", "tables", "figures")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    report.write(stored.folder)
    assert [path for path in left if path.exists()] == []


def test_a_check_names_what_is_stale_missing_or_surplus_and_changes_nothing(stored):
    report.write(stored.folder)
    tables = stored.folder / "tables"
    (tables / "comparison.md").write_text("old")
    (tables / "claims.csv").unlink()
    (tables / "comparison-1.tex").write_text("of other settings")
    before = stored_tables(stored.folder)
    done = call("--check", stored.folder)
    assert done.exit_code == 1
    assert done.stdout == "stale: tables/comparison.md\nmissing: tables/claims.csv\nsurplus: tables/comparison-1.tex\n"
    assert stored_tables(stored.folder) == before
    assert call(stored.folder).exit_code == 0
    assert list(stored_tables(stored.folder)) == TABLES
    assert call(stored.folder, "--check").exit_code == 0


def test_a_new_record_makes_the_tables_stale(stored):
    report.write(stored.folder)
    stored.add(stored.job("scan:t2i-lse", seed=1), stored.ranks([0, 0], [0, 0, 0, 0, 0]))
    assert call("--check", stored.folder).exit_code == 1


def test_it_says_that_settings_differ(make):
    for lr in (2e-4, 8e-4):
        make.add(make.job("vsepp", lr=lr), make.ranks([0, 1], [0, 1]))
    shown = call(make.folder).stdout
    assert "records of 2 different settings, which never share a table:" in shown
    assert "  comparison-2: `settings.lr=0.0008`" in shown


def damage_json(make, key):
    make.store.record_path(key).write_text("{")


def newer_schema(make, key):
    path = make.store.record_path(key)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))


def no_job(make, key):
    path = make.store.record_path(key)
    path.write_text(path.read_text().replace('"settings": {', '"other": {'))


def truncated_ranks(make, key):
    path = make.store.ranks_path(key)
    path.write_bytes(path.read_bytes()[:200])


def damaged_ranks(make, key):
    path = make.store.ranks_path(key)
    whole = bytearray(path.read_bytes())
    whole[60:90] = bytes(30)
    path.write_bytes(whole)


def other_name(make, key):
    make.store.record_path(key).rename(make.store.record_path("f" * 16))


def bad_cost(make, key):
    make.store.cost_path(key).parent.mkdir()
    make.store.cost_path(key).write_text('{"schema": 1}')


def not_text(make, key):
    make.store.record_path(key).write_bytes(b"\xff\xfe\x00")


def empty_ranks(make, key):
    make.store.save(make.store.record(key), make.ranks([], []))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_json, "is not JSON"),
        (newer_schema, "has schema 9, this version reads up to 1"),
        (no_job, "cannot be read"),
        (truncated_ranks, "is cut short or no npz file"),
        (damaged_ranks, "cannot be read"),
        (other_name, "holds the record"),
        (bad_cost, "unknown or missing fields"),
        (not_text, "cannot be read"),
        (empty_ranks, "holds no ranks"),
    ],
)
def test_a_damaged_file_is_one_line_and_nothing_is_written(make, damage, said):
    key = make.add(make.job("vsepp"), make.ranks([0, 1], [0, 1]))
    damage(make, key)
    for arguments in ([make.folder], ["--check", make.folder]):
        done = call(*arguments)
        assert done.exit_code == 2
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert not done.stdout
    assert not (make.folder / "tables").exists()


def test_no_folder_or_no_records_is_one_line(tmp_path):
    assert call(tmp_path / "gone").exit_code == 2
    assert call(tmp_path / "gone").stderr == f"error: {tmp_path / 'gone'} is not a folder\n"
    assert call(tmp_path).stderr == f"error: {tmp_path} holds no records (records/*.json)\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(stored):
    (stored.folder / "tables").write_text("in the way")
    done = call(stored.folder)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_it_needs_no_torch(stored):
    assert not imported_by_a_report(stored.folder) & {"torch", "ray", "transformers", "scipy.stats"}


def test_reading_the_package_imports_no_pandas():
    code = "import sys, harness.report; sys.exit('pandas' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_slides_are_the_figures_twice_as_fine(stored):
    (stored.folder / "slides").mkdir()
    (stored.folder / "slides" / "old.png").write_bytes(b"of other records")
    done = call("--slides", stored.folder)
    assert done.exit_code == 0
    made = sorted(path.name for path in (stored.folder / "slides").iterdir())
    assert made == sorted(path.name for path in (stored.folder / "figures").glob("*.png"))
    assert f"{len(made)} figures for slides in " in done.stdout
    for name in made:
        with Image.open(stored.folder / "slides" / name) as slide, Image.open(stored.folder / "figures" / name) as page:
            assert slide.width == pytest.approx(2 * page.width, abs=1)
    assert call("--check", stored.folder).exit_code == 0


def test_slides_are_not_checked(stored):
    done = call("--slides", "--check", stored.folder)
    assert done.exit_code == 2
    assert "--check writes nothing; leave --slides out" in done.stderr
