"""`looplm bench`: measure what the suite claims about speed, both sides in one run."""

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.cli.sweeps import Device, Json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from experiments.bench.measure import Row


class Bench(enum.StrEnum):
    """What is measured; each is a module of `experiments.bench`."""

    ATTENTION = "attention"
    CHOICES = "choices"
    DATA = "data"
    DECODE = "decode"
    LOSS = "loss"
    SCALE = "scale"
    TRAIN = "train"


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command(rich_help_panel="Suite")(bench)


def bench(
    name: Annotated[Bench, typer.Argument(help="What to measure.")],
    device: Annotated[Device, typer.Option(help="Where to measure.")] = Device.CPU,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each side; the median counts.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, the same for every side.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny cases: shows that it runs, and nothing else.")] = False,
    only: Annotated[str, typer.Option(help="Cases whose name contains this.", show_default=False)] = "",
    ouro: Annotated[
        Path | None,
        typer.Option(help="A folder with Ouro's public code, to be trained too (train only).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also keep the rows in this file, with machine and commit.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure speed and memory against other ways to the same result. A ratio above 1 means that ours is better.

    Both sides do the same work with the same threads and precision, in turns, in one process. On one thread of a CPU
    seconds are those on a core; even so a busy machine shares caches and clock, and its ratios say more than its times.
    """
    import dataclasses
    import importlib

    import torch

    from experiments.bench.measure import Options
    from experiments.bench.record import recorded
    from experiments.cli.console import console, print_json
    from looplm.execution import Execution

    if ouro is not None and name is not Bench.TRAIN:
        raise ValueError(f"--ouro is {str(ouro)!r}; it must be left out but for `looplm bench train`")
    Execution(device=device.value).torch_device()
    torch.set_num_threads(threads)
    options = Options(device.value, repeats, quick, only, None if ouro is None else str(ouro))
    rows = importlib.import_module(f"experiments.bench.{name}").run(options)
    if out is not None:
        rows = recorded(name.value, options, rows, out)
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        console.print(_table(name, rows))


def _table(name: str, rows: "Iterable[Row]") -> "Table":
    from rich.table import Table

    table = Table("case", "side", "metric", title=f"looplm bench {name}", title_justify="left")
    for column in ("median", "unit", "ours is better by"):
        table.add_column(column, justify="right")
    case = None
    for row in rows:
        if case not in (None, row.case):
            table.add_section()
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        median = f"{row.median:,.0f}" if row.median >= 1000 else f"{row.median:.4g}"
        table.add_row("" if row.case == case else row.case, row.side, row.metric, median, row.unit, ratio)
        case = row.case
    return table
