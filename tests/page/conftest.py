"""A page made of stored records and a few that went wrong, in a real browser that has no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize

from harness import ROOT
from harness.report import write
from harness.spec.job import Job

REFERENCE = ROOT / "results" / "reference" / "full-scenes-1"  # one rate for all rows: one table
EVIL = "<img src=x onerror=alert(1)>"


def _shown(record: dict) -> bool:
    """Chance, hosts with and without SelfAlign as they usually are, some interactive rows: enough to filter."""
    label, module = record["label"].replace("*", ""), record["job"]["model"]["selfalign"]
    usual = module is None or (module["concept"] and module["context"])
    alone = not record["job"]["model"].get("control") and usual
    told = ("chance", "vsepp", "vsrn", "camera", "imram:full")
    return alone and (label.removesuffix("+selfalign") in told or label.startswith(("scan:", "sgraf")))


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

    def __init__(self, page: Page, folder: Path, state: str = "") -> None:
        self.page, self.folder, self.messages, self.requests = page, folder, [], []
        page.on("console", lambda message: self.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        self.visit(state)

    def visit(self, state: str = "") -> None:
        """Opens it anew, with what is shown told by the address."""
        self.page.goto("about:blank")
        self.page.goto((self.folder / "index.html").as_uri() + (f"#{state}" if state else ""))
        self.page.wait_for_selector(".chart .scatterlayer .point:visible")
        self.page.wait_for_selector(".tabulator.built:visible")

    def names(self, section: str = "section[data-data]:not([hidden])") -> list[str]:
        """Of the rows that are to be seen, from the top."""
        cell = f"{section} .tabulator-row:not(.tabulator-group) .tabulator-cell[tabulator-field=c0] > span"
        return self.page.eval_on_selector_all(cell, "cells => cells.map(cell => cell.firstChild.textContent)")

    def titles(self, section: str) -> list[str]:
        return self.page.locator(f"{section} .tabulator-header .tabulator-col-title").all_text_contents()

    def column(self, title: str, section: str) -> list[str]:
        """What is written below a heading, rows that are not shown left out."""
        field = self.header(title, section).get_attribute("tabulator-field")
        cells = f"{section} .tabulator-row:not(.tabulator-group) .tabulator-cell[tabulator-field={field}] > span"
        return self.page.eval_on_selector_all(cells, "cells => cells.map(cell => cell.firstChild.textContent)")

    def header(self, title: str, section: str) -> Locator:
        exact = self.page.get_by_text(title, exact=True)
        return self.page.locator(f"{section} .tabulator-col").filter(has=exact)


Opener = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Browser, folder: Path) -> Iterator[Opener]:
    """Opens the page in a window of a width, `light` or `dark`."""
    contexts = []

    def opened(
        width: int = 1400, height: int = 900, scheme: Literal["light", "dark"] = "light", state: str = ""
    ) -> Opened:
        viewport: ViewportSize = {"width": width, "height": height}
        contexts.append(browser.new_context(viewport=viewport, offline=True, color_scheme=scheme))
        return Opened(contexts[-1].new_page(), folder, state)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def opened(open_page: Opener) -> Opened:
    return open_page()


@pytest.fixture
def narrow(open_page: Opener) -> Opened:
    return open_page(400, 800)
