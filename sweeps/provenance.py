"""Where and by which code a cell was run: the commit of this checkout and the model of the device."""

import platform
import subprocess
from functools import cache
from pathlib import Path

import torch


@cache
def suite_commit() -> str | None:
    """The commit's hash, with `+changes` where tracked files differ; None outside a git checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@cache
def device_model(device: str) -> str:
    """Model name of the GPU, or of the CPU as Linux calls it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
