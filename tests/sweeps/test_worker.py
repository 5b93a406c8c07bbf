"""Who gets a cell, and what becomes of those that lost it: the dead, the late, and copies that live on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from looplm.execution import Execution
from results.store import Store
from sweeps.cell import Cell
from sweeps.claim import Claim
from sweeps.listing import Listing
from sweeps.run import MOST_DEATHS, Outcome, run_cell
from sweeps.status import State, statuses
from sweeps.worker import run_listing

EAGER = Execution(compile="off")
TINY = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.batch_size=64", "budget.steps=6"]


def cell(*overrides: str) -> Cell:
    return Cell.compose([*TINY, *overrides])


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_a_cell_that_somebody_else_has_is_come_back_to(store: Store) -> None:
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(2)]
    held = Claim.acquire(store.folder(cells[0].id))
    assert held is not None
    with ThreadPoolExecutor(1) as pool:
        with held:
            ended = pool.submit(run_listing, Listing(cells, {"compile": "off"}), store)
            _wait_for(lambda: store.status(cells[1].id) == "done")
            assert not ended.done()
        assert ended.result(timeout=60)
    assert store.status(cells[0].id) == "done"


def test_patience_with_what_somebody_else_has_ends(store: Store) -> None:
    held = Claim.acquire(store.folder(cell().id))
    assert held is not None
    with held:
        assert run_listing(Listing([cell()], {"compile": "off"}), store, patience=0.0)
    assert store.status(cell().id) is None


def test_a_cell_that_is_the_death_of_every_process_fails(store: Store) -> None:
    for _ in range(MOST_DEATHS):
        code = (
            "import os, sys; from pathlib import Path; from sweeps.claim import Claim\n"
            "assert Claim.acquire(Path(sys.argv[1]), sys.argv[2]); os.kill(os.getpid(), 9)"
        )
        mark = "None, checkpoint of None, 0 evaluations to come"
        subprocess.run([sys.executable, "-c", code, str(store.folder(cell().id)), mark], check=False)
    assert run_cell(cell(), store, EAGER) is Outcome.FAILED
    (status,) = statuses([cell()], store)
    assert status.state is State.FAILED
    assert status.error is not None
    assert "vanished 3 times in a row" in status.error
    store.forget_failure(cell().id)
    assert run_cell(cell(), store, EAGER) is Outcome.DONE


def test_an_old_copy_on_a_host_that_lost_touch_gives_way(store: Store, tmp_path: Path) -> None:
    long = cell("budget.steps=600", "model.loops=2")
    listing = tmp_path / "list.json"
    Listing([long], {"compile": "off"}).write(listing)
    command = [sys.executable, "-m", "sweeps.worker", str(listing), str(store.root)]
    old = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    folder = store.folder(long.id)
    _wait_for((folder / "progress.json").exists)
    old.send_signal(signal.SIGSTOP)
    claim = folder / "claims" / "000001.json"
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"host": "elsewhere"}))
    os.utime(claim, (0, time.time() - 3600))
    assert run_cell(long, store, EAGER) is Outcome.DONE
    published = store.read()
    old.send_signal(signal.SIGCONT)
    said, _ = old.communicate(timeout=120)
    assert old.returncode == 0
    assert said.splitlines()[0] == f"{long.id} {Outcome.CLAIMED}"
    assert store.read().records.equals(published.records)
    quiet = Store(tmp_path / "quiet")
    run_cell(long, quiet, EAGER)
    assert published.records.equals(quiet.read().records)


def test_half_written_files_of_the_dead_are_removed(store: Store) -> None:
    folder = store.folder(cell().id)
    (folder / ".rows-0").mkdir(parents=True)
    (folder / ".rows-0" / "cell.parquet").write_bytes(b"half")
    (folder / "checkpoint.ckpt.elsewhere-7.tmp").write_bytes(b"half")
    (folder / ".progress.json.0.draft").write_text("{")
    assert run_cell(cell(), store, EAGER) is Outcome.DONE
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.ckpt", "claims", "config.yaml", "rows"]
