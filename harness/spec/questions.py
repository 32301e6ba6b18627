"""Which ablations exist: one file each in `ablations/`, found by its name, read without importing it.

A file is a docstring, whose first line is the question, and two literals: BASES, the rows that every arm is compared
with, and ARMS, name -> what the arm changes of its base (paths as of `harness.spec.override`).  Nothing in it executes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from harness import ROOT
from harness.spec import registry
from harness.spec.job import Job, SpecError
from harness.spec.names import nearest
from harness.spec.override import override
from harness.tuned import QUESTIONS

FOLDER = QUESTIONS


@dataclass(frozen=True)
class Question:
    """What an ablation's file says."""

    name: str  # file name
    question: str  # first line of the docstring
    bases: tuple[str, ...]  # labels
    arms: Mapping[str, Mapping[str, Any]]  # name -> path -> value

    def path(self, base: str) -> str:
        """What `--only` calls it on one base."""
        return f"{FOLDER}/{self.name}/{base}"

    def named(self, base: str, arm: str) -> str:
        """An arm as its trials know it."""
        return f"{self.path(base)}: {arm}"


@cache
def questions() -> Mapping[str, Question]:
    """Every ablation by its file name.  Raises SpecError where a file is not one."""
    return {path.stem: read(path) for path in sorted((ROOT / FOLDER).glob("[!_]*.py"))}


def read(path: Path) -> Question:
    """Raises SpecError that names the file."""
    where = f"{FOLDER}/{path.name}"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        stored = dict(_literals(tree, where))
        return _question(path.stem, ast.get_docstring(tree) or "", stored, where)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise SpecError(f"{where} cannot be read: {error}") from None


def _literals(tree: ast.Module, where: str) -> Iterator[tuple[str, Any]]:
    """Name and value of every statement behind the docstring, which must be an assignment of plain values."""
    for node in tree.body[1:]:
        name = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(node, ast.Assign) or not isinstance(name, ast.Name):
            raise SpecError(f"{where}, line {node.lineno}: nothing but a docstring, BASES and ARMS belongs there")
        if isinstance(node.value, ast.Dict):
            _check_names(node.value, where)
        try:
            yield name.id, ast.literal_eval(node.value)
        except ValueError:
            raise SpecError(f"{where}, line {node.lineno}: {name.id} must be written out in plain values") from None


def _check_names(arms: ast.Dict, where: str) -> None:
    """Python would keep the last of two arms of one name, in silence.  Raises SpecError; so for the paths of an arm."""
    for mapping in (arms, *(value for value in arms.values if isinstance(value, ast.Dict))):
        names = [ast.unparse(key) for key in mapping.keys if key is not None]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SpecError(f"{where} names {', '.join(twice)} twice")


def _question(name: str, docstring: str, stored: Mapping[str, Any], where: str) -> Question:
    question = docstring.partition("\n")[0]
    if not question.endswith("?"):
        raise SpecError(f"{where} must open with its question, got {question!r}")
    if stored.keys() != {"BASES", "ARMS"}:
        raise SpecError(f"{where} must hold BASES and ARMS, got {', '.join(stored) or 'neither'}")
    bases, arms = stored["BASES"], stored["ARMS"]
    if not isinstance(bases, tuple) or not bases or len(set(bases)) < len(bases):
        raise SpecError(f"{where}: BASES must be a tuple of different rows, got {bases!r}")
    if not isinstance(arms, dict) or not arms or not all(isinstance(changes, dict) for changes in arms.values()):
        raise SpecError(f"{where}: ARMS must map names to what they change, got {arms!r}")
    return Question(name, question, bases, arms)


def select(patterns: Sequence[str]) -> list[tuple[Question, str]]:
    """Questions with their bases, by `ablations/NAME` or `ablations/NAME/BASE`, `*` for any text.  Raises SpecError."""
    known = [(question, base) for question in questions().values() for base in question.bases]
    chosen: list[tuple[Question, str]] = []
    for pattern in patterns:
        found = [
            (q, base) for q, base in known if any(fnmatch(n, pattern) for n in (f"{FOLDER}/{q.name}", q.path(base)))
        ]
        if not found:
            names = [*(f"{FOLDER}/{name}" for name in questions()), *(q.path(base) for q, base in known)]
            near = nearest(pattern, names if "/" in pattern.partition("/")[2] else names[: len(questions())])
            raise SpecError(f"no ablation {pattern!r}{near}")
        chosen += [pair for pair in found if pair not in chosen]
    return chosen


def title(question: Question, arm: str) -> str:
    """An arm's name among those of other questions: `no-context`, but `prototypes=64` where it is a mere number."""
    return arm if arm[:1].isalpha() else f"{question.name}={arm}"


def _brings(module: str, changes: Mapping[str, Any], base: Job) -> bool:
    """Whether an arm puts a module on a base that has none."""
    return changes.get(module) is True and module not in registry.parse(base.model.label)[2]


def arms(question: Question, base: Job, module: Mapping[str, Any] | None = None) -> dict[str, Job]:
    """Arm -> its job.  Raises SpecError for an unknown field, an arm that changes nothing, and one that is another.

    module: path -> value of what modules have where an arm puts them on its host, before what the arm itself changes.
    """
    jobs: dict[str, Job] = {}
    for name, changes in question.arms.items():
        where = f"arm {name!r} of {FOLDER}/{question.name}"
        try:
            told = (module or {}).items()
            brought = {path: value for path, value in told if _brings(path.partition(".")[0], changes, base)}
            job = replace(override(base, {**brought, **changes}), arm=title(question, name))
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
        if job.key == base.key:
            raise SpecError(f"{where} changes nothing of its base {base.model.label}")
        twin = next((other for other, known in jobs.items() if known.key == job.key), None)
        if twin is not None:
            raise SpecError(f"{where} is the same job as arm {twin!r}")
        jobs[name] = job
    return jobs
