"""Tiny models, saved once; nothing is kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from harness.spec import pretrained
from harness.spec.pretrained import Pretrained
from tests.pretrained import tiny


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kind -> a folder with a model of it."""
    root = tmp_path_factory.mktemp("models")
    return cache(lambda kind: tiny.save(kind, root / kind))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def no_rows():
    yield
    pretrained.choose()


def chosen(folder: Path, options: str = "", name: str = "mine") -> Pretrained:
    request = pretrained.parsed(f"{name}={folder}" + (f",{options}" if options else ""))
    return pretrained.pretrained(request, folder, (), "cpu")
