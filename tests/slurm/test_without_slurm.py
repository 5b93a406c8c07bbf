"""What needs no SLURM: proposals, scripts, snapshots, a queue that does not answer, and jobs of this machine."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.questions import grid
from looplm.execution import Execution
from results.store import Store
from slurm import queue, snapshot
from slurm.cancel import cancel
from slurm.cluster import load
from slurm.job import InProcess
from slurm.logs import history
from slurm.propose import propose
from slurm.queue import NoAnswerError, Queue, fate, look
from slurm.run import run_on_cluster
from slurm.send import alone, send
from slurm.status import statuses
from slurm.submission import Submission, places, submissions
from sweeps.cell import Cell
from sweeps.listing import Listing
from sweeps.provenance import suite_commit
from sweeps.run import run_cell
from sweeps.status import State, tally
from sweeps.tune import tune_part
from sweeps.worker import run_listing

Looplm = Callable[..., "subprocess.Popen[str]"]
TINY = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.batch_size=64", "budget.steps=6"]
LONG = ["capacity_vs_manipulation", "--scale", "smoke", "budget.steps=480", "budget.batch_size=512"]
ARM = ["--part", "manipulation", "--arm", "plain"]


def cell(*overrides: str) -> Cell:
    return Cell.compose([*TINY, *overrides])


WILD = cell("optimizer.lr=1e30", "optimizer.warmup_steps=0", "optimizer.clip=1e30", "budget.steps=60")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def programs(folder: Path, **scripts: str) -> str:
    """A PATH on which only these programs are."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def pending(store: Store) -> Submission:
    """A submission to SLURM as if it had been sent."""
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(2)]
    sent = send(propose(cells, store, "devcluster", load("devcluster")), store, "test", "devcluster", dry_run=True)
    (array,) = sent.arrays
    sent = dataclasses.replace(sent, arrays=(dataclasses.replace(array, jobs=("7_0", "7_1")),))
    sent.write()
    return sent


def test_cells_are_grouped_by_what_they_need_and_by_what_they_begin_with(store: Store) -> None:
    parent = cell()
    child = dataclasses.replace(cell("budget.steps=7"), pretrained=parent)
    large = cell("model.hidden_size=64", "budget.steps=7")
    cluster = dataclasses.replace(load("devcluster"), larger=({"from_parameters": 20_000, "memory_gb": 2.0},))
    proposal = propose([child, large], store, "devcluster", cluster)
    found = [(b.stage, b.cluster.memory_gb, [c.id for pack in b.packs for c in pack]) for b in proposal.batches]
    assert found == [(0, 0.5, [parent.id]), (0, 2.0, [large.id]), (1, 0.5, [child.id])]


def test_a_dry_run_writes_scripts_and_sends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = dataclasses.replace(
        load("example"), options={"nice": 7}, setup=("module load x",), array_limit=2, larger=(), least_minutes=0
    )
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(5)]
    sent = send(propose(cells, store, "example", cluster), store, "test", "example", dry_run=True)
    assert [len(array.packs) for array in sent.arrays] == [2, 2, 1]
    text = (sent.folder / "array-1.sh").read_text()
    for line in ("--array=0-1%2", "--partition=gpu", "--account=my-project", "--time=240", "--gpus-per-node=1"):
        assert f"#SBATCH {line}\n" in text
    assert f"#SBATCH --chdir={sent.folder}\n" in text
    for line in ("--nice=7", "--signal=USR2@120", "--requeue", "--mem=32768M", f"--comment=looplm:{sent.name}:1"):
        assert f"#SBATCH {line}\n" in text
    assert "srun --unbuffered" in text
    assert "--cpus-per-task 8" in text  # many sites do not hand the job's cores on to its steps
    assert text.index("module load x") < text.index(f"PYTHONPATH={sent.code}") < text.index("slurm.start")
    assert submissions(store) == []
    assert tally(statuses(cells, store))[State.MISSING] == 5


def test_what_one_array_asks_for_does_not_leak_into_the_next(store: Store) -> None:
    cluster = dataclasses.replace(
        load("devcluster"),
        constraint="fast",
        options={"nice": 7},
        larger=({"from_parameters": 20_000, "constraint": None, "options": {"no-requeue": True}},),
    )
    sent = send(
        propose([cell(), cell("model.hidden_size=64")], store, "devcluster", cluster), store, "test", "x", dry_run=True
    )
    small, large = ((sent.folder / f"array-{number}.sh").read_text() for number in range(2))
    assert all(f"#SBATCH --{line}\n" in small for line in ("constraint=fast", "nice=7", "requeue"))
    assert "#SBATCH --no-requeue\n" in large
    assert not any(f"#SBATCH --{line}" in large for line in ("constraint", "nice", "requeue"))


