"""The code that jobs run: a copy of this checkout as it is now, named by a hash of what is in it."""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from sweeps.provenance import CHECKOUT, COMMIT_FILE, suite_commit

_KINDS = {".py", ".yaml", ".csv"}
"""Kinds of files that the rooms need when they run."""


def take(runs: Path) -> Path:
    """Copy the rooms, changes not yet committed included, to `runs/code/<hash>` unless that is there, and return it.

    The copy says which commit it is of, so that rows know, though there is no git where it runs.
    """
    commit = suite_commit() or ""
    files = list(_files())
    digest = hashlib.blake2b(commit.encode(), digest_size=8)
    for name, content in files:
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    target = runs / "code" / digest.hexdigest()
    if target.exists():
        return target
    beside = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    for name, content in files:
        path = beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (beside / COMMIT_FILE).write_text(commit)
    try:
        os.rename(beside, target)
    except OSError:
        shutil.rmtree(beside)
        if not target.exists():
            raise
    return target


def _files() -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of the rooms, in a fixed order."""
    rooms = sorted(path.parent for path in CHECKOUT.glob("*/__init__.py"))
    for room in rooms:
        for path in sorted(room.rglob("*")):
            if path.suffix in _KINDS and path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(CHECKOUT).as_posix(), path.read_bytes()
