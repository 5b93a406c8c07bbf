"""From configurations to rows: one cell, a list of cells in worker processes, and what is left when they are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from looplm.execution import Execution
from results.schema import RECORDS
from results.store import Store
from sweeps import run as run_module
from sweeps.cell import Cell
from sweeps.claim import Claim
from sweeps.listing import Listing
from sweeps.local import run_local
from sweeps.run import Outcome, run_cell
from sweeps.status import State, statuses, tally

EAGER = Execution(compile="off")
TINY = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.batch_size=64", "budget.steps=6"]
LONG = [*TINY, "budget.steps=100000"]


def cell(*overrides: str, base: list[str] = TINY) -> Cell:
    return Cell.compose([*base, *overrides])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_a_cell_gives_rows_of_every_split_loop_and_metric(store: Store) -> None:
    looped = cell("model.loops=2", "objective.name=entropy")
    assert run_cell(looped, store, EAGER) is Outcome.DONE
    rows = store.read([looped.id])
    (row,) = rows.cells.to_dicts()
    assert (row["task"], row["loops"], row["exits"], row["steps"], row["backend"]) == ("twohop@1", 2, 2, 6, "eager")
    assert Cell.from_config(json.loads(row["config"])).id == looped.id
    assert json.loads(row["constants"])["facts"] == 36
    accuracy = rows.records.filter(pl.col("metric") == "accuracy", pl.col("difficulty").is_null())
    assert set(accuracy["split"]) == set(looped.task.splits[1:])
    assert set(accuracy["loop"]) == {0, 1, 2}
    exits = rows.records.filter(pl.col("metric") == "exit_probability", pl.col("split") == "facts")
    assert exits["value"].sum() == pytest.approx(1)
    floors = rows.records.filter(pl.col("metric").str.starts_with("floor/"), pl.col("split") == "id")
    assert set(floors["metric"]) == {f"floor/{name}" for name in ("constant", "ngram", "row_matching", "copy", "best")}
    assert floors.filter(pl.col("metric") == "floor/best")["value"].item() == floors["value"].max()
    assert (store.folder(looped.id) / "config.yaml").read_text().startswith("# 1⊗2 d=16 entropy")


def test_bits_are_measured_where_something_is_stored(store: Store) -> None:
    records = cell(
        base=["task=records", "task.people=20", "model.hidden_size=16", "budget.steps=3", "budget.batch_size=20"]
    )
    facts = cell()
    for each in (records, facts):
        run_cell(each, store, EAGER)
    found = store.read().records.filter(pl.col("metric") == "bits", pl.col("loop") == 1)
    assert dict(found.select("cell", "split").iter_rows()) == {records.id: "people", facts.id: "facts"}
    nats = store.read([facts.id]).records.filter(pl.col("metric") == "nats", pl.col("split") == "facts")["value"].item()
    bits = found.filter(pl.col("cell") == facts.id)["value"].item()
    assert bits == pytest.approx(36 * (3.5849625 - nats / 0.69314718), rel=1e-6)


def test_a_done_cell_is_not_trained_again(store: Store) -> None:
    assert run_cell(cell(), store, EAGER) is Outcome.DONE
    before = (store.folder(cell().id) / "checkpoint.ckpt").stat().st_mtime_ns
    assert run_cell(cell(), store, EAGER) is Outcome.ALREADY
    assert (store.folder(cell().id) / "checkpoint.ckpt").stat().st_mtime_ns == before


def test_a_claimed_cell_is_left_alone(store: Store) -> None:
    claim = Claim.acquire(store.folder(cell().id))
    assert claim is not None
    with claim:
        assert run_cell(cell(), store, EAGER) is Outcome.CLAIMED
    assert run_cell(cell(), store, EAGER) is Outcome.DONE


def test_a_stopped_cell_carries_on_to_the_same_numbers(store: Store, tmp_path: Path) -> None:
    long = cell("budget.steps=60")
    asked = iter([False, True])
    assert run_cell(long, store, EAGER, should_stop=lambda: next(asked)) is Outcome.STOPPED
    assert statuses([long], store)[0].state is State.INTERRUPTED
    assert run_cell(long, store, EAGER) is Outcome.DONE
    quiet = Store(tmp_path / "quiet")
    run_cell(long, quiet, EAGER)
    assert store.read().records.equals(quiet.read().records)


def test_the_same_run_written_differently_carries_on(store: Store) -> None:
    one, other = cell("budget.steps=60", "objective.beta=0.1"), cell("budget.steps=60", "model.intermediate_size=32")
    assert one.id == other.id
    asked = iter([False, True])
    assert run_cell(one, store, EAGER, should_stop=lambda: next(asked)) is Outcome.STOPPED
    assert run_cell(other, store, EAGER) is Outcome.DONE


def test_a_diverging_cell_is_a_failure_that_status_explains(store: Store) -> None:
    wild = cell("optimizer.lr=1e30", "optimizer.warmup_steps=0", "optimizer.clip=1e30", "budget.steps=60")
    assert run_cell(wild, store, EAGER) is Outcome.FAILED
    (status,) = statuses([wild], store)
    assert status.state is State.FAILED
    assert status.error is not None
    assert "diverged at step" in status.error
    assert store.read().cells["status"].to_list() == ["failed"]
    assert run_cell(wild, store, EAGER) is Outcome.ALREADY
    assert run_cell(wild, store, EAGER, retry_failed=True) is Outcome.FAILED


def test_a_world_that_cannot_be_drawn_is_refused_before_anything_is_written(store: Store) -> None:
    impossible = cell("task.entities=6", "task.relations=2", "task.held_out_facts=0.17", "seeds.data_seed=0")
    with pytest.raises(ValueError, match="data_seed is 0: split 'ood_both' of task 'twohop' would be empty"):
        run_cell(impossible, store, EAGER)
    assert not store.folder(impossible.id).exists()


def test_a_full_disk_ends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "measure", full)
        with pytest.raises(OSError, match="No space left"):
            run_cell(cell(), store, EAGER)
    assert store.status(cell().id) is None
    assert run_cell(cell(), store, EAGER) is Outcome.DONE


def test_an_old_copy_that_lives_on_cannot_publish(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Claim, "held", lambda self: False)
    assert run_cell(cell(), store, EAGER) is Outcome.CLAIMED
    assert store.status(cell().id) is None


def test_workers_share_a_list_and_do_every_cell_once(store: Store) -> None:
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(5)]
    seen: list[dict[State, int]] = []
    found = run_local(cells, store, {"compile": "off"}, workers=2, watch=lambda s: seen.append(tally(s)))
    assert tally(found)[State.DONE] == 5
    assert seen[-1][State.DONE] == 5
    assert len(store.read().cells) == 5
    for each in cells:
        assert len(list((store.folder(each.id) / "claims").glob("*.json"))) == 1


def test_a_cell_that_somebody_else_gives_up_is_taken_over(store: Store) -> None:
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(2)]
    held = Claim.acquire(store.folder(cells[0].id))
    assert held is not None
    with ThreadPoolExecutor(1) as pool:
        with held:
            assert statuses(cells, store)[0].state is State.RUNNING
            ended = pool.submit(run_local, cells, store, {"compile": "off"}, 1)
            _wait_for(lambda: store.status(cells[1].id) == "done")
            assert not ended.done()
        assert tally(ended.result(timeout=60))[State.DONE] == 2


def test_a_killed_worker_loses_nothing(store: Store, tmp_path: Path) -> None:
    long = cell("budget.steps=400", "model.loops=2")
    listing = tmp_path / "list.json"
    Listing([long], {"compile": "off"}).write(listing)
    command = [sys.executable, "-m", "sweeps.worker", str(listing), str(store.root)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    progress = store.folder(long.id) / "progress.json"
    _wait_for(progress.exists)
    process.kill()
    process.wait()
    assert statuses([long], store)[0].state in (State.MISSING, State.INTERRUPTED)
    subprocess.run(command, check=True)
    quiet = Store(tmp_path / "quiet")
    run_cell(long, quiet, EAGER)
    assert store.read().records.equals(quiet.read().records)


def test_a_worker_that_is_asked_to_stop_leaves_a_checkpoint(store: Store, tmp_path: Path) -> None:
    long = cell(base=LONG)
    listing = tmp_path / "list.json"
    Listing([long], {"compile": "off"}).write(listing)
    process = subprocess.Popen([sys.executable, "-m", "sweeps.worker", str(listing), str(store.root)])
    _wait_for((store.folder(long.id) / "progress.json").exists)
    assert statuses([long], store)[0].state is State.RUNNING
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    (status,) = statuses([long], store)
    assert status.state is State.INTERRUPTED
    assert status.progress is not None
    assert 0 < status.progress["step"] < 100000


def test_a_worker_that_dies_of_the_machine_is_reported(store: Store) -> None:
    store.root.mkdir(parents=True)
    (store.root / "cells").write_text("not a folder")
    with pytest.raises(RuntimeError, match="a worker ended with exit code"):
        run_local([cell()], store, {"compile": "off"}, workers=1)


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_a_cell_on_two_devices_gives_the_numbers_of_one(store: Store, tmp_path: Path) -> None:
    looped = cell("model.loops=2", "objective.name=entropy")
    assert run_cell(looped, store, Execution(compile="off", devices=2)) is Outcome.DONE
    quiet = Store(tmp_path / "quiet")
    run_cell(looped, quiet, EAGER)
    both = [each.read().records.filter(pl.col("metric") == "nats").sort(RECORDS.key) for each in (store, quiet)]
    assert both[0].select(RECORDS.key).equals(both[1].select(RECORDS.key))
    assert both[0]["value"].to_list() == pytest.approx(both[1]["value"].to_list(), rel=1e-4)
    assert store.read().cells["backend"].item() == "eager on 2 devices"
