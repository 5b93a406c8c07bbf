"""One grid sent to one run folder from two checkouts of different commits, the second time from inside a job."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.questions import grid
from results.store import Store
from slurm.cluster import Cluster
from slurm.queue import look
from slurm.submission import Submission, submissions
from sweeps.claim import attempts
from sweeps.provenance import CHECKOUT

GRID = ["capacity_vs_manipulation", "--scale", "smoke", "--part", "manipulation"]
CLUSTER = """\
executor: slurm
partition: main
time_minutes: 10
memory_gb: 0.5
compile: "off"
throttle: 1
signal_seconds: 30
"""


def git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=tester", "-c", "user.email=tester@example.org", *arguments]
    return subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkouts(tmp_path: Path) -> dict[Path, str]:
    """Two clones of the rooms as they are here, and the commit of each; the code of the second says whose it is."""
    first, second = tmp_path / "first", tmp_path / "second"
    for package in CHECKOUT.glob("*/__init__.py"):
        room = package.parent
        shutil.copytree(room, first / room.name, ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "--quiet", str(first))
    git(first, "add", ".")
    git(first, "commit", "--quiet", "--message=first")
    git(tmp_path, "clone", "--quiet", str(first), str(second))
    with (second / "sweeps" / "__init__.py").open("a") as file:
        file.write('\nprint("the code of the second checkout")\n')
    git(second, "commit", "--quiet", "--all", "--message=second")
    return {checkout: git(checkout, "rev-parse", "HEAD") for checkout in (first, second)}


def submit(checkout: Path, *arguments: str, from_a_job: bool = False) -> str:
    """What the command says when it is run in a checkout, by hand or in a batch job that was given memory per core."""
    runs, said = checkout.parent / "runs", checkout.parent / "said"
    code = "from experiments.cli.main import main; main()"
    command = [sys.executable, "-c", code, "submit", *GRID, *arguments, "--cluster", "../mine.yaml"]
    if from_a_job:
        batch = ["sbatch", "--wait", "--quiet", f"--output={said}", "--mem-per-cpu=700", "--cpus-per-task=1"]
        command = [*batch, f"--wrap=echo $SLURM_MEM_PER_CPU; {shlex.join(command)}"]
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "LOOPLM_RUNS": str(runs), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    heard = said.read_text() if from_a_job else done.stdout
    assert done.returncode == 0, heard + done.stderr
    return heard


def logs(sent: Submission) -> str:
    return "".join(path.read_text() for path in sent.jobs_folder.glob("*_log.out"))


def test_each_job_runs_the_code_of_the_checkout_that_sent_it(
    dev: Cluster, checkouts: dict[Path, str], tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    (tmp_path / "mine.yaml").write_text(CLUSTER)
    first, second = checkouts
    submit(first, "--arm", "plain")
    shutil.rmtree(first)  # what was sent does not need it any more
    # What a job was given must not be asked for again: SLURM takes memory per core and per job for a contradiction.
    said = submit(second, "--arm", "plain", "--arm", "longer", from_a_job=True)
    assert said.startswith("700\n")
    assert "2 cells in 1 jobs" in said, said
    store = Store(tmp_path / "runs")
    newer, older = submissions(store)
    wait_for(lambda: all(job.ended for job in look([newer, older]).jobs.values()), "both jobs end")
    rows = store.read()
    assert rows.problems == ()
    cells = grid(GRID[0]).expand("smoke").only(["manipulation"], ["plain", "longer"]).cells
    assert rows.cells["cell"].to_list() == sorted(cells)
    assert rows.cells["status"].unique().to_list() == ["done"]
    for sent, commit in ((older, checkouts[first]), (newer, checkouts[second])):
        (pack,) = (pack for array in sent.arrays for pack in array.packs)
        mine = rows.cells.filter(rows.cells["cell"].is_in(pack))
        assert mine["suite_commit"].to_list() == [commit] * 2
        for cell in pack:
            (attempt,) = attempts(store.folder(cell))
            assert attempt["job"] == f"{sent.name}/0-0"
    assert older.code != newer.code
    assert ["the code of the second checkout" in logs(sent) for sent in (older, newer)] == [False, True]
