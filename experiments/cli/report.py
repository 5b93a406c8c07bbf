"""`looplm report` and `looplm table`: a question's table, verdicts, figure and page, from stored rows alone."""

import enum
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.sweeps import Overrides, Question, Runs, Scale, expand, open_store

if TYPE_CHECKING:
    from experiments.evidence import Evidence
    from experiments.report import Report
    from results.store import Store
    from sweeps.grid import Plan

Source = Annotated[
    Path | None, typer.Option("--from", help="Report from a saved folder instead of the runs.", show_default=False)
]


class Format(enum.StrEnum):
    """How tables are written."""

    LATEX = "latex"
    MARKDOWN = "markdown"
    CSV = "csv"


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command(rich_help_panel="A question")(report)
    app.command(rich_help_panel="A question")(table)


def report(
    question: Question,
    scale: Scale = "quick",
    overrides: Overrides = None,
    runs: Runs = None,
    source: Source = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figure and page.", show_default=False)] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also save the rows to this folder, for --from.", show_default=False)
    ] = None,
) -> None:
    """Print the table and the verdicts of a question, draw its figure and write its page, from stored rows.

    Trains nothing. Without --out, the page goes to reports/ beside the runs, or to the saved folder, and an index of
    all pages there is written beside it.
    """
    from experiments.evidence import Evidence

    if source is None:
        present(expand(question, scale, overrides), open_store(runs), runs, overrides, out, save)
        return
    command = ["looplm", "report", question, "--from", str(source), *(["--out", str(out)] if out else [])]
    evidence = Evidence.of_folder(source, question)
    present_evidence(question, evidence, out or source, shlex.join(command), index=out is None)
    if save is not None:
        evidence.save(save)


def present(
    plan: "Plan",
    store: "Store",
    runs: Path | None = None,
    overrides: Sequence[str] | None = None,
    out: Path | None = None,
    save: Path | None = None,
) -> None:
    """Report what a store holds for a plan, which was expanded with `overrides`."""
    from experiments.evidence import Evidence

    evidence = Evidence.of_store(plan, store)
    command = ["looplm", "report", plan.question, "--scale", plan.scale, *(overrides or [])]
    for option, folder in (("--runs", runs), ("--out", out)):
        command += [option, str(folder)] if folder else []
    folder = out or store.root / "reports" / f"{plan.question}-{plan.scale}"
    present_evidence(plan.question, evidence, folder, shlex.join(command), index=out is None)
    if save is not None:
        evidence.save(save)


def present_evidence(question: str, evidence: "Evidence", out: Path, command: str, index: bool) -> None:
    """Print table, verdicts and what is missing; draw figure and page into `out`, and an index beside it."""
    from experiments.cli.console import console
    from experiments.page import write_index, write_page
    from experiments.report import Report

    for problem in evidence.problems:
        console.print(f"[yellow]left out[/]: {problem.file}: {problem.reason}", highlight=False)
    found = Report(question, evidence, command)
    _print(found)
    figures = found.draw(out)
    for path in figures:
        console.print(f"figure: {path}", highlight=False, soft_wrap=True)
    console.print(f"page: {write_page(found, figures, out)}", highlight=False, soft_wrap=True)
    if index and (overview := write_index(out.parent)) is not None:
        console.print(f"index: {overview}", highlight=False, soft_wrap=True)


def _print(found: "Report") -> None:
    from experiments.cli.console import console
    from experiments.cli.tables import sheet_table

    for sheet in found.sheets:
        console.print(sheet_table(sheet))
    console.print(found.counts, highlight=False)
    for line in found.failures():
        console.print(f"[red]failed[/]: {line}", highlight=False)
    for name, verdict in found.verdicts.items():
        claim = found.hypotheses[name]["claim"]
        console.print(f"[bold]{name}[/] {claim}: [bold]{verdict.outcome}[/]", highlight=False)
        console.print(f"   {verdict.sentence}", highlight=False)


def table(
    question: Question,
    scale: Scale = "quick",
    overrides: Overrides = None,
    runs: Runs = None,
    source: Source = None,
    form: Annotated[Format, typer.Option("--format", help="How the tables are written.")] = Format.MARKDOWN,
    only: Annotated[
        list[str] | None,
        typer.Option("--table", help="Only this table, by its name; may be repeated.", show_default=False),
    ] = None,
) -> None:
    """Print the tables of a question's report as LaTeX, Markdown or CSV (unrounded, with both ends of intervals)."""
    from experiments.evidence import Evidence
    from experiments.report import Report
    from results.sheet import to_csv, to_latex, to_markdown
    from sweeps.config import unknown

    if source is None:
        evidence = Evidence.of_store(expand(question, scale, overrides), open_store(runs))
    else:
        evidence = Evidence.of_folder(source, question)
    for problem in evidence.problems:
        print(f"left out: {problem.file}: {problem.reason}", file=sys.stderr)
    sheets = Report(question, evidence, "").sheets
    names = [sheet.name for sheet in sheets]
    for name in only or []:
        if name not in names:
            raise unknown("table", name, names)
    chosen = [sheet for sheet in sheets if not only or sheet.name in only]
    if form is Format.CSV:
        sys.stdout.write(to_csv(chosen))
    else:
        render = to_latex if form is Format.LATEX else to_markdown
        sys.stdout.write("\n".join(map(render, chosen)))
