"""From a pretrained model that was chosen to a row: which class of ours stands for which of the library's."""

from __future__ import annotations

from harness.data.prepared import Prepared
from harness.pretrained.embedders import DualEncoder, Frozen
from harness.pretrained.loading import Loaded, load
from harness.pretrained.probe import Probe
from harness.pretrained.staged import Blip, Blip2, Contrastive
from harness.pretrained.vilt import Vilt
from harness.progress import Watch, unwatched
from harness.protocol import Inputs, Retriever, Staged
from harness.record import Pretraining
from harness.spec.job import SpecError
from harness.spec.pretrained import KINDS, Pretrained


def build(row: Pretrained, inputs: Inputs) -> Retriever:
    """Raises DataError, one line, where the folder cannot be loaded."""
    loaded, options = load(row), dict(row.options)
    if KINDS[row.kind].family == "independent":
        embedder = DualEncoder(loaded)
        return Probe(inputs, embedder) if options["head"] == "probe" else embedder
    if row.kind == "ViltForImageAndTextRetrieval":
        return Vilt(loaded)
    if options["score"] == "itc":
        return Contrastive(loaded)
    shortlist = options["k_i2t"], options["k_t2i"]
    return Blip(loaded, shortlist, options["mark"]) if KINDS[row.kind].mark else Blip2(loaded, shortlist)


def check(model: Retriever, data: Prepared) -> None:
    """Raises SpecError where a shortlist is longer than the gallery it is taken from."""
    if isinstance(model, Staged):
        split = data.ranked.split
        galleries = (("k_i2t", len(split.captions), "captions"), ("k_t2i", len(split.images), "images"))
        for (name, gallery, of), k in zip(galleries, model.shortlist, strict=True):
            if k > gallery:
                raise SpecError(f"{name}={k} is beyond the gallery of {gallery} {of}: say {name}={gallery} or less")


def look(model: Retriever, data: Prepared, watch: Watch = unwatched) -> None:
    """What a probe has to see of the data before it is trained; nothing of any other row."""
    if isinstance(model, Probe):
        model.look((data.train, data.dev, data.ranked), watch)


def described(model: Retriever, pairs: int) -> Pretraining | None:
    """Of a pretrained row, for its record; None of any other.  pairs: as they were said, 0 = nobody said."""
    loaded = _loaded(model)
    if loaded is None:
        return None
    return {
        "model": loaded.kind,
        "pairs": pairs or None,
        "parameters": loaded.parameters,
        "precision": str(loaded.model.dtype).rpartition(".")[2],
        "pictures": loaded.pictures.backend,
    }


def _loaded(model: Retriever) -> Loaded | None:
    if isinstance(model, Frozen):
        return model.loaded
    return model.embedder.loaded if isinstance(model, Probe) else None
