"""Experiment loggers beside the results folder: Tune's own callbacks for MLflow and Weights & Biases, off by default.

A run there has the name of its job, the curves of its training and what Tune keeps of it as a trial.  Nothing is read
back: records are in the results folder alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.spec.job import SpecError

MLFLOW, WANDB = "mlflow", "wandb"
PACKAGES: Mapping[str, tuple[str, ...]] = {MLFLOW: ("mlflow", "sqlalchemy", "alembic"), WANDB: ("wandb",)}
OFFLINE, NO_KEY = "offline", "0" * 40  # Tune asks for a key even where nothing is sent
PROJECT = "selfalign-harness"


def _mlflow(where: str, folder: Path) -> Any:
    """where: a tracking URI; "" = a database in the results folder."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    uri = where or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    return MLflowLoggerCallback(tracking_uri=uri, experiment_name=folder.name)


def _wandb(where: str, folder: Path) -> Any:
    """where: a project.  Nothing leaves the machine unless WANDB_MODE says `online`."""
    from ray.air.integrations.wandb import WandbLoggerCallback

    mode = os.environ.get("WANDB_MODE", OFFLINE)
    about: dict[str, Any] = {"mode": mode, "dir": str(folder.resolve())}
    if mode == OFFLINE:
        about["api_key"] = NO_KEY
    return WandbLoggerCallback(project=where or PROJECT, group=folder.name, log_config=True, **about)


LOGGERS: Mapping[str, Callable[[str, Path], Any]] = {MLFLOW: _mlflow, WANDB: _wandb}


def parsed(told: Sequence[str]) -> dict[str, str]:
    """`mlflow`, `mlflow=URI`, `wandb=PROJECT` -> name and where.  Raises SpecError for what is unknown or missing."""
    found: dict[str, str] = {}
    for one in told:
        name, _, where = one.partition("=")
        if name not in LOGGERS:
            raise SpecError(f"--log takes {' and '.join(LOGGERS)}, got {name!r}")
        if name in found:
            raise SpecError(f"--log names {name} twice")
        if any(find_spec(package) is None for package in PACKAGES[name]):
            raise SpecError(f"--log {name} needs `pip install 'selfalign-harness[{name}]'`")
        found[name] = where
    return found


def callbacks(told: Mapping[str, str], folder: Path) -> list[Any]:
    """Tune's callbacks.  folder: of the results, whose name is that of the experiment."""
    return [LOGGERS[name](where, folder) for name, where in told.items()]
