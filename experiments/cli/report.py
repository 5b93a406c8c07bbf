"""`looplm report`: the table, the verdicts and the figure of a question, from stored rows alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.sweeps import Overrides, Question, Runs, Scale, expand, open_store

if TYPE_CHECKING:
    from experiments.evidence import Evidence
    from results.store import Store
    from sweeps.grid import Plan


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command(rich_help_panel="A question")(report)


def report(
    question: Question,
    scale: Scale = "quick",
    overrides: Overrides = None,
    runs: Runs = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Report from a saved folder instead of the runs.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure.", show_default=False)] = None,
    save: Annotated[
        Path | None, typer.Option(help="Also save the rows to this folder, for --from.", show_default=False)
    ] = None,
) -> None:
    """Print the table and the verdicts of a question and draw its figure, from stored rows. Trains nothing."""
    from experiments.evidence import Evidence

    if source is not None:
        present_evidence(question, Evidence.of_folder(source), out or source)
        return
    plan, store = expand(question, scale, overrides), open_store(runs)
    present(plan, store, out, save)


def present(plan: "Plan", store: "Store", out: Path | None = None, save: Path | None = None) -> None:
    """Report what a store holds for a plan."""
    from experiments.evidence import Evidence

    evidence = Evidence.of_store(plan, store)
    present_evidence(plan.question, evidence, out or store.root / "reports" / f"{plan.question}-{plan.scale}")
    if save is not None:
        evidence.save(save)


def present_evidence(question: str, evidence: "Evidence", out: Path) -> None:
    """Print table, verdicts and what is missing; draw the figure into `out`."""
    from experiments.cli.console import console
    from experiments.evidence import judge
    from experiments.questions import figure, grid

    for problem in evidence.problems:
        console.print(f"[yellow]left out[/]: {problem.file}: {problem.reason}", highlight=False)
    planned, ended = evidence.members["cell"].n_unique(), len(evidence.cells)
    failed = int((evidence.cells["status"] == "failed").sum())
    if ended == 0:
        raise ValueError(f"nothing to report: none of the {planned} cells of {question!r} has run; see looplm run")
    hypotheses = grid(question).text["hypotheses"]
    verdicts = {name: judge(hypothesis, evidence) for name, hypothesis in hypotheses.items()}
    drawing = figure(question)
    for table in drawing.tables(evidence):
        console.print(table)
    console.print(f"{ended} of {planned} cells have rows, {failed} of them failed", highlight=False)
    for name, verdict in verdicts.items():
        console.print(f"[bold]{name}[/] {hypotheses[name]['claim']}: [bold]{verdict.outcome}[/]", highlight=False)
        console.print(f"   {verdict.sentence}", highlight=False)
    for path in drawing.draw(evidence, hypotheses, verdicts, out):
        console.print(f"figure: {path}", highlight=False, soft_wrap=True)
