"""Texts for people: their links and the paths they name lead somewhere, and the README stays short."""

import re

import pytest

from harness import ROOT

TEXTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/growth.md",
    "docs/speed.md",
    "results/FINDINGS.md",
    "results/reference/README.md",
    "ablations/LOG.md",
)
MADE = ("build/", "results/FOLDER", "results/full-")  # what commands make, not what is stored
PARTS = ("harness/", "models/", "baselines/", "ablations/", "tests/", "results/")


def links(name: str) -> list[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]


def paths(name: str) -> list[str]:
    """What a text names in backquotes, from the root, that looks like a path of this repository."""
    quoted = re.findall(r"`([\w./-]+)`", (ROOT / name).read_text(encoding="utf-8"))
    return [path for path in quoted if path.startswith(PARTS) and not path.startswith(MADE)]


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    assert links(name)
    assert [link for link in links(name) if not (ROOT / name).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_paths_are_there(name):
    assert [path for path in paths(name) if not (ROOT / path).exists()] == []


def test_paths_are_found():
    assert "harness/spec/plugins.py" in paths("CONTRIBUTING.md")


def test_folders_the_log_names_are_there_or_said_to_be_removed():
    """`tune-scenes` and the like; a list of what may stand in a folder's place would hide a wrong name."""
    text = (ROOT / "ablations/LOG.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z0-9-]+-(?:scenes|flickr8k)[a-z0-9-]*)`( \(removed\))?", text)
    assert named
    stored = {path.name for path in (ROOT / "results/reference").iterdir()}
    assert [folder for folder, removed in named if (folder in stored) == bool(removed)] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 130
