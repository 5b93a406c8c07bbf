"""`looplm tasks`, `preview` and `sample`: look at the data, and take it elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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
    from rich.table import Table

    from experiments.cli.console import console
    from synthdata.batch import PADDING, pad
    from synthdata.examples import UNSCORED
    from synthdata.streams import Stream

    chosen = _task(task, overrides)
    examples = Stream(chosen, data_seed, seed, split).examples(0, count)
    batch, symbols = pad(examples, chosen.max_length - 1), chosen.vocabulary.symbols
    for n in range(count):
        table = Table(title=f"{task}/{split} example {n}, difficulty {examples.difficulty_N[n]}", title_justify="left")
        table.add_column("")
        used = [s for s in range(batch.tokens_BS.shape[1]) if batch.documents_BS[n, s] != PADDING]
        for s in used:
            table.add_column(str(s))
        trained = [batch.weights_BS[n, s] > 0 for s in used]
        spans = [batch.scored_BS[n, s] for s in used]
        shown = [t or span != UNSCORED for t, span in zip(trained, spans, strict=True)]
        targets = [symbols[batch.targets_BS[n, s]] if here else "·" for s, here in zip(used, shown, strict=True)]
        table.add_row("input", *[symbols[batch.tokens_BS[n, s]] for s in used])
        table.add_row("label", *[f"[bold green]{t}[/]" if here else t for t, here in zip(targets, shown, strict=True)])
        table.add_row("trained", *["yes" if here else "·" for here in trained])
        table.add_row("scored", *["·" if i == UNSCORED else f"[magenta]{chosen.spans[i]}[/]" for i in spans])
        console.print(table)


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
