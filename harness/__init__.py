"""A benchmark of image-text retrieval: accuracy beside retrieval time, under identical settings."""

from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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
