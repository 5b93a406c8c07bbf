"""The live view: cells done, and for each that trains its step, loss, tokens per second and time left.

On a terminal it redraws in place; elsewhere (a pipe, a log) it prints a line now and then.
"""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from experiments.cli.console import console
from experiments.cli.tables import duration
from sweeps.cell import Cell
from sweeps.cost import estimated_seconds
from sweeps.grid import Plan
from sweeps.status import CellStatus, State

if TYPE_CHECKING:
    from looplm.training import Progress as Step

LINE_SECONDS = 15.0
REDRAW_SECONDS = 3.0


@contextmanager
def watching(plan: Plan) -> Iterator[Callable[[Sequence[CellStatus]], None]]:
    """A view of all cells; call what it yields with their states."""
    view = _View(plan)
    if not console.is_terminal:
        yield view.lines
        return
    with Live(console=console, refresh_per_second=4) as live:
        yield lambda found: live.update(view.draw(found))


class _View:
    def __init__(self, plan: Plan) -> None:
        self._names = {m.cell.id: f"{m.part}/{m.arm} #{m.replicate}" for m in reversed(plan.members)}
        self._cost = {cell.id: estimated_seconds(cell) for cell in plan.cells.values()}
        self._bar = Progress(
            TextColumn("[bold]cells[/]"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
        )
        self._task = self._bar.add_task("cells", total=len(plan.cells), left="")
        self._began = time.monotonic()
        self._cost_at_start: float | None = None
        self._printed = 0.0

    def _remaining(self, found: Sequence[CellStatus]) -> float:
        """Estimated work left, in the estimate's own seconds."""
        left = 0.0
        for status in found:
            share = 1.0
            if status.progress is not None:
                share = 1 - status.progress["step"] / status.progress["steps"]
            if status.state not in (State.DONE, State.FAILED):
                left += share * self._cost[status.cell.id]
        return left

    def _time_left(self, found: Sequence[CellStatus]) -> str:
        """Work left at the speed at which this sitting has worked so far."""
        left = self._remaining(found)
        if self._cost_at_start is None:
            self._cost_at_start = left
        done, spent = self._cost_at_start - left, time.monotonic() - self._began
        return f"about {duration(left / done * spent)} left" if done > 0.02 * self._cost_at_start else ""

    def draw(self, found: Sequence[CellStatus]) -> Group:
        ended = sum(status.state in (State.DONE, State.FAILED) for status in found)
        self._bar.update(self._task, completed=ended, left=self._time_left(found))
        table = Table("training", "model", box=None, padding=(0, 2, 0, 0))
        for name in ("step", "loss", "tokens/s", "left"):
            table.add_column(name, justify="right")
        for status in found:
            if status.state is State.RUNNING:
                step = status.progress or {"step": 0, "steps": status.cell.budget.steps, "loss": None}
                loss = "" if step["loss"] is None else f"{step['loss']:.4f}"
                rate = f"{step['tokens_per_second']:,.0f}" if step.get("tokens_per_second") else ""
                place = f"{step['step']:,}/{step['steps']:,}"
                left = duration(status.seconds_left)
                table.add_row(self._names[status.cell.id], status.cell.name, place, loss, rate, left)
        return Group(self._bar, table)

    def lines(self, found: Sequence[CellStatus]) -> None:
        if time.monotonic() - self._printed < LINE_SECONDS:
            return
        self._printed = time.monotonic()
        ended = sum(status.state in (State.DONE, State.FAILED) for status in found)
        running = [
            f"{self._names[s.cell.id]} step {s.progress['step']}/{s.progress['steps']} loss {s.progress['loss']:.4f}"
            for s in found
            if s.state is State.RUNNING and s.progress
        ]
        console.print(f"{ended}/{len(found)} cells  {self._time_left(found)}  " + "; ".join(running), highlight=False)


def redrawn(look: Callable[[], list[CellStatus]], draw: Callable[[list[CellStatus]], Table]) -> None:
    """Show the states of cells again and again, until none runs or waits in a queue; Ctrl-C leaves what they do."""
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            found = look()
            live.update(draw(found), refresh=True)
            if not any(status.state in (State.RUNNING, State.QUEUED) for status in found):
                return
            time.sleep(REDRAW_SECONDS)


@contextmanager
def one_cell(cell: Cell) -> Iterator[tuple[Callable[["Step"], None], Callable[[], bool]]]:
    """Progress of one cell trained in this process; the first Ctrl-C asks it to stop at its next checkpoint."""
    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    text = "step {task.completed}/{task.total}  loss {task.fields[loss]}  "
    text += "{task.fields[rate]} tokens/s  {task.fields[left]}"
    before = signal.signal(signal.SIGINT, stop)
    try:
        with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn(text), console=console) as bar:
            task = bar.add_task(cell.name, total=cell.budget.steps, loss="", rate="", left="")

            def on_progress(step: "Step") -> None:
                left = duration((step.steps - step.step) / step.steps_per_second) if step.steps_per_second else ""
                rate = f"{step.tokens_per_second:,.0f}"
                bar.update(task, completed=step.step, loss=f"{step.loss:.4f}", rate=rate, left=left)

            yield on_progress, lambda: stopping
    finally:
        signal.signal(signal.SIGINT, before)
