"""What clusters do to jobs, done to real ones: afterwards each cell is there once, with the records of a quiet run.

Those that leave each other alone are played at the same time.
"""

import contextlib
import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.store import Store
from slurm import devcluster
from slurm.cancel import cancel
from slurm.cluster import Cluster
from slurm.propose import propose
from slurm.queue import ask, look
from slurm.run import run_on_cluster
from slurm.send import send
from slurm.status import statuses
from slurm.submission import Submission, submissions
from sweeps.cell import Cell
from sweeps.status import State

Scenario = Any
"""`conftest.Scenario`."""


def restarts(job: str) -> int:
    """How often SLURM has started a job again."""
    found = re.search(r"Restarts=(\d+)", ask("scontrol", "show", "job", job))
    assert found is not None
    return int(found[1])


def started(scene: Scenario) -> tuple[Submission, str]:
    """The submission and the id of its one job, once its first cell trains."""
    sent = scene.submit()
    scene.running()
    (job,) = scene.jobs(sent)
    return sent, job.id


def in_place_of_ours(*command: str) -> str:
    """A line of set-up by which a job runs a command in place of ours."""
    return f"srun() {{ command srun {shlex.join(command)}; }}"


def out_of_time(scene: Scenario) -> None:
    """The signal that SLURM sends before the time limit, twice; in between, files that a killed start left behind."""
    sent, job = started(scene)
    scene.running(1)
    ask("scancel", "--signal=USR2", job)
    scene.wait_for(lambda: restarts(job) == 1, "the job is queued again")
    for kind in ("submitted", "0_result"):
        (sent.jobs_folder / f"{job}_{kind}.pkl.save_tmp").write_bytes(b"half")
    scene.running()
    ask("scancel", "--signal=USR2", job)
    scene.finish()
    assert scene.attempts() == [True, True, True]
    assert all(scene.attempts(1)), "two workers of one job, both warned"
    assert restarts(job) == 2
    assert list(sent.jobs_folder.glob("*.save_tmp")) == []


def out_of_time_once_too_often(scene: Scenario) -> None:
    """A job that may not queue itself again says so; what was left is sent again."""
    sent, job = started(scene)
    ask("scancel", "--signal=USR2", job)
    scene.wait_for(lambda: all(job.ended for job in scene.jobs(sent)), "the job is gone")
    found = scene.look()
    assert [status.state for status in found] == [State.INTERRUPTED, State.MISSING]
    assert all(
        status.error == f"job {job} gave up: Job not requeued because: timed-out too many times." for status in found
    )
    scene.submit()
    scene.finish()
    assert scene.attempts() == [True, True]


def over_its_time_unheard(scene: Scenario) -> None:
    """A job that its warning did not reach is ended by SLURM."""
    sent = scene.submit()
    (job,) = scene.jobs(sent)
    ask("scontrol", "update", f"JobId={job.id}", "TimeLimit=1")
    scene.wait_for(lambda: all(job.ended for job in scene.jobs(sent)), "the job is gone")
    found = scene.look()
    assert [status.state for status in found] == [State.MISSING] * 2
    assert all(status.error.startswith(f"job {job.id} ended without it: TIMEOUT") for status in found)


def preempted(scene: Scenario, warned: bool) -> None:
    """A job of a higher partition takes the node, with or without the signal that ours asked for."""
    devcluster.warn_before_preemption(warned)
    _, job = started(scene)
    ask("sbatch", "--partition=high", "--nodelist=dev2", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 1")
    scene.finish()
    assert scene.attempts() == [True, True]
    assert restarts(job) == 1


def cancelled(scene: Scenario) -> None:
    """By the user; then what was left is sent again."""
    sent, job = started(scene)
    assert cancel({cell.id for cell in scene.cells}, scene.store) == [job]
    scene.wait_for(lambda: all(job.ended for job in scene.jobs(sent)), "the job is gone")
    found = scene.look()
    assert [status.state for status in found] == [State.INTERRUPTED, State.MISSING]
    assert all("CANCELLED" in status.error for status in found)
    scene.submit()
    scene.finish()
    assert scene.attempts() == [True, True]


def left_behind(scene: Scenario) -> None:
    """While somebody waits for the rows, as tuning does, SLURM holds their job; cancelled, they are sent again."""
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            run_on_cluster, scene.cells, scene.store, "devcluster", scene.cluster, "test", told.append
        )
        scene.running()
        (sent,) = submissions(scene.store)
        (job,) = scene.jobs(sent)
        ask("scontrol", "requeuehold", job.id)
        scene.wait_for(lambda: any("will not begin by itself" in line for line in told), "the held job is told of")
        assert cancel({cell.id for cell in scene.cells}, scene.store) == [job.id]
        assert [status.state for status in waiting.result()] == [State.DONE, State.DONE]
    scene.finish()
    assert scene.attempts() == [True, True]


