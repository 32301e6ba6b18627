"""The README shows stored tables, and its links lead somewhere."""

import re
from importlib import util

from harness import ROOT

spec = util.spec_from_file_location("readme", ROOT / "tests" / "readme.py")
assert spec is not None
assert spec.loader is not None
readme = util.module_from_spec(spec)
spec.loader.exec_module(readme)


def test_tables_are_those_of_the_records():
    text = readme.README.read_text(encoding="utf-8")
    assert len(readme.SLOT.findall(text)) >= 3
    assert readme.filled(text) == text


def test_links_lead_somewhere():
    text = readme.README.read_text(encoding="utf-8")
    inside = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert inside
    assert [link for link in inside if not (ROOT / link).exists()] == []
