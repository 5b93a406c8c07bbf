"""Which rows may be averaged together: those of one version of the task and one of each evaluation.

A version is raised where numbers change their meaning; an average over two versions is a number of nothing.
"""

from collections.abc import Iterable

import polars as pl


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
