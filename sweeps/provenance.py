"""Which code ran: the commit of this checkout, marked where the working tree differs from it."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def suite_commit() -> str:
    """The commit's hash, with `+changes` where tracked files differ, or `unknown` outside a git checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()
