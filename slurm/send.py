"""Sending a proposal: written down, then as job arrays through submitit, or as processes without SLURM."""

import contextlib
import dataclasses
import os
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import submitit
from submitit.helpers import clean_env

from results.store import Store
from slurm import snapshot
from slurm.cluster import Cluster
from slurm.job import InProcess, Job
from slurm.propose import Proposal
from slurm.queue import NoAnswerError, ask
from slurm.submission import Array, Submission
from sweeps.claim import Claim
from sweeps.listing import Listing

LOCK_SECONDS = 120.0
"""How long one command waits for another that is submitting to the same runs."""


def send(
    proposal: Proposal,
    store: Store,
    title: str,
    name: str,
    dry_run: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Write a submission down and send its arrays; with `dry_run` only its scripts are written.

    `tell` hears a line for each array. With the executor `debug` the jobs run before this returns.

    Raises:
        NoAnswerError: if SLURM does not answer.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    submission = Submission(
        folder=(store.root / "slurm" / f"{stamp}-{secrets.token_hex(3)}").absolute(),
        title=title,
        cluster=name,
        code=snapshot.take(store.root).absolute(),
        sent=time.time(),
        host=socket.gethostname(),
        arrays=tuple(_arrays(proposal)),
    )
    cells = {cell.id: cell for batch in proposal.batches for each in batch.packs for cell in each}
    for folder in (submission.folder, submission.folder / "lists", submission.folder / "ends", submission.jobs_folder):
        folder.mkdir(parents=True)
    submission.jobs_folder.chmod(0o755)
    for number, array in enumerate(submission.arrays):
        execution = {name: getattr(array.cluster, name) for name in ("device", "devices", "compile", "cuda_graphs")}
        for index, ids in enumerate(array.packs):
            Listing([cells[cell] for cell in ids], execution).write(submission.list_of(number, index))
    if dry_run:
        for number in range(len(submission.arrays)):
            executor = _slurm_executor(submission, number, (), _ScriptWriter)
            if len(submission.arrays[number].packs) > 1:
                executor.parameters["map_count"] = len(submission.arrays[number].packs)  # as submitit does for an array
            text = executor._make_submission_file_text(executor._submitit_command_str, "dry")
            path = submission.folder / f"array-{number}.sh"
            path.write_text(text)
            tell(f"array {number}: {path}")
        return submission
    # Written before anything is sent: were this process killed now, SLURM's comments would still lead to the cells.
    submission.write()
    for number, array in enumerate(submission.arrays):
        earlier = [job for other in submission.arrays[:number] if other.stage < array.stage for job in other.jobs]
        before = [*array.after, *earlier]
        jobs = _SENDERS[array.cluster.executor](submission, number, before)
        arrays = list(submission.arrays)
        arrays[number] = dataclasses.replace(array, jobs=tuple(jobs))
        submission = dataclasses.replace(submission, arrays=tuple(arrays))
        submission.write()
        tell(f"array {number}: {len(jobs)} jobs, {sum(map(len, array.packs))} cells, job {jobs[0]}")
    return submission


def _arrays(proposal: Proposal) -> Iterator[Array]:
    """The batches, cut where the site's limit on arrays is lower."""
    for batch in proposal.batches:
        limit = _array_limit(batch.cluster)
        for first in range(0, len(batch.packs), limit):
            packs = batch.packs[first : first + limit]
            ids = tuple(tuple(cell.id for cell in cells) for cells in packs)
            yield Array(ids, batch.cluster, batch.stage, batch.after, batch.seconds[first : first + limit])


def _array_limit(cluster: Cluster) -> int:
    if cluster.executor != "slurm":
        return sys.maxsize
    try:
        lines = ask("scontrol", "show", "config").splitlines()
    except NoAnswerError:
        return cluster.array_limit
    found = [line.partition("=")[2].strip() for line in lines if line.startswith("MaxArraySize")]
    return min(cluster.array_limit, int(found[0])) if found else cluster.array_limit


def _python() -> str:
    """What jobs run in place of `python`; submitit's own entry comes after it as arguments."""
    return f"{shlex.quote(sys.executable)} -m slurm.start"


class _ScriptWriter(submitit.SlurmExecutor):
    """Writes scripts also where there is no SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 2


def _slurm_executor(
    submission: Submission,
    number: int,
    before: Sequence[str],
    kind: type[submitit.SlurmExecutor] = submitit.SlurmExecutor,
) -> submitit.SlurmExecutor:
    array = submission.arrays[number]
    cluster = array.cluster
    executor = kind(submission.jobs_folder, max_num_timeout=cluster.requeues, python=_python())
    given = {key: getattr(cluster, key) for key in ("partition", "account", "qos", "constraint")}
    # Not where the command was given: that folder may be gone when the job begins, and torch cannot be loaded then.
    options = {"requeue": "no-requeue" not in cluster.options, "chdir": str(submission.folder), **cluster.options}
    after = sorted({job.partition("_")[0] for job in before})
    executor.update_parameters(
        job_name=f"looplm {submission.title}",
        comment=submission.comment(number),
        time=cluster.time_minutes,
        mem=f"{round(cluster.memory_gb * 1024)}M",
        cpus_per_task=cluster.cpus,
        srun_args=["--cpus-per-task", str(cluster.cpus)],
        signal_delay_s=cluster.signal_seconds,
        array_parallelism=cluster.throttle,
        setup=[*cluster.setup, f"export PYTHONPATH={shlex.quote(str(submission.code))} PYTHONSAFEPATH=1"],
        additional_parameters={name: value for name, value in options.items() if value is not False},
        **{key: value for key, value in given.items() if value is not None},
        **({"gpus_per_node": cluster.gpus} if cluster.gpus else {}),
        **({"dependency": "afterany:" + ":".join(after)} if after else {}),
    )
    return executor


def _send_to_slurm(submission: Submission, number: int, before: Sequence[str]) -> list[str]:
    ask("sinfo", "-h", "-o", "%P")  # answers in time or not at all; sbatch would wait for long
    config = os.environ.get("SLURM_CONF")
    executor = _slurm_executor(submission, number, before)
    jobs = [Job(str(submission.folder), number, index) for index in range(len(submission.arrays[number].packs))]
    with clean_env():  # submitted from inside a job, what that job was given would be asked for again
        if config is not None:
            os.environ["SLURM_CONF"] = config
        try:
            return [job.job_id for job in executor.submit_array(jobs)]
        finally:
            os.environ.pop("SLURM_CONF", None)


def _send_to_this_machine(submission: Submission, number: int, before: Sequence[str]) -> list[str]:
    cluster = submission.arrays[number].cluster
    executor = submitit.LocalExecutor(submission.jobs_folder, max_num_timeout=cluster.requeues, python=_python())
    executor.update_parameters(
        timeout_min=cluster.time_minutes,
        signal_delay_s=cluster.signal_seconds,
        gpus_per_node=cluster.gpus,
        setup=list(cluster.setup),
    )
    jobs = [Job(str(submission.folder), number, index) for index in range(len(submission.arrays[number].packs))]
    variables = {"PYTHONPATH": str(submission.code), "PYTHONSAFEPATH": "1"}
    log = submission.folder / "local.log"
    with _environment(**variables), _apart_from_the_terminal(log), contextlib.chdir(submission.folder):
        return [executor.submit(job).job_id for job in jobs]


def _run_in_this_process(submission: Submission, number: int, before: Sequence[str]) -> list[str]:
    jobs = range(len(submission.arrays[number].packs))
    for index in jobs:
        InProcess(str(submission.folder), number, index)()
    return [f"debug-{number}-{index}" for index in jobs]


_SENDERS: dict[str, Callable[[Submission, int, Sequence[str]], list[str]]] = {
    "slurm": _send_to_slurm,
    "local": _send_to_this_machine,
    "debug": _run_in_this_process,
}


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _apart_from_the_terminal(log: Path) -> Iterator[None]:
    """Processes started here write to a log, and outlive the terminal and whoever reads our output."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.stdout.flush()
    kept = [os.dup(stream) for stream in (0, 1, 2)]
    try:
        with open(os.devnull) as nothing, log.open("a") as file:
            for source, stream in ((nothing, 0), (file, 1), (file, 2)):
                os.dup2(source.fileno(), stream)
        yield
    finally:
        for copy, stream in zip(kept, (0, 1, 2), strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """Hold the right to submit to these runs: of two commands the second sees what the first has sent.

    Raises:
        RuntimeError: if another command holds it for longer than `LOCK_SECONDS`.
    """
    folder, deadline = store.root / "slurm" / "submitting", time.monotonic() + LOCK_SECONDS
    while (claim := Claim.acquire(folder)) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"another command is submitting to {store.root} (see {folder})")
        time.sleep(0.2)
    with claim:
        yield
