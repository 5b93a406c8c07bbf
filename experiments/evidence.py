"""`Evidence`: the rows of a plan, ready to be asked by arm. Reads stored rows alone; torch is never imported."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from results.collection import read_collection, write_collection
from results.schema import MEMBERS
from results.statistics import Contrast, Interval, Values, counted, mean_interval
from results.store import Problem, Store
from results.verdict import Verdict, rule_from
from sweeps.grid import Plan

MIXTURE = 0
"""`loop` of the reading through the gate's mixture."""


@dataclass(frozen=True)
class Evidence:
    """What is known about a question: `members` says which cell stands where, `cells` and `records` what it gave."""

    members: pl.DataFrame
    cells: pl.DataFrame
    records: pl.DataFrame
    problems: tuple[Problem, ...] = ()

    @classmethod
    def of_store(cls, plan: Plan, store: Store) -> "Evidence":
        """The rows that a store holds for a plan."""
        rows = store.read(plan.cells)
        return cls(members(plan), rows.cells, rows.records, rows.problems)

    @classmethod
    def of_folder(cls, folder: Path) -> "Evidence":
        """A collection written by `save`."""
        found = read_collection(folder)
        return cls(found.members, found.cells, found.records)

    def save(self, folder: Path) -> None:
        """Write everything to a folder that can be committed, and reported from again."""
        write_collection(folder, self.cells, self.records, self.members)

    def arms(self, part: str) -> list[str]:
        """Arms of a part, in the grid's order."""
        return self.members.filter(pl.col("part") == part)["arm"].unique(maintain_order=True).to_list()

    def points(self, part: str) -> list[str]:
        """Axis points of a part, in the grid's order."""
        return self.members.filter(pl.col("part") == part)["point"].unique(maintain_order=True).to_list()

    def cell_rows(self, part: str, arm: str, point: str = "{}") -> pl.DataFrame:
        """One row per replicate that has ended (done or failed), with the columns of `cells`."""
        chosen = self.members.filter(pl.col("part") == part, pl.col("arm") == arm, pl.col("point") == point)
        return chosen.join(self.cells, on="cell", how="inner").sort("replicate")

    def values(
        self, part: str, arm: str, split: str, metric: str, point: str = "{}", mixture: bool = False
    ) -> dict[int, float | None]:
        """A metric by replicate, at the last loop or through the gate's mixture.

        A replicate that has not ended is absent; one that failed, or to which the metric does not apply, is None.
        """
        ended = self.cell_rows(part, arm, point).select("replicate", "cell", "exits")
        loop = pl.lit(MIXTURE) if mixture else pl.col("exits")
        found = self.records.filter(
            pl.col("split") == split, pl.col("metric") == metric, pl.col("difficulty").is_null()
        )
        joined = ended.join(found, on="cell", how="left").filter(
            pl.col("loop").is_null() | (pl.col("loop") == pl.when(pl.col("exits") == 1).then(1).otherwise(loop))
        )
        values: dict[int, float | None] = dict.fromkeys(ended["replicate"].to_list())
        values.update(joined.select("replicate", "value").iter_rows())
        return values

    def interval(self, part: str, arm: str, split: str, metric: str, point: str = "{}") -> Interval | None:
        """Mean over replicates with its t-interval; a failed replicate counts as 0. None where nothing has ended."""
        values = self.values(part, arm, split, metric, point)
        return mean_interval(counted(values, values, worst=0.0)) if values else None

    def contrast(self, part: str, arm: str, partner: str, split: str, metric: str, point: str = "{}") -> Contrast:
        """An arm against a partner, over the replicates that have ended in both."""
        ours: Values = self.values(part, arm, split, metric, point)
        theirs: Values = self.values(part, partner, split, metric, point)
        return Contrast(partner, ours, theirs, tuple(sorted(set(ours) & set(theirs))))


def members(plan: Plan) -> pl.DataFrame:
    """The members of a plan as a table."""
    return MEMBERS.frame(
        {
            "question": plan.question,
            "scale": plan.scale,
            "part": member.part,
            "arm": member.arm,
            "point": member.point,
            "replicate": member.replicate,
            "cell": member.cell.id,
        }
        for member in plan.members
    )


def judge(hypothesis: Mapping[str, Any], evidence: Evidence) -> Verdict:
    """Apply a hypothesis of a grid file to the evidence: its rule, over its partners, where it is admissible.

    `requires` names a reading that every arm must reach for the comparison to mean what the hypothesis says.
    """
    part, arm, point = hypothesis["part"], hypothesis["arm"], json.dumps(hypothesis.get("point", {}), sort_keys=True)
    present = evidence.arms(part)
    split, metric = hypothesis["reading"]["split"], hypothesis["reading"]["metric"]
    contrasts = [
        evidence.contrast(part, arm, partner, split, metric, point)
        for partner in hypothesis["partners"]
        if partner in present
    ]
    contrasts = [contrast for contrast in contrasts if contrast.replicates]
    reasons = _mixed(evidence, part, (arm, *(contrast.partner for contrast in contrasts)), point)
    missing = [p for p in hypothesis["partners"] if p not in {contrast.partner for contrast in contrasts}]
    if missing:
        reasons.append(f"no rows for the partner{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    for need in hypothesis.get("requires", []):
        for each in (arm, *(contrast.partner for contrast in contrasts)):
            interval = evidence.interval(part, each, need["split"], need["metric"], point)
            if interval is not None and interval.mean < need["least"]:
                reasons.append(
                    f"{each} has {need['metric']} {interval.mean:.2f} on {need['split']}, below {need['least']}"
                )
    return rule_from(hypothesis["decision"]).decide(contrasts, reasons)


def _mixed(evidence: Evidence, part: str, arms: tuple[str, ...], point: str) -> list[str]:
    """What is wrong with comparing the arms: rows of different devices, backends or precisions in one contrast."""
    rows = pl.concat([evidence.cell_rows(part, arm, point) for arm in arms]).filter(pl.col("status") == "done")
    return [
        f"rows of several {column}s are mixed ({', '.join(found)})"
        for column in ("device", "backend", "precision")
        if len(found := sorted(rows[column].unique())) > 1
    ]
