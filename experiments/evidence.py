"""`Evidence`: the rows of a plan, ready to be asked by arm. Reads stored rows alone; torch is never imported."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from experiments.questions import grid
from results.capacity import Reading, read_as
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
        here = self.members.filter(pl.col("part") == part)
        present = here["arm"].unique(maintain_order=True).to_list()
        known = grid(here["question"][0]).arms(part) if present else []
        return sorted(present, key=lambda arm: known.index(arm) if arm in known else len(known))

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

    def interval(
        self, part: str, arm: str, split: str, metric: str, point: str = "{}", mixture: bool = False
    ) -> Interval | None:
        """Mean over replicates with its t-interval; a failed replicate counts as 0. None where nothing has ended."""
        values = self.values(part, arm, split, metric, point, mixture)
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
    arms = [each for each in (arm, *hypothesis["partners"]) if not evidence.cell_rows(part, each, point).is_empty()]
    reasons = _mixed(evidence, part, arms, point) if arms else []
    if missing := [each for each in (arm, *hypothesis["partners"]) if each not in arms]:
        reasons.append(f"no rows of {', '.join(missing)}")
    for need in hypothesis.get("requires", []):
        below = [
            f"{each} {interval.mean:.2f}"
            for each in arms
            if (interval := evidence.interval(part, each, need["split"], need["metric"], point)) is not None
            and interval.mean < need["least"]
        ]
        if below:
            reasons.append(f"{need['metric']} on {need['split']} is below {need['least']}: {', '.join(below)}")
    if "ladder" in hypothesis:
        for each in arms:
            unread = capacity_reading(hypothesis, evidence, each, point).reasons
            reasons += [f"not a capacity: {each}: {', '.join(unread)}"] if unread else []
    return rule_from(hypothesis["decision"]).decide(contrasts, reasons)


def capacity_reading(hypothesis: Mapping[str, Any], evidence: Evidence, arm: str, point: str = "{}") -> Reading:
    """Whether an arm's bits per parameter are a capacity: below the ceiling and moved by no rung of the ladder."""
    part, reading, ladder = hypothesis["part"], hypothesis["reading"], hypothesis["ladder"]

    def mean(of: str) -> float | None:
        interval = evidence.interval(of, arm, reading["split"], reading["metric"], point)
        return None if interval is None else interval.mean

    bits = mean(part)
    row = evidence.cell_rows(part, arm, point).row(0, named=True)
    exposures = row["steps"] * row["batch_size"] / json.loads(row["constants"])["people"]
    return read_as(
        bits or 0.0, ceiling(evidence, part, arm, point), exposures, *map(mean, (ladder["people"], ladder["exposures"]))
    )


def ceiling(evidence: Evidence, part: str, arm: str, point: str = "{}") -> float:
    """R_max of an arm, bits per parameter: what a model of its size that knows everything stores."""
    row = evidence.cell_rows(part, arm, point).row(0, named=True)
    return float(json.loads(row["constants"])["ceiling_bits"]) / int(row["parameters"])


def _mixed(evidence: Evidence, part: str, arms: list[str], point: str) -> list[str]:
    """What is wrong with comparing the arms: replicates whose arms ran on different devices, backends or precisions.

    Arms are paired on the replicate, so that what a whole replicate shares cancels; a sweep may move to another
    machine between replicates, but not within one.
    """
    rows = pl.concat([evidence.cell_rows(part, arm, point) for arm in arms]).filter(pl.col("status") == "done")
    reasons = []
    for column in ("device", "backend", "precision"):
        kinds = rows.group_by("replicate").agg(pl.col(column).unique().sort()).filter(pl.col(column).list.len() > 1)
        if not kinds.is_empty():
            replicate, found = kinds.sort("replicate").row(0)
            reasons.append(f"rows of several {column}s are mixed in replicate {replicate} ({', '.join(found)})")
    return reasons
