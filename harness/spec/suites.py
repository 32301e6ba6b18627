"""Named lists of jobs.  Nothing here executes: a suite is methods, seeds and settings that differ from the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from harness.record import TunedFrom
from harness.spec import embedded, paper, questions, registry
from harness.spec.asked import Asked, Posed
from harness.spec.job import Data, Job, Settings, SpecError, with_seed
from harness.spec.names import fitted, nearest
from harness.spec.override import override, yielding
from harness.spec.tuning import Design, check_told, design, settle, settle_arm
from harness.tuned import TunedRecord


@dataclass(frozen=True)
class Suite:
    """A question, and the jobs that answer it."""

    question: str
    methods: tuple[str, ...]  # labels; "*" stands for any text
    seeds: Mapping[str, tuple[int, ...]]  # family -> seeds
    without: tuple[str, ...] = ()  # labels left out
    changes: Mapping[str, Any] = field(default_factory=dict)  # dotted path -> value, for all rows
    embedded: Mapping[str, Any] | None = None  # in place of `changes` on embedded data; None = those
    tuned: bool = False  # rows have the settings their trials chose, where there were trials
    tuning: bool = False  # it is those trials
    ensembles: bool = False  # rows that average the scores of others too
    published: bool = False  # every row as its paper has it, in place of settings that all share
    ablations: tuple[str, ...] = ()  # questions asked beside the rows, as `--only` takes them
    ablation_seeds: tuple[int, ...] = ()  # of the questions and their bases, where not those of the rows

    def labels(self) -> tuple[str, ...]:
        out = select(self.without) if self.without else ()
        return tuple(label for label in select(self.methods) if label not in out)


TEXT_MODEL = "settings.text_model"
ONE = {"independent": (0,), "interactive": (0,)}
THREE = {"independent": (0, 1, 2), "interactive": (0,)}  # interactive ones take as long as three others
FINAL = {"independent": (1,), "interactive": (1,)}  # settings were chosen with seed 0
SHARE = {"settings.train_share": 0.9}  # of the training images, drawn by the seed: its error counts the choice of data

SUITES: Mapping[str, Suite] = {
    "smoke": Suite(
        question="Does everything run from end to end, and does every row learn?",
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
        embedded={  # as few updates and images as rows need to be well above chance
            "data.dev_images": 50,
            "data.test_images": 100,
            "settings.updates": 150,
            "settings.parts": 3,
            "settings.warmup_updates": 120,
            "settings.schedule": "cosine",
            "settings.lr": 6.4e-3,
            "settings.batch": 32,
            "settings.dim": 64,
            "settings.word_dim": 64,
        },
    ),
    "full": Suite(
        question="Which model, how accurate, how fast, how sure?",
        ablations=("ablations/submodules/vsepp",),
        ablation_seeds=(1, 2, 3),
        methods=("*",),
        seeds=FINAL,
        changes=SHARE,
        ensembles=True,
        tuned=True,
    ),
    "ablations": Suite(
        question="Does every part of a model earn its cost? One question per file in ablations/.",
        methods=(),
        seeds={"independent": (1, 2, 3), "interactive": (1, 2, 3)},  # without several no interval
        changes=SHARE,
        tuned=True,
        ablations=("ablations/*",),
    ),
    "baselines": Suite(
        question="How do the baselines compare without SelfAlign?",
        methods=("*",),
        without=("*+selfalign",),
        seeds=FINAL,
        changes=SHARE,
        ensembles=True,
        tuned=True,
    ),
    "paper": Suite(
        question="What does each method reach as it was published? Settings differ from row to row.",
        methods=paper.LABELS,
        seeds=THREE,
        ensembles=True,
        published=True,
    ),
    "tune": Suite(
        question="Which settings suit each row, by equally many trials on dev? Never looks at test.",
        methods=("*",),
        without=("chance", "oracle", "bag"),
        seeds=ONE,
        tuning=True,
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


def select(patterns: Sequence[str], among: Sequence[str] | None = None, *, with_aside: bool = False) -> tuple[str, ...]:
    """Known labels that match any pattern; a method's bare name stands for all its variants.  Raises SpecError.

    with_aside: rows that stand aside (`registry.aside`) too, where a pattern names them, behind the others.
    """
    known = registry.labels() if among is None else tuple(among)
    chosen: set[str] = set()
    aside: dict[str, None] = {}
    for pattern in map(registry.canonical, patterns):
        others = registry.aside(pattern) if with_aside and known else ()
        aside |= {label: None for label in others if _matches(label, pattern)}
        found = [label for label in (*known, *aside) if _matches(label, pattern)]
        if not found:
            if not is_wild(pattern):
                registry.parse(pattern)  # says what is wrong with it
            if not known:
                raise SpecError(f"{pattern!r} names no row of this suite, which asks questions: ablations/NAME")
            raise SpecError(f"{pattern!r} names no row of this suite{nearest(pattern, known)}")
        chosen.update(found)
    return tuple(label for label in (*known, *aside) if label in chosen)


def is_wild(pattern: str) -> bool:
    """Whether it is no label, but stands for any text somewhere."""
    return any(mark in pattern for mark in "*?[")


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
    rows: Sequence[str] = (),
    tuned: TunedRecord | None = None,
    trials: int | None = None,
) -> Asked:
    """What a suite asks for: its rows, with seeds innermost, and its questions of their bases, seed by seed.

    rows: labels of pretrained rows beside them, which `only` may name too: one that trains nothing runs once.
    `only` narrows the rows, or asks questions (`ablations/NAME`) whatever the suite; `seeds` replaces the suite's,
    `changes` go last, but for what an arm is made of.
    paper_of: whose published hyper-parameters suite `paper` takes, "" = those of the data's own name.
    tuned: where suites that read tuned settings take them from; trials: the budget of a row in suite `tune`.
    Raises SpecError for unknown names and values.
    """
    suite, told = find(name), dict(changes or {})
    if paper_of and not suite.published:
        raise SpecError(f"--paper-of belongs to suite paper, not to {name}")
    patterns = [pattern for pattern in only if pattern.startswith(f"{questions.FOLDER}/")]
    named_rows = [pattern for pattern in only if pattern not in patterns and pattern not in rows]
    labels = (
        select(named_rows, suite.labels(), with_aside=not suite.published)
        if named_rows
        else suite.labels()
        if not only
        else ()
    )
    tried = _design(suite, name, data, told, trials, seeds)
    usual = _as_published(data, paper_of, told) if suite.published else _shared(data)
    asks = questions.select(patterns if only else suite.ablations)
    _check_reached(told, labels, asks)
    made = not data.own and data.name in embedded.EMBEDDED
    changed = suite.embedded if made and suite.embedded is not None else suite.changes
    module = {} if suite.published or data.own else embedded.module(data.name)
    module = {**module, **{path: value for path, value in told.items() if path.partition(".")[0] in registry.modules()}}
    value, tuning = tuned if suite.tuned else None, {}

    def row(label: str, seed: int) -> Job:
        plain = Job(data, registry.model(label), settings or Settings())
        applied = _applicable(told, plain, suite.published)
        published = suite.published and label in rows  # nobody published settings of a pretrained row
        before = {**yielding({} if published else usual(label), changed), **changed}
        job = with_seed(override(plain, {**yielding(before, applied), **applied}), seed)
        return job if value is None else _noted(tuning, *settle(value, job, told))

    def arm(job: Job, base: Job, known: str) -> Job:
        return job if value is None else _noted(tuning, *settle_arm(value, job, base, tuning.get(base.key), known))

    found = [row(label, seed) for label in (*labels, *rows) for seed in _seeds(label, suite.seeds, seeds)]
    if tried is not None:
        if still := [label for label in rows if _trains_nothing(label)]:
            raise SpecError(f"suite tune tries rows that are trained here: leave --row {still[0]} out")
        bases = [(question, row(base, 0)) for question, base in asks]
        whole = [(question, base, questions.arms(question, base, module)) for question, base in bases]
        return _tried(name, tried, found, whole, lambda label: row(label, 0))
    posed: list[Posed] = []
    for question, base in asks:
        given = suite.ablation_seeds if seeds is None and suite.ablation_seeds else seeds
        for job in (row(base, seed) for seed in _seeds(base, suite.seeds, given)):
            arms = {
                called: arm(changed_job, job, question.named(base, called))
                for called, changed_job in questions.arms(question, job, module).items()
            }
            posed.append(Posed(question, job, arms))
    return Asked(name, suite.published, tuple(found), tuple(posed), tuning)


def _tried(
    name: str,
    design: Design,
    rows: Sequence[Job],
    asks: Sequence[tuple[questions.Question, Job, Mapping[str, Job]]],
    row: Callable[[str], Job],
) -> Asked:
    """The trials of rows, and of questions with their bases: an arm that is a row is tried as that.

    An arm that changes what all trials share has none: it keeps the settings of its base.
    """
    by_name, arms_by_name = {registry.named(job.model): job for job in rows}, {}
    posed: list[Posed] = []
    for question, base, arms in asks:
        by_name[registry.named(base.model)] = base
        own = {}
        for arm, job in arms.items():
            standing = row(job.model.label)
            if job.model == standing.model:
                by_name[registry.named(job.model)] = standing
            elif job.settings == standing.settings:
                own[arm] = job
        arms_by_name |= {question.named(base.model.label, arm): job for arm, job in own.items()}
        posed += [
            Posed(question, design.job(base, trial), {arm: design.job(job, trial) for arm, job in own.items()})
            for trial in (design.first if own else ())
        ]
    trials = tuple(design.job(job, trial) for job in by_name.values() for trial in design.first)
    return Asked(name, False, trials, tuple(posed), design=design, tried={**by_name, **arms_by_name})


def jobs(name: str, data: Data, **choices: Any) -> list[Job]:
    """The jobs of a suite, each once; choices and errors as of `asked`."""
    return asked(name, data, **choices).jobs


def _seeds(label: str, of: Mapping[str, tuple[int, ...]], given: Sequence[int] | None) -> Sequence[int]:
    """Those of a row's family, or those `given`; a row that learns nothing has the first alone."""
    family = registry.parse(label)[0].family
    if family == "scale":
        return (0,)
    chosen = of[family] if given is None else given
    return chosen[:1] if _trains_nothing(label) else chosen


