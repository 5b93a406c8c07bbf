"""Numbers that others published, as frames, to stand beside ours. None of them was measured here."""

from pathlib import Path

import polars as pl

_FOLDER = Path(__file__).parent / "published"


def published(name: str) -> pl.DataFrame:
    """The table `results/published/<name>.csv`; where each was published stands in the README beside it.

    Raises:
        ValueError: for an unknown name.
    """
    known = sorted(path.stem for path in _FOLDER.glob("*.csv"))
    if name not in known:
        raise ValueError(f"published table is {name!r}; it must be {' | '.join(known)}")
    return pl.read_csv(_FOLDER / f"{name}.csv")
