"""A bundle: a folder of Parquet files with their SHA-256 sums, so that damage is seen before anything is parsed.

Knows nothing of what the frames mean. `sha256sum -c SHA256SUMS` checks a bundle by hand.
"""

import hashlib
import io
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

SUMS = "SHA256SUMS"


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: a reader, or a run after a crash, sees the old bytes or the new ones."""
    _replace({path: data})


def _replace(files: Mapping[Path, bytes]) -> None:
    """Replace each file in one step, one right after the other."""
    beside = {path: path.with_name(f".{path.name}-{uuid.uuid4().hex}") for path in files}
    try:
        for path, data in files.items():
            with beside[path].open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, draft in beside.items():
            draft.replace(path)
    finally:
        for draft in beside.values():
            draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_parquet(frame: pl.DataFrame) -> bytes:
    """The bytes of a Parquet file; the same frame gives the same bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def from_parquet(data: bytes, path: Path) -> pl.DataFrame:
    """The frame in `data`, which was read from `path`; `ValueError` if it is not a whole Parquet file."""
    try:
        return pl.read_parquet(data)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a readable Parquet file: {reason}") from error


def write_bundle(folder: Path, frames: Mapping[str, pl.DataFrame]) -> None:
    """Write each frame to `folder`/name.parquet, then the sums. Files of an older bundle are replaced.

    Each file is replaced in one step but the bundle is not: read in that moment, or stopped midway, it is one that
    `read_bundle` refuses.
    """
    files = {folder / f"{name}.parquet": to_parquet(frame) for name, frame in frames.items()}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n" for path, data in files.items())
    _replace({**files, folder / SUMS: sums.encode()})
    sync_folder(folder)


def read_bundle(folder: Path, names: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The named frames of a bundle. `ValueError` names the file that is missing, cut short or altered."""
    try:
        lines = (folder / SUMS).read_text(errors="replace").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        frames = {}
        for name in names:
            path = folder / f"{name}.parquet"
            data = path.read_bytes()
            if sums.get(path.name) != hashlib.sha256(data).hexdigest():
                raise ValueError(f"{path} does not match its sum in {SUMS}: it was cut short or altered")
            frames[name] = from_parquet(data, path)
        return frames
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error