def _trains_nothing(label: str) -> bool:
    """Whether it is a pretrained row that stays as it is."""
    model = registry.parse(label)[0].pretrained
    return model is not None and not model.trains


def _noted(tuning: dict[str, TunedFrom], job: Job, source: TunedFrom | None) -> Job:
    """The job, its settings' source put down."""
    if source is not None:
        tuning[job.key] = source
    return job


def _design(
    suite: Suite,
    name: str,
    data: Data,
    told: dict[str, Any],
    trials: int | None,
    seeds: Sequence[int] | None,
) -> Design | None:
    """Of suite `tune`, its length taken from what was `told`; None of others.  Raises SpecError for what is not its."""
    if not suite.tuning:
        if trials is not None:
            raise SpecError(f"--trials is the budget of suite tune, not of {name}")
        return None
    if seeds is not None:
        raise SpecError("suite tune has one seed, 0; finals have others: leave --seeds out")
    length = told.pop("settings.updates", None)
    found = design(data, trials, None if length is None else fitted(length, 0, "settings.updates"))
    check_told(told)
    return found


def _check_reached(
    changes: Mapping[str, Any], labels: Sequence[str], asks: Sequence[tuple[questions.Question, str]]
) -> None:
    """What is set of a module must reach a row that has it, or an arm that brings it.  Raises SpecError."""
    standing = [*labels, *(base for _, base in asks)]
    for module, method in registry.modules().items():
        lost = _of_module(module, changes)
        for name in (path.partition(".")[2] for path in lost):
            if name not in method.options:
                raise SpecError(f"{module} has no option {name!r}{nearest(name, method.options)}")
        has = any(module in registry.parse(label)[2] for label in standing)
        if lost and not has and not any(arm.get(module) is True for one, _ in asks for arm in one.arms.values()):
            raise SpecError(f"{', '.join(lost)} reaches no row: none of those chosen has {registry.called(module)}")


def _of_module(module: str, changes: Mapping[str, Any]) -> list[str]:
    return [path for path in changes if path.startswith(f"{module}.")]


def _shared(data: Data) -> Callable[[str], Mapping[str, Any]]:
    """The same for every row; SelfAlign's own settings go to the rows that have the module."""
    return lambda label: {} if data.own else embedded.settings(data.name, label)


def _as_published(data: Data, paper_of: str, changes: Mapping[str, Any]) -> Callable[[str], Mapping[str, Any]]:
    """Label -> what was published of it; a text model that is asked for goes to rows published with one."""
    of, text_model = paper.column(data.name, paper_of), str(changes.get(TEXT_MODEL, ""))
    return lambda label: paper.changes(label, of, text_model)


def _applicable(changes: Mapping[str, Any], row: Job, published: bool) -> dict[str, Any]:
    """Changes of shared settings go to every row; those of a module only to rows that have it."""
    absent = registry.modules().keys() - registry.parse(row.model.label)[2]
    return {
        path: value
        for path, value in changes.items()
        if path.partition(".")[0] not in absent and not (published and path == TEXT_MODEL)
    }
