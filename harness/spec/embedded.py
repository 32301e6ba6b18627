"""Settings of the embedded data in place of the defaults: they are small, and a suite on them should take minutes.

`scenes`: why 1,000 updates, see "How long is a training on scenes?" in ablations/LOG.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.spec.methods import SELFALIGN

EMBEDDED: Mapping[str, Mapping[str, Any]] = {
    "scenes": {
        "settings.batch": 64,
        "settings.dim": 64,
        "settings.word_dim": 64,
        "settings.clip": 2.0,
        "settings.schedule": "cosine",
        "settings.lr": 3.2e-3,
        "settings.updates": 1000,
        "settings.parts": 5,  # a look at dev takes the dear rows as long as 60 to 100 updates
        "settings.warmup_updates": 800,
        # As in SelfAlign's paper (128 images of 36 regions, 1,024 prototypes, 512 negatives) by what a batch holds,
        # 64 images of 8.2 regions: 4.5 regions a prototype, 11% of the regions of the 63 other images as negatives.
        "selfalign.prototypes": 117,
        "selfalign.negatives": 58,
    },
}


def settings(data: str, label: str) -> dict[str, Any]:
    """Path -> value of what a row has on embedded data; nothing for other data.  SelfAlign's go to rows with it."""
    module = SELFALIGN in label.split("+")[1:]
    return {path: value for path, value in EMBEDDED.get(data, {}).items() if module or not _of_module(path)}


def module(data: str) -> dict[str, Any]:
    """Path -> value of what SelfAlign has on embedded data, whatever puts it on its host."""
    return {path: value for path, value in EMBEDDED.get(data, {}).items() if _of_module(path)}


def _of_module(path: str) -> bool:
    return path.startswith(f"{SELFALIGN}.")
