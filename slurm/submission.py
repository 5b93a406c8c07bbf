"""A submission: what one command sent to a cluster, and where it keeps its files.

    root/slurm/<name>/submission.json    which cells went into which job of which array, and the jobs' ids
    root/slurm/<name>/lists/<job>.json   the cells of one job, for its workers
    root/slurm/<name>/ends/<job>.json    how a job ended, in its own words
    root/slurm/<name>/jobs/              submitit's: scripts, pickles, logs

A job's key is `<array>-<index>`. SLURM's comment on an array, `looplm:<name>:<array>`, leads back here from the queue.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.store import Store
from slurm.cluster import Cluster
from slurm.packing import turns
from sweeps.config import construct
from sweeps.files import write_atomically

COMMENT = "looplm"


@dataclass(frozen=True)
class Array:
    """Jobs that were sent together.

    Attributes:
        packs: for each job the ids of its cells, in running order.
        cluster: how each job was sent.
        stage: arrays of a later stage begin when those of the earlier ones have ended.
        after: jobs of earlier submissions that have to end before.
        seconds: estimated work of each job.
        jobs: ids that the executor gave them; empty until it has.
    """

    packs: tuple[tuple[str, ...], ...]
    cluster: Cluster
    stage: int
    after: tuple[str, ...]
    seconds: tuple[float, ...]
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submission:
    """What was sent at one time.

    Attributes:
        folder: where its files are.
        title: question and scale, for people.
        cluster: name of the cluster.
        code: the snapshot that its jobs run.
        sent: seconds since 1970.
        host: where it was sent from, and where its jobs are if the executor is `local`.
        arrays: the jobs.
    """

    folder: Path
    title: str
    cluster: str
    code: Path
    sent: float
    host: str
    arrays: tuple[Array, ...]

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.folder.name

    @property
    def store(self) -> Store:
        """The store whose cells it runs."""
        return Store(self.folder.parent.parent)

    @property
    def jobs_folder(self) -> Path:
        """Where submitit keeps its files."""
        return self.folder / "jobs"

    def list_of(self, array: int, index: int) -> Path:
        """The cells of a job."""
        return self.folder / "lists" / f"{array}-{index}.json"

    def end_of(self, array: int, index: int) -> Path:
        """How a job ended."""
        return self.folder / "ends" / f"{array}-{index}.json"

    def log_of(self, array: int, index: int, suffix: str = "out") -> Path | None:
        """The log of a job, or None where its id is not known."""
        jobs = self.arrays[array].jobs
        return self.jobs_folder / f"{jobs[index]}_0_log.{suffix}" if jobs else None

    def lists_for(self, array: int, index: int) -> list[Path]:
        """The lists that a job works through: its own, then those of the other jobs of its array."""
        return [self.list_of(array, turn) for turn in turns(index, len(self.arrays[array].packs))]

    def comment(self, array: int) -> str:
        """What SLURM notes of an array."""
        return f"{COMMENT}:{self.name}:{array}"

    def write(self) -> None:
        """Write `submission.json`, whole or not at all."""
        text = {
            "title": self.title,
            "cluster": self.cluster,
            "code": str(self.code),
            "sent": self.sent,
            "host": self.host,
            "arrays": [dataclasses.asdict(array) for array in self.arrays],
        }
        write_atomically(self.folder / "submission.json", json.dumps(text))

    @classmethod
    def read(cls, folder: Path) -> "Submission":
        """What `write` wrote.

        Raises:
            ValueError: naming the file, if it is damaged or another version's.
        """
        path = folder / "submission.json"
        try:
            text = json.loads(path.read_text())
            arrays = tuple(_array(entry) for entry in text["arrays"])
            own = {name: text[name] for name in ("title", "cluster", "sent", "host")}
            return cls(folder, code=Path(text["code"]), arrays=arrays, **own)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no submission of this version ({error!r}); cancel its jobs, remove it"
            ) from None


def _array(entry: Mapping[str, Any]) -> Array:
    return Array(
        packs=tuple(map(tuple, entry["packs"])),
        cluster=construct(Cluster, entry["cluster"], "cluster"),
        stage=entry["stage"],
        after=tuple(entry["after"]),
        seconds=tuple(entry["seconds"]),
        jobs=tuple(entry["jobs"]),
    )


def submissions(store: Store) -> list[Submission]:
    """Every submission of a store, newest first."""
    found = [Submission.read(path.parent) for path in (store.root / "slurm").glob("*/submission.json")]
    return sorted(found, key=lambda submission: submission.sent, reverse=True)


@dataclass(frozen=True)
class Place:
    """Where a cell was sent: one job of a submission."""

    submission: Submission
    array: int
    index: int

    @property
    def key(self) -> tuple[str, int, int]:
        """Submission, array and index: what names a job for us."""
        return self.submission.name, self.array, self.index

    @property
    def job(self) -> str | None:
        """The id that the executor gave the job, if it is known."""
        jobs = self.submission.arrays[self.array].jobs
        return jobs[self.index] if jobs else None


def places(sent: Iterable[Submission]) -> dict[str, list[Place]]:
    """Where each cell was sent, in the order of the submissions."""
    found: dict[str, list[Place]] = {}
    for submission in sent:
        for number, array in enumerate(submission.arrays):
            for index, pack in enumerate(array.packs):
                for cell in pack:
                    found.setdefault(cell, []).append(Place(submission, number, index))
    return found