def worker_killed(scene: Scenario) -> None:
    """As by the kernel, for memory; before, a site's own signal, which nobody takes for a warning."""
    _, job = started(scene)
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{scene.running()['pid']}/status").read_text())
    assert caught is not None
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        assert not int(caught[1], 16) & 1 << number - 1, "only the job answers; Lightning has hooked nothing"
    ask("scancel", "--signal=USR1", job)
    scene.kill()
    scene.finish()
    assert scene.attempts() == [False, True]
    assert restarts(job) == 0
    assert list(scene.store.root.rglob("hpc_ckpt*")) == []


def full_disk(scene: Scenario) -> None:
    """No room for any file, until somebody makes some."""
    scene.submit()
    filler = scene.store.root / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
    with pytest.raises(OSError, match="space") as refused, (scene.store.root / "more").open("wb") as file:
        file.write(bytes(1 << 16))
    assert refused.value.errno == errno.ENOSPC
    worker = scene.wait_for(scene.workers, "a worker starts")
    scene.wait_for(lambda: not set(worker) & set(scene.workers()), "the worker dies of it")
    assert all(status.state is not State.FAILED for status in scene.look())
    (scene.store.root / "more").unlink()
    filler.unlink()
    scene.finish()


def begun_from_another(scene: Scenario) -> None:
    """A cell that begins with another's weights waits in the queue until that one's job has ended."""
    sent = scene.submit()
    assert [array.stage for array in sent.arrays] == [0, 1]
    (parent,), (child,) = (array.jobs for array in sent.arrays)
    assert f"afterany:{parent}" in ask("squeue", "-h", "-j", child, "-o", "%E")
    scene.finish()
    assert scene.attempts(1) == [True]


def preempted_twice(scene: Scenario, other: Scenario) -> None:
    """One after the other: whether SLURM warns is one setting for the whole cluster."""
    preempted(scene, warned=True)
    preempted(other, warned=False)


PLAYS = [
    "over_its_time_unheard",
    "out_of_time",
    "out_of_time_once_too_often",
    "preempted_twice",
    "cancelled",
    "left_behind",
    "worker_killed",
    "full_disk",
    "begun_from_another",
]


CLUSTERS: dict[str, dict[str, Any]] = {
    "over_its_time_unheard": {"setup": (in_place_of_ours("sh", "-c", "trap '' USR2; exec sleep 300"),)},
    "out_of_time": {"workers": 2},
    "out_of_time_once_too_often": {"requeues": 0},
}
"""What else some plays ask of their cluster."""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, dev: Cluster, scenario: Callable[..., Scenario]
) -> Iterator[dict[str, "Future[None]"]]:
    """Every chosen play, under way."""
    first = replace(dev, options={"nodelist": "dev1"})
    low = replace(dev, partition="low", cpus=4, options={"nodelist": "dev2"})
    chosen = {item.callspec.params["play"] for item in request.session.items if "played" in item.fixturenames}
    with ThreadPoolExecutor(len(PLAYS)) as pool:
        begun = {}
        for name in PLAYS:
            if name not in chosen:
                continue
            if name == "full_disk":
                scenes = [scenario(first, request.getfixturevalue("small_disk"))]
            elif name in CLUSTERS:
                scenes = [scenario(replace(first, **CLUSTERS[name]))]
            elif name == "preempted_twice":
                scenes = [scenario(low), scenario(low)]
            else:
                scenes = [scenario(first, with_child=name == "begun_from_another")]
            begun[name] = pool.submit(globals()[name], *scenes)
        yield begun


