"""Which hyper-parameters each method was published with, on Flickr30K and on COCO; suite `paper` runs them.

What papers and released scripts agree on or the scripts alone say: widths, rates, schedules, temperatures.  Where the
official code has a defect the methods keep their sane default (its switch is an option of the method).  Published and
not to be had here: CAMP's three stages of training (so it is not in the suite), a rate of its own for a fine-tuned
BERT (so VSE-infinity and CHAN take their published GRU branch), CVSE's gentler drop for its graph, GloVe vectors and
mixed precision.  VSE-infinity's and CHAN's scripts are for COCO; Flickr30K takes the same.

A text model (`settings.text_model`) goes to CAMERA and SAEM, which were published on a frozen BERT; without one they
read word vectors like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.spec import registry
from harness.spec.job import SpecError
from harness.spec.names import nearest

DATA = {"f30k": ("f30k", "f30k_precomp", "flickr30k"), "coco": ("coco", "coco_precomp", "mscoco")}  # names of folders
FROZEN = {"selfalign.freeze_epochs": 1}  # SelfAlign's prototypes get no gradient in the first epoch
OURS = {"model.word_projection": False}  # a linear map before the GRU that only a host of SelfAlign needs
BY_DEFAULT: Mapping[str, Any] = {
    "settings.optimiser": "adam",
    "settings.lr_drop": 0.1,
    "settings.weight_decay": 0.0,
    "settings.clip": 2.0,
    "settings.margin": 0.2,
    "settings.batch": 128,
    "settings.dim": 1024,
    "settings.word_dim": 300,
    "settings.warmup_epochs": 0,
    "settings.same_image_negatives": True,
    "settings.min_count": 4,
    "settings.max_words": 60,
}


@dataclass(frozen=True)
class Published:
    """What differs from `BY_DEFAULT`: on both data sets, and on each."""

    both: Mapping[str, Any] = field(default_factory=dict)
    f30k: Mapping[str, Any] = field(default_factory=dict)
    coco: Mapping[str, Any] = field(default_factory=dict)
    bert: bool = False  # published on a frozen BERT


def schedule(lr: float, epochs: int, drop_every: int) -> dict[str, Any]:
    """A rate that is multiplied by a tenth every so many epochs."""
    return {"settings.lr": lr, "settings.epochs": epochs, "settings.drop_every": drop_every}


ADAMW = {"settings.optimiser": "adamw", "settings.weight_decay": 0.01, "settings.warmup_epochs": 1}
VSRN = Published(
    {"settings.dim": 2048, "model.captioning": True},
    f30k=schedule(2e-4, 30, 10) | {"model.state_norm": True},
    coco=schedule(2e-4, 30, 15) | {"model.state_norm": False, "model.first_norm": "region"},
)
CAMERA = Published(
    {"settings.dim": 2048, "settings.max_words": 32, "model.heads": 64, "model.views": 12},
    f30k=schedule(1e-4, 30, 10),
    coco=schedule(1e-4, 40, 20),
    bert=True,
)
SCAN = {"f30k": schedule(2e-4, 30, 15), "coco": schedule(5e-4, 20, 10)}
ROWS: Mapping[str, Published] = {  # label, or the name of all variants of a method
    "chance": Published(schedule(1e-4, 1, 1)),
    "vsepp": Published(schedule(2e-4, 30, 15) | OURS),
    "vse_infty": Published(schedule(5e-4, 25, 15) | ADAMW | OURS),
    "vsrn": Published({**VSRN.both, **OURS}, VSRN.f30k, VSRN.coco),
    "vsrn+selfalign": Published({**VSRN.both, **FROZEN}, VSRN.f30k, VSRN.coco),
    "camera": CAMERA,
    "camera+selfalign": Published(
        {**CAMERA.both, **FROZEN, "model.word_norm": True}, CAMERA.f30k, CAMERA.coco, bert=True
    ),
    "saem": Published(
        schedule(1e-4, 30, 10) | OURS | {"settings.dim": 256, "settings.batch": 64, "settings.max_words": 32}, bert=True
    ),
    "cvse": Published(
        OURS,
        f30k=schedule(2e-4, 50, 25) | {"model.label_share": 0.35, "model.instance_share": 0.85},
        coco=schedule(2e-4, 30, 15) | {"model.label_share": 0.4, "model.instance_share": 0.9},
    ),
    "scan": Published(f30k=SCAN["f30k"], coco=SCAN["coco"]),
    "scan:i2t-lse": Published(f30k=SCAN["f30k"] | {"model.mu": 5.0}, coco=SCAN["coco"] | {"model.mu": 20.0}),
    "bfan": Published({"model.lam": 20.0}, f30k=schedule(2e-4, 15, 15), coco=schedule(5e-4, 20, 15)),
    "imram": Published(
        {"model.memory_norm": False},
        f30k=schedule(2e-4, 30, 15) | {"model.lam": 9.0},
        coco=schedule(5e-4, 20, 10) | {"model.lam": 11.0, "model.steps": 3},
    ),
    "imram:image": Published(
        {"model.memory_norm": False},
        f30k=schedule(2e-4, 30, 15) | {"model.lam": 9.0, "model.steps": 1},
        coco=schedule(5e-4, 20, 10) | {"model.lam": 11.0, "model.steps": 3},
    ),
    "gsmn": Published(
        f30k=schedule(2e-4, 30, 15) | {"settings.batch": 64, "model.lam": 20.0},
        coco=schedule(5e-4, 20, 5) | {"settings.batch": 32, "model.lam": 10.0},
    ),
    "sgraf:sgr": Published(f30k=schedule(2e-4, 40, 30), coco=schedule(2e-4, 20, 10)),
    "sgraf:saf": Published(f30k=schedule(2e-4, 30, 20), coco=schedule(2e-4, 20, 10)),
    "naaf": Published({"model.lam": 20.0, "model.alpha": 2.0} | schedule(5e-4, 20, 10), coco={"settings.batch": 256}),
    "chan": Published(
        schedule(5e-4, 25, 15)
        | ADAMW
        | {
            "settings.batch": 384,
            "settings.margin": 0.05,
            "model.self_attention_heads": 8,
            "model.size_augmentation": 0.2,
        }
    ),
}
LABELS = tuple(
    label for label in registry.labels() if label in ROWS or ("+" not in label and label.partition(":")[0] in ROWS)
)


def column(data: str, paper_of: str = "") -> str:
    """`f30k` or `coco`: the one asked for, else the one these data are.  Raises SpecError."""
    if paper_of:
        if paper_of not in DATA:
            raise SpecError(f"unknown --paper-of {paper_of!r}{nearest(paper_of, DATA)}")
        return paper_of
    found = next((name for name, names in DATA.items() if data.lower() in names), None)
    if found is None:
        raise SpecError(
            f"hyper-parameters were published for {' and '.join(DATA)}, not for {data}; "
            "--paper-of f30k (or coco) takes those"
        )
    return found


def changes(label: str, of: str, text_model: str = "") -> dict[str, Any]:
    """Every published setting and option of a row.  of: `f30k` or `coco`."""
    published = ROWS.get(label) or ROWS[label.partition(":")[0]]
    front_end = {"settings.text_model": text_model if published.bert else "", "settings.train_text_model": False}
    return {**BY_DEFAULT, **front_end, **published.both, **getattr(published, of)}
