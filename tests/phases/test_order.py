"""`--rerank` and `--trace`: what they leave, what they leave alone, what they refuse."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness.learn.checkpoint import Checkpoints
from harness.measure import evaluator, metrics
from harness.measure.trace import STAGES
from harness.phases import trace
from harness.record import Record
from harness.run import app
from harness.spec.job import Job
from harness.store import Store

SMALL = ("--set", "settings.min_count=1", "--set", "settings.batch=13", "--set", "settings.dim=8", "--threads", "1")
ROWS = "vsepp,scan:t2i-lse"
KS = [1, 2, 5, 7, 10, 14]  # 7 images, 14 captions

pytestmark = pytest.mark.usefixtures("same_torch_after")


class Door:
    """The command line on a small folder of data."""

    def __init__(self, data: Path, results: Path) -> None:
        self.data, self.results = data, results
        self.store = Store(results / f"smoke-{data.name}")

    def __call__(self, *more: str, code: int = 0, rows: str = ROWS, rounds: int = 2) -> Result:
        where = ("--data", str(self.data), "--results", str(self.results), "--only", rows)
        arguments = ["--suite", "smoke", *where, "--timing-rounds", str(rounds), *SMALL, *more]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output + repr(result.exception)
        return result

    def refused(self, *more: str, **how) -> str:
        message = self(*more, code=2, **how).stderr
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        return message.removeprefix("error: ").strip()

    def record(self, label: str) -> Record:
        return next(record for record in self.store.records() if record.label == label)

    def files(self, *kinds: str) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for kind in kinds for p in sorted(self.store.folder.glob(f"{kind}/*"))}


@pytest.fixture
def door(data_folder: Path, tmp_path: Path) -> Door:
    return Door(data_folder, tmp_path / "results")


# Retrieve, then rerank -----------------------------------------------------------------------------------------------


def test_a_pair_goes_from_the_retriever_to_the_reranker(door):
    assert "reranked 1 pair, shortlists of 1 to 14, 2 rounds" in door("--rerank").output
    (pair,) = door.store.reranks()
    first, second = door.record("vsepp"), door.record("scan:t2i-lse")
    assert (pair.retriever, pair.reranker, pair.key) == (first.label, second.label, f"{first.key}-{second.key}")
    assert (pair.ks, pair.sizes) == (KS, {"images": 7, "captions": 14})
    for place, record in ((0, first), (-1, second)):
        ranks = door.store.ranks(record.key)
        assert ranks is not None
        known = metrics.summary(ranks.i2t, ranks.t2i)
        assert {name: values[place] for name, values in pair.accuracy.items() if "ceiling" not in name} == {
            name: pytest.approx(known[name]) for name in known if "_r" in name
        }
    assert all(len(of_k) == 2 for by_k in pair.samples_s.values() for of_k in by_k)
    assert len(pair.samples_s) == 4
    assert {p.name for p in (door.store.folder / "tables").glob("rerank*")} == {"rerank.csv", "rerank.md"}
    assert not list(door.store.folder.glob(".scores-*"))


@pytest.mark.slow
def test_what_is_there_is_kept_and_only_a_missing_pair_is_made(door):
    rows = "chance,vsepp,scan:t2i-lse"
    door("--rerank", rows=rows)
    before = door.files("reranks", "costs", "ranks", "records")
    assert "cached  reranking of 2 pairs" in door("--rerank", rows=rows).output
    assert door.files("reranks", "costs", "ranks", "records") == before
    gone = door.store.rerank_path(door.record("chance").key, door.record("scan:t2i-lse").key)
    gone.unlink()
    assert "reranked 1 pair, " in door("--rerank", rows=rows).output
    assert {name for name, data in door.files("reranks").items() if before.get(name) != data} == {str(gone)}


@pytest.mark.slow
def test_without_rounds_there_is_accuracy_and_time_comes_later_without_scoring_again(door, monkeypatch):
    door("--rerank", rounds=0)
    (untimed,) = door.store.reranks()
    assert untimed.samples_s == {}
    assert "Nothing was timed." in (door.store.folder / "tables" / "rerank.md").read_text()
    assert "cached  reranking of 1 pair" in door("--rerank", rounds=0).output
    monkeypatch.setattr(evaluator, "scores", lambda *_: pytest.fail("scored again"))
    door("--rerank", rounds=1)
    (timed,) = door.store.reranks()
    assert timed.accuracy == untimed.accuracy
    assert len(timed.samples_s) == 4
    door("--rerank", rounds=0)
    assert door.store.reranks() == [timed]


def test_a_row_trained_again_loses_its_pairs(door):
    door("--rerank", rounds=0)
    door("--force", rows="vsepp", rounds=0)
    assert door.store.reranks() == []


def test_stored_scores_are_read_instead_of_made(door, monkeypatch):
    door(rounds=0)
    rng = np.random.default_rng(0)
    for label in ROWS.split(","):
        path = door.store.folder / "scores" / f"{door.record(label).key}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, rng.standard_normal((7, 14)).astype(np.float32))
    monkeypatch.setattr(evaluator, "scores", lambda *_: pytest.fail("scored again"))
    door("--rerank", rounds=0)
    (pair,) = door.store.reranks()
    made = np.load(path)
    i2t, _, _ = metrics.ranks(made, np.repeat(np.arange(7), 2))
    assert pair.accuracy["i2t_r1"][-1] == metrics.recall_at(i2t, 1)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda path: np.save(path, np.zeros((7, 13), np.float32)),
            "holds float32 of shape (7, 13), expected scores of",
        ),
        (lambda path: np.save(path, np.zeros((7, 14), int)), "holds int64 of shape (7, 14)"),
        (lambda path: np.save(path, np.full((7, 14), np.nan)), "of the retriever are not finite"),
        (lambda path: path.write_bytes(b"no matrix"), "cannot be read"),
    ],
    ids=["shape", "dtype", "nan", "damaged"],
)
def test_stored_scores_that_do_not_fit_are_refused(door, spoil, says):
    door(rounds=0)
    path = door.store.folder / "scores" / f"{door.record('vsepp').key}.npy"
    path.parent.mkdir()
    spoil(path)
    assert says in door.refused("--rerank", rounds=0)
    assert door.store.reranks() == []


def test_lost_weights_are_named(door):
    door(rounds=0)
    Checkpoints(door.store.checkpoints(door.record("vsepp").key)).discard()
    assert (
        "reranked 0 pairs, shortlists of 1 to 14, 0 rounds; no weights for vsepp" in door("--rerank", rounds=0).output
    )


@pytest.mark.parametrize(("rows", "family"), [("vsepp", "interactive"), ("scan:t2i-lse", "independent")])
def test_half_a_pair_is_refused_before_anything_runs(door, rows, family):
    says = f"--rerank takes at least one independent and one interactive row, there is no {family} one"
    assert door.refused("--rerank", rows=rows) == says
    assert not door.results.exists()


def test_a_pair_that_cannot_be_trusted_is_refused(door):
    door("--rerank", rounds=0)
    (path,) = (door.store.folder / "reranks").iterdir()
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"ks": stored["ks"][:-1]}))
    assert "has 5 shortlist sizes, but not in i2t_ceiling" in door.refused("--rerank", rounds=0)


# Traces --------------------------------------------------------------------------------------------------------------


def told(record: Record) -> Record:
    """What must not depend on a trace."""
    history = [{**epoch, "train_s": 0} for epoch in record.history]
    return replace(record, operators=None, history=history, seconds={}, peak_memory_mib=0, provenance={})


@pytest.mark.slow
def test_a_traced_run_finds_the_same_bit_for_bit_and_leaves_times_alone(door, tmp_path):
    plain = Door(door.data, tmp_path / "plain")
    plain()
    shown = door("--trace").output
    assert f"traced  2 rows; tensorboard --logdir {door.store.folder / 'traces'}" in shown
    for label in ROWS.split(","):
        traced, untraced = door.record(label), plain.record(label)
        assert told(traced) == told(untraced)
        assert untraced.operators is None
        assert traced.operators is not None
        assert set(traced.operators) == set(STAGES)
        assert set(traced.operators["train"]["parts"]) == {"batch", "encode", "losses", "backward", "update"}
        for a, b in ((door.store.ranks(traced.key), plain.store.ranks(untraced.key)),):
            assert a is not None
            assert b is not None
            assert all(
                np.array_equal(getattr(a, name), getattr(b, name)) for name in ("i2t", "t2i", "i2t_top", "t2i_top")
            )
        weights = [Checkpoints(d.store.checkpoints(traced.key)).best.read_bytes() for d in (door, plain)]
        assert weights[0] == weights[1]
        cost = door.store.cost(traced.key)
        assert cost is not None
        assert all(len(samples) == 2 for samples in cost.samples_s.values())


@pytest.mark.slow
def test_what_is_recorded_already_is_traced_without_training_again(door, tmp_path):
    door()
    before, records = door.files("ranks", "costs", "checkpoints/*"), {r.key: told(r) for r in door.store.records()}
    shown = door("--trace", str(tmp_path / "elsewhere")).output
    assert "cached  2 of 2" in shown
    assert "cached  timing of 2 rows" in shown
    assert door.files("ranks", "costs", "checkpoints/*") == before
    assert {r.key: told(r) for r in door.store.records()} == records
    runs = sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    assert runs == [
        f"{name}-{door.record(label).key}" for name, label in (("scan-t2i-lse", "scan:t2i-lse"), ("vsepp", "vsepp"))
    ]
    for run in (tmp_path / "elsewhere").iterdir():
        assert sorted(path.name.partition(".")[0] for path in run.iterdir()) == sorted(STAGES)
    assert "(range backward)" in (door.store.folder / "tables" / "operators.md").read_text()


def test_rows_that_learn_nothing_or_lost_their_weights_have_fewer_stages(door):
    door(rows="chance,vsepp", rounds=0)
    Checkpoints(door.store.checkpoints(door.record("vsepp").key)).discard()
    shown = door("--trace", rows="chance,vsepp", rounds=0).output
    assert "traced  2 rows; no weights for vsepp (--force trains again)" in shown
    assert set(door.record("chance").operators or {}) == set(STAGES) - {"train"}
    assert set(door.record("vsepp").operators or {}) == {"train"}


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(door, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        assert door.refused("--trace", str(folder)).startswith(f"--trace cannot write to {folder}: ")
    assert not door.files("records")


def test_a_trace_may_go_before_other_options_and_a_dry_run_writes_nothing(door):
    door("--trace", "--dry-run")
    door("--dry-run", "--trace")
    assert not door.results.exists()


def test_names_of_runs_are_names_of_folders(door):
    door(rounds=0, rows="scan:t2i-lse")
    job = Job.from_dict(dict(door.record("scan:t2i-lse").job))
    assert trace.run_name(job) == f"scan-t2i-lse-{job.key}"


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """A TensorBoard of this folder on a free port of this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(folder),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}/data/plugin/pytorch_profiler"
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def asked(address: str, **query: str) -> bytes:
    with urllib.request.urlopen(f"{address}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        return answer.read()


def runs_of(address: str, seconds: float = 240) -> list[str]:
    """What the plugin lists once it has loaded; empty where it takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = json.loads(asked(f"{address}/runs"))
            if found["runs"] and not found["loading"]:
                return found["runs"]
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.5)
    return []


@pytest.mark.slow
def test_tensorboard_shows_the_run_its_stages_and_their_names(door, tmp_path):
    pytest.importorskip("torch_tb_profiler", exc_type=ImportError)
    door("--trace", str(tmp_path / "traces"), rows="scan:t2i-lse", rounds=0)
    run = f"scan-t2i-lse-{door.record('scan:t2i-lse').key}"
    with tensorboard(tmp_path / "traces") as address:
        assert runs_of(address) == [run]
        assert {"Overview", "Operator", "Trace"} <= set(json.loads(asked(f"{address}/views", run=run)))
        assert json.loads(asked(f"{address}/workers", run=run, view="Operator")) == sorted(STAGES)
        for stage in STAGES:
            (span,) = json.loads(asked(f"{address}/spans", run=run, worker=stage))
            shown = json.loads(
                asked(f"{address}/operation/table", run=run, worker=stage, span=span, group_by="Operation")
            )
            operators = {row["name"] for row in shown["data"]}
            top = {operator["name"] for operator in (door.record("scan:t2i-lse").operators or {})[stage]["top"]}
            assert {name for name in top if name.startswith("aten::")} <= operators
        (span,) = json.loads(asked(f"{address}/spans", run=run, worker="train"))
        shown = gzip.decompress(asked(f"{address}/trace", run=run, worker="train", span=span))
        assert b'"train/backward"' in shown