@pytest.mark.parametrize("play", PLAYS)
def test_nothing_is_lost_when_a_job_is(played: dict[str, "Future[None]"], play: str) -> None:
    played[play].result()


WORDLESS = {
    "exit 3": "FAILED",
    "kill -KILL $$": "FAILED",
    in_place_of_ours(sys.executable, "-c", "import sys; sys.exit(3)"): "FAILED",
    in_place_of_ours(sys.executable, "-c", "import os; os._exit(4)"): "FAILED",
    in_place_of_ours("sh", "-c", "kill -SEGV $$"): "FAILED",
    in_place_of_ours("true"): "COMPLETED",
}
"""Lines of set-up by which jobs end without a word and with no cell ended, and what SLURM says of them."""


def test_no_cell_is_waited_for_whose_job_ended_without_a_word(
    dev: Cluster, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    """There is no accounting here. More jobs than the largest array holds, for one of them."""
    cells = [Cell.compose([f"seeds.init_seed={seed}"]) for seed in range(devcluster.ARRAY_LIMIT + 1)]
    stores = [Store(tmp_path / str(number)) for number in range(len(WORDLESS))]
    for store, line in zip(stores, WORDLESS, strict=True):
        cluster = replace(dev, throttle=len(cells), setup=(line,))
        mine = cells if store is stores[0] else cells[:1]
        sent = send(propose(mine, store, "devcluster", cluster), store, "test", "devcluster")
        sizes = [len(array.jobs) for array in sent.arrays]
        assert sizes == ([devcluster.ARRAY_LIMIT, 1] if store is stores[0] else [1])
    for store, said in zip(stores, WORDLESS.values(), strict=True):
        (sent,) = submissions(store)
        mine = cells if store is stores[0] else cells[:1]
        wait_for(lambda: all(job.ended for job in look([sent]).jobs.values()), "the jobs are gone")  # noqa: B023
        found = statuses(mine, store)
        assert [status.state for status in found] == [State.MISSING] * len(mine)
        jobs = [job for array in sent.arrays for job in array.jobs]
        for job, status in zip(jobs, found, strict=True):
            assert status.error is not None
            assert status.error.startswith(f"job {job} ended without it: {said}")


@pytest.fixture
def whole_cluster(dev: Cluster) -> Iterator[Cluster]:
    """For what takes a node away; afterwards both are there again."""
    yield dev
    subprocess.run(["scancel", "--partition=main", "--full"], check=True)
    for node in devcluster.NODES:
        if not devcluster.node_runs(node):
            devcluster.start_node(node)
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)


def node_of(job: str) -> str:
    return ask("squeue", "-h", "-j", job, "-o", "%N").strip()


def test_a_node_that_is_set_down(whole_cluster: Cluster, scenario: Callable[..., Scenario]) -> None:
    scene = scenario(whole_cluster)
    _, job = started(scene)
    node, worker = node_of(job), scene.running()["pid"]
    os.kill(worker, signal.SIGSTOP)  # until the other job has come as far
    other = scenario(replace(whole_cluster, options={"nodelist": node, "no-requeue": True}))
    _, lost = started(other)
    os.kill(worker, signal.SIGCONT)
    ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    left = [State.INTERRUPTED, State.MISSING]
    other.wait_for(
        lambda: [status.state for status in other.look()] == left, "a job that may not be queued again is gone"
    )
    assert all(status.error.startswith(f"job {lost} ended without it: NODE_FAIL") for status in other.look())
    other.cluster = whole_cluster
    other.submit()
    for each in (scene, other):
        each.finish()
        assert len(each.attempts()) == 2
    assert restarts(job) == 1


def test_a_node_that_loses_touch_while_its_job_lives_on(
    whole_cluster: Cluster, scenario: Callable[..., Scenario]
) -> None:
    scene = scenario(whole_cluster)
    sent, job = started(scene)
    old = scene.running()["pid"]
    os.kill(old, signal.SIGSTOP)
    devcluster.kill_node(node_of(job))
    log = sent.log_of(0, 0)
    scene.wait_for(lambda: "claimed by another" in log.read_text(), "the second copy finds that the first has the cell")
    assert restarts(job) == 1
    os.kill(old, signal.SIGCONT)
    scene.finish()
    assert scene.attempts() == [True]
