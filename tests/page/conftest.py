"""A page made of stored records and a few that went wrong, in a real browser that has no network."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from harness import ROOT
from harness.report import write
from harness.spec.job import Job

REFERENCE = ROOT / "results" / "reference" / "full-scenes"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without it the tests are skipped here and fail in CI, which installs it."""
    found = shutil.which("chromium")
    if found is None:
        why = "no chromium on this machine: `make browser` installs it (Debian's package)"
        if os.environ.get("CI") == "true":
            pytest.fail(why, pytrace=False)
        pytest.skip(why)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield running
        running.close()


def _shown(record: dict) -> bool:
    """Chance, two hosts with and without SelfAlign as they usually are, SCAN: enough to sort and filter."""
    label, module = record["label"], record["job"]["model"]["selfalign"]
    usual = module is None or (module["concept"] and module["context"])
    alone = not record["job"]["model"].get("control") and usual
    return alone and (label.removesuffix("+selfalign") in ("chance", "vsepp", "vsrn") or label.startswith("scan:"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some rows of the reference run; a method that failed, one made by an old recipe, one row under other settings."""
    folder = tmp_path_factory.mktemp("results") / "full-scenes"
    for part in ("records", "ranks", "costs"):
        shutil.copytree(REFERENCE / part, folder / part)
    for path in (folder / "records").iterdir():
        if not _shown(json.loads(path.read_text())):
            path.unlink()
    records = {path.stem: json.loads(path.read_text()) for path in sorted((folder / "records").iterdir())}
    by_label = {record["label"]: key for key, record in records.items()}

    def add(key: str, base: str, ranks: bool, **changes) -> None:
        record = json.loads(json.dumps(records[by_label[base]]))
        record["key"] = key
        record["job"]["model"] |= changes.pop("model", {})
        record["job"]["settings"] |= changes.pop("settings", {})
        record["label"] = Job.from_dict(record["job"]).model.label
        (folder / "records" / f"{key}.json").write_text(json.dumps(record | changes))
        if ranks:
            shutil.copy(folder / "ranks" / f"{by_label[base]}.npz", folder / "ranks" / f"{key}.npz")

    add("f" * 16, "vsepp", False, model={"variant": "under_score"}, status="failed", error=f"LossError: {EVIL}")
    add("e" * 16, "vsrn", True, model={"recipes": {"vsrn": 0}, "variant": "<i>old</i>"})
    add("d" * 16, "vsepp", True, settings={"lr": 0.0001})
    write(folder)
    return folder


class Opened:
    """A page, and everything it said or asked for."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page, self.messages, self.requests = page, [], []
        page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto((folder / "index.html").as_uri())
        page.wait_for_selector(".chart .scatterlayer .point")

    def names(self, section: str = "section[data-data]:not([hidden])") -> list[str]:
        """Of the rows that are to be seen, from the top."""
        return self.page.eval_on_selector_all(
            f"{section} .sortable tbody tr:not([hidden])", "rows => rows.map(row => row.dataset.name)"
        )

    def column(self, title: str) -> list[str]:
        """What is written below a heading of the first table, rows that are hidden left out."""
        return self.page.evaluate(
            """title => {
                const table = document.querySelectorAll("section[data-data] .sortable");
                const chosen = Array.from(table).sort((a, b) => b.rows.length - a.rows.length)[0];
                const at = Array.from(chosen.tHead.rows[0].cells).findIndex(cell => cell.textContent.trim() === title);
                return Array.from(chosen.tBodies[0].rows).filter(row => !row.hidden)
                    .map(row => row.cells[at].textContent.trim());
            }""",
            title,
        )


@pytest.fixture
def opened(browser: Browser, folder: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    yield Opened(context.new_page(), folder)
    context.close()


@pytest.fixture
def narrow(browser: Browser, folder: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 400, "height": 800}, offline=True, has_touch=True)
    yield Opened(context.new_page(), folder)
    context.close()
