"""Stored weights on other data: the numbers of the run on its own data, and one line for what they cannot read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from harness.data.split import DataError
from harness.learn.checkpoint import Checkpoints
from harness.learn.stored import load
from harness.phases import evaluate
from harness.record import Record
from harness.run import app
from harness.spec import methods, plugins
from harness.spec.job import SpecError
from harness.store import Store
from tests.methods_of_others import INDEPENDENT
from tests.text_models import tiny_bert

ROWS = "chance,vsepp,vsepp+selfalign,cvse,sgraf:saf"  # two read training captions or the number of regions when built
SMALL = ("--epochs", "1", "--set", "settings.min_count=1", "--set", "settings.batch=13", "--set", "settings.dim=8")
USUAL = ("--suite", "full", "--timing-rounds", "0", "--threads", "1", "--no-ensembles", "--seeds", "0")
WRITE = Callable[[Path], Path]

pytestmark = pytest.mark.usefixtures("same_torch_after")


def called(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, write_data: WRITE) -> Path:
    """Folder of some data, `zoo`, and of the results `full-zoo`."""
    place = tmp_path_factory.mktemp("trained")
    data = write_data(place / "zoo")
    called(*USUAL, *SMALL, "--data", data, "--only", ROWS, "--results", place)
    return place


class Elsewhere:
    """A folder with nothing but a test split, and results beside it."""

    def __init__(self, trained: Path, data: Path) -> None:
        self.run, self.data, self.results = trained / "full-zoo", data, data.parent / "results"

    def __call__(self, *more: str | Path, code: int = 0) -> Result:
        where = ("--data", self.data, "--results", self.results, "--threads", "1")
        return called("--evaluate", self.run, *where, *more, code=code)

    def refused(self, *more: str | Path) -> str:
        """One line, exit 2, and nothing is left."""
        message = self(*more, code=2).stderr
        assert message.startswith("error: ")
        assert message.count("\n") == 1
        assert not self.results.exists()
        return message.removeprefix("error: ").strip()

    def records(self) -> dict[str, Record]:
        found = Store(self.results / f"evaluated-{self.data.name}").records()
        return {record.label: record for record in found}

    def features(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        path = self.data / "test_ims.npy"
        np.save(path, change(np.load(path)))

    def own_run(self) -> None:
        """The results of the run are a copy that may be spoiled."""
        self.run = Path(shutil.copytree(self.run, self.data.parent / self.run.name))


@pytest.fixture
def elsewhere(trained: Path, tmp_path: Path, write_data: WRITE) -> Elsewhere:
    data = write_data(tmp_path / "other")
    for path in data.iterdir():
        if path.name not in ("test_ims.npy", "test_caps.txt"):
            path.unlink()
    found = Elsewhere(trained, data)
    found.features(lambda features: features[::-1].copy())
    return found


def test_on_its_own_data_every_row_finds_what_its_run_found(trained, tmp_path):
    called("--evaluate", trained / "full-zoo", "--data", trained / "zoo", "--results", tmp_path, "--threads", "1")
    run, here = Store(trained / "full-zoo"), Store(tmp_path / "evaluated-zoo")
    assert [record.label for record in here.records()] == sorted(ROWS.split(","))
    for record in here.records():
        assert record.evaluated is not None
        before, now = run.ranks(record.evaluated["key"]), here.ranks(record.key)
        for name in ("i2t", "t2i", "i2t_top", "t2i_top"):
            np.testing.assert_array_equal(getattr(now, name), getattr(before, name), err_msg=record.label)


def test_a_test_split_is_enough_and_the_row_says_whose_weights_it_has(elsewhere):
    shown = elsewhere("--only", "vsepp,cvse").output
    assert shown.count("weights of full-zoo, trained on zoo") == 2
    (cvse, vsepp) = elsewhere.records().values()
    assert vsepp.evaluated == {"run": "full-zoo", "key": vsepp.evaluated["key"]}
    assert cvse.history == []
    assert not (elsewhere.results / "evaluated-other" / "checkpoints").exists()
    table = (elsewhere.results / "evaluated-other" / "tables" / "comparison.md").read_text()
    assert "Evaluated: nothing was trained here, the weights are of zoo." in table
    assert f"vsepp: evaluated with the weights of full-zoo {vsepp.evaluated['key']}" in table
    assert elsewhere("--only", "vsepp").output.count("cached  vsepp") == 1
    assert elsewhere("--only", "vsepp", "--force").output.count("done    vsepp") == 1


def test_other_data_and_other_weights_are_other_records(elsewhere):
    elsewhere.own_run()
    elsewhere("--only", "vsepp")
    first = elsewhere.records()["vsepp"]
    elsewhere.features(lambda features: features + 1)
    elsewhere("--only", "vsepp")
    assert first.evaluated is not None
    checkpoints = Checkpoints(Store(elsewhere.run).checkpoints(first.evaluated["key"]))
    model = load(elsewhere.run, first.evaluated["key"]).model
    next(model.parameters()).data.add_(1)
    checkpoints.save_best(model)
    elsewhere("--only", "vsepp")
    keys = [path.stem for path in (elsewhere.results / "evaluated-other" / "records").iterdir()]
    assert len(keys) == 3
    assert first.key in keys


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: np.concatenate([x, x], 2), "vsepp was trained on features of width 11, these have 22"),
        (lambda x: np.concatenate([x, x], 1), "vsepp was trained on up to 3 fragments an image, these have 6"),
    ],
)
def test_other_fragments_are_refused(elsewhere, change, says):
    elsewhere.features(change)
    assert elsewhere.refused("--only", "vsepp") == says


def test_data_that_are_not_those_of_the_job_are_refused(elsewhere):
    (record, *_) = [found for found in Store(elsewhere.run).records() if found.label == "vsepp"]
    stored = load(elsewhere.run, record.key)
    job = replace(stored.job, data=replace(stored.job.data, path=str(elsewhere.data)))
    with pytest.raises(DataError, match=f"^{elsewhere.data} holds other data than zoo of the jobs, or changed since"):
        evaluate.execute(stored, job, Store(elsewhere.results))


def test_captions_of_another_language_are_refused(elsewhere):
    (elsewhere.data / "test_caps.txt").write_text("un perro\n" * 14)
    assert elsewhere.refused("--only", "vsepp") == "100% of the words of these captions are unknown to vsepp"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("best.safetensors", None, "best.safetensors of "),
        ("vocabulary.npz", None, "vocabulary.npz of "),
        ("best.safetensors", b"half", "best.safetensors of "),
        ("vocabulary.npz", b"half", "vocabulary.npz of "),
    ],
)
def test_weights_that_are_missing_or_damaged_are_named(elsewhere, name, content, says):
    elsewhere.own_run()
    for path in elsewhere.run.glob(f"checkpoints/*/{name}"):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    message = elsewhere.refused("--only", "vsepp")
    assert message.startswith(f"vsepp seed 0 cannot be loaded: {says}")
    assert message.endswith("(--force trains it anew)")


def spoiled(run: Path, label: str, change: Callable[[dict], None]) -> None:
    """Changes the stored record of a row."""
    for path in (run / "records").glob("*.json"):
        record = json.loads(path.read_text())
        if record["label"] == label:
            change(record)
            path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["job"]["model"]["recipes"].update(vsepp=99), "vsepp is stale: its recipe or its source"),
        (lambda r: r["job"]["model"].update(origin="mine.py 0123"), "vsepp is stale: its recipe or its source"),
        (lambda r: r["job"]["settings"].update(text_model="best@0123"), "say where it lies by --set settings.text_mod"),
        (lambda r: r["data"].pop("vocabulary"), "data do not tell what the weights read"),
        (lambda r: r["job"]["settings"].update(strange=1), "holds no job"),
    ],
)
def test_what_the_record_no_longer_stands_for_is_refused(elsewhere, change, says):
    elsewhere.own_run()
    spoiled(elsewhere.run, "vsepp", change)
    assert says in elsewhere.refused("--only", "vsepp")


def test_what_cannot_be_is_left_out_and_the_others_are_evaluated(elsewhere):
    elsewhere.own_run()
    spoiled(elsewhere.run, "vsepp", lambda record: record["job"]["model"]["recipes"].update(vsepp=99))
    assert "left out  vsepp is stale" in elsewhere("--only", "vsepp,cvse", code=1).output
    assert set(elsewhere.records()) == {"cvse"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--epochs", "3"), "--evaluate trains nothing: leave --epochs out"),
        (("--suite", "smoke"), "--evaluate trains nothing: leave --suite out"),
        (("--set", "settings.lr=3"), "leave --set settings.lr=3 out"),
        (("--only", "saem"), "'saem' names no row of this suite"),
        (("--seeds", "1"), "was not trained with any of them"),
        (("--data", "nowhere"), "no data 'nowhere'"),
    ],
)
def test_what_cannot_be_asked_is_refused(elsewhere, arguments, says):
    assert says in elsewhere.refused(*arguments)


def test_a_folder_of_nothing_is_refused(elsewhere, tmp_path):
    elsewhere.run = tmp_path / "nowhere"
    assert elsewhere.refused().endswith("nowhere: no such results folder")
    elsewhere.run.mkdir()
    assert elsewhere.refused().endswith("nowhere: it holds no records of trained rows")


def test_a_dry_run_writes_nothing(elsewhere):
    assert "to evaluate  vsepp seed 0 on other" in elsewhere("--only", "vsepp", "--dry-run").output
    assert not elsewhere.results.exists()


def test_the_text_model_of_the_weights_is_asked_for_and_no_other_is_taken(elsewhere, trained, tmp_path):
    models = [tmp_path / name for name in ("bert", "changed")]
    for seed, folder in enumerate(models):
        folder.mkdir()
        tiny_bert(folder, seed)
    text = [f"settings.text_model={folder}" for folder in models]
    elsewhere.run = tmp_path / "full-zoo"
    called(*USUAL, *SMALL, "--data", trained / "zoo", "--only", "vsepp", "--results", tmp_path, "--set", text[0])
    assert "say where it lies" in elsewhere.refused()
    assert "vsepp was trained with bert@" in elsewhere.refused("--set", text[1])
    elsewhere("--set", text[0])
    assert set(elsewhere.records()) == {"vsepp"}


def test_a_plugin_is_asked_for_and_no_other_source_is_taken(elsewhere, trained, tmp_path):
    plugin = tmp_path / "bags.py"
    plugin.write_text(INDEPENDENT)
    elsewhere.run = tmp_path / "full-zoo"
    given = ("--plugin", plugin)
    try:
        called(*USUAL, *SMALL, "--data", trained / "zoo", "--only", "bags", "--results", tmp_path, *given)
        assert "bags is of bags.py" in elsewhere.refused()
        elsewhere(*given)
        assert set(elsewhere.records()) == {"bags"}
        shutil.rmtree(elsewhere.results)
        plugin.write_text(f"{INDEPENDENT}\n# changed\n")
        methods._methods.cache_clear()  # as in a process that begins
        assert "bags is stale" in elsewhere.refused(*given)
    finally:
        plugins.choose()


def test_what_is_loaded_is_the_model_in_evaluation_mode_with_its_words(trained):
    store = Store(trained / "full-zoo")
    key = next(record.key for record in store.records() if record.label == "vsepp")
    found = load(store.folder, key)
    assert not found.model.training
    assert found.words[4:] == found.tokenizer.known  # type: ignore[attr-defined]
    assert found.tokenizer.encode("an ant")[1:-1] != [3, 3]
    assert (found.image_dim, found.regions, found.run) == (11, 3, "full-zoo")
    failed = next(record for record in store.records() if record.label == "chance")
    store_of_failed = Store(trained / "failed")
    store_of_failed.save(Record(failed.key, failed.label, "failed", failed.job, failed.family, error="x"))
    with pytest.raises(SpecError, match="chance failed: there are no weights"):
        load(store_of_failed.folder, failed.key)
