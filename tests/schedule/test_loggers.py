"""Experiment loggers: what `--log` takes, and what Tune's callbacks are told.  No runtime of Ray is started here."""

from __future__ import annotations

import pytest

from harness.progress import unwatched
from harness.schedule import loggers
from harness.schedule.dispatch import placed
from harness.schedule.division import Place
from harness.spec import registry
from harness.spec.job import Data, Job, Settings, SpecError
from harness.store import Store


@pytest.fixture
def installed(monkeypatch):
    """As if every package were here."""
    monkeypatch.setattr(loggers, "find_spec", lambda name: name)


@pytest.mark.usefixtures("installed")
def test_names_and_where_they_write():
    assert loggers.parsed([]) == {}
    assert loggers.parsed(["mlflow", "wandb=mine"]) == {"mlflow": "", "wandb": "mine"}
    assert loggers.parsed(["mlflow=http://host:5000/a=b"]) == {"mlflow": "http://host:5000/a=b"}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["neptune"], "--log takes mlflow and wandb, got 'neptune'"),
        (["=x"], "--log takes mlflow and wandb, got ''"),
        (["mlflow", "mlflow=x"], "--log names mlflow twice"),
    ],
)
def test_what_is_no_logger_is_one_line(told, said):
    with pytest.raises(SpecError, match=f"^{said}$"):
        loggers.parsed(told)


@pytest.mark.parametrize("absent", ["mlflow", "sqlalchemy", "alembic"])
def test_a_package_that_is_missing_is_named_with_its_extra(absent, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None if name == absent else name)
    with pytest.raises(SpecError, match=r"^--log mlflow needs `pip install 'selfalign-harness\[mlflow\]'`$"):
        loggers.parsed(["mlflow"])


@pytest.mark.parametrize(("workers", "jobs"), [(0, 5), (None, 1)])
def test_without_ray_there_is_nothing_to_log_to(workers, jobs):
    with pytest.raises(SpecError, match="--log writes what Ray schedules"):
        placed(Place(0, 1, loggers={"mlflow": ""}), workers, jobs, "cpu")


def test_tune_is_given_the_loggers_that_were_asked_for(tmp_path, monkeypatch):
    trials = pytest.importorskip("harness.schedule.trials")
    given = {}

    class Tuner:
        def __init__(self, _, *, param_space, run_config, **__):
            given.update(callbacks=run_config.callbacks, space=param_space)

        def fit(self):
            """Runs nothing."""

    monkeypatch.setattr(trials.tune, "Tuner", Tuner)
    monkeypatch.setattr(trials.tune, "with_parameters", lambda function, **_: function)
    monkeypatch.setattr(loggers, "LOGGERS", {"mlflow": lambda where, folder: f"{where} of {folder.name}"})
    job = Job(Data(), registry.model("vsepp"), Settings())
    place = Place(1, 1, loggers={"mlflow": "file"})
    trials.run([job], place, Store(tmp_path / "full-zoo"), lambda _: unwatched, lambda *_: None)
    assert given["callbacks"][1:] == ["file of full-zoo"]
    assert {"row", "seed", "key"} < set(given["space"])


@pytest.fixture
def told(monkeypatch):
    """What the callbacks of either package are made with."""
    mlflow = pytest.importorskip("ray.air.integrations.mlflow")
    wandb = pytest.importorskip("ray.air.integrations.wandb")
    monkeypatch.setattr(mlflow, "MLflowLoggerCallback", lambda **how: how)
    monkeypatch.setattr(wandb, "WandbLoggerCallback", lambda **how: how)
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.mark.usefixtures("told")
def test_by_default_all_stays_in_the_results_folder(tmp_path):
    folder = tmp_path / "full-zoo"
    database, board = loggers.callbacks({"mlflow": "", "wandb": ""}, folder)
    assert database == {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "experiment_name": "full-zoo"}
    assert (board["mode"], board["dir"], board["group"]) == ("offline", str(folder), "full-zoo")
    assert board["project"] == "selfalign-harness"
    assert set(board["api_key"]) == {"0"}


@pytest.mark.usefixtures("told")
def test_elsewhere_where_that_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    server, board = loggers.callbacks({"mlflow": "http://host:5000", "wandb": "mine"}, tmp_path)
    assert server["tracking_uri"] == "http://host:5000"
    assert (board["mode"], board["project"]) == ("online", "mine")
    assert "api_key" not in board  # the user's own
