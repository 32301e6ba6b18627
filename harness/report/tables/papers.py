"""Tables that leave this project: nine columns for a paper, and CSV that tells where every line is from.

Lines of several folders can be put below one another: data, split, suite and settings are columns like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from harness.report.formats import ABSENT, Sheet, decimals, latex_escape, significant, steady
from harness.report.read.groups import Group
from harness.report.read.rows import Row
from harness.report.read.runs import Run
from harness.report.read.times import GALLERY, QueryTime, query_time, query_times, shown_ms
from harness.report.tables.comparison import comparison

RECALLS = tuple(f"{way} R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10))
STYLES = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
NAME = 13  # letters
METRICS = tuple(f"{way}_{what}" for way in ("i2t", "t2i") for what in ("r1", "r5", "r10", "medr", "meanr"))
HEAD = r"""\begingroup\scriptsize\setlength{\tabcolsep}{2.2pt}%
\begin{tabular}{@{}lrrrrrrrr@{}}
\toprule
 & \multicolumn{3}{c}{image to text} & \multicolumn{3}{c}{text to image} & & \\
\cmidrule(lr){2-4}\cmidrule(lr){5-7}
method & R@1 & R@5 & R@10 & R@1 & R@5 & R@10 & Rsum & ms \\
"""


def summary_tex(group: Group, header: Sequence[str]) -> str:
    """The comparison in nine columns, as wide as a column of a two-column paper: families and ensembles apart."""
    sheet, times = comparison(group), query_times(group.rows, GALLERY)
    lines, before = [], None
    for place, row in sorted(enumerate(group.rows), key=lambda found: found[1].is_ensemble):
        block = "chance" if row.is_floor else (row.is_ensemble, row.family)
        if block != before:
            lines.append(r"\midrule")
        before = block
        lines.append(_paper_line(sheet, place, row, times.get(row.name)))
    notes = [
        "needs \\usepackage{booktabs}; +SA: with SelfAlign; *: scores of two models averaged.",
        "Recall and Rsum in percent, means over seeds; best bold, second underlined, ensembles apart.",
        f"ms: one caption, encoded and searched among {GALLERY:,} images.",
    ]
    comments = "".join(f"% {' '.join(line.split())}\n" for line in (*header, *notes))
    return comments + HEAD + "\n".join(lines) + "\n\\bottomrule\n\\end{tabular}\\endgroup\n"


def _paper_line(sheet: Sheet, place: int, row: Row, time: QueryTime | None) -> str:
    def cell(column: str) -> str:
        text = latex_escape(str(sheet.text[column].iloc[place]).partition(" ± ")[0])
        return STYLES.get(sheet.marks.get((place, column), ""), "{}").format(text)

    ms = latex_escape(shown_ms(time) if time else ABSENT)
    label, _, options = row.name.replace("+selfalign", "+SA").partition(" (")
    line = " & ".join([_narrow(label), *map(cell, RECALLS), cell("Rsum"), ms])
    if not options:
        return rf"{line} \\"
    told = latex_escape(options.removesuffix(")"))  # on a line of its own, as wide as the table
    return rf"{line} \\*" + "\n" + rf"\multicolumn{{9}}{{@{{}}l}}{{\tiny\quad {told}}} \\"


def _narrow(label: str) -> str:
    """A label no wider than a column of names may be: what is put on a host below it, where both are too long."""
    parts = label.split("+")
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 1 + len(part) <= NAME:
            lines[-1] += f"+{part}"
        else:
            lines.append(f"+{part}")
    told = r" \\ ".join(map(latex_escape, lines))
    return told if len(lines) == 1 else rf"\shortstack[l]{{{told}}}"


def identified(sheet: Sheet, group: Group, suite: str) -> Sheet:
    """A sheet with a line a row of the group, whose CSV says what it is of and which records it is made from."""
    first = {"data": group.data["name"], "split": group.data["ranked"], "suite": suite or ABSENT}
    last = {
        "keys": [" ".join(run.record.key for run in row.runs) or ABSENT for row in group.rows],
        "commit": [_commits(row.runs) for row in group.rows],
    }
    flat = sheet.flat.drop(columns=[name for name in first if name in sheet.flat])
    for place, (name, value) in enumerate(first.items()):
        flat.insert(place, name, value)
    return replace(sheet, flat=flat.assign(**last))


def _commits(runs: Sequence[Run]) -> str:
    """Of the code that made them; those that differ from it are marked +."""
    found = dict.fromkeys(_commit(run) for run in runs)
    return " ".join(found) or ABSENT


def _commit(run: Run) -> str:
    commit = run.record.provenance.get("commit")
    return f"{commit}{'+' * bool(run.record.provenance.get('dirty'))}" if commit else ABSENT


def runs_sheet(groups: Sequence[Group], suite: str) -> Sheet:
    """Every run that a table averages, and every one left out with the reason, a line each, nothing averaged."""
    lines = [
        _run_line(group, row.name, row.family, run, suite)
        for group in groups
        for row in (*group.rows, *group.arms)
        for run in row.runs
    ]
    lines += [
        _run_line(group, run.job.model.label, run.record.family, run, suite)
        for group in groups
        for run in group.left_out
    ]
    text = pd.DataFrame(lines).fillna(ABSENT).astype(str)
    return Sheet("Runs", text, text, names=text.shape[1])


def _run_line(group: Group, name: str, family: str, run: Run, suite: str) -> dict[str, str]:
    record = run.record
    usable = {} if run.problem else run.accuracy
    time = query_time(run.cost, GALLERY)
    return {
        "data": group.data["name"],
        "split": group.data["ranked"],
        "suite": suite or ABSENT,
        **{name: ABSENT if value is None else str(value) for name, value in group.differs.items()},
        "method": name,
        "family": family,
        "seed": str(run.seed),
        "key": record.key,
        "commit": _commit(run),
        "left out": run.problem or ABSENT,
        "members": " ".join(record.members) or ABSENT,
        **{metric: decimals(4)(usable[metric]) if metric in usable else ABSENT for metric in (*METRICS, "rsum")},
        "looks": str(len(record.history)) if record.history else ABSENT,
        "best_look": ABSENT if record.best_epoch is None else str(record.best_epoch + 1),
        "parameters": ABSENT if record.parameters is None else str(record.parameters),
        "train_s": significant(record.seconds["train"]) if "train" in record.seconds else ABSENT,
        "query_ms": f"{steady(time.ms):.6g}" if time else ABSENT,
        "index_bytes_per_image": f"{run.cost.index_bytes_per_image:.10g}" if run.cost else ABSENT,
    }
