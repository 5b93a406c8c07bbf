"""Claims: who runs a cell. Two workers, two shells or two hosts may want the same one; exactly one gets it.

A claim is a file `claims/<generation>.json`, created by an exclusive hard link, so that it holds on network file
systems too. Its owner touches it while it lives. When it goes stale the next generation may be claimed, again by
exclusive link; the highest generation owns the cell, and an old copy that lives on finds out (`held`) before it
publishes.
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


def _process_start(pid: int) -> str | None:
    """When a process of this host began, or None if there is none: tells a reused process id from the old process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _newest(claims: Path) -> Path | None:
    """The file of the highest generation, if any."""
    found = [path for path in claims.glob("*.json") if path.stem.isdigit()]
    return max(found, key=lambda path: int(path.stem), default=None)


def _alive(path: Path, stale_seconds: float) -> bool:
    """Whether a claim's owner still runs: not released, and its process exists (same host) or its heart beats."""
    if path.with_suffix(".released").exists():
        return False
    try:
        owner = json.loads(path.read_text())
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if owner["host"] == socket.gethostname() and Path("/proc/self/stat").exists():
        return _process_start(owner["pid"]) == owner["process_start"]
    return age < stale_seconds


def owner(folder: Path, stale_seconds: float = STALE_SECONDS) -> dict[str, Any] | None:
    """Who runs the cell in `folder` right now (host, pid, since), or None."""
    newest = _newest(folder / "claims")
    if newest is None or not _alive(newest, stale_seconds):
        return None
    return dict(json.loads(newest.read_text()))


@dataclass
class Claim:
    """A held claim; a context manager that beats while it is open and releases on leaving."""

    path: Path
    token: str
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def acquire(cls, folder: Path, stale_seconds: float = STALE_SECONDS) -> "Claim | None":
        """Claim the cell in `folder`, or return None while somebody alive has it."""
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
            }
        )
        draft, path = claims / f"{token}.draft", claims / f"{generation:06d}.json"
        draft.write_text(text)
        try:
            os.link(draft, path)
        except FileExistsError:
            return None
        finally:
            draft.unlink()
        return cls(path, token)

    def held(self) -> bool:
        """Whether this is still the newest claim of the cell."""
        return _newest(self.path.parent) == self.path

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            os.utime(self.path)

    def __enter__(self) -> "Claim":
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.path.with_suffix(".released").touch()
