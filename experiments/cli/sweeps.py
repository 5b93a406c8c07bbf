"""`looplm train`, `plan`, `run` and `status`: one cell, or all cells of a question."""

import enum
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from results.store import Store
    from sweeps.cell import Cell
    from sweeps.grid import Plan

Question = Annotated[str, typer.Argument(help="Name of a question, as in capacity_vs_manipulation.")]
Scale = Annotated[str, typer.Option(help="smoke | quick | lab | paper: which arms, sizes and replicates.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes in Hydra's grammar, as in model.loops=4 or task=addition.")
]
Runs = Annotated[
    Path | None, typer.Option(help="Where runs live; by default $LOOPLM_RUNS or runs/.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class Device(enum.StrEnum):
    """Where cells run."""

    CPU = "cpu"
    CUDA = "cuda"


class Compile(enum.StrEnum):
    """Whether torch.compile is used."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Logger(enum.StrEnum):
    """Where the numbers of a training go besides the live view."""

    NONE = "none"
    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


LoggerOption = Annotated[
    Logger, typer.Option(help="Also log to TensorBoard or W&B, in each cell's folder (extra \\[loggers]).")
]
DeviceOption = Annotated[Device, typer.Option(help="Where to train.")]
DevicesOption = Annotated[
    int,
    typer.Option(
        min=1, help="Devices that share each training of a cell (DDP); numbers stay those of one, but for rounding."
    ),
]
CompileOption = Annotated[
    Compile, typer.Option("--compile", help="torch.compile: on, off, or auto (where it can and where it pays).")
]
GraphsOption = Annotated[
    bool, typer.Option(help="Record a step's passes once and replay them, for small models on one CUDA device.")
]


def add_to(app: typer.Typer) -> None:
    """Register this module's commands."""
    app.command(rich_help_panel="One cell")(train)
    app.command(rich_help_panel="A question")(questions)
    app.command(rich_help_panel="A question")(plan)
    app.command(rich_help_panel="A question")(run)
    app.command(rich_help_panel="A question")(status)
    app.command(rich_help_panel="A question")(tune)


def open_store(runs: Path | None) -> "Store":
    """The store under `runs`, or where runs live by default."""
    from experiments.questions import runs_root
    from results.store import Store

    return Store(runs or runs_root())


def expand(question: str, scale: str, overrides: list[str] | None = None) -> "Plan":
    """The plan of a question at a scale."""
    from experiments.questions import grid

    return grid(question).expand(scale, overrides or [])


def say(notice: str) -> None:
    """Print what a training wants the user to know."""
    from experiments.cli.console import console

    console.print(f"[yellow]note[/]: {notice}", highlight=False)


def set_damaged_aside(store: "Store", cells: Collection[str]) -> None:
    """Move damaged rows of these cells out of the way and say so; their checkpoints are measured again."""
    from experiments.cli.console import console

    for damaged in store.problems(cells):
        kept = store.set_aside(damaged.cell, damaged.evaluation)
        console.print(f"[yellow]damaged rows set aside[/] as {kept}: {damaged.reason}", highlight=False)


def train(
    overrides: Overrides = None,
    runs: Runs = None,
    device: DeviceOption = Device.CPU,
    devices: DevicesOption = 1,
    compiled: CompileOption = Compile.AUTO,
    cuda_graphs: GraphsOption = False,
    logger: LoggerOption = Logger.NONE,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; small models are fastest on one.")] = 1,
) -> None:
    """Train one cell and measure it; trained before, it is only shown. Ctrl-C keeps a checkpoint, and it carries on."""
    import torch

    from experiments.cli.console import console
    from experiments.cli.live import one_cell
    from experiments.cli.tables import cell_table
    from sweeps.cell import Cell
    from sweeps.run import Outcome, local_execution, run_cell

    torch.set_num_threads(threads)
    cell, store = Cell.compose(overrides or []), open_store(runs)
    set_damaged_aside(store, [cell.id])
    execution = local_execution(store, device.value, compiled.value, logger.value, devices, cuda_graphs)
    with one_cell(cell) as (on_progress, should_stop):
        outcome = run_cell(cell, store, execution, on_progress, should_stop, say, retry_failed=True)
    if outcome is Outcome.STOPPED:
        raise KeyboardInterrupt
    if outcome is Outcome.CLAIMED:
        console.print(f"{cell.id} is being trained by another process; see {store.folder(cell.id)}")
        raise typer.Exit(1)
    if outcome is Outcome.FAILED:
        traceback = store.folder(cell.id) / "traceback.txt"
        console.print(f"[red]failed[/]: {store.error(cell.id)} (all of it: {traceback})")
        raise typer.Exit(1)
    rows = store.read([cell.id])
    console.print(cell_table(cell, rows.cells, rows.records))
    console.print(f"{cell.id}  {store.folder(cell.id)}")


def questions(json: Json = False) -> None:
    """List the questions: what each asks, its hypotheses, and its scales with their number of cells."""
    from experiments.cli.console import console, print_json
    from experiments.cli.tables import question_rows, question_table

    rows = question_rows()
    if json:
        print_json({"questions": rows})
    else:
        console.print(question_table(rows))


def plan(
    question: Question, scale: Scale = "quick", overrides: Overrides = None, runs: Runs = None, json: Json = False
) -> None:
    """Show what a question will train, without training it: cells, partners' match, parameters, FLOPs, time and price.

    Times come from the speed of cells that have run here or stand in results/reference, on the device that is named.
    """
    from experiments.cli.console import console, print_json
    from experiments.cli.tables import plan_rows, plan_table, price_lines
    from experiments.pricing import measured_speeds
    from experiments.questions import references

    expanded, store = expand(question, scale, overrides), open_store(runs)
    done = frozenset(cell for cell in expanded.cells if store.status(cell) == "done")
    data = plan_rows(expanded, measured_speeds(store, references()), done)
    if json:
        print_json(data)
        return
    console.print(plan_table(data))
    for line in price_lines(data):
        console.print(line, highlight=False)


def run(
    question: Question,
    scale: Scale = "quick",
    overrides: Overrides = None,
    runs: Runs = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.", show_default=False)
    ] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.", show_default=False)] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; may be repeated.", show_default=False)] = None,
    adopt: Annotated[
        Path | None, typer.Option(help="Take over finished cells from a saved folder first.", show_default=False)
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Train cells again that failed before.")] = False,
    device: DeviceOption = Device.CPU,
    devices: DevicesOption = 1,
    compiled: CompileOption = Compile.AUTO,
    cuda_graphs: GraphsOption = False,
    logger: LoggerOption = Logger.NONE,
) -> None:
    """Train every cell of a question that is not done yet, then report. Interrupted, the same command carries on."""
    from experiments.cli.console import console
    from experiments.cli.live import watching
    from experiments.cli.report import present
    from results.collection import read_collection
    from sweeps.local import run_local
    from sweeps.status import State

    expanded, store = expand(question, scale, overrides).only(part or (), arm or ()), open_store(runs)
    set_damaged_aside(store, expanded.cells)
    if adopt is not None:
        say(f"{store.adopt(read_collection(adopt))} finished cells taken over from {adopt}")
    execution = {
        "device": device.value,
        "devices": devices,
        "compile": compiled.value,
        "cuda_graphs": cuda_graphs,
        "logger": logger.value,
    }
    with watching(expanded) as watch:
        found = run_local(list(expanded.cells.values()), store, execution, workers, retry_failed, watch, say)
    present(expanded, store, runs, overrides)
    failed = [status for status in found if status.state is State.FAILED]
    if failed:
        console.print(
            f"[red]{len(failed)} of {len(found)} cells failed[/]; see looplm status {question} --scale {scale}"
        )
        raise typer.Exit(1)


