"""What a run asks for, as a value: rows to compare, questions with their arms, whose tuned settings they have.

The run stores it (`record`), so that a report reads who asked for a job and never guesses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.record import AskedRecord, PosedQuestion, TunedFrom
from harness.spec.job import Job
from harness.spec.questions import Question
from harness.spec.tuning import Design


@dataclass(frozen=True)
class Posed:
    """A question asked of one job."""

    question: Question
    base: Job
    arms: Mapping[str, Job]  # in the order of the question's file


@dataclass(frozen=True)
class Asked:
    """Everything one command asks for."""

    suite: str
    published: bool  # every row has its own settings, as it was published
    rows: tuple[Job, ...]
    posed: tuple[Posed, ...]
    tuning: Mapping[str, TunedFrom] = field(default_factory=dict)  # key of a job -> whose tuned settings it has
    design: Design | None = None  # of suite `tune`, whose rows are the trials of this
    tried: Mapping[str, Job] = field(default_factory=dict)  # rows it tries, by the names their trials have

    @property
    def jobs(self) -> list[Job]:
        """Rows before ablations, each job once."""
        of_questions = [job for posed in self.posed for job in (posed.base, *posed.arms.values())]
        once: dict[str, Job] = {}
        for job in (*self.rows, *of_questions):
            once.setdefault(job.key, job)
        return list(once.values())

    def record(self, ensembles: Sequence[str] = ()) -> AskedRecord:
        """As it is stored.  ensembles: keys of the rows that average others."""
        content: dict[str, Any] = {
            "suite": self.suite,
            "published": self.published,
            "rows": [*(job.key for job in self.rows), *ensembles],
            "questions": [
                asdict(
                    PosedQuestion(
                        name=posed.question.name,
                        question=posed.question.question,
                        base=posed.base.key,
                        arms=[(name, job.key) for name, job in posed.arms.items()],
                    )
                )
                for posed in self.posed
            ],
            "sweep": [],
        }
        here = {job.key for job in self.jobs}
        if tuning := {key: found for key, found in self.tuning.items() if key in here}:
            content["tuning"] = tuning
        key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        return AskedRecord(key=key, **content)
