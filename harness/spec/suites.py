"""Named lists of jobs.  Nothing here executes: a suite is methods, seeds and settings that differ from the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import product
from typing import Any

from harness.spec import paper, questions, registry
from harness.spec.asked import Asked, Posed
from harness.spec.job import Data, Job, Settings, SpecError, with_seed
from harness.spec.names import nearest
from harness.spec.override import override


@dataclass(frozen=True)
class Suite:
    """A question, and the jobs that answer it."""

    question: str
    methods: tuple[str, ...]  # labels; "*" stands for any text
    seeds: Mapping[str, tuple[int, ...]]  # family -> seeds
    without: tuple[str, ...] = ()  # labels left out
    changes: Mapping[str, Any] = field(default_factory=dict)  # dotted path -> value, for all rows
    sweep: tuple[Mapping[str, Any], ...] = ({},)  # each is applied to every row in turn
    ensembles: bool = False  # rows that average the scores of others too
    published: bool = False  # every row as its paper has it, in place of settings that all share
    ablations: tuple[str, ...] = ()  # questions asked beside the rows, as `--only` takes them

    def labels(self) -> tuple[str, ...]:
        out = select(self.without) if self.without else ()
        return tuple(label for label in select(self.methods) if label not in out)


TEXT_MODEL = "settings.text_model"
ONE = {"independent": (0,), "interactive": (0,)}
THREE = {"independent": (0, 1, 2), "interactive": (0,)}  # interactive ones take as long as three others

EMBEDDED: Mapping[str, Mapping[str, Any]] = {  # data made here are small: a suite on them should take minutes
    "scenes": {
        "settings.batch": 32,
        "settings.dim": 64,
        "settings.word_dim": 64,
        "settings.epochs": 6,
        "settings.drop_every": 5,
        "settings.lr": 3.2e-3,  # this and the warm-up: as in Settings, by results/reference/tune-scenes
        "settings.warmup_epochs": 5,
    },
}

SUITES: Mapping[str, Suite] = {
    "smoke": Suite(
        question="Does everything run from end to end?",
        methods=("chance", "vsepp", "vsepp+selfalign", "vsrn", "vsrn+selfalign", "scan:t2i-lse"),
        seeds=ONE,
        changes={
            "data.train_images": 60,
            "data.dev_images": 30,
            "data.test_images": 40,
            "settings.epochs": 2,
            "settings.batch": 32,
            "settings.dim": 32,
            "settings.word_dim": 32,
        },
    ),
    "full": Suite(
        question="Which model, how accurate, how fast, how sure?",
        ablations=("ablations/submodules/vsepp", "ablations/submodules/vsrn"),
        methods=("*",),
        seeds=THREE,
        ensembles=True,
    ),
    "ablations": Suite(
        question="Does every part of a model earn its cost? One question per file in ablations/.",
        methods=(),
        seeds={"independent": (0, 1, 2), "interactive": (0, 1, 2)},  # without several no interval
        ablations=("ablations/*",),
    ),
    "baselines": Suite(
        question="How do the baselines compare without SelfAlign?",
        methods=("*",),
        without=("*+selfalign",),
        seeds=THREE,
        ensembles=True,
    ),
    "paper": Suite(
        question="What does each method reach as it was published? Settings differ from row to row.",
        methods=paper.LABELS,
        seeds=THREE,
        ensembles=True,
        published=True,
    ),
    "tune": Suite(
        question="Which learning rate and warm-up, the same for all rows, is best on dev? Never looks at test.",
        methods=("vsepp*", "vse_infty*", "vsrn*", "camera", "saem", "cvse", "scan:t2i-lse", "chan", "bfan:equal"),
        seeds=ONE,
        changes={"data.ranked": "dev"},
        sweep=tuple(
            {"settings.lr": lr, "settings.warmup_epochs": warmup}
            for lr, warmup in product((4e-4, 8e-4, 1.6e-3, 3.2e-3, 6.4e-3), (2, 5))
        ),
    ),
}


def find(name: str) -> Suite:
    if name not in SUITES:
        raise SpecError(f"unknown suite {name!r}{nearest(name, SUITES)}")
    return SUITES[name]


def named(suite: str, only: Sequence[str]) -> str:
    """The suite asked for; where none is, `full`, or `ablations` if all that is asked for are questions."""
    asks = bool(only) and all(pattern.startswith(f"{questions.FOLDER}/") for pattern in only)
    return suite or ("ablations" if asks else "full")


def select(patterns: Sequence[str], among: Sequence[str] | None = None) -> tuple[str, ...]:
    """Known labels that match any pattern; a method's bare name stands for all its variants.  Raises SpecError."""
    known = registry.labels() if among is None else tuple(among)
    chosen: set[str] = set()
    for pattern in patterns:
        found = [label for label in known if _matches(label, pattern)]
        if not found:
            registry.parse(pattern)  # says what is wrong with it
            if not known:
                raise SpecError(f"{pattern!r} names no row of this suite, which asks questions: ablations/NAME")
            raise SpecError(f"{pattern!r} names no row of this suite{nearest(pattern, known)}")
        chosen.update(found)
    return tuple(label for label in known if label in chosen)


