"""`Evidence`: the rows of a plan, ready to be asked by arm. Reads stored rows alone; torch is never imported."""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import polars as pl

from experiments.questions import grid
from results.capacity import Reading, read_as
from results.collection import Problem, read_collection, write_collection
from results.metrics import metric as known_metric
from results.schema import MEMBERS
from results.statistics import Contrast, Interval, counted, replicate_interval
from results.store import Store
from results.verdict import Verdict, rule_from
from results.versions import newest_evaluations
from sweeps.cell import Cell
from sweeps.grid import Grid, Plan

MIXTURE = 0
"""`loop` of the reading through the gate's mixture."""


class Where(TypedDict, total=False):
    """Which of the readings of a metric on a split.

    Attributes:
        loop: the loop, or `MIXTURE`; by default the last. A model with one exit has one reading, whatever mixture.
        difficulty: the task's own measure; by default all together.
        step: optimiser steps that the weights had seen; by default the last at which they were measured.
    """

    loop: int
    difficulty: int
    step: int


Level = Literal["loop", "difficulty", "step"]
"""What a metric may be followed along within one cell."""


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
        return of_one_version(cls(members(plan), rows.cells, rows.records, rows.problems), store.root, plan.cells)

    @classmethod
    def of_folder(cls, folder: Path, question: str | None = None) -> "Evidence":
        """A collection written by `save`; of several questions, the rows of the one that is named.

        Raises:
            ValueError: if the collection holds nothing of that question, or mixes scales.
        """
        found = read_collection(folder)
        members, cells, records = found.members, found.cells, found.records
        if question is not None:
            members = members.filter(pl.col("question") == question)
            if members.is_empty():
                held = ", ".join(sorted(found.members["question"].unique())) or "no question"
                raise ValueError(f"collection {folder} has no rows of question {question!r}; it holds {held}")
            cells, records = (frame.join(members, on="cell", how="semi") for frame in (cells, records))
        if len(scales := sorted(members["scale"].unique())) > 1:
            raise ValueError(f"collection {folder} mixes the scales {', '.join(scales)}; it must hold one")
        return of_one_version(cls(members, cells, records, found.problems), folder)

    def save(self, folder: Path) -> None:
        """Write everything to a folder that can be committed, and reported from again."""
        write_collection(folder, self.cells, self.records, self.members)

    def arms(self, part: str) -> list[str]:
        """Arms of a part, in the grid's order."""
        here = self.members.filter(pl.col("part") == part)
        present = here["arm"].unique(maintain_order=True).to_list()
        known = self._grids[here["question"][0]].arms(part) if present else []
        return sorted(present, key=lambda arm: known.index(arm) if arm in known else len(known))

    def points(self, part: str) -> list[str]:
        """Axis points of a part, by their values: numbers by size, words by alphabet."""
        return sorted(self.members.filter(pl.col("part") == part)["point"].unique(), key=_by_value)

    def cell_rows(self, part: str, arm: str, point: str = "{}") -> pl.DataFrame:
        """One row per replicate that has ended (done or failed), with the columns of `cells`."""
        return self._ended.get((part, arm, point), self.members.clear().join(self.cells.clear(), on="cell"))

    def values(
        self, part: str, arm: str, split: str, metric: str, point: str = "{}", **where: Unpack[Where]
    ) -> dict[int, float | None]:
        """A metric by replicate.

        A replicate that has not ended, or on which this was not measured, is absent; one that failed, or where no
        example met the metric's condition, is None. What was measured on no cell at all is absent throughout.
        """
        if (split, metric) not in self._measured:
            return {}
        found = self._readings(part, arm, split, metric, point, where)
        return self._failed(part, arm, point) | dict(found.select("replicate", "value").iter_rows())

    def values_over(
        self, level: Level, part: str, arm: str, split: str, metric: str, point: str = "{}", **where: Unpack[Where]
    ) -> dict[int, dict[int, float | None]]:
        """The `values` of a metric at each loop, difficulty or step at which an arm was measured, in their order."""
        found = self._readings(part, arm, split, metric, point, where, level)
        failed = self._failed(part, arm, point)
        values: dict[int, dict[int, float | None]] = {}
        for at, replicate, value in found.sort(level).select(level, "replicate", "value").iter_rows():
            values.setdefault(at, dict(failed))[replicate] = value
        return values

    @cached_property
    def _grids(self) -> dict[str, Grid]:
        """The grids of the questions, so that each is read once."""
        return {question: grid(question) for question in self.members["question"].unique()}

    @cached_property
    def _ended(self) -> dict[tuple[str, str, str], pl.DataFrame]:
        """The members that have ended, with the columns of `cells`, by part, arm and point."""
        placed = self.members.join(self.cells, on="cell", how="inner").sort("replicate")
        found = placed.partition_by("part", "arm", "point", as_dict=True)
        return {(str(part), str(arm), str(point)): rows for (part, arm, point), rows in found.items()}

    @cached_property
    def _measured(self) -> dict[tuple[str, str], pl.DataFrame]:
        """The records by split and metric, so that reading one does not look through all."""
        found = self.records.partition_by("split", "metric", as_dict=True)
        return {(str(split), str(metric)): frame for (split, metric), frame in found.items()}

    def _readings(
        self, part: str, arm: str, split: str, metric: str, point: str, where: Where, over: Level | None = None
    ) -> pl.DataFrame:
        """The records of a metric in the done cells of an arm, with their `replicate`: those of one place, or of every
        one along the level that is named."""
        done = self.cell_rows(part, arm, point).filter(pl.col("status") == "done").select("replicate", "cell", "exits")
        found = done.join(self._measured.get((split, metric), self.records.clear()), on="cell")
        loop, step = where.get("loop"), where.get("step")
        wanted = pl.col("exits") if loop is None else pl.lit(loop, pl.Int64)
        if loop == MIXTURE:
            wanted = pl.when(pl.col("exits") == 1).then(1).otherwise(MIXTURE)
        here: dict[Level, pl.Expr] = {
            "loop": pl.col("loop").is_null() | (pl.col("loop") == wanted),
            "difficulty": pl.col("difficulty").eq_missing(pl.lit(where.get("difficulty"), pl.Int64)),
            "step": pl.col("step") == (pl.col("step").max().over("cell") if step is None else step),
        }
        if over is not None:
            here[over] = pl.col(over).is_not_null() & ((pl.col(over) != MIXTURE) if over == "loop" else True)
        return found.filter(*here.values())

    def _failed(self, part: str, arm: str, point: str) -> dict[int, float | None]:
        """The replicates of an arm that failed, without a value."""
        ended = self.cell_rows(part, arm, point)
        return dict.fromkeys(ended.filter(pl.col("status") == "failed")["replicate"].to_list())

    def interval(
        self, part: str, arm: str, split: str, metric: str, point: str = "{}", **where: Unpack[Where]
    ) -> Interval | None:
        """Mean over replicates with its t-interval; a failed replicate counts as the worst value of the metric, or is
        left out where it has none (see `results.metrics`). None where nothing has ended."""
        values = self.values(part, arm, split, metric, point, **where)
        return replicate_interval(values, known_metric(metric).worst) if values else None


