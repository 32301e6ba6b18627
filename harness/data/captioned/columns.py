"""Which column of a table, or entry of a sample, is the picture, its captions, its id and its split.

Usual names are known; `--columns image=photo,captions=en_0+en_1,id=key,split=part` says others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from harness.data.split import DataError
from harness.spec.job import SpecError
from harness.spec.names import nearest

USUAL: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "img", "picture", "jpg", "jpeg", "png", "webp"),
    "captions": ("captions", "caption", "sentences", "text", "texts", "txt"),
    "id": ("cocoid", "imgid", "img_id", "image_id", "id", "filename", "file_name"),
    "split": ("split",),
}
NUMBERED = re.compile(r"(?:captions?|sentences?|texts?)_?(\d+)")  # `caption_0`, `caption_1`, ...: a column each

Columns = Mapping[str, tuple[str, ...]]  # role -> names, more than one of captions alone


def parsed(text: str) -> Columns:
    """What `--columns` says, {} where it was not given.  Raises SpecError."""
    found: dict[str, tuple[str, ...]] = {}
    for part in text.split(",") if text else []:
        role, equals, name = (word.strip() for word in part.partition("="))
        names = tuple(name.split("+")) if role == "captions" else (name,)
        if not equals or not all(names):
            raise SpecError(f"--columns takes ROLE=NAME[,ROLE=NAME] of roles {', '.join(USUAL)}, got {text!a:.80}")
        if role not in USUAL:
            raise SpecError(f"--columns knows no role {role!a:.40}{nearest(role, USUAL)}")
        if role in found:
            raise SpecError(f"--columns: {role} is given twice")
        found[role] = names
    return found


def chosen(role: str, there: Collection[str], told: Columns, where: str) -> tuple[str, ...]:
    """The columns `there` that have the role: those told, else the first usual one; () where there is none.

    Raises DataError where one that was told is not there.
    """
    if role in told:
        if missing := [name for name in told[role] if name not in there]:
            raise DataError(f"{where}: no column {', '.join(missing)}; it has {', '.join(there) or 'none'}")
        return told[role]
    if usual := [name for name in USUAL[role] if name in there]:
        return (usual[0],)
    if role == "captions":
        numbered = [(int(found[1]), name) for name in there if (found := NUMBERED.fullmatch(name))]
        return tuple(name for _, name in sorted(numbered))
    return ()


def needed(role: str, there: Collection[str], told: Columns, where: str) -> tuple[str, ...]:
    """As `chosen`.  Raises DataError where there is none."""
    found = chosen(role, there, told, where)
    if not found:
        usual = ", ".join(USUAL[role])
        raise DataError(
            f"{where}: no column is called {usual}; it has {', '.join(there) or 'none'}: --columns {role}=NAME"
        )
    return found
