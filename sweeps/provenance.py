"""Where and by which code a cell was run: the commit of this checkout and the model of the device."""

import platform
import subprocess
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
"""The folder that holds the rooms."""

COMMIT_FILE = "COMMIT"
"""What a copy of a checkout that has no git says its commit is."""


@cache
def suite_commit() -> str | None:
    """The commit's hash, with `+changes` where files differ from it; None where there is neither git nor a note of it.

    Files that git does not know count as changes where they are code or configuration in a room.
    """
    note = CHECKOUT / COMMIT_FILE
    if note.exists():
        return note.read_text().strip() or None
    rooms = [f"{path.parent.name}/*{kind}" for path in CHECKOUT.glob("*/__init__.py") for kind in (".py", ".yaml")]
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no") or _git("status", "--porcelain", "--", *rooms)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.strip()


@cache
def device_model(device: str) -> str:
    """Model name of the GPU; or of the CPU, as Linux calls it, with the instructions that torch uses on it.

    CPUs of one name may differ in their instructions, and with them in rounding and speed.
    """
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"{_cpu()}, {torch.backends.cpu.get_cpu_capability()}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