def test_the_code_that_runs_is_the_code_as_it_was(tmp_path: Path) -> None:
    code = snapshot.take(tmp_path)
    assert snapshot.take(tmp_path) == code
    assert [path.name for path in (tmp_path / "code").iterdir()] == [code.name]
    script = "import slurm.job; from sweeps import provenance; print(provenance.CHECKOUT, provenance.suite_commit())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(code), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{code} {suite_commit()}\n", done.stderr


def test_another_commit_is_another_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = snapshot.take(tmp_path)
    monkeypatch.setattr(snapshot, "suite_commit", lambda: "0123abc")
    other = snapshot.take(tmp_path)
    assert other != code
    assert (other / "COMMIT").read_text() == "0123abc"


@pytest.mark.parametrize(
    ("squeue", "said"),
    [
        ({}, "squeue is not installed here"),
        ({"squeue": "echo 'Unable to contact slurm controller' >&2; exit 1"}, "Unable to contact slurm controller"),
        ({"squeue": "exec sleep 60"}, "did not answer within 0.5 s"),
    ],
)
def test_a_queue_that_does_not_answer_stops_sending_and_not_looking(
    squeue: dict[str, str], said: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent = pending(store)
    path = programs(tmp_path / "bin", **squeue)
    monkeypatch.setattr(queue, "ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("PATH", path if squeue else str(tmp_path / "bin"))
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(2)]
    found = statuses(cells, store)
    assert [status.state for status in found] == [State.MISSING] * 2
    assert all(status.error is not None and said in status.error for status in found)
    assert found[0].error is not None
    assert f"sent as job {sent.arrays[0].jobs[0]}" in found[0].error
    with pytest.raises(NoAnswerError, match=said):
        propose(cells, store, "devcluster", load("devcluster"))


def test_the_queue_is_read_by_our_comment(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent = pending(store)
    lines = [
        f"7|0|PENDING|looplm:{sent.name}:0|launch failed requeued held",
        f"7|1|NODE_FAIL|looplm:{sent.name}:0|None",
        "8|N/A|RUNNING|looplm:20200101-000000-abcdef:0|None",
        "9|N/A|RUNNING|a comment | of others|None",
    ]
    answers = "\n".join(f"echo '{line}'" for line in lines)
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", squeue=answers, sacct="exit 1"))
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(2)]
    held, lost = statuses(cells, store)
    assert held.state is State.QUEUED
    assert held.job == "7_0 PENDING (launch failed requeued held; it will not begin by itself)"
    assert (lost.state, lost.error) == (State.MISSING, "job 7_1 ended without it: NODE_FAIL")
    children = [dataclasses.replace(parent, pretrained=parent) for parent in cells]
    proposal = propose([cells[0], *children], store, "devcluster", load("devcluster"))
    found = [(b.stage, b.after, [c.id for pack in b.packs for c in pack]) for b in proposal.batches]
    assert found == [(0, (), [cells[1].id]), (0, ("7_0",), [children[0].id]), (1, (), [children[1].id])]
    assert proposal.skipped == {State.QUEUED: 1}


def test_what_others_do_under_the_ids_of_our_jobs_means_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A controller that lost its state counts from 1 again, and folders of the first jobs of that name are there."""
    sent = pending(store)
    (sent.jobs_folder / "7_0_0_result.pkl").write_bytes(b"of the first job 7_0")
    lines = ["7|0|RUNNING|looplm:20200101-000000-abcdef:0|None", "7|1|PENDING||Priority"]
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", squeue="\n".join(f"echo '{line}'" for line in lines)))
    cells = [cell(f"seeds.init_seed={seed}") for seed in range(2)]
    assert [status.state for status in statuses(cells, store)] == [State.MISSING] * 2
    again = propose(cells, store, "devcluster", load("devcluster"))
    assert again.cells == 2
    assert send(again, store, "test", "devcluster", dry_run=True).jobs_folder != sent.jobs_folder


def test_a_submission_that_cannot_be_read_is_named(store: Store) -> None:
    sent = pending(store)
    (sent.folder / "submission.json").write_text('{"arrays": []}')
    with pytest.raises(ValueError, match=rf"{sent.name}/submission.json is no submission of this version"):
        statuses([cell()], store)


def test_why_a_job_is_gone(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent = pending(store)
    ((place,),) = [found for found in places([sent]).values() if found[0].index == 0]
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", sacct="echo 'CANCELLED by 0'"))
    assert fate(place, Queue()) == "job 7_0 ended without it: CANCELLED by 0"
    monkeypatch.setenv("PATH", programs(tmp_path / "bin", sacct="echo 'accounting is disabled' >&2; exit 1"))
    assert fate(place, Queue()) == "job 7_0 ended without it"
    (sent.jobs_folder / "7_0_0_log.err").write_text("Traceback\nImportError: no module\n")
    assert fate(place, Queue()) == "job 7_0 ended without it: ImportError: no module"
    sent.end_of(0, 0).write_text(json.dumps({"why": "gave up: the disk is full"}))
    assert fate(place, Queue()) == "job 7_0 gave up: the disk is full"
    unsent = dataclasses.replace(sent, arrays=(dataclasses.replace(sent.arrays[0], jobs=()),))
    ((place,),) = [found for found in places([unsent]).values() if found[0].index == 0]
    assert "not sent" in fate(place, Queue())


def test_what_became_of_a_job_is_asked_once_for_all_of_its_cells(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cells, sent = [cell(f"seeds.init_seed={seed}") for seed in range(2)], pending(store)
    (array,) = sent.arrays
    packs = (tuple(each.id for each in cells),)
    dataclasses.replace(sent, arrays=(dataclasses.replace(array, packs=packs, jobs=("7_0",)),)).write()
    asked = tmp_path / "asked"
    path = programs(tmp_path / "bin", squeue="true", sacct=f"echo asked >> {asked}; echo NODE_FAIL")
    monkeypatch.setenv("PATH", path)
    found = statuses(cells, store)
    assert [status.error for status in found] == ["job 7_0 ended without it: NODE_FAIL"] * 2
    assert asked.read_text() == "asked\n"


def test_a_failing_cell_stops_no_other_of_its_job(store: Store) -> None:
    cells = [WILD, cell()]
    sent = send(propose(cells, store, "debug", load("debug")), store, "test", "debug")
    assert [len(array.packs) for array in sent.arrays] == [1]
    found = statuses(cells, store)
    assert [status.state for status in found] == [State.FAILED, State.DONE]
    assert found[0].error is not None
    assert "diverged" in found[0].error
    assert propose(cells, store, "debug", load("debug")).cells == 0
    again = propose(cells, store, "debug", load("debug"), retry_failed=True)
    assert again.cells == 1
    assert again.skipped == {State.DONE: 1}
    assert again.speed != 1.0, "finished rows tell how fast this cluster is"
    told = history(store, WILD.id[:6], lines=3)
    assert [attempt["ended"] for attempt in told["attempts"]] == ["released"]
    assert any("FloatingPointError" in tail for tail in told["logs"].values())


def test_two_commands_submit_one_after_the_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm.send.LOCK_SECONDS", 0.3)
    with alone(store), pytest.raises(RuntimeError, match="another command is submitting"), alone(store):
        pass
    with alone(store):
        pass


def test_tuning_on_a_cluster_chooses_what_tuning_here_chooses(tmp_path: Path) -> None:
    def here(cells: Sequence[Cell]) -> None:
        for each in cells:
            run_cell(each, stores[0], Execution(compile="off"))

    def there(cells: Sequence[Cell]) -> None:
        run_on_cluster(cells, stores[1], "debug", load("debug"), "tune")

    stores = Store(tmp_path / "here"), Store(tmp_path / "there")
    question = grid("capacity_vs_manipulation")
    tuned = [
        tune_part(question, "smoke", "manipulation", store, run, ["plain"], 3)
        for store, run in zip(stores, (here, there), strict=True)
    ]
    assert tuned[0] == tuned[1]


def test_cells_that_jobs_leave_behind_again_and_again_end_in_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InProcess, "__call__", lambda self: None)
    with pytest.raises(RuntimeError, match="1 cells were left behind 3 times in a row: job debug-0-0 ended without it"):
        run_on_cluster([cell()], store, "debug", load("debug"), "test")
    assert len(submissions(store)) == 3


@pytest.fixture
def on_this_machine(looplm: Looplm, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Sends two cells of some seconds to this machine; afterwards nothing of it runs."""

    def submit() -> None:
        command = looplm("submit", *LONG, *ARM, "--cluster", "local")
        said, _ = command.communicate(timeout=200)
        assert command.returncode == 0, said
        assert "2 cells in 2 jobs" in said

    yield submit
    store = Store(tmp_path / "runs")
    cancel(set(places(submissions(store))), store)


def test_jobs_of_this_machine_survive_a_killed_worker_and_are_cancelled(
    on_this_machine: Callable[[], None], looplm: Looplm, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    on_this_machine()
    store = Store(tmp_path / "runs")
    (sent,) = submissions(store)
    first, second = (pack[0] for pack in sent.arrays[0].packs)
    wait_for((store.folder(first) / "progress.json").exists, "a cell trains")
    wait_for((store.folder(second) / "progress.json").exists, "the other cell trains")
    killed = json.loads((store.folder(first) / "claims" / "000001.json").read_text())
    os.kill(killed["pid"], signal.SIGKILL)
    wait_for((store.folder(first) / "claims" / "000002.json").exists, "a new worker takes the cell over")
    assert cancel({first, second}, store)
    wait_for(lambda: not look([sent]).jobs, "no job is left")
    assert killed["job"] == f"{sent.name}/0-0"
    cells = grid(LONG[0]).expand("smoke", LONG[3:]).only(["manipulation"], ["plain"]).cells
    assert sorted(cells) == sorted([first, second])
    run_listing(Listing(list(cells.values()), {"compile": "off"}), store)
    assert store.read().cells["status"].to_list() == ["done", "done"]
