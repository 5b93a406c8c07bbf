"""`looplm compare`: which cells of two run folders or saved collections differ, and whether by more than noise."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from results.comparison import Comparison, Side

SHOWN = 20
"""Most differences that are printed; the rest is counted."""


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command(rich_help_panel="A question")(compare)


def compare(
    runs_a: Annotated[Path, typer.Argument(help="Runs, or a saved folder.", show_default=False)],
    runs_b: Annotated[Path, typer.Argument(help="What to compare it with.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with every difference.")] = False,
) -> None:
    """Say which cells of two run folders or saved collections differ, and whether by more than noise.

    Saved collections are paired by arm, axis point and replicate, anything else by the cells' ids. Where the replicates
    of an arm differ, the 95 % t-interval of the paired difference says whether by more than noise.
    """
    from experiments.cli.console import print_json
    from results.comparison import compare as compared

    found = compared(_side(runs_a), _side(runs_b))
    if json:
        print_json(_data(found))
    else:
        _print(found)


def _side(folder: Path) -> "Side":
    """The rows of a collection or a store; what was left out of either is said."""
    from experiments.cli.console import console
    from results.collection import is_collection, read_collection
    from results.comparison import Side
    from results.store import Store

    if is_collection(folder):
        found = read_collection(folder)
        side, problems = Side(found.cells, found.records, found.members), found.problems
    elif (folder / "cells").is_dir():
        rows = Store(folder).read()
        side, problems = Side(rows.cells, rows.records), rows.problems
    else:
        raise ValueError(f"{folder} is neither a folder of runs nor a saved collection of rows")
    for problem in problems:
        console.print(f"[yellow]left out[/]: {problem.file}: {problem.reason}", highlight=False)
    return side


def _data(found: "Comparison") -> dict[str, object]:
    return {
        "identical": found.identical,
        "paired": found.paired,
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
        "status": found.status.to_dicts(),
        "values": found.values,
        "equal": found.equal,
        "unpaired": found.unpaired,
        "shifts": found.shifts.to_dicts(),
        "provenance": found.provenance,
    }


def _print(found: "Comparison") -> None:
    from rich.table import Table

    from experiments.cli.console import console

    def say(line: str) -> None:
        console.print(line, highlight=False)

    for column, (a, b) in found.provenance.items():
        say(f"{column}: A {a}; B {b}")
    say(f"cells: {found.paired} in both, {len(found.only_a)} only in A, {len(found.only_b)} only in B")
    for side, cells in (("A", found.only_a), ("B", found.only_b)):
        if cells:
            say(f"   only in {side}: {', '.join(cells[:SHOWN])}{' …' if len(cells) > SHOWN else ''}")
    for row in found.status.head(SHOWN).iter_rows(named=True):
        say(f"   {row['cell']}: {row['status_a']} in A, {row['status_b']} in B ({row['error_a'] or row['error_b']})")
    say(f"values: {found.values:,} in both, {found.equal:,} of them equal to the last bit; {found.unpaired:,} in one")
    if found.identical:
        say("[green]identical[/]")
        return
    shifts, beyond = found.shifts, int(found.shifts["beyond"].sum())
    if shifts.is_empty():
        return
    judged = len(shifts.filter(shifts["n"] > 1))
    table = Table("part/arm", "axes", "split", "metric", "loop", title="Differences B - A", title_justify="left")
    for name in ("n", "mean of A", "B - A", "95 %"):
        table.add_column(name, justify="right")
    table.add_column("beyond noise")
    for row in shifts.head(SHOWN).iter_rows(named=True):
        level = "" if row["difficulty"] is None else f", difficulty {row['difficulty']}"
        table.add_row(
            f"{row['part']}/{row['arm']}" if row["part"] else row["arm"],
            "" if row["point"] == "{}" else row["point"],
            row["split"],
            row["metric"],
            f"{'' if row['loop'] is None else row['loop']}{level}",
            str(row["n"]),
            f"{row['mean_a']:.4g}",
            f"{row['difference']:+.3g}",
            "" if row["low"] is None else f"{row['low']:+.3g} to {row['high']:+.3g}",
            "yes" if row["beyond"] else "no" if row["n"] > 1 else "one cell",
        )
    console.print(table)
    if len(shifts) > SHOWN:
        say(f"{len(shifts) - SHOWN} more differences; all with --json")
    chance = 0.05 * judged
    say(f"{judged} means over several cells differ, {beyond} by more than noise; by chance about {chance:.1f} would")
