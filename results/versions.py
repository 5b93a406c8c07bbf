"""Versions of a measurement: the newest counts, and none is averaged with an older one."""

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
