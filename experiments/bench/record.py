"""A benchmark's rows in a file, beside all that decides what they mean: machine, versions, commit, options and load."""

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from experiments.bench.measure import Options, Row, clock
from experiments.bench.public import digest
from sweeps.files import write_atomically
from sweeps.provenance import device_model, suite_commit

PACKAGES = ("torch", "triton", "numpy", "lightning", "liger-kernel", "cut-cross-entropy", "flash-attn", "transformers")
"""What a figure may depend on; null where it is not installed."""


def recorded(name: str, options: Options, rows: Iterator[Row], path: Path) -> Iterator[Row]:
    """The rows as they come, each of them in the file at `path` before the next is measured.

    `finished` is null in the file until the last has come. `load` is how many processes wanted a core, averaged over a
    minute, when the measurement began and when the file was written. Of Ouro's public code it says which, not where it
    lay.

    Raises:
        OSError: if the file cannot be written, before anything is measured.
    """
    ouro = None if options.ouro is None else digest(Path(options.ouro))
    content: dict[str, Any] = {
        "bench": name,
        "options": dataclasses.asdict(options) | {"threads": torch.get_num_threads(), "ouro": ouro},
        "clock": clock(options.device).__name__,
        "device": device_model(options.device),
        "instructions": _instructions(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in PACKAGES},
        "cuda": torch.version.cuda,
        "commit": suite_commit(),
        "begun": _now(),
        "finished": None,
        "load": [_load(), _load()],
        "rows": [],
    }

    path.parent.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        content["load"][1] = _load()
        write_atomically(path, json.dumps(content, indent=1) + "\n")

    write()
    for row in rows:
        content["rows"].append(dataclasses.asdict(row))
        write()
        yield row
    content["finished"] = _now()
    write()


def _instructions() -> list[str]:
    """What this CPU has to multiply with; its name alone may stand for several kinds."""
    here = torch.cpu.get_capabilities()
    return sorted(name for name, value in here.items() if value is True and name.startswith(("amx", "avx", "fma")))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _load() -> float:
    return round(os.getloadavg()[0], 2)
