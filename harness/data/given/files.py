"""The arrays of a row from files, by name; and which kind of row they are."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from harness import contents
from harness.data.given.places import check_room
from harness.data.precomp import open_array
from harness.data.split import DataError
from harness.data.texts import read_json
from harness.spec.given import Request
from harness.spec.names import near

Arrays = Mapping[str, np.ndarray]

NEEDED: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("images", "captions"),
    "scores": ("scores",),
    "lists": ("i2t_ids", "t2i_ids"),
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "embeddings": (
        *("image_mask", "caption_mask", "image_scale", "caption_scale"),
        *("image_shared", "caption_shared"),
    ),
    "scores": ("scores_t2i",),
    "lists": ("i2t_scores", "t2i_scores"),
}
MAPPING = ("image_ids", "caption_ids", "image_of_caption")
KNOWN = {name for names in (*NEEDED.values(), *OPTIONAL.values(), MAPPING) for name in names}
MISSPELT = 0.85  # how like a name that is missing another must be to be taken for it
MAPPED = "as .npy it is read through a memory map"
FORMATS = (".npz", ".npy", ".safetensors")


def digest(request: Request) -> str:
    """32 hex digits of what the files hold.  Raises DataError where one is not there."""
    for path in request.read:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
    found = [contents.digest(path) for path in request.read]
    return found[0] if len(found) == 1 else "".join(each[: 32 // len(found)] for each in found)


def opened(request: Request, room: float = math.inf) -> tuple[str, dict[str, np.ndarray]]:
    """Kind of the row and its arrays by name, memory-mapped where they are `.npy`.

    room: bytes that may be taken.  Raises DataError, one line, for what is missing, damaged, pickled, or of no kind.
    """
    endings = {path.suffix for path in request.files}
    if wrong := sorted(endings - set(FORMATS)):
        raise DataError(f"{request.files[0]}: {wrong[0] or 'no ending'}, need {', '.join(FORMATS)} (never a pickle)")
    if len(request.files) == 2 and endings != {".npy"}:
        raise DataError(f"--row {request.name}: two files must both be .npy, got {', '.join(sorted(endings))}")
    if endings == {".npy"}:
        kind, arrays = _of_npy(request)
    else:
        path = request.files[0]
        arrays = _npz(path, room) if path.suffix == ".npz" else _safetensors(path, room)
        kind = _kind(path, arrays, request.options.get("kind", ""))
    if "ids" in request.options:
        arrays |= _ids(Path(request.options["ids"]))
    if "scorer" in request.options and kind != "embeddings":
        raise DataError(f"--row {request.name}: a scorer is for embeddings, these files hold {kind}")
    return kind, arrays


def ignored(request: Request) -> tuple[str, ...]:
    """A line for each file that holds arrays, or a file of ids that holds lists, of names that nothing here knows."""
    names: dict[Path, set[str]] = {}
    for path in request.files:
        if path.suffix != ".npy":
            with _readable(path):
                names[path] = _names(path) - KNOWN
    if "ids" in request.options:
        names[Path(request.options["ids"])] = set(read_json(Path(request.options["ids"]))) - set(MAPPING)
    return tuple(
        f"{request.name}: {path.name}: ignored {', '.join(f'{name!a:.60}' for name in sorted(some))}"
        for path, some in names.items()
        if some
    )


def _names(path: Path) -> set[str]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return set(stored.files)
    with safe_open(path, framework="numpy") as stored:
        return set(stored.keys())


def _of_npy(request: Request) -> tuple[str, dict[str, np.ndarray]]:
    arrays = [open_array(path) for path in request.files]
    shapes = [array.shape for array in arrays]
    fits = {
        "scores": len(arrays) == 1 or shapes[1] in (shapes[0], shapes[0][::-1]),
        "embeddings": len(arrays) == 2 and shapes[0][-1:] == shapes[1][-1:],
    }
    fits["scores"] &= all(len(shape) == 2 for shape in shapes)
    readings = [kind for kind, does in fits.items() if does and request.options.get("kind", kind) == kind]
    if len(readings) != 1:
        named = ", ".join(f"{path.name} {shape}" for path, shape in zip(request.files, shapes, strict=True))
        raise DataError(
            f"--row {request.name}: {named} are embeddings as well as scores, say kind=embeddings or kind=scores"
            if readings
            else f"--row {request.name}: {named} are neither a matrix of scores nor embeddings of one width"
        )
    names = NEEDED["embeddings"] if readings[0] == "embeddings" else ("scores", "scores_t2i")
    return readings[0], dict(zip(names, arrays, strict=False))


def _kind(path: Path, names: Collection[str], asked: str) -> str:
    found = [kind for kind, needed in NEEDED.items() if set(needed) <= set(names)]
    if asked:
        found = [kind for kind in found if kind == asked]
    if len(found) != 1:
        each = "; ".join(f"{kind}: {', '.join(needed)}" for kind, needed in NEEDED.items())
        raise DataError(
            f"{path}: holds {' and '.join(found)}, say kind={found[0]} or the like"
            if found
            else f"{path}: holds {_listing({*names, *_names(path)})}, need arrays named as in {each}"
        )
    allowed = {*NEEDED[found[0]], *OPTIONAL[found[0]], *MAPPING}
    if strange := sorted(set(names) & KNOWN - allowed) if not asked else []:
        raise DataError(f"{path}: {', '.join(strange)} beside {found[0]}, say kind={found[0]} to leave them out")
    return found[0]


def _listing(names: Collection[str]) -> str:
    """Names of a stranger's file in a line, the first ten of many; `nothing` for none."""
    told = [name if name in KNOWN else f"{name!a:.60}" for name in sorted(names)]
    return ", ".join([*told[:10], *(["..."] if told[10:] else [])]) or "nothing"


