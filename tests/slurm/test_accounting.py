"""Why a job died, from a real sacct. It needs a cluster with accounting; `devcluster up --accounting` is one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.store import Store
from slurm import queue
from slurm.cancel import cancel
from slurm.cluster import Cluster
from slurm.propose import propose
from slurm.queue import NoAnswerError, ask
from slurm.send import send
from slurm.status import statuses
from sweeps.cell import Cell
from sweeps.status import State


def test_sacct_tells_why_a_job_died_that_squeue_has_forgotten(
    dev: Cluster, tmp_path: Path, wait_for: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        ask("sacct", "-n", "-X", "-j", "1")
    except NoAnswerError as silent:
        pytest.skip(f"{silent}; python -m slurm.devcluster up --accounting has it")
    stores = Store(tmp_path / "failed"), Store(tmp_path / "cancelled")
    cells, jobs = [Cell.compose([])], []
    for store, line in zip(stores, ("exit 3", "exec sleep 300"), strict=True):
        cluster = replace(dev, setup=(line,))
        sent = send(propose(cells, store, "devcluster", cluster), store, "test", "devcluster")
        jobs += sent.arrays[0].jobs
    cancel({cells[0].id}, stores[1])

    def without_squeue(*command: str) -> str:
        return "" if command[0] == "squeue" else ask(*command)

    monkeypatch.setattr(queue, "ask", without_squeue)

    def said(store: Store, job: str, state: str) -> bool:
        (found,) = statuses(cells, store)
        return found.state is State.MISSING and str(found.error).startswith(f"job {job} ended without it: {state}")

    for store, job, state in zip(stores, jobs, ("FAILED", "CANCELLED by"), strict=True):
        wait_for(lambda: said(store, job, state), f"{job} is {state}")  # noqa: B023
