"""Checkpoint files: written whole or not at all, sealed by a checksum, loaded without running code.

A file is one line of text, `looplm checkpoint sha256 <hex>`, followed by a `torch.save` archive that
`torch.load(weights_only=True)` accepts; the digest covers the archive. What training puts into it is in `training.py`.
"""

import hashlib
import io
import os
import pickle
import random
import socket
from pathlib import Path
from typing import Any

import numpy as np
import torch

from looplm.config import ModelConfig
from looplm.model import LoopLM

_MAGIC = "looplm checkpoint sha256 "


def write(path: Path, content: dict[str, Any]) -> None:
    """Put `content` at `path`: a reader sees the old file or the new one, also after a crash or a power cut."""
    archive = io.BytesIO()
    torch.save(content, archive)
    body = archive.getbuffer()
    beside = path.with_name(f"{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    with beside.open("wb") as file:
        file.write(f"{_MAGIC}{hashlib.sha256(body).hexdigest()}\n".encode())
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, its tensors on the CPU.

    Raises:
        ValueError: naming file and reason, if it is truncated, altered or no checkpoint of this suite.
        FileNotFoundError: if there is none.
    """
    header, _, body = path.read_bytes().partition(b"\n")
    if not header.startswith(_MAGIC.encode()):
        raise ValueError(f"checkpoint {path} is damaged: it does not begin with {_MAGIC.strip()!r}")
    if hashlib.sha256(body).hexdigest().encode() != header.removeprefix(_MAGIC.encode()):
        raise ValueError(f"checkpoint {path} is damaged: its content does not match its checksum")
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"checkpoint {path} cannot be read: {error}") from error


def set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint to the first free `<name>.damaged-<i>` and return the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    return aside


def load_model(path: Path) -> LoopLM:
    """The model of a training's checkpoint, on the CPU and in evaluation mode.

    Raises:
        ValueError: naming file and reason, if the file is damaged or holds no model.
        FileNotFoundError: if there is none.
    """
    content = read(path)
    if "configuration" not in content:
        raise ValueError(f"checkpoint {path} holds no model: it has no 'configuration'")
    return model_of(content)


def model_of(content: dict[str, Any]) -> LoopLM:
    """The model of a training's checkpoint that is already read, on the CPU and in evaluation mode."""
    configuration = content["configuration"]
    model = LoopLM(ModelConfig(**configuration["model"]), configuration["vocab_size"])
    weights = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    model.load_state_dict(weights)
    return model.eval()


def random_state() -> dict[str, Any]:
    """The state of every global generator, as tensors and plain numbers."""
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 - saved for code that uses it, not drawn from
    return {
        "python": (version, torch.tensor(internal, dtype=torch.int64), gauss),
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": _as_tensor(numpy_state["state"]["key"])}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set every global generator to what `random_state` saw."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss))
    inner = state["numpy"]["state"]
    key = inner["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def _as_tensor(key: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(key.astype(np.int64))
