"""The tables that questions share: a row for each arm, or for each arm at each axis point."""

from collections.abc import Callable, Mapping
from typing import Unpack

from experiments.evidence import Evidence, Where
from experiments.series import arms, model
from results.metrics import metric as known_metric
from results.sheet import Entry, Measured, Sheet
from results.statistics import Interval, best_of, counted, mean_interval, share_above

SOLVED = 0.9
"""A replicate counts as having found the rule above this accuracy; outcomes are bimodal, and a mean hides it."""


Column = Callable[[str], Entry]
"""What a column says of an arm."""


def reading(
    evidence: Evidence,
    part: str,
    split: str,
    metric: str,
    point: str = "{}",
    *,
    digits: int,
    factor: float = 1.0,
    **where: Unpack[Where],
) -> Column:
    """A metric with its interval; nothing where it was not measured. `digits` and `factor` are those of `Measured`."""

    def entry(arm: str) -> Measured | None:
        interval = evidence.interval(part, arm, split, metric, point, **where)
        return None if interval is None else Measured(interval, digits, factor)

    return entry


def solved(evidence: Evidence, part: str, split: str, metric: str, point: str = "{}", **where: Unpack[Where]) -> Column:
    """How many worlds of an arm lie above `SOLVED`, in an accuracy."""
    _check_higher_is_better(metric)

    def entry(arm: str) -> str | None:
        values = evidence.values(part, arm, split, metric, point, **where)
        if not values:
            return None
        share = share_above(counted(values, values, known_metric(metric).worst), SOLVED)
        return f"{round(share.mean * share.n)} of {share.n}"

    return entry


def best(
    evidence: Evidence,
    part: str,
    split: str,
    metric: str,
    point: str = "{}",
    *,
    digits: int,
    factor: float = 1.0,
    **where: Unpack[Where],
) -> Column:
    """The best of an arm's worlds, with how many they are: only beside a paper that prints a best of n."""
    _check_higher_is_better(metric)

    def entry(arm: str) -> str | None:
        values = evidence.values(part, arm, split, metric, point, **where)
        if not values:
            return None
        found = best_of(counted(values, values, known_metric(metric).worst))
        return f"{factor * found.value:.{digits}f} (best of {found.n})"

    return entry


def _check_higher_is_better(metric: str) -> None:
    if known_metric(metric).better != "higher":
        raise ValueError(f"metric is {metric!r}; it must be one of which more is known to be better")


def floor_of(evidence: Evidence, part: str, split: str, point: str = "{}") -> Interval | None:
    """The best floor of a split over the worlds of all arms; None where the split is itself trained."""
    worlds: dict[int, float | None] = {}
    for arm in evidence.arms(part):
        worlds |= evidence.values(part, arm, split, "floor/best", point)
    found = [value for value in worlds.values() if value is not None]
    return mean_interval(found) if found else None


def arm_rows(
    evidence: Evidence,
    part: str,
    title: str,
    columns: Mapping[str, Column],
    floors: Mapping[str, Interval | None] | None = None,
    point: str = "{}",
) -> Sheet:
    """A row for each arm that has rows: its model, parameters, worlds, and what each column's function says of it.

    `floors` gives a last row, of the best predictor without the skill, shown as the column shows the arms.
    """
    rows: list[tuple[Entry, ...]] = []
    for arm in arms(evidence, part, point):
        cells = evidence.cell_rows(part, arm, point)
        about = (arm, model(evidence, part, arm, point), int(cells["parameters"][0]), len(cells))
        rows.append((*about, *(entry(arm) for entry in columns.values())))
    if floors is not None:
        shown = {
            name: next((row[4 + c] for row in rows if isinstance(row[4 + c], Measured)), None)
            for c, name in enumerate(columns)
        }
        rows.append(
            ("floor", "best predictor", None, None, *(_like(shown[name], floors.get(name)) for name in columns))
        )
    return Sheet(part, title, ("arm", "model", "parameters", "n", *columns), tuple(rows))


def point_sheet(evidence: Evidence, part: str, columns: Callable[[str], Mapping[str, Column]], title: str) -> Sheet:
    """A row for each arm at each axis point that has rows. `columns` gives what each column says at a point."""
    rows: list[tuple[Entry, ...]] = []
    names: tuple[str, ...] = ()
    for point in evidence.points(part):
        here = columns(point)
        names = tuple(here)
        for arm in arms(evidence, part, point):
            n = len(evidence.cell_rows(part, arm, point))
            entries = (entry(arm) for entry in here.values())
            rows.append((arm, model(evidence, part, arm, point), point, n, *entries))
    return Sheet(part, title, ("arm", "model", "axes", "n", *names), tuple(rows))


def _like(entry: Entry, interval: Interval | None) -> Measured | None:
    if interval is None or not isinstance(entry, Measured):
        return None
    return Measured(interval, entry.digits, entry.factor)
