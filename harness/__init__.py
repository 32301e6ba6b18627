"""A benchmark of image-text retrieval: accuracy beside retrieval time, under identical settings.

    from harness import Row, evaluate, load, run, search

of which nothing is imported before it is asked for (see `harness.api`).
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
API = ("Row", "evaluate", "load", "run", "search")


def __getattr__(name: str) -> Any:
    """What there is to use from Python; `run` is the module of the command, which can be called."""
    if name not in API:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return import_module("harness.run") if name == "run" else getattr(import_module("harness.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *API})


def _refuse_foreign_packages() -> None:
    """`models`, `baselines`, `ablations` are common names: another package must not stand in for ours."""
    for name in ("models", "baselines", "ablations"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != ROOT / name:
            raise ImportError(
                f"package `{name}` resolves to {found or 'nothing'}, not to {ROOT / name}: "
                "install the project with `pip install -e .` or run from its folder"
            )


_refuse_foreign_packages()
