"""`looplm submit`, `cancel` and `logs`: the cells of a question on a cluster."""

from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.sweeps import Json, Overrides, Question, Runs, Scale, expand, open_store, set_damaged_aside

if TYPE_CHECKING:
    from rich.table import Table

    from slurm.propose import Proposal

ClusterName = Annotated[
    str, typer.Option("--cluster", help="A name in slurm/clusters, local and debug among them, or a YAML file.")
]


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command(rich_help_panel="A cluster")(submit)
    app.command(rich_help_panel="A cluster")(cancel)
    app.command(rich_help_panel="A cluster")(logs)


def submit(
    question: Question,
    cluster: ClusterName,
    scale: Scale = "quick",
    overrides: Overrides = None,
    runs: Runs = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.", show_default=False)] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; may be repeated.", show_default=False)] = None,
    retry_failed: Annotated[bool, typer.Option(help="Send cells again that failed before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the scripts and send nothing.")] = False,
) -> None:
    """Send every cell of a question that is neither done nor queued to a cluster, and return at once.

    The code that runs is this checkout as it is now. `looplm status` says where everything stands, from anywhere; the
    same command again sends what is missing by then.
    """
    from experiments.cli.console import console
    from slurm.cluster import load
    from slurm.propose import propose
    from slurm.send import alone, send

    chosen = load(cluster)
    expanded, store = expand(question, scale, overrides).only(part or (), arm or ()), open_store(runs)
    if not dry_run:
        set_damaged_aside(store, expanded.cells)
    with alone(store):
        proposal = propose(list(expanded.cells.values()), store, cluster, chosen, retry_failed)
        console.print(_proposal_table(f"{question} at scale {scale} on {cluster}", proposal))
        if proposal.cells == 0:
            return
        if retry_failed and not dry_run:
            for batch in proposal.batches:
                for cell in (cell for cells in batch.packs for cell in cells):
                    store.forget_failure(cell.id)
        sent = send(proposal, store, f"{question} {scale}", cluster, dry_run, lambda line: console.print(f"  {line}"))
    console.print(f"{'scripts in' if dry_run else 'sent as'} {sent.folder}", highlight=False, soft_wrap=True)


def _proposal_table(title: str, proposal: "Proposal") -> "Table":
    from rich.table import Table

    from experiments.cli.tables import duration

    left_out = ", ".join(f"{count} {state}" for state, count in proposal.skipped.items())
    hours = sum(sum(batch.seconds) * max(1, batch.cluster.gpus) for batch in proposal.batches) / 3600
    unit = "GPU-hours" if any(batch.cluster.gpus for batch in proposal.batches) else "job-hours"
    table = Table(
        title=f"{title}: {proposal.cells} cells in {proposal.jobs} jobs, about {hours:.3g} {unit} "
        f"(speed {proposal.speed:.3g})" + (f"; not sent: {left_out}" if left_out else ""),
        title_justify="left",
    )
    for name in ("stage", "jobs", "cells", "gpus", "cpus", "memory", "longest job", "limit"):
        table.add_column(name, justify="right")
    for batch in proposal.batches:
        own = batch.cluster
        table.add_row(
            str(batch.stage),
            str(len(batch.packs)),
            str(sum(map(len, batch.packs))),
            str(own.gpus),
            str(own.cpus),
            f"{own.memory_gb:g} GB",
            duration(max(batch.seconds)),
            duration(own.time_minutes * 60),
        )
    return table


def cancel(question: Question, scale: Scale = "quick", overrides: Overrides = None, runs: Runs = None) -> None:
    """Cancel every job that holds cells of a question, waiting or running. What is trained so far stays."""
    from experiments.cli.console import console
    from slurm.cancel import cancel as take_back

    jobs = take_back(set(expand(question, scale, overrides).cells), open_store(runs))
    console.print(f"{len(jobs)} jobs cancelled" + (f": {' '.join(jobs)}" if jobs else ""), highlight=False)


def logs(
    cell: Annotated[
        str | None,
        typer.Argument(help="Id of a cell, or how it begins; by default the one tried last.", show_default=False),
    ] = None,
    runs: Runs = None,
    lines: Annotated[int, typer.Option(min=1, help="Lines of each log, from its end.")] = 30,
    as_json: Json = False,
) -> None:
    """Show what happened to a cell: every attempt, where it ran, how it failed, and the end of its job's logs."""
    from rich.table import Table
    from rich.text import Text

    from experiments.cli.console import console, print_json
    from slurm.logs import history

    found = history(open_store(runs), cell, lines)
    if as_json:
        print_json(found)
        return
    table = Table("attempt", "since", "host", "process", "job", "ended", title=found["cell"], title_justify="left")
    for attempt in found["attempts"]:
        shown = [str(attempt[name] or "") for name in ("number", "since", "host", "pid", "job", "ended")]
        table.add_row(*map(Text, shown))
    console.print(table)
    for name, tail in found["logs"].items():
        console.rule(Text(name), align="left")
        console.print(Text(tail), soft_wrap=True)
