"""Which rows may be averaged together: those of one version of the task and one of each evaluation.

A version is raised where numbers change their meaning; an average over two versions is a number of nothing. Of several
versions of an evaluation the newest counts.
"""

from collections.abc import Iterable

import polars as pl


def newest_evaluations(records: pl.DataFrame) -> tuple[pl.DataFrame, list[tuple[str, str, str]]]:
    """The records without those of an evaluation of which there are records of a newer version.

    Returns:
        The records, and (cell, old, new) for each cell that lost some: an evaluation as name@version, and the newer.
    """
    found = records.select(pl.col("evaluation").unique(maintain_order=True)).with_columns(
        pl.col("evaluation").str.split("@").list.first().alias("name"),
        pl.col("evaluation").str.split("@").list.last().cast(pl.Int64).alias("version"),
    )
    newest = found.group_by("name").agg(pl.col("version").max().alias("newest"))
    old = found.join(newest, on="name").filter(pl.col("version") < pl.col("newest"))
    if old.is_empty():
        return records, []
    lost = records.join(old, on="evaluation").unique(["cell", "evaluation"], maintain_order=True)
    names = lost.select("cell", "evaluation", pl.format("{}@{}", "name", "newest"))
    return records.join(old, on="evaluation", how="anti"), [(str(c), str(o), str(n)) for c, o, n in names.iter_rows()]


def mixed_versions(cells: pl.DataFrame, records: pl.DataFrame) -> list[str]:
    """What forbids averaging these rows, one phrase each; empty if nothing does.

    Args:
        cells: the rows of `schema.CELLS` of one contrast. Failed cells have no numbers and are not looked at.
        records: rows of `schema.RECORDS`, those of other cells ignored: the ones that would be averaged, so filtered to
            the split and metric that are read, or all.

    Raises:
        ValueError: a task or an evaluation is not written name@version.
    """
    done = cells.filter(pl.col("status") == "done")
    evaluations = records.join(done, on="cell", how="semi")["evaluation"].unique()
    return _mixed("task", done["task"].unique()) + _mixed("evaluation", evaluations)


def _mixed(what: str, names: Iterable[str]) -> list[str]:
    versions: dict[str, list[str]] = {}
    for name in sorted(names):
        base, at, version = name.rpartition("@")
        if not (base and at and version):
            raise ValueError(f"{what} is {name!r}; it must be name@version")
        versions.setdefault(base, []).append(version)
    return [
        f"rows of several versions of {what} {base} are mixed ({', '.join(found)})"
        for base, found in versions.items()
        if len(found) > 1
    ]
