"""Golden records give golden tables, byte for byte.

`golden/` holds the records of six rows on a made-up set of COCO's size (5,000 images, five folds) and a short list of
published numbers.  After a change of the tables that is meant, `python -m tests.report.test_golden` writes them anew:
read the difference before it is committed.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from harness.report.outputs import texts
from harness.report.read import published
from harness.report.read.groups import collect
from harness.spec import registry

GOLDEN = Path(__file__).parent / "golden"
KINDS = ("comparison", "published", "summary", "claims")


def made() -> dict[str, str]:
    """File name -> text.  Recipes may rise and papers may be added without the golden tables being about that."""
    with (
        mock.patch.object(registry, "current", return_value=True),
        mock.patch.object(published, "PATH", GOLDEN / "published.csv"),
    ):
        found = texts(Path("results/golden"), collect(GOLDEN))
    return {name: text for name, text in found.items() if name.startswith(KINDS)}


def test_every_golden_table_is_made_and_no_other():
    assert sorted(path.name for path in (GOLDEN / "tables").iterdir()) == sorted(made())


@pytest.mark.parametrize("path", sorted((GOLDEN / "tables").iterdir()), ids=lambda path: path.name)
def test_golden_records_give_golden_tables(path):
    assert made()[path.name].encode() == path.read_bytes()


def test_the_protocols_are_named():
    tables = made()
    assert tables["comparison.md"].startswith("# Comparison, 5K protocol\n")
    assert tables["comparison-folds.md"].startswith("# Comparison, 1K protocol, mean of 5 folds of 1000 images\n")


if __name__ == "__main__":
    for name, text in made().items():
        (GOLDEN / "tables").mkdir(exist_ok=True)
        (GOLDEN / "tables" / name).write_bytes(text.encode())
