"""`looplm tasks`, `preview` and `sample`: look at the data, and take it elsewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from synthdata.examples import Examples
    from synthdata.task import Task

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes in Hydra's grammar, as in entities=100 or model.loops=4.")
]


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command(rich_help_panel="Data")(tasks)
    app.command(rich_help_panel="Data")(preview)
    app.command(rich_help_panel="Data")(sample)


def tasks(
    gallery: Annotated[
        Path | None, typer.Option(help="Write a page of examples of every task to this HTML file.", show_default=False)
    ] = None,
) -> None:
    """List the tasks: source, splits, difficulty, floors and parameters, all at their defaults."""
    from rich.table import Table

    from experiments.cli.console import console
    from experiments.cli.gallery import render
    from synthdata.task import tasks as registered

    if gallery is not None:
        gallery.write_text(render(task() for task in registered().values()))
        console.print(f"examples of every task in {gallery}")
        return
    table = Table(title="Tasks", title_justify="left", show_lines=True)
    for column in ("task", "source", "split", "difficulty", "floor", "parameters"):
        table.add_column(column, justify="right" if column == "floor" else "left", no_wrap=column in _NARROW)
    with console.status("floors…"):
        for task in registered().values():
            table.add_row(*row(task()))
    console.print(table)
    console.print(
        "In italics: a split that is trained, too. Difficulty: from the least to the greatest of a split. Floor: the "
        "best accuracy, on a split that is not trained (or where all are), of predictors that understand nothing."
    )


_NARROW = ("task", "split", "difficulty", "floor")
_FLOOR_EXAMPLES = 500
"""Examples of a split that the listing measures floors on."""


def row(task: "Task") -> list[str]:
    """A task's line of the listing: a line of its own in every cell for every evaluated split."""
    import dataclasses

    from synthdata.floors import floors
    from synthdata.streams import Stream

    evaluated = task.splits[1:]
    untrained = [split for split in evaluated if split not in task.trained_splits]
    names, ranges, best = [], [], []
    for split in evaluated:
        difficulty_N = Stream(task, 0, 0, split).block(0).difficulty_N
        least, most = difficulty_N.min(), difficulty_N.max()
        names.append(split if split in untrained else f"[italic]{split}[/]")
        ranges.append(f"{least}" if least == most else f"{least} … {most}")
        measured = split in (untrained or evaluated)
        best.append(f"{max(floors(task, 0, split, _FLOOR_EXAMPLES).values()):.3f}" if measured else "")
    ranges[0] = f"{task.difficulty}: {ranges[0]}"
    parameters = ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(task).items())
    return [
        f"{task.name}\nversion {task.version}",
        task.source,
        "\n".join(names),
        "\n".join(ranges),
        "\n".join(best),
        parameters,
    ]


def _task(name: str, overrides: list[str] | None) -> "Task":
    from sweeps.cell import Cell

    prefixed = [f"task.{override}" if not override.startswith("task.") else override for override in overrides or []]
    return Cell.compose([f"task={name}", *prefixed]).task


def preview(
    task: Annotated[str, typer.Argument(help="Name of a task; see `looplm tasks`.")],
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="Which split to draw from.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Order seed.")] = 0,
    data_seed: Annotated[int, typer.Option(min=0, help="Data seed: which facts are true.")] = 0,
) -> None:
    """Show examples as the model sees them: each input beside what it must predict and what is scored."""
    from experiments.cli.console import console
    from synthdata.streams import Stream

    chosen = _task(task, overrides)
    examples = Stream(chosen, data_seed, seed, split).examples(0, count)
    for n in range(count):
        console.print(f"[italic]{task}/{split} example {n}, {chosen.difficulty}: {examples.difficulty_N[n]}[/]")
        for table in aligned(chosen, examples.take(slice(n, n + 1)), console.width):
            console.print(table)


def aligned(task: "Task", example: "Examples", room: int) -> Iterator["Table"]:
    """One example, as a model sees it, in as many tables below one another as `room` columns need."""
    from rich.table import Table
    from rich.text import Text

    from synthdata.batch import pad
    from synthdata.examples import UNSCORED

    batch, symbols = pad(example, int(example.lengths_N[0]) - 1), task.vocabulary.symbols
    places = []
    for s, target in enumerate(batch.targets_BS[0]):
        trained, span = batch.weights_BS[0, s] > 0, batch.scored_BS[0, s]
        shown = trained or span != UNSCORED
        places.append(
            (
                str(s),
                symbols[batch.tokens_BS[0, s]],
                symbols[target] if shown else "·",
                "yes" if trained else "·",
                task.spans[span] if span != UNSCORED else "·",
            )
        )
    rows = ("input", "label", "trained", "scored")
    styles = ("", "bold green", "", "magenta")
    while places:
        used, fitting = max(map(len, rows)) + 4, 0
        while fitting < len(places) and (fitting == 0 or used + max(map(len, places[fitting])) + 3 <= room):
            used += max(map(len, places[fitting])) + 3
            fitting += 1
        line, places = places[:fitting], places[fitting:]
        table = Table("", *(place[0] for place in line))
        for i, (name, style) in enumerate(zip(rows, styles, strict=True), start=1):
            table.add_row(name, *(Text(place[i], "" if place[i] == "·" else style) for place in line))
        yield table


def sample(
    task: Annotated[str, typer.Argument(help="Name of a task; see `looplm tasks`.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="Which split to draw from.")] = "train",
    count: Annotated[int, typer.Option(min=1, help="How many examples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Order seed: which examples when.")] = 0,
    data_seed: Annotated[int, typer.Option(min=0, help="Data seed: which facts are true.")] = 0,
) -> None:
    """Write examples to a Parquet file: tokens (list, the whole example), answer (list), difficulty (integer)."""
    import polars as pl

    from experiments.cli.console import console
    from synthdata.streams import Stream

    chosen = _task(task, overrides)
    examples = Stream(chosen, data_seed, seed, split).examples(0, count)
    frame = pl.DataFrame(
        {
            "tokens": [examples.tokens_NL[n, : examples.lengths_N[n]].tolist() for n in range(count)],
            "answer": [examples.answer(n) for n in range(count)],
            "difficulty": examples.difficulty_N.tolist(),
        },
        schema={"tokens": pl.List(pl.Int64), "answer": pl.List(pl.Int64), "difficulty": pl.Int64},
    )
    frame.write_parquet(out)
    console.print(f"{count} examples of {task}/{split} in {out}")
