"""Tables that leave the project: what LaTeX makes of the summary, and what pandas reads of the CSV."""

import re
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest

from harness import ROOT
from harness.record import AskedRecord
from harness.report.outputs import texts
from harness.report.read.groups import collect
from harness.report.tables.papers import summary_tex

REFERENCE = ROOT / "results" / "reference"
PAPER = r"""\documentclass[10pt,twocolumn]{article}
\usepackage{booktabs}
\setlength{\textwidth}{6.875in}\setlength{\columnsep}{0.3125in}
\begin{document}
\noindent\input{summary.tex}
\end{document}
"""


def cells(tex: str) -> dict[str, list[str]]:
    lines = [line.removesuffix(r" \\").split(" & ") for line in tex.splitlines() if line.endswith(r"\\")]
    return {line[0]: line[1:] for line in lines if len(line) == 9}


def test_nine_columns_with_the_best_marked(stored):
    tex = summary_tex(collect(stored.folder)[0], ["made-up\nrecords"])
    found = cells(tex)
    assert set(found) == {"method", "chance", "vsepp", "vsepp+SA", "vsrn", "scan:t2i-lse"}
    assert found["vsrn"] == ["---"] * 8
    assert found["scan:t2i-lse"][:1] == [r"\textbf{100.0}"]
    assert found["vsepp"][6] == "245.0"  # a mean, without its deviation
    assert tex.startswith("% made-up records\n% needs \\usepackage{booktabs}")
    blocks = tex.partition(r"\\" + "\n" + r"\midrule")[2].split(r"\midrule")
    assert len(blocks) == 3  # chance, independent, interactive


@pytest.mark.parametrize("name", ["full-scenes", "full-flickr8k-1"])
def test_it_fits_a_column_of_a_paper(name, tmp_path):
    """A column of CVPR is 3.28 inches wide."""
    latex = shutil.which("pdflatex")
    if latex is None:
        pytest.skip("no pdflatex on this machine")
    (tmp_path / "summary.tex").write_text(summary_tex(collect(REFERENCE / name)[0], [name]))
    (tmp_path / "paper.tex").write_text(PAPER)
    command = [latex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.findall("Overfull.*", done.stdout)
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def read(folder, name: str, written) -> pd.DataFrame:
    path = written / f"{folder.name}-{name}"
    path.write_text(texts(folder, collect(folder))[name])
    return pd.read_csv(path)


def test_pandas_reads_every_line_with_where_it_is_from(stored, tmp_path):
    keys = sorted(run.record.key for run in collect(stored.folder)[0].runs)
    stored.store.save_asked(AskedRecord("ab" * 8, "full", False, keys, [], []))
    table = read(stored.folder, "comparison.csv", tmp_path)
    assert list(table.columns[:4]) == ["data", "split", "suite", "method"]
    assert set(table["data"]) == {"scenes"}
    assert set(table["suite"]) == {"full"}
    by_method = table.set_index("method")
    assert by_method["Rsum"].dtype == float
    assert pd.isna(by_method["Rsum"]["vsrn"])  # absent, not zero and not a dash
    assert by_method["commit"]["vsepp"] == "abc"
    assert by_method["keys"]["vsepp"].split() == [stored.job("vsepp", seed).key for seed in (0, 1)]


def test_runs_are_lines_from_which_the_means_follow(stored, tmp_path):
    runs, table = (read(stored.folder, name, tmp_path) for name in ("runs.csv", "comparison.csv"))
    usable = runs[runs["left out"].isna()]
    assert len(usable) == len(collect(stored.folder)[0].runs)
    means = usable.groupby("method")["rsum"].mean().round(1)
    told = table.set_index("method")["Rsum"].dropna()
    assert dict(means) == dict(told)
    (failed,) = runs[runs["left out"].notna()].to_dict("records")
    assert failed["method"] == "vsrn"
    assert failed["left out"].startswith("failed: LossError")
    assert pd.isna(failed["rsum"])


def test_lines_of_several_folders_can_be_put_together(stored, tmp_path):
    frames = [read(folder, "runs.csv", tmp_path) for folder in (stored.folder, REFERENCE / "full-scenes")]
    both = pd.concat(frames)
    assert list(both.columns) == list(frames[0].columns)
    assert len(both) == sum(map(len, frames))
    assert both["rsum"].dtype == float


def test_a_summary_of_rows_not_timed_alike_has_no_time(stored):
    group = collect(stored.folder)[0]
    stored.time(stored.job("scan:t2i-lse"), 1.0, machine={"device": "abacus", "threads": 3})
    tex = summary_tex(replace(collect(stored.folder)[0], differs=group.differs), [])
    assert {line[-1] for name, line in cells(tex).items() if name != "method"} == {"---"}
