"""Sheets: the tables of a report as plain data, and the same data as Markdown, LaTeX, CSV and HTML.

A sheet knows nothing of arms or questions; who fills it says what the columns mean.
"""

import csv
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.statistics import Interval


@dataclass(frozen=True)
class Number:
    """A number without an interval.

    Attributes:
        value: in the unit of its column.
        digits: how many stand after the point.
    """

    value: float
    digits: int

    def __str__(self) -> str:
        return f"{self.value:.{self.digits}f}"


@dataclass(frozen=True)
class Measured:
    """An estimate with its interval, and how many replicates were left out of it, if any.

    Attributes:
        interval: what was measured.
        digits: how many stand after the point.
        factor: what is shown is so many times the interval, as in 100 for a share in percent.
    """

    interval: Interval
    digits: int
    factor: float = 1.0

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Estimate, lower and upper end as they are shown."""
        interval = self.interval
        return self.factor * interval.mean, self.factor * interval.low, self.factor * interval.high

    def __str__(self) -> str:
        left_out = f", {self.interval.left_out} left out" if self.interval.left_out else ""
        return self._numbers_text + left_out

    @property
    def _numbers_text(self) -> str:
        mean, low, high = self.numbers
        if math.isnan(mean):
            return "undefined"
        if math.isinf(high):
            return f"{mean:.{self.digits}f}"
        if math.isclose(high - mean, mean - low, rel_tol=1e-6, abs_tol=1e-12):
            return f"{mean:.{self.digits}f} ±{high - mean:.{self.digits}f}"
        return f"{mean:.{self.digits}f} ({low:.{self.digits}f} to {high:.{self.digits}f})"


Entry = str | int | Number | Measured | None


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        name: a short word for it, unique within a report.
        title: what it shows, with units.
        columns: headings.
        rows: an entry for each column; None where there is nothing to say.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of sheet {self.name!r} has {len(row)} entries; it must be {len(self.columns)}")

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether it holds numbers, which are set to the right."""
        return tuple(any(not isinstance(row[c], str | None) for row in self.rows) for c in range(len(self.columns)))


def text(entry: Entry) -> str:
    """An entry as people read it."""
    if entry is None:
        return ""
    return f"{entry:,}" if isinstance(entry, int) else str(entry)


def to_markdown(sheet: Sheet) -> str:
    """A pipe table under its title."""
    rule = ["---:" if numeric else "---" for numeric in sheet.numeric]
    lines = [sheet.columns, rule, *([text(entry) for entry in row] for row in sheet.rows)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"**{sheet.title}**\n\n{table}\n"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "⊗": r"$\otimes$",
    }
)


def to_latex(sheet: Sheet) -> str:
    """A `table` of the package booktabs, with the title as caption."""
    lines = [[text(entry).translate(_LATEX) for entry in row] for row in (sheet.columns, *sheet.rows)]
    head, *body = (" & ".join(line) + r" \\" for line in lines)
    places = "".join("r" if numeric else "l" for numeric in sheet.numeric)
    parts = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{sheet.title.translate(_LATEX)}}}",
        rf"\begin{{tabular}}{{{places}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def to_csv(sheets: Sequence[Sheet]) -> str:
    """All sheets in one table: the sheet's name, then every column of any; a measured one with its low and high end.

    Numbers are unrounded. An end that nothing bounds is empty. Where replicates were left out of a column, another one
    beside it says how many.
    """
    rows = [_fields(("table", *sheet.columns), (sheet.name, *row)) for sheet in sheets for row in sheet.rows]
    # An interval's ends stand beside its estimate, although a row without an interval does not have them.
    measured = {
        column
        for sheet in sheets
        for row in sheet.rows
        for column, entry in zip(sheet.columns, row, strict=True)
        if isinstance(entry, Measured)
    }
    names = ["table"]
    for column in dict.fromkeys(column for sheet in sheets for column in sheet.columns):
        names += [column, f"{column} low", f"{column} high"] if column in measured else [column]
        names += [f"{column} left out"] if any(f"{column} left out" in row for row in rows) else []
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _fields(columns: Iterable[str], row: Iterable[Entry]) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {}
    for column, entry in zip(columns, row, strict=True):
        if isinstance(entry, Measured):
            for name, number in zip((column, f"{column} low", f"{column} high"), entry.numbers, strict=True):
                found[name] = number if math.isfinite(number) else ""
            if entry.interval.left_out:
                found[f"{column} left out"] = entry.interval.left_out
        elif entry is not None:
            found[column] = entry.value if isinstance(entry, Number) else entry
    return found


def to_html(sheet: Sheet) -> str:
    """A `table` element with a caption; columns of numbers have the class `number`."""
    kinds = [' class="number"' if numeric else "" for numeric in sheet.numeric]
    head = "".join(f"<th{kind}>{html.escape(name)}</th>" for kind, name in zip(kinds, sheet.columns, strict=True))
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{kind}>{html.escape(text(entry))}</td>" for kind, entry in zip(kinds, row, strict=True))
        + "</tr>"
        for row in sheet.rows
    )
    return (
        f"<table>\n<caption><span>{html.escape(sheet.title)}</span></caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    )
