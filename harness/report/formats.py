"""A finished table: cells as text, and the same as Markdown, CSV and LaTeX.  Nothing is computed or left out here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import floor, log10
from typing import Any

import pandas as pd
from tabulate import tabulate

ABSENT = "—"
ABOUT = "≈"  # before what was extrapolated
LATEX = {
    "\\": r"\textbackslash{}",
    **{special: f"\\{special}" for special in "&%_#${}"},
    **{
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    },
    **{ABSENT: "---", ABOUT: r"$\approx$", "±": r"$\pm$", "×": r"$\times$"},
}


@dataclass(frozen=True)
class Sheet:
    """One table, under its title and header lines, above its notes."""

    title: str
    text: pd.DataFrame  # every cell a str, its columns the header
    flat: pd.DataFrame  # for CSV: a number a cell, or ABSENT (empty there)
    header: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    marks: Mapping[tuple[int, str], str] = field(default_factory=dict)  # (row, column) -> "best" | "second"
    names: int = 1  # leading columns that hold words
    better: Mapping[str, str] = field(default_factory=dict)  # column -> "higher" | "lower", where one of them is

    @property
    def columns(self) -> list[str]:
        return [str(column) for column in self.text.columns]

    def cells(self, escape: Callable[[str], str], styles: Mapping[str, str]) -> list[list[str]]:
        """Rows of escaped cells, those marked in their style (a format string)."""
        return [
            [
                styles.get(self.marks.get((place, column), ""), "{}").format(escape(_line(cell)))
                for column, cell in zip(self.columns, row, strict=True)
            ]
            for place, row in enumerate(self.text.itertuples(index=False))
        ]


def markdown(sheet: Sheet, level: int = 1) -> str:
    """Best bold, second in italics; no table where there are no rows.  `level` of the heading."""
    table = len(sheet.text) and tabulate(
        sheet.cells(markdown_escape, {"best": "**{}**", "second": "_{}_"}),
        headers=[markdown_escape(column) for column in sheet.columns],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left" if place < sheet.names else "right" for place in range(sheet.text.shape[1])],
    )
    parts = [
        f"{'#' * level} {markdown_escape(sheet.title)}",
        *(
            "`".join(part if place % 2 else markdown_escape(part) for place, part in enumerate(line.split("`")))
            for line in sheet.header
        ),
        table,
        "\n".join(f"- {markdown_escape(_line(note))}" for note in sheet.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(value: float | None, bounds: tuple[float, float] | None) -> str:
    """`+1.8 [0.3, 3.2]`, without the interval where there is none."""
    return ABSENT if value is None else signed(value) + (f" {interval(bounds)}" if bounds is not None else "")


def stored(value: Any) -> str:
    """A stored value as text; absent is not zero."""
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value)) or "none"
    return ABSENT if value is None or value == "" else str(value)


def csv(sheet: Sheet) -> str:
    """Means and standard deviations in columns of their own; what is absent is an empty cell, NaN to its readers."""
    return sheet.flat.replace(ABSENT, "").to_csv(index=False, lineterminator="\n")


def latex(sheet: Sheet) -> str:
    """A booktabs tabular, best bold, second underlined; title and notes as comments."""
    rows = sheet.cells(latex_escape, {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"})
    return "\n".join(
        [
            f"% {_line(sheet.title)}",
            *(f"% {_line(line)}" for line in sheet.header),
            f"\\begin{{tabular}}{{{'l' * sheet.names}{'r' * (sheet.text.shape[1] - sheet.names)}}}",
            r"\toprule",
            " & ".join(latex_escape(column) for column in sheet.columns) + r" \\",
            r"\midrule",
            *(_guarded(" & ".join(row)) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(f"% {_line(note)}" for note in sheet.notes),
            "",
        ]
    )


def markdown_escape(text: str) -> str:
    """Text that reads as itself in Markdown, HTML in it included."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|~#]|\](?=\())", r"\\\1", text)


def latex_escape(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def _guarded(row: str) -> str:
    """A row that LaTeX cannot take for the argument of the line break before it."""
    return f"{{}}{row}" if row.startswith(("[", "*")) else row


def _line(text: str) -> str:
    """Without line breaks, which would end a table row or a comment."""
    return " ".join(text.split())


def steady(value: float) -> float:
    """Without the digits that depend on the order of a sum: half a last place is rounded alike on every processor."""
    return float(f"{value:.10g}")


def six_figures(value: float) -> float:
    """As a page holds a number that it computes with: the same on every processor."""
    return float(f"{steady(value):.6g}")


def decimals(places: int) -> Callable[[float], str]:
    """A format of so many decimals, without a negative zero."""
    return lambda value: f"{round(steady(value), places) + 0.0:.{places}f}"


def signed(value: float) -> str:
    return f"{round(steady(value), 1) + 0.0:+.1f}"


def interval(bounds: tuple[float, float] | None) -> str:
    """`[0.3, 3.2]`"""
    return ABSENT if bounds is None else "[" + ", ".join(decimals(1)(bound) for bound in bounds) + "]"


def significant(value: float, digits: int = 3) -> str:
    """`0.0123`, `1.00`, `1234`: a small time never reads as zero."""
    value = steady(value)
    if not value:
        return "0"
    exponent = floor(log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:.{max(0, digits - 1 - exponent)}f}"


def whole(value: float) -> str:
    """`1,024`"""
    return f"{steady(value):,.0f}"
