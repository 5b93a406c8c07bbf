"""Cells of a few seconds, what they give when nothing disturbs them, and one real SLURM for the whole session."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import submitit.core.core

from looplm.execution import Execution
from results.store import Store
from slurm import devcluster
from slurm.cluster import Cluster, load
from slurm.propose import propose
from slurm.queue import Job, NoAnswerError, look
from slurm.send import alone, send
from slurm.status import statuses
from slurm.submission import Submission
from sweeps.cell import Cell
from sweeps.claim import attempts, owner
from sweeps.run import run_cell
from sweeps.status import CellStatus, State, tally

ROOT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 480.0
"""Far longer than anything takes; a machine may be busy."""


def _cell(seed: int) -> Cell:
    sizes = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.batch_size=64"]
    return Cell.compose([*sizes, "budget.steps=1200", f"seeds.init_seed={seed}"])


CELLS = [_cell(0), _cell(1)]
"""Two cells of some seconds."""

CHILD = replace(CELLS[0], budget=replace(CELLS[0].budget, steps=100), pretrained=CELLS[0])
"""One that begins with the weights of the first."""


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` returns once that is true."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.1)
    return found


def answered(question: Callable[[], Any]) -> Any:
    """What SLURM answers, once it does: while it reads its configuration anew, it does not."""

    def answer() -> list[Any]:
        try:
            return [question()]
        except NoAnswerError:
            return []

    (given,) = wait_for(answer, "SLURM answers")
    return given


class Scenario:
    """The two cells in a store of their own, sent to a cluster."""

    wait_for = staticmethod(wait_for)

    def __init__(self, root: Path, cluster: Cluster, quiet: Store, cells: list[Cell]) -> None:
        self.store, self.cluster, self.cells, self._quiet = Store(root), cluster, cells, quiet

    def submit(self) -> Submission:
        """Send what is missing, as the command does."""
        with alone(self.store):
            proposal = propose(self.cells, self.store, "devcluster", self.cluster)
            return send(proposal, self.store, "test", "devcluster")

    def running(self, one: int = 0) -> dict[str, Any]:
        """The owner of a cell, once it has trained for a while."""

        def found() -> dict[str, Any] | None:
            folder = self.store.folder(self.cells[one].id)
            return owner(folder) if (folder / "progress.json").exists() else None

        return wait_for(found, f"cell {one} trains")

    def kill(self, one: int = 0) -> None:
        """Kill the process of a cell that trains."""
        os.kill(self.running(one)["pid"], signal.SIGKILL)

    def look(self) -> list[CellStatus]:
        """Where the cells stand."""
        return answered(lambda: statuses(self.cells, self.store, must_know=True))

    def jobs(self, submission: Submission) -> list[Job]:
        """The jobs of a submission that are known to its executor."""

        def known() -> list[Job]:
            queue = look([submission])
            if queue.silent is not None:
                raise NoAnswerError(queue.silent)
            return [job for key, job in queue.jobs.items() if key[0] == submission.name]

        return answered(known)

    def finish(self) -> None:
        """Wait for the end, and see that every cell is done once, with the records of a quiet run."""
        wait_for(lambda: tally(self.look())[State.DONE] == len(self.cells), "every cell is done")
        ids = [cell.id for cell in self.cells]
        found, quiet = self.store.read(), self._quiet.read(ids)
        assert found.problems == ()
        assert found.cells["cell"].to_list() == sorted(ids)
        assert found.records.equals(quiet.records)

    def attempts(self, one: int = 0) -> list[bool]:
        """For each attempt at a cell, whether it was released rather than died."""
        return [attempt["released"] for attempt in attempts(self.store.folder(self.cells[one].id))]

    def workers(self) -> list[int]:
        """Worker processes that serve this store."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"sweeps.worker" in words and str(self.store.root).encode() in words:
                found.append(int(process.name))
        return found


def _refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("submitit was asked about a job; where there is no sacct, its answer never comes")


@pytest.fixture(scope="session", autouse=True)
def _submitit_is_never_asked() -> Iterator[None]:
    """Jobs go out through submitit; how they fare is not its to say."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("done", "exception", "result", "results", "wait"):
            patch.setattr(submitit.core.core.Job, name, _refuse)
        patch.setattr(submitit.core.core.InfoWatcher, "update", _refuse)
        yield


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The two cells, undisturbed."""
    store = Store(tmp_path_factory.mktemp("quiet"))
    for cell in (*CELLS, CHILD):
        run_cell(cell, store, Execution(compile="off"))
    return store


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory, quiet: Store) -> Callable[..., Scenario]:
    """Makes a scenario on a cluster, in a folder of its own or in one that is given."""

    def make(cluster: Cluster, root: Path | None = None, with_child: bool = False) -> Scenario:
        cells = [CELLS[0], CHILD] if with_child else CELLS
        return Scenario(root or tmp_path_factory.mktemp("scenario"), cluster, quiet, cells)

    return make


@pytest.fixture(name="wait_for", scope="session")
def _wait_for() -> Callable[..., Any]:
    return wait_for


@pytest.fixture
def looplm(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts a command line of its own with the code of this checkout."""

    def start(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", "from experiments.cli.main import main; main()", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LOOPLM_RUNS": str(tmp_path / "runs")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def dev() -> Iterator[Cluster]:
    """A real SLURM on this host; what needs it is skipped, with the reason, where it cannot be had."""
    if (reason := devcluster.why_not()) is not None:
        pytest.skip(reason)
    was_up = devcluster.is_up()
    devcluster.up()
    yield replace(load("devcluster"), throttle=1)  # one job with both cells
    if not was_up:
        devcluster.down()
