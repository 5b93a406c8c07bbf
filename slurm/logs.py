"""What happened to one cell: its attempts, its traceback, and the end of the logs of the jobs that had it."""

import time
from pathlib import Path
from typing import Any

from results.store import Store
from slurm.submission import Place, places, submissions
from sweeps.claim import attempts, owner


def history(store: Store, beginning: str | None, lines: int) -> dict[str, Any]:
    """All of that as plain data: `cell`, `attempts` (oldest first) and `logs` (the last `lines` of each, by name).

    The cell is the one whose id begins so, or the one that was tried last.

    Raises:
        ValueError: if there is no such cell, or more than one.
    """
    sent = places(submissions(store))
    cell = _last_tried(store) if beginning is None else _named(beginning, store, set(sent))
    folder = store.folder(cell)
    running = owner(folder) is not None
    tried = attempts(folder)
    return {
        "cell": cell,
        "attempts": [
            {
                "number": number,
                "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt["since"])),
                "host": attempt["host"],
                "pid": attempt["pid"],
                "job": attempt["job"],
                "ended": "released" if attempt["released"] else "runs" if running and number == len(tried) else "died",
            }
            for number, attempt in enumerate(tried, 1)
        ],
        "logs": _tails([folder / "traceback.txt", *_job_logs(tried, sent.get(cell, []))], lines),
    }


def _named(beginning: str, store: Store, sent: set[str]) -> str:
    known = {path.name for path in (store.root / "cells").glob("*") if path.is_dir()} | sent
    found = sorted(cell for cell in known if cell.startswith(beginning))
    if len(found) != 1:
        what = f"{len(found)} cells begin so ({', '.join(found[:3])}, ...)" if found else "no cell begins so"
        raise ValueError(f"cell is {beginning!r}; {what} in {store.root}")
    return found[0]


def _last_tried(store: Store) -> str:
    folders = sorted((store.root / "cells").glob("*/claims"), key=lambda claims: claims.stat().st_mtime)
    if not folders:
        raise ValueError(f"no cell has been tried in {store.root}")
    return folders[-1].parent.name


def _job_logs(tried: list[dict[str, Any]], sent: list[Place]) -> list[Path]:
    """Logs of the job that had the cell last, or, where none has begun with it, of the job that it was sent in last."""
    last = next((attempt["job"] for attempt in reversed(tried) if attempt["job"]), None)
    at = [place for place in sent if last in (None, f"{place.submission.name}/{place.array}-{place.index}")]
    for place in at or sent:
        logs = [place.submission.log_of(place.array, place.index, suffix) for suffix in ("out", "err")]
        return [log for log in logs if log is not None]
    return []


def _tails(paths: list[Path], lines: int) -> dict[str, str]:
    existing = [path for path in paths if path.exists() and path.stat().st_size]
    return {str(path): "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) for path in existing}
