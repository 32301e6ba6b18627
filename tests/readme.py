"""Tables in the README are copies of stored ones: `python -m tests.readme` copies them anew, a test compares.

A table stands between `<!-- path of a table file -->` and `<!-- end -->`; headings and header lines stay behind.
"""

from __future__ import annotations

import re

from harness import ROOT

README = ROOT / "README.md"
SLOT = re.compile(r"(<!-- (results/\S+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)


def body(text: str) -> str:
    """A table file without its title and the lines that say what it is made from."""
    blocks = text.strip().split("\n\n")
    return "\n\n".join(block for block in blocks[1:] if block.startswith(("|", "-"))) + "\n"


def filled(readme: str) -> str:
    """The README with every slot filled from its file."""
    return SLOT.sub(lambda slot: slot[1] + body((ROOT / slot[2]).read_text(encoding="utf-8")) + slot[3], readme)


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