def _by_value(point: str) -> list[tuple[str, bool, Any]]:
    """What sorts an axis point among others: each of its settings, whatever is no number as text and last."""
    settings = sorted(json.loads(point).items())
    return [
        (key, False, value) if isinstance(value, int | float) else (key, True, str(value)) for key, value in settings
    ]


def of_one_version(evidence: Evidence, source: Path, ours: Container[str] = ()) -> Evidence:
    """The evidence without what must not be averaged with the rest: rows of older versions, each listed as a problem.

    Within a part, cells of an older task version, or whose id is not the one that this code gives them (it was made by
    other numerics) beside cells whose id is; and records of an older version of an evaluation beside a newer one. Cells
    in `ours` have just been given their ids.
    """
    cells = evidence.cells
    task = pl.col("task").str.split("@").list
    made_here = [cell in ours or _is_ours(cell, config) for cell, config in cells.select("cell", "config").iter_rows()]
    kinds = (
        cells.select("cell", "task", name=task.first(), version=task.last().cast(pl.Int64))
        .with_columns(pl.Series("ours", made_here, dtype=pl.Boolean))
        .join(evidence.members.select("cell", "part").unique(), on="cell")
        .with_columns(newest=pl.col("version").max().over("part", "name"), mixed=pl.col("ours").any().over("part"))
    )
    problems: dict[str, str] = {}
    for cell, name, newest in (
        kinds.filter(pl.col("version") < pl.col("newest")).select("cell", "task", "newest").rows()
    ):
        problems[cell] = f"{name} stands beside version {newest} of the task"
    for cell in kinds.filter("mixed", ~pl.col("ours"))["cell"]:
        problems.setdefault(cell, "made with other numerics than the cells beside it")
    lost = pl.col("cell").is_in(list(problems))
    records, stale = newest_evaluations(evidence.records.filter(~lost))
    listed = [Problem(source, reason, cell) for cell, reason in problems.items()]
    listed += [Problem(source, f"{old} stands beside {new}", cell, old) for cell, old, new in stale]
    return replace(evidence, cells=cells.filter(~lost), records=records, problems=(*evidence.problems, *listed))


