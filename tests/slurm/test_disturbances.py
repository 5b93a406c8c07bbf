"""What clusters do to jobs, done to real ones: afterwards each cell is there once, with the records of a quiet run.

Those that leave each other alone are played at the same time.
"""

import contextlib
import errno
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm import devcluster
from slurm.cancel import cancel
from slurm.cluster import Cluster
from slurm.queue import ask
from slurm.run import run_on_cluster
from slurm.submission import Submission
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


def out_of_time(scene: Scenario) -> None:
    """The signal that SLURM sends before the time limit."""
    _, job = started(scene)
    ask("scancel", "--signal=USR2", job)
    scene.finish()
    assert scene.attempts() == [True, True]
    assert restarts(job) == 1


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
    """Jobs are lost while somebody waits for the rows, as tuning does: they are sent again."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run_on_cluster, scene.cells, scene.store, "devcluster", scene.cluster, "test")
        scene.running()
        cancel({cell.id for cell in scene.cells}, scene.store)
        assert [status.state for status in waiting.result()] == [State.DONE, State.DONE]
    scene.finish()
    assert scene.attempts() == [True, True]


def worker_killed(scene: Scenario) -> None:
    """As by the kernel, for memory."""
    _, job = started(scene)
    scene.kill()
    scene.finish()
    assert scene.attempts() == [False, True]
    assert restarts(job) == 0


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
    "out_of_time",
    "preempted_twice",
    "cancelled",
    "left_behind",
    "worker_killed",
    "full_disk",
    "begun_from_another",
]


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
            elif name == "preempted_twice":
                scenes = [scenario(low), scenario(low)]
            else:
                scenes = [scenario(first, with_child=name == "begun_from_another")]
            begun[name] = pool.submit(globals()[name], *scenes)
        yield begun


@pytest.mark.parametrize("play", PLAYS)
def test_nothing_is_lost_when_a_job_is(played: dict[str, "Future[None]"], play: str) -> None:
    played[play].result()


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
    ask("scontrol", "update", f"nodename={node_of(job)}", "state=down", "reason=test")
    scene.finish()
    assert len(scene.attempts()) == 2
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
