"""What a report makes besides tables: which figures, what the page says, and what a check finds stale."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from harness import ROOT
from harness.report import outputs
from harness.report.__main__ import app
from harness.report.figures import gather
from harness.report.page import overview, scripts
from harness.report.page.table import FIRST
from harness.report.read.described import settings_line
from harness.report.read.groups import collect
from harness.report.read.times import query_times
from harness.store import Store

REFERENCE = ROOT / "results" / "reference"
NONE = outputs.Difference((), (), ())


class Parsed(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data

    def rows(self):
        return {a["data-name"]: a for tag, a in self.tags if tag == "tr" and "data-name" in a}


def table_of(html: str) -> dict:
    return json.loads(html.partition('id="data-rows">')[2].partition("</script>")[0])


def made_page(folder: Path, **more) -> str:
    groups = collect(folder)
    return overview.html(
        folder.name, "command", groups, gather.draw(groups), ["comparison.md", "ablation-pooling.md"], **more
    )


def chart_of(html: str) -> dict:
    return json.loads(html.partition('id="data-data">')[2].partition("</script>")[0])


def test_figures_of_stored_records(stored):
    drawn = gather.draw(collect(stored.folder))
    assert list(drawn.pictures) == ["accuracy-time", "claims", "stages", "ranks"]
    assert drawn.absent == (
        "No figure query: no row was timed end to end.",
        "No figure gallery: no record holds end-to-end times by gallery size.",
        "No figure rerank: no pair of a retriever and a reranker was timed.",
        "No figure training: no record holds a dev Rsum by epoch.",
        "No figure tuning: no row has trials of its own.",
    )
    caption = drawn.pictures["accuracy-time"].caption
    assert caption.startswith(
        "Data scenes, split test: 12 images, 30 captions; seeds 0, 1. Settings: epochs 5, batch 128,"
    )
    assert "One seed, no bar: scan:t2i-lse." in caption
    assert "Pareto front (bold): vsepp, vsepp+selfalign, scan:t2i-lse." in caption
    assert "Not drawn, nothing to draw: vsrn." in caption
    assert "Times are medians (abacus, threads 2)" in caption


def test_points_are_mean_rsum_and_time(stored):
    points = {point.name: point for point in gather.points(collect(stored.folder)[0])}
    assert set(points) == {"vsepp", "vsepp+selfalign", "scan:t2i-lse"}
    # median 0.04 s to score and 0.01 s to rank 5 queries; i2t ranks 4, 9 and 4, 10; t2i 0, 4, 9, 10, 10 of both seeds
    vsepp = points["vsepp"]
    assert vsepp.ms == pytest.approx(10)
    assert vsepp.rsum == pytest.approx((50 + 100 + 50 + 50 + 2 * (20 + 40 + 60)) / 2)
    assert vsepp.interval is not None
    assert vsepp.interval[0] < vsepp.rsum < vsepp.interval[1]
    assert points["scan:t2i-lse"].interval is None


def test_times_of_different_machines_share_no_figure(stored):
    stored.time(stored.job("scan:t2i-lse"), 1.0, machine={"device": "abacus", "threads": 3})
    groups = collect(stored.folder)
    drawn = gather.draw(groups)
    assert "accuracy-time" not in drawn.pictures
    assert "stages" not in drawn.pictures
    assert any("accuracy-time: Times are left out, rows were not timed alike: threads" in line for line in drawn.absent)
    html = made_page(stored.folder)
    assert "No chart. Times are left out, rows were not timed alike" in Parsed(html).words
    assert scripts.CHART not in html
    assert "Which row to take for which time cannot be said" in html


def test_records_without_times_have_no_time_figure(make):
    make.add(make.job("vsepp"), make.ranks([0, 1], [0, 1]), history=[{"dev_rsum": 3.0}, {"dev_rsum": 4.0}])
    drawn = gather.draw(collect(make.folder))
    assert list(drawn.pictures) == ["training", "ranks"]
    assert "No figure accuracy-time: nothing was timed." in drawn.absent


def test_a_folder_of_failures_alone_has_a_page_that_says_so(make):
    make.add(make.job("vsepp"), None, status="failed", error="no luck")
    assert gather.draw(collect(make.folder)).pictures == {}
    html = made_page(make.folder)
    assert Parsed(html).rows()["vsepp"]["class"] == "failed"
    assert "1 failed: no luck" in Parsed(html).words


def test_several_settings_have_figures_of_their_own_and_one_of_all(make):
    for lr in (1e-4, 2e-4, 3e-4):
        make.add(make.job("vsepp", lr=lr), make.ranks([0, 1], [0, 1]))
    assert list(gather.draw(collect(make.folder)).pictures) == ["sweep", "ranks-1", "ranks-2", "ranks-3"]
    parsed = Parsed(made_page(make.folder))
    shown = [a["src"] for tag, a in parsed.tags if tag == "img"]
    assert shown == [f"figures/{name}.svg" for name in ("ranks-1", "ranks-2", "ranks-3", "sweep")]
    make.add(make.job("vsrn", lr=4e-4), make.ranks([0, 1], [0, 1]))
    drawn = gather.draw(collect(make.folder))
    assert list(drawn.pictures) == ["sweep"]
    assert drawn.absent == ("No figures of each combination of settings: 4 combinations of settings, more than 3.",)
    assert "4: lr=0.0004" in drawn.pictures["sweep"].caption


MEASURED = {
    "items": 1000,
    "p50_ms": 1.0,
    "p95_ms": 2.0,
    "p99_ms": 3.0,
    "measured": True,
    "note": "",
    "limit_ms": None,
    "bytes": 1e6,
}


def with_galleries(stored, label: str, **cost) -> None:
    stored.store.save_cost(replace(stored.store.cost(stored.job(label).key), **cost))


def test_gallery_sizes_are_end_to_end_of_records_from_before_and_after_queries_were_timed_whole(stored):
    whole = MEASURED | {"stages_ms": {"encode": [3.0, 5.0], "search": [1.0, 2.0], "rank": [0.5, 0.5]}}
    with_galleries(stored, "vsepp", galleries=[MEASURED], query_encode_ms=[2.0])
    (group,) = collect(stored.folder)
    row = next(row for row in group.rows if row.name == "vsepp")
    (apart,) = gather.gallery_sizes(row, {1000: query_times(group.rows, 1000)})
    assert apart == {"items": 1000, "p50_ms": 3.0, "p95_ms": 4.0, "measured": True, "bytes": 1e6}
    with_galleries(stored, "vsepp", galleries=[whole], query_encode_ms=[])
    (group,) = collect(stored.folder)
    row, untimed = (next(row for row in group.rows if row.name == name) for name in ("vsepp", "scan:t2i-lse"))
    times = {1000: query_times(group.rows, 1000)}
    (ends,) = gather.gallery_sizes(row, times)
    assert ends["p50_ms"] == 6.0  # of 4.5 and 7.5
    assert gather.gallery_sizes(untimed, times) == []


def test_gallery_sizes_are_drawn(stored):
    with_galleries(stored, "vsepp", galleries=[MEASURED], query_encode_ms=[2.0])
    drawn = gather.draw(collect(stored.folder))
    assert (
        "Not drawn, nothing to draw: chance, vsepp+selfalign, vsrn, scan:t2i-lse." in drawn.pictures["gallery"].caption
    )


def test_left_out_runs_are_rows_and_lines_of_the_page(stored):
    stored.add(stored.job("vsepp", seed=2), None)
    old = stored.job("camera")
    stale = replace(old, model=replace(old.model, recipes={"camera": 0}))
    stored.add(stale, stored.ranks([0, 0], [0, 0, 0, 0, 0]))
    parsed = Parsed(made_page(stored.folder))
    states = {name: row["class"] for name, row in parsed.rows().items()}
    assert states == {
        "chance": "ok",
        "vsepp": "partly",
        "vsepp+selfalign": "ok",
        "vsrn": "failed",
        "camera": "stale",
        "scan:t2i-lse": "ok",
    }
    assert "1 failed: LossError: hinge is nan in step 7" in parsed.words
    assert "1 stale: made by recipe camera 0, which has changed since" in parsed.words
    assert "2 ok, 1 missing" in parsed.words
    assert "its ranks are missing" in parsed.words
    assert parsed.rows()["vsepp+selfalign"]["data-family"] == "independent"
    assert parsed.rows()["vsepp"]["data-seeds"] == "2"


def test_html_in_what_is_stored_stays_text(stored):
    evil = "<script>alert(1)</script><img src=x>"
    stored.add(stored.job("vsepp", seed=3), None, status="failed", error=evil)
    html = made_page(stored.folder)
    assert "<script>alert" not in html
    assert "src=x" not in [a.get("src") for _, a in Parsed(html).tags]
    assert Parsed(html).words.count(evil) >= 1
    name = '</script><b title="a_b">'
    group = collect(stored.folder)[0]
    rows = [replace(row, name=name) if row.name == "vsepp" else row for row in group.rows]
    renamed = [replace(group, rows=tuple(rows))]
    html = overview.html(name, "command", renamed, gather.draw(renamed), [])
    assert name not in html
    assert name in Parsed(html).rows()
    said = [trace["text"][0].partition("<br>")[0] for trace in chart_of(html)["data"][1:]]
    assert f"<b>{escape(name)}</b>" in said  # plotly reads some HTML of its own


def test_the_chart_holds_the_numbers_of_the_table(stored):
    traces = {t["meta"]["name"]: t for t in chart_of(made_page(stored.folder))["data"] if "meta" in t}
    assert set(traces) == {"vsepp", "vsepp+selfalign", "scan:t2i-lse"}
    assert traces["vsepp"]["x"] == [10.0]
    assert traces["vsepp"]["y"] == [245.0]
    assert traces["vsepp+selfalign"]["meta"] == {
        "name": "vsepp+selfalign",
        "family": "independent",
        "kind": "one model",
        "aligned": True,
        "seeds": 2,
    }
    said = traces["vsepp"]["text"][0].split("<br>")
    assert said[:4] == ["<b>vsepp</b>", "independent", "seeds: 2", "Rsum: 245.0 ± 35.4"]
    assert "score+rank: 10.0 ms/query" in said  # no row has an end-to-end time
    assert "error_y" in traces["vsepp"]
    assert "error_y" not in traces["scan:t2i-lse"]


def test_the_foot_links_ablations_settings_and_provenance(stored):
    html = made_page(stored.folder)
    links = [a["href"] for tag, a in Parsed(html).tags if tag == "a"]
    assert links.count("tables/ablation-pooling.md") == 2
    assert "settings.batch" in Parsed(html).words
    assert stored.job("vsepp").key in Parsed(html).words
    for link in (link for link in links if link and link.startswith("http")):
        pytest.fail(f"the page links to {link}")


def claimed(name: str):
    if name != "scan:t2i-lse":
        return []
    line = {"dataset": "flickr30k", "source": "a paper <2018>", "image_features": "bottom-up", "rsum": 465.0}
    return [line | {"runs": "single"}, line | {"runs": "ensemble", "rsum": 470.5, "t2i_r1": 45.0}]


def test_published_numbers_stand_in_columns_of_their_own_with_their_source(stored):
    html = made_page(stored.folder, published=claimed)
    table = table_of(html)
    titles = [column["title"] for column in table["columns"]]
    assert titles[-2:] == ["published Rsum", "published t2i R@1"]
    assert not any(column["first"] for column in table["columns"][-2:])
    cells = next(row["cells"] for row in table["rows"] if row["name"] == "scan:t2i-lse")
    assert cells[-2]["claims"] == [
        {"value": 465.0, "words": "flickr30k, single, other features: bottom-up", "source": 1},
        {"value": 470.5, "words": "flickr30k, ensemble, other features: bottom-up", "source": 1},
    ]
    assert cells[-2]["sort"] == 465
    assert Parsed(html).words.count("a paper <2018>") == 1
    assert not any("published" in column["title"] for column in table_of(made_page(stored.folder))["columns"])


def test_the_table_knows_the_best_end_of_every_column(stored):
    columns = {column["title"]: column for column in table_of(made_page(stored.folder))["columns"]}
    assert columns["Rsum"]["better"] == "higher"
    assert columns["t2i MedR"]["better"] == columns["ms per query"]["better"] == "lower"
    assert columns["parameters"]["better"] == columns["method"]["better"] == ""
    assert [title for title, column in columns.items() if column["first"]] == list(FIRST)


def test_a_check_covers_figures_and_page(stored):
    outputs.write(stored.folder, collect(stored.folder))
    drawn = stored.folder / "figures"
    assert {path.name for path in stored.folder.iterdir()} >= {"index.html", "page"}
    assert {path.name for path in (stored.folder / "page").iterdir()} == set(scripts.files(charted=True))
    (drawn / "claims.svg").write_text("<svg/>")
    (drawn / "stages-2.svg").write_text("of other settings")
    (drawn / "stages-2.png").write_bytes((drawn / "stages.png").read_bytes())
    (stored.folder / "index.html").write_text("old")
    done = CliRunner().invoke(app, ["--check", str(stored.folder)])
    assert done.exit_code == 1
    assert done.stdout.splitlines() == [
        "stale: figures/claims.svg",
        "stale: index.html",
        "surplus: figures/stages-2.png",
        "surplus: figures/stages-2.svg",
    ]
    outputs.write(stored.folder, collect(stored.folder))
    assert outputs.check(stored.folder) == NONE


def test_figures_and_pages_need_not_be_kept_and_no_png_is_compared(stored):
    outputs.write(stored.folder, collect(stored.folder))
    for name in ("figures/ranks.png", "figures/ranks.svg", "index.html", f"page/{scripts.CHART}"):
        (stored.folder / name).unlink()
    path = stored.folder / "figures" / "claims.png"
    with Image.open(path) as image:
        image.save(path, compress_level=1)
    assert outputs.check(stored.folder) == NONE


def nudged(value, by: float):
    """Every number that was measured, a little larger; what a job is stays as it is."""
    if isinstance(value, dict):
        return {name: inner if name == "job" else nudged(inner, by) for name, inner in value.items()}
    if isinstance(value, list):
        return [nudged(inner, by) for inner in value]
    return value * (1 + by) if isinstance(value, float) else value


def nudge(folder: Path, by: float) -> int:
    """Every stored number of a folder, but of files that go by a hash of their content.  Returns of how many."""
    count = 0
    for path in sorted(folder.glob("*/*.json")):
        if path.parent.name in ("asked", "tuned"):
            continue
        text = path.read_text()
        changed = json.dumps(nudged(json.loads(text), by), indent=1, sort_keys=True) + "\n"
        count += changed != text
        path.write_text(changed)
    for path in sorted(folder.glob("concepts/*.npz")):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        more = {n: a.astype(np.float64) * (1 + by) if a.dtype.kind == "f" else a for n, a in arrays.items()}
        np.savez_compressed(path, **more)
        count += 1
    return count


def test_the_last_bits_of_a_few_records_make_nothing_stale(stored):
    outputs.write(stored.folder, collect(stored.folder))
    assert nudge(stored.folder, 1e-12) > 3
    assert outputs.check(stored.folder) == NONE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["full-scenes", "full-flickr8k-1"])
def test_the_last_bits_of_stored_numbers_make_nothing_stale(name, tmp_path):
    folder = tmp_path / name
    for part in ("records", "ranks", "concepts", "costs", "reranks", "indexes", "asked", "tuned"):
        if (REFERENCE / name / part).is_dir():
            shutil.copytree(REFERENCE / name / part, folder / part)
    outputs.write(folder, collect(folder))
    assert nudge(folder, 1e-12) > 50
    assert outputs.check(folder) == NONE
    nudge(folder, 1e-2)
    stale = outputs.check(folder).stale
    assert {"figures/accuracy-time.svg", "figures/stages.svg", "tables/comparison.md"} < set(stale)


def test_a_page_whose_chart_is_gone_leaves_no_script_behind(stored):
    outputs.write(stored.folder, collect(stored.folder))
    for path in (stored.folder / "costs").iterdir():
        path.unlink()
    assert f"page/{scripts.CHART}" in outputs.check(stored.folder).surplus
    (stored.folder / "plotly.min.js").write_text("what a page of version 0.2.0 loaded")
    outputs.write(stored.folder, collect(stored.folder))
    assert not (stored.folder / "page" / scripts.CHART).exists()
    assert not (stored.folder / "plotly.min.js").exists()
    assert (stored.folder / "page" / scripts.TABLE).exists()


def test_results_of_the_project_share_what_their_pages_load(stored, monkeypatch):
    monkeypatch.setattr(outputs, "SHARED", stored.folder.parent.parent)
    made = outputs.write(stored.folder, collect(stored.folder))
    loaded = scripts.files(charted=True)
    assert set(made.page) == {"index.html", *(f"../../page/{name}" for name in loaded)}
    for name, data in loaded.items():
        assert (stored.folder.parent.parent / "page" / name).read_bytes() == data
    assert f'src="../../page/{scripts.CHART}"'.encode() in made.page["index.html"]
    assert outputs.check(stored.folder) == NONE


def test_the_page_links_what_was_retrieved_once_that_is_made(stored):
    assert "Not made yet: <code>command --retrieved ROW,OTHER</code>" in made_page(stored.folder)
    assert 'href="retrieved.html"' in made_page(stored.folder, retrieved=True)
    (stored.folder / "retrieved.html").write_text("made")
    assert b'href="retrieved.html"' in outputs.make(stored.folder, collect(stored.folder)).page["index.html"]


def many(folder: Path, count: int) -> None:
    """Copies of stored records, one of each method, under new seeds."""
    source = REFERENCE / "full-scenes-1"  # of one rate for all rows: one table, whatever the seeds
    keys = list({record.label: record.key for record in Store(source).records()[::-1]}.values())  # the first is timed
    for number in range(count):
        key, copy = keys[number % len(keys)], f"{number:016x}"
        for part, ending in (("records", "json"), ("ranks", "npz"), ("costs", "json")):
            stored = source / part / f"{key}.{ending}"
            if not stored.exists():
                continue
            (folder / part).mkdir(parents=True, exist_ok=True)
            target = folder / part / f"{copy}.{ending}"
            if ending == "npz":
                target.write_bytes(stored.read_bytes())
                continue
            found = json.loads(stored.read_text()) | {"key": copy}
            if part == "records":
                found["job"]["settings"]["seed"] = number // len(keys)
            target.write_text(json.dumps(found))


def calls_of_a_report(folder: Path) -> int:
    """How many functions are called to make everything of a folder: work, whatever else the machine does."""
    counted = 0

    def count(_frame, event, _argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        outputs.make(folder, collect(folder))
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.slow
def test_twice_the_records_are_at_most_little_more_than_twice_the_work(tmp_path):
    work = []
    for count in (100, 200):
        many(tmp_path / str(count), count)
        assert len(collect(tmp_path / str(count))[0].runs) == count
        work.append(calls_of_a_report(tmp_path / str(count)))
    assert work[1] <= 2.3 * work[0]


def test_a_caption_names_no_setting_that_another_stands_in_for(stored):
    (group,) = collect(stored.folder)
    own = {"updates": 90, "parts": 20, "schedule": "cosine", "warmup_updates": 9, "lr_drop": 0.3}
    line = settings_line(replace(group, settings={**group.settings, **own}))
    assert "updates 90, parts 20, schedule cosine, warmup_updates 9" in line
    assert not {"epochs", "lr_drop", "warmup_epochs"} & {*line.replace(",", "").split()}