def _known(names: Collection[str], path: Path, known: Collection[str] = KNOWN) -> list[str]:
    """The names that are known.  Raises DataError where one of the others must be meant for one that is missing."""
    missing = sorted(set(known) - set(names))
    for name in sorted(set(names) - set(known)):
        if meant := near(name, missing, MISSPELT):
            raise DataError(f"{path}: {name!a:.60}, did you mean {meant[0]}?")
    return [name for name in names if name in known]


def _npz(path: Path, room: float) -> dict[str, np.ndarray]:
    """Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: truncated, or no .npz; need arrays as numpy.savez writes them")
    with _readable(path):
        with zipfile.ZipFile(path) as archive:
            check_room(str(path), sum(member.file_size for member in archive.infolist()), room, MAPPED)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in _known(stored.files, path)}


def _safetensors(path: Path, room: float) -> dict[str, np.ndarray]:
    """Tensors, and ids from the metadata, where texts are JSON lists.  Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    check_room(str(path), path.stat().st_size, room, MAPPED)
    with _readable(path), safe_open(path, framework="numpy") as stored:
        metadata = stored.metadata() or {}
        known = _known([*stored.keys(), *metadata], path)
        arrays = {name: stored.get_tensor(name) for name in stored.keys() if name in KNOWN}  # noqa: SIM118
        told = {name: json.loads(metadata[name]) for name in known if name in MAPPING and name in metadata}
    return arrays | {name: _listed(value, f"{path}: {name}") for name, value in told.items()}


def _ids(path: Path) -> dict[str, np.ndarray]:
    """`{"image_ids": [...], "caption_ids": [...], "image_of_caption": [...]}` of a JSON file.  Raises DataError."""
    found = read_json(path)
    if not isinstance(found, dict) or not set(found) & set(MAPPING):
        raise DataError(f"{path}: need a JSON object with {', '.join(MAPPING)}, any of them")
    return {name: _listed(found[name], f"{path}: {name}") for name in _known(found, path, MAPPING)}


def _listed(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
        raise DataError(f"{where} must be a list of ids, texts or whole numbers")
    return np.array([str(item) for item in value]) if any(isinstance(v, str) for v in value) else np.array(value)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises DataError whatever the library that reads makes of a damaged file."""
    try:
        yield
    except DataError:
        raise
    except (Exception, SafetensorError) as error:
        said = " ".join(str(error).split())[:150]
        objects = "holds Python objects (a pickle), which are not read" if "pickle" in said.lower() else ""
        raise DataError(f"{path}: {objects or f'cannot be read ({said})'}") from None
