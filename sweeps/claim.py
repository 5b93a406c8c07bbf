"""Claims: who runs a cell. Two workers, two shells or two hosts may want the same one; exactly one gets it.

A claim is a file `claims/<generation>.json`, created by an exclusive hard link, so that it holds on network file
systems too. Its owner touches it while it lives. When it goes stale the next generation may be claimed, again by
exclusive link; the highest generation owns the cell, and an old copy that lives on finds out (`held`, `lost`) before it
publishes. Ages are differences between times of one clock, the file server's.
"""

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0

JOB_VARIABLE = "LOOPLM_JOB"
"""Environment variable that says which cluster job a worker belongs to; it is written into its claims."""

_skews: dict[int, float] = {}
"""By file system: how far its server's clock is ahead of ours, in seconds, when last seen."""


def _learn_clock(written: Path) -> None:
    """Compare our clock with that of the server that has just dated a file."""
    stat = written.stat()
    _skews[stat.st_dev] = stat.st_mtime - time.time()


def _server_time(claims: Path) -> float:
    """What the file server's clock shows; ours, where we may not write."""
    device = claims.stat().st_dev
    if device not in _skews:
        probe = claims / f"{uuid.uuid4().hex}.draft"
        try:
            probe.touch()
        except OSError:
            return time.time()
        _learn_clock(probe)
        probe.unlink()
    return time.time() + _skews[device]


def _process_start(pid: int) -> str | None:
    """When a process of this host began, or None if there is none: tells a reused process id from the old process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _generations(claims: Path) -> list[Path]:
    """The files of all generations, newest first."""
    found = [path for path in claims.glob("*.json") if path.stem.isdigit()]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def _newest(claims: Path) -> Path | None:
    """The file of the highest generation, if any."""
    return next(iter(_generations(claims)), None)


def _released(path: Path) -> bool:
    return path.with_suffix(".released").exists()


def _read(path: Path) -> dict[str, Any]:
    """What a claim says; nothing, where a crash of the file server left it empty."""
    text = path.read_text()
    return dict(json.loads(text)) if text.strip() else {}


def _alive(path: Path, stale_seconds: float) -> bool:
    """Whether a claim's owner still runs: not released, and its process exists (same host) or its heart beats."""
    if _released(path):
        return False
    try:
        owner = _read(path)  # opening the file also makes a network file system look up its present age
        age = _server_time(path.parent) - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if owner.get("host") == socket.gethostname() and Path("/proc/self/stat").exists():
        return _process_start(owner["pid"]) == owner["process_start"]
    return age < stale_seconds


def owner(folder: Path, stale_seconds: float = STALE_SECONDS) -> dict[str, Any] | None:
    """Who runs the cell in `folder` right now (host, pid, since, job), or None."""
    newest = _newest(folder / "claims")
    if newest is None or not _alive(newest, stale_seconds):
        return None
    return _read(newest)


def attempts(folder: Path) -> list[dict[str, Any]]:
    """Every claim of the cell in `folder`, oldest first: host, pid, since, job, and whether it was `released`."""
    return [_read(path) | {"released": _released(path)} for path in reversed(_generations(folder / "claims"))]


@dataclass
class Claim:
    """A held claim; a context manager that beats while it is open and releases on leaving.

    Attributes:
        path: its file.
        token: tells it from every other claim.
        deaths: how many owners in a row before this one vanished without releasing their claim, and without getting
            any further: `mark` was the same for all of them as it is for this one.
    """

    path: Path
    token: str
    deaths: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lost: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def acquire(cls, folder: Path, mark: str = "", stale_seconds: float = STALE_SECONDS) -> "Claim | None":
        """Claim the cell in `folder`, or return None while somebody alive has it.

        `mark` says how far the cell has come, in any words that change when it gets further.
        """
        claims = folder / "claims"
        claims.mkdir(parents=True, exist_ok=True)
        newest = _newest(claims)
        if newest is not None and _alive(newest, stale_seconds):
            return None
        generation = int(newest.stem) + 1 if newest else 1
        token = uuid.uuid4().hex
        text = json.dumps(
            {
                "token": token,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process_start": _process_start(os.getpid()),
                "since": time.time(),
                "job": os.environ.get(JOB_VARIABLE),
                "mark": mark,
            }
        )
        draft, path = claims / f"{token}.draft", claims / f"{generation:06d}.json"
        try:
            draft.write_text(text)
            _learn_clock(draft)
            os.link(draft, path)
        except FileExistsError:
            # A network file system may repeat a request whose answer was lost: the link is ours if the file has two.
            if draft.stat().st_nlink != 2:
                return None
        finally:
            draft.unlink(missing_ok=True)
        return cls(path, token, _deaths(claims, generation, mark))

    def held(self) -> bool:
        """Whether this is still the newest claim of the cell."""
        return _newest(self.path.parent) == self.path

    @property
    def lost(self) -> bool:
        """Whether the last heartbeat found that somebody else has taken the cell over. Costs nothing to ask."""
        return self._lost.is_set()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
                if not self.held():
                    self._lost.set()
            except FileNotFoundError:
                self._lost.set()
            except OSError:
                continue  # the file server may be back at the next beat; if it is not, the claim goes stale

    def __enter__(self) -> "Claim":
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.path.with_suffix(".released").touch()


def _deaths(claims: Path, generation: int, mark: str) -> int:
    """Owners in a row before `generation` that vanished with the cell where it is now."""
    count = 0
    for path in _generations(claims):
        if int(path.stem) >= generation:
            continue
        if _released(path) or _read(path).get("mark") != mark:
            break
        count += 1
    return count