def _is_ours(cell: str, config: str) -> bool:
    """Whether this code gives a configuration that id: the same task versions and numerics made it."""
    try:
        return Cell.from_config(json.loads(config)).id == cell
    except (ValueError, KeyError, TypeError):
        return False


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

    `reading` says what is read: split and metric, and loop or difficulty where they are not the last and all. It is
    compared with the same reading of each of the `partners`, or with other readings of the arm itself: `against` names
    each and says what differs. `requires` names a reading that every arm must reach for the comparison to mean what
    the hypothesis says.
    """
    part, arm, point = hypothesis["part"], hypothesis["arm"], json.dumps(hypothesis.get("point", {}), sort_keys=True)
    reading, partners = hypothesis["reading"], hypothesis.get("partners", [])
    sides = {partner: (partner, reading) for partner in partners}
    sides |= {label: (arm, reading | change) for label, change in hypothesis.get("against", {}).items()}
    ours = evidence.values(part, arm, point=point, **reading)
    contrasts = []
    for label, (other, what) in sides.items():
        theirs = evidence.values(part, other, point=point, **what)
        if both := tuple(sorted(set(ours) & set(theirs))):
            contrasts.append(Contrast(label, ours, theirs, both))
    present = evidence.arms(part)
    arms = [
        each for each in (arm, *partners) if each in present and not evidence.cell_rows(part, each, point).is_empty()
    ]
    compared = [part, *hypothesis.get("ladder", {}).values()]
    reasons = _mixed(evidence, compared, arms, point) if arms else []
    if missing := [each for each in (arm, *partners) if each not in arms]:
        reasons.append(f"no rows of {', '.join(missing)}")
    for need in hypothesis.get("requires", []):
        below = [
            f"{each} {interval.mean:.2f}"
            for each in arms
            if (interval := evidence.interval(part, each, need["split"], need["metric"], point)) is not None
            and not interval.mean >= need["least"]
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
    part, reading = hypothesis["part"], hypothesis["reading"]
    split, metric = reading["split"], reading["metric"]
    ours, worst = evidence.values(part, arm, split, metric, point), known_metric(metric).worst

    def rung(doubled: str) -> tuple[float, float] | None:
        """Before and after, in the worlds that both were measured in."""
        theirs = evidence.values(doubled, arm, split, metric, point)
        both = ours.keys() & theirs.keys()
        before, after = (counted(values, both, worst) for values in (ours, theirs))
        return (float(before.mean()), float(after.mean())) if both else None

    bits = evidence.interval(part, arm, split, metric, point)
    row = evidence.cell_rows(part, arm, point).row(0, named=True)
    exposures = row["steps"] * row["batch_size"] / json.loads(row["constants"])["people"]
    return read_as(
        0.0 if bits is None else bits.mean,
        ceiling(evidence, part, arm, point),
        exposures,
        {what: rung(doubled) for what, doubled in hypothesis["ladder"].items()},
    )


def ceiling(evidence: Evidence, part: str, arm: str, point: str = "{}") -> float:
    """R_max of an arm, bits per parameter: what a model of its size that knows everything stores."""
    row = evidence.cell_rows(part, arm, point).row(0, named=True)
    return float(json.loads(row["constants"])["ceiling_bits"]) / int(row["parameters"])


def _mixed(evidence: Evidence, parts: list[str], arms: list[str], point: str) -> list[str]:
    """What is wrong with comparing the cells: replicates that ran on different devices, backends or precisions.

    Arms are paired on the replicate, and so are the rungs of a ladder with their part, so that what a whole replicate
    shares cancels; a sweep may move to another machine between replicates, but not within one.
    """
    rows = pl.concat([evidence.cell_rows(part, arm, point) for part in parts for arm in arms])
    rows = rows.filter(pl.col("status") == "done")
    reasons = []
    for column in ("device", "backend", "precision"):
        kinds = rows.group_by("replicate").agg(pl.col(column).unique().sort()).filter(pl.col(column).list.len() > 1)
        if not kinds.is_empty():
            replicate, found = kinds.sort("replicate").row(0)
            reasons.append(f"rows of several {column}s are mixed in replicate {replicate} ({' and '.join(found)})")
    return reasons
