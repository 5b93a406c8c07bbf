"""Two sets of rows side by side: which cells and values differ, and whether by more than noise.

Cells are paired by their place in the question (part, arm, axis point, replicate) where both sides know it, so that two
versions of the code can be compared although their cells have other ids; else by id.
"""

from dataclasses import dataclass

import polars as pl

from results.schema import MEMBERS, RECORDS
from results.statistics import student_quantile

_PLACE = ["question", "scale", "part", "arm", "point", "replicate"]
_GROUP = ["part", "arm", "point", "evaluation", "split", "metric", "loop", "difficulty", "step"]
_SHOWN = ["device", "backend", "precision", "torch", "suite_commit", "task"]

CONFIDENCE = 0.95
"""Of the intervals of paired differences."""


@dataclass(frozen=True)
class Side:
    """One of the two: frames of `schema.CELLS` and `schema.RECORDS`, and of `schema.MEMBERS` where they are known."""

    cells: pl.DataFrame
    records: pl.DataFrame
    members: pl.DataFrame | None = None


@dataclass(frozen=True)
class Comparison:
    """What differs between A and B.

    Attributes:
        paired: how many cells are in both.
        only_a: cells of A without a counterpart that has ended in B.
        only_b: the same of B.
        status: cells that ended differently: cell, status_a, status_b, error_a, error_b.
        values: how many values are in both.
        equal: how many of them are equal to the last bit.
        unpaired: how many values are on one side alone, or null there.
        shifts: a row for each mean that differs: its place, n, the mean of A and of B, and the paired difference B - A
            with the ends `low` and `high` of its interval (null for one cell alone), and `beyond`: whether that
            interval leaves out 0.
        provenance: what the two were made with, where that differs: column -> (values of A, values of B).
    """

    paired: int
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    status: pl.DataFrame
    values: int
    equal: int
    unpaired: int
    shifts: pl.DataFrame
    provenance: dict[str, tuple[str, str]]

    @property
    def identical(self) -> bool:
        """Whether every cell is in both, ended alike, and has the same values to the last bit."""
        return not (self.only_a or self.only_b or len(self.status) or self.unpaired) and self.equal == self.values


def compare(a: Side, b: Side) -> Comparison:
    """Compare two sides; see `Comparison`."""
    pairs = _pairs(a, b)
    ended = pairs.join(_outcome(a.cells, "a"), on="cell_a", how="left", nulls_equal=False)
    ended = ended.join(_outcome(b.cells, "b"), on="cell_b", how="left", nulls_equal=False)
    in_a, in_b = pl.col("status_a").is_not_null(), pl.col("status_b").is_not_null()
    both = ended.filter(in_a, in_b)
    status = both.filter(pl.col("status_a") != pl.col("status_b")).unique(["cell_a", "cell_b"], maintain_order=True)
    values = _values(both, a.records, b.records)
    known = pl.col("value_a").is_not_null() & pl.col("value_b").is_not_null()
    alike = pl.col("value_a").eq_missing(pl.col("value_b")) & pl.col("in_a") & pl.col("in_b")
    once = values.unique(["cell_a", "cell_b", "evaluation", "split", "metric", "loop", "difficulty", "step"])
    return Comparison(
        paired=len(both.unique(["cell_a", "cell_b"])),
        only_a=tuple(ended.filter(in_a, ~in_b)["cell_a"].unique(maintain_order=True)),
        only_b=tuple(ended.filter(in_b, ~in_a)["cell_b"].unique(maintain_order=True)),
        status=status.select(pl.col("cell_a").alias("cell"), "status_a", "status_b", "error_a", "error_b"),
        values=len(once.filter(known | alike)),
        equal=len(once.filter(alike)),
        unpaired=len(once.filter(~known & ~alike)),
        shifts=_shifts(values.filter(known)),
        provenance=_provenance(a.cells, b.cells),
    )