def _matches(label: str, pattern: str) -> bool:
    base, plus, module = label.partition("+")
    return fnmatch(label, pattern) or fnmatch(base.partition(":")[0] + plus + module, pattern)


def asked(
    name: str,
    data: Data,
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    changes: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    paper_of: str = "",
) -> Asked:
    """What a suite asks for: its rows, with seeds innermost, and its questions of their bases, seed by seed.

    `only` narrows the rows, or asks questions (`ablations/NAME`) whatever the suite; `seeds` replaces the suite's,
    `changes` go last, but for what an arm is made of.
    paper_of: whose published hyper-parameters suite `paper` takes, "" = those of the data's own name.
    Raises SpecError for unknown names and values.
    """
    suite, told = find(name), changes or {}
    if paper_of and not suite.published:
        raise SpecError(f"--paper-of belongs to suite paper, not to {name}")
    usual = _as_published(data, paper_of, told) if suite.published else _shared(data)
    patterns = [pattern for pattern in only if pattern.startswith(f"{questions.FOLDER}/")]
    named_rows = [pattern for pattern in only if pattern not in patterns]
    labels = select(named_rows, suite.labels()) if named_rows else suite.labels() if not only else ()
    _check_reached(told, labels, patterns)
    rows: list[Job] = []
    posed: list[Posed] = []
    for sweep in suite.sweep:

        def row(label: str, sweep: Mapping[str, Any] = sweep) -> Job:
            plain = Job(data, registry.model(label), settings or Settings())
            applied = _applicable(told, plain, suite.published)
            return override(plain, {**usual(label), **suite.changes, **sweep, **applied})

        rows += [job for label in labels for job in _seeded(row(label), suite, seeds)]
        for question, base in questions.select(patterns if only else suite.ablations):
            _check_reach(question, base, told)
            posed += [Posed(question, job, questions.arms(question, job)) for job in _seeded(row(base), suite, seeds)]
    return Asked(name, suite.published, tuple(rows), tuple(posed), suite.sweep)


def jobs(name: str, data: Data, **choices: Any) -> list[Job]:
    """The jobs of a suite, each once; choices and errors as of `asked`."""
    return asked(name, data, **choices).jobs


def _seeded(job: Job, suite: Suite, seeds: Sequence[int] | None) -> list[Job]:
    family = registry.methods()[job.model.method].family
    return [with_seed(job, seed) for seed in (suite.seeds[family] if seeds is None else seeds)]


def _check_reach(question: questions.Question, base: str, changes: Mapping[str, Any]) -> None:
    """What is set of SelfAlign must not pass by an arm that brings the module itself.  Raises SpecError."""
    lost = [path for path in changes if path.startswith("selfalign.")]
    if lost and "+" not in base and any(arm.get("selfalign") for arm in question.arms.values()):
        raise SpecError(
            f"{', '.join(lost)} does not reach {question.path(base)}, whose arms bring SelfAlign themselves"
        )


def _check_reached(changes: Mapping[str, Any], labels: Sequence[str], patterns: Sequence[str]) -> None:
    """What is set of SelfAlign must reach a row with the module.  Raises SpecError."""
    lost = [path for path in changes if path.startswith("selfalign.")]
    known = registry.selfalign().options
    for path in lost:
        name = path.partition(".")[2]
        if name not in known:
            raise SpecError(f"{registry.SELFALIGN} has no option {name!r}{nearest(name, known)}")
    if lost and not patterns and not any(label.endswith(f"+{registry.SELFALIGN}") for label in labels):
        raise SpecError(f"{', '.join(lost)} reaches no row: none of those chosen has SelfAlign")


def _shared(data: Data) -> Callable[[str], Mapping[str, Any]]:
    """The same for every row."""
    return lambda _: {} if data.own else EMBEDDED.get(data.name, {})


def _as_published(data: Data, paper_of: str, changes: Mapping[str, Any]) -> Callable[[str], Mapping[str, Any]]:
    """Label -> what was published of it; a text model that is asked for goes to rows published with one."""
    of, text_model = paper.column(data.name, paper_of), str(changes.get(TEXT_MODEL, ""))
    return lambda label: paper.changes(label, of, text_model)


def _applicable(changes: Mapping[str, Any], row: Job, published: bool) -> dict[str, Any]:
    """Changes of shared settings go to every row; those of `selfalign.` only to rows with the module."""
    return {
        path: value
        for path, value in changes.items()
        if (not path.startswith("selfalign.") or row.model.selfalign is not None)
        and not (published and path == TEXT_MODEL)
    }