def status(
    question: Question,
    scale: Scale = "quick",
    overrides: Overrides = None,
    runs: Runs = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds while anything runs.")] = False,
    json: Json = False,
) -> None:
    """Show where every cell of a question stands: done, running, queued, interrupted, failed or missing, and why.

    It reads the runs and asks SLURM where there is one, so it tells the same from anywhere that sees both. Published
    rows that are damaged, and that a report leaves out, are listed; looplm run measures them again.
    """
    from experiments.cli.console import console, print_json
    from experiments.cli.live import redrawn
    from experiments.cli.tables import status_rows, status_table
    from slurm.status import statuses

    expanded, store = expand(question, scale, overrides), open_store(runs)
    cells = list(expanded.cells.values())
    if watch:
        redrawn(lambda: statuses(cells, store), lambda found: status_table(expanded, found))
        return
    found, problems = statuses(cells, store), store.problems(expanded.cells)
    if json:
        print_json(status_rows(expanded, found, problems))
        return
    console.print(status_table(expanded, found))
    for problem in problems:
        console.print(f"[yellow]left out[/]: {problem.file}: {problem.reason}", highlight=False)


def tune(
    question: Question,
    part: Annotated[str, typer.Option(help="The part to tune.")],
    scale: Scale = "lab",
    runs: Runs = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only these arms; may be repeated.", show_default=False)] = None,
    trials: Annotated[
        int | None, typer.Option(min=3, help="Trials an arm; by default what the grid says.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; by default the question's tuning.yaml.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.", show_default=False)
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Run the trials on a cluster, as looplm submit does.", show_default=False)
    ] = None,
) -> None:
    """Tune every arm of a part with equal trials, in a world of its own, and write the choices to tuning.yaml.

    Trials lie in a study beside the runs; interrupted, the same command carries on. On a cluster a trial whose job was
    lost is sent again and counts once.
    """
    from experiments.cli.console import console
    from experiments.cli.tables import tuned_table
    from experiments.questions import ROOT, grid
    from slurm.cluster import load
    from slurm.run import run_on_cluster
    from sweeps.local import run_local
    from sweeps.tune import tune_part, write_choices

    if cluster is not None and workers is not None:
        raise ValueError(f"--workers is {workers}; with --cluster it must be left out: the cluster's file says it")
    store, chosen = open_store(runs), None if cluster is None else load(cluster)

    def finish(cells: "Sequence[Cell]") -> None:
        if cluster is None or chosen is None:
            run_local(cells, store, {"device": "cpu", "compile": "auto"}, workers, notify=say)
        else:
            run_on_cluster(cells, store, cluster, chosen, f"tune {question} {scale}", say)

    tuned = tune_part(grid(question), scale, part, store, finish, arm or (), trials)
    console.print(tuned_table(tuned))
    path = out or ROOT / question / "tuning.yaml"
    write_choices(path, scale, tuned)
    console.print(f"written to {path}", highlight=False)
    if not all(choice.inside for choice in tuned.choices):
        console.print("[yellow]some best values still lie at the edge of the range[/]; widen it in grid.yaml")
        raise typer.Exit(1)
