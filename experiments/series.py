"""What figures draw, read from the evidence: for each arm its model and its points, with interval and single worlds.

An arm is read at one place (`by_arm`), along something inside its cells (`over`: loop, difficulty, training step), or
along the axis points of the grid (`along`: a setting, a column such as the parameters, exposures, mean exit depth).
How it looks is said in `panels.py`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

from experiments.evidence import Evidence, Level, Where
from results.metrics import metric as known_metric
from results.statistics import Interval, Values, counted, replicate_interval


@dataclass(frozen=True)
class Point:
    """A mean over worlds.

    Attributes:
        at: its place on the axis.
        interval: the mean with its interval.
        singles: the single worlds; a failed one at its worst, if the metric has a worst value.
    """

    at: float
    interval: Interval
    singles: tuple[float, ...] = ()


@dataclass(frozen=True)
class Series:
    """What is drawn of one arm.

    Attributes:
        label: its name.
        model: what it is, in a few words.
        layers: distinct layers, which choose the marker.
        loops: loops, which choose the colour.
        points: in the order of their places.
        ceiling: the most that it could reach, where that is its own.
    """

    label: str
    model: str
    layers: int
    loops: int
    points: tuple[Point, ...]
    ceiling: float | None = None

    @property
    def left_out(self) -> str:
        """Words on the replicates that some point leaves out; none where no point does."""
        most = max((point.interval.left_out for point in self.points), default=0)
        return f", {most} left out" if most else ""


Place = Callable[[Evidence, str, str, str], float]
"""Where the cells of an arm at an axis point stand: evidence, part, arm, point -> place on the axis."""


def arms(evidence: Evidence, part: str, point: str = "{}") -> list[str]:
    """Arms of a part that have rows, in the grid's order."""
    return [arm for arm in evidence.arms(part) if not evidence.cell_rows(part, arm, point).is_empty()]


def model(evidence: Evidence, part: str, arm: str, point: str = "{}") -> str:
    """An arm's model in a few words: k⊗R, width, exits and objective where there are several exits."""
    row = evidence.cell_rows(part, arm, point).row(0, named=True)
    exits = f", {row['exits']} exits" if row["loops"] == 1 and row["exits"] > 1 else ""
    objective = f", {row['objective']}" if row["exits"] > 1 else ""
    return f"{row['layers']}⊗{row['loops']} d={row['hidden_size']}{exits}{objective}"


def by_arm(
    evidence: Evidence,
    part: str,
    split: str,
    metric: str,
    point: str = "{}",
    ceiling: Callable[[Evidence, str, str, str], float] | None = None,
    **where: Unpack[Where],
) -> list[Series]:
    """One point for each arm on which the metric was measured. `ceiling` gives the most that an arm could reach."""
    found = []
    for arm in arms(evidence, part, point):
        if values := evidence.values(part, arm, split, metric, point, **where):
            most = ceiling(evidence, part, arm, point) if ceiling else None
            found.append(_series(evidence, part, arm, point, [point_at(0.0, values, metric)], most))
    return found


def over(
    evidence: Evidence,
    part: str,
    level: Level,
    split: str,
    metric: str,
    point: str = "{}",
    only: Sequence[str] = (),
    **where: Unpack[Where],
) -> list[Series]:
    """Each arm (or those named `only`) along its loops, difficulties or training steps."""
    found = []
    for arm in only or arms(evidence, part, point):
        read = evidence.values_over(level, part, arm, split, metric, point, **where)
        if read:
            points = [point_at(at, values, metric) for at, values in read.items()]
            found.append(_series(evidence, part, arm, point, points))
    return found


def along(
    evidence: Evidence,
    part: str,
    place: Place,
    split: str,
    metric: str,
    points: Sequence[str] = (),
    only: Sequence[str] = (),
    **where: Unpack[Where],
) -> list[Series]:
    """Each arm (or those named `only`) along the axis points of the grid (or those given), each at its `place`."""
    found = []
    for arm in only or evidence.arms(part):
        read = {
            each: point_at(place(evidence, part, arm, each), values, metric)
            for each in points or evidence.points(part)
            if (values := evidence.values(part, arm, split, metric, each, **where))
        }
        if read:
            ordered = sorted(read.values(), key=lambda point: point.at)
            found.append(_series(evidence, part, arm, next(iter(read)), ordered))
    return found


def setting(key: str) -> Place:
    """A setting of the cells, by its dotted key, as in task.people."""

    def place(evidence: Evidence, part: str, arm: str, point: str) -> float:
        found = json.loads(evidence.cell_rows(part, arm, point)["config"][0])
        for step in key.split("."):
            found = found[step]
        return float(found)

    return place


def column(name: str) -> Place:
    """A column of the cells, as in parameters, steps or train_flops."""

    def place(evidence: Evidence, part: str, arm: str, point: str) -> float:
        return float(evidence.cell_rows(part, arm, point)[name][0])

    return place


def exposures(of: str) -> Place:
    """How often each of the things that the constant `of` counts (people, facts) was seen in training, on average."""

    def place(evidence: Evidence, part: str, arm: str, point: str) -> float:
        row = evidence.cell_rows(part, arm, point).row(0, named=True)
        return float(row["steps"] * row["batch_size"] / json.loads(row["constants"])[of])

    return place


def exit_depth(split: str) -> Place:
    """The mean loop at which the gate would leave on a split: sum of loop times exit probability; 1 without a gate."""

    def place(evidence: Evidence, part: str, arm: str, point: str) -> float:
        read = evidence.values_over("loop", part, arm, split, "exit_probability", point)
        worst = known_metric("exit_probability").worst
        return sum(r * replicate_interval(p, worst).mean for r, p in read.items()) or 1.0

    return place


def point_at(at: float, values: Values, metric: str) -> Point:
    """What the values of a metric come to, at a place on the axis."""
    worst = known_metric(metric).worst
    return Point(float(at), replicate_interval(values, worst), tuple(counted(values, values, worst).tolist()))


def _series(
    evidence: Evidence, part: str, arm: str, point: str, points: Sequence[Point], ceiling: float | None = None
) -> Series:
    row = evidence.cell_rows(part, arm, point).row(0, named=True)
    return Series(arm, model(evidence, part, arm, point), row["layers"], row["loops"], tuple(points), ceiling)