def _pairs(a: Side, b: Side) -> pl.DataFrame:
    """A row for each place of either side: part, arm, point, replicate, cell_a, cell_b."""
    if a.members is not None and b.members is not None:
        left, right = (side.rename({"cell": f"cell_{name}"}) for side, name in ((a.members, "a"), (b.members, "b")))
        return left.join(right, on=_PLACE, how="full", coalesce=True).select(*_PLACE[2:], "cell_a", "cell_b")
    ids = pl.concat([a.cells.select("cell"), b.cells.select("cell")]).unique(maintain_order=True)
    members = a.members if a.members is not None else b.members
    if members is None:
        members = MEMBERS.frame([])
    placed = ids.join(members, on="cell", how="left")
    # A cell without a place is its own group: it has nothing to be averaged with.
    alone = pl.coalesce("arm", "cell").alias("arm")
    return placed.select(
        pl.col("part").fill_null(""),
        alone,
        pl.col("point").fill_null("{}"),
        pl.col("replicate").fill_null(0),
        pl.col("cell").alias("cell_a"),
        pl.col("cell").alias("cell_b"),
    )


def _outcome(cells: pl.DataFrame, side: str) -> pl.DataFrame:
    return cells.select(pl.col("cell", "status", "error").name.suffix(f"_{side}"))


def _values(pairs: pl.DataFrame, a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """A row for each value of either side in the paired cells, with `in_a`, `in_b`, `value_a` and `value_b`."""
    keys = [name for name in RECORDS.key if name != "cell"]
    places = pairs.select("part", "arm", "point", "replicate", "cell_a", "cell_b")
    left, right = (
        places.join(records.rename({"cell": f"cell_{side}"}), on=f"cell_{side}").select(
            *places.columns, *keys, pl.col("value").alias(f"value_{side}"), pl.lit(True).alias(f"in_{side}")
        )
        for side, records in (("a", a), ("b", b))
    )
    joined = left.join(right, on=[*places.columns, *keys], how="full", coalesce=True, nulls_equal=True)
    return joined.with_columns(pl.col("in_a", "in_b").fill_null(False))


def _shifts(values: pl.DataFrame) -> pl.DataFrame:
    """The paired difference of each mean that is not equal in every cell, the largest in its own noise first."""
    difference = pl.col("value_b") - pl.col("value_a")
    found = (
        values.group_by(_GROUP, maintain_order=True)
        .agg(
            pl.len().alias("n"),
            pl.col("value_a").mean().alias("mean_a"),
            pl.col("value_b").mean().alias("mean_b"),
            difference.mean().alias("difference"),
            # Equal differences leave a rounding error in the deviation; their spread is exactly zero.
            pl.when(difference.max() == difference.min()).then(0.0).otherwise(difference.std()).alias("spread"),
            (difference != 0).any().alias("differs"),
        )
        .filter("differs")
    )
    quantiles = {n: student_quantile(n, CONFIDENCE) for n in found["n"].unique() if n > 1}
    quantile = pl.col("n").replace_strict(quantiles, default=None, return_dtype=pl.Float64)
    half = quantile * pl.col("spread") / pl.col("n").sqrt()
    found = found.with_columns(low=pl.col("difference") - half, high=pl.col("difference") + half)
    beyond = ((pl.col("low") > 0) | (pl.col("high") < 0)).fill_null(False)
    noise = pl.col("difference").abs() / half
    return (
        found.with_columns(beyond=beyond, noise=noise)
        .sort(["beyond", "noise"], descending=True, nulls_last=True, maintain_order=True)
        .drop("spread", "differs", "noise")
    )


def _provenance(a: pl.DataFrame, b: pl.DataFrame) -> dict[str, tuple[str, str]]:
    found = {}
    for column in _SHOWN:
        ours, theirs = (sorted(map(str, cells[column].unique())) for cells in (a, b))
        if ours != theirs:
            found[column] = (", ".join(ours), ", ".join(theirs))
    return found
