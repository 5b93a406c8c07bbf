"""The decision rules: when a hypothesis counts as supported, refuted or undecided, and the sentence that says why.

A rule is data from a grid file, written before any row exists. It names what must hold, never which arms.
"""

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from results.statistics import Contrast, Interval

Outcome = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """The answer to one hypothesis.

    Attributes:
        outcome: supported, refuted or undecided.
        sentence: why, with the numbers that decided.
        intervals: by partner, the interval that was looked at.
    """

    outcome: Outcome
    sentence: str
    intervals: Mapping[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """What a rule asks of any hypothesis.

    Attributes:
        minimum_replicates: below this, failed cells included, the verdict is undecided.
    """

    name: ClassVar[str]
    minimum_replicates: int

    def __post_init__(self) -> None:
        if not isinstance(self.minimum_replicates, int) or self.minimum_replicates < 2:
            raise ValueError(f"minimum_replicates is {self.minimum_replicates!r}; it must be an integer of at least 2")
        self._check()

    def decide(self, contrasts: Sequence[Contrast], inadmissible: Sequence[str] = ()) -> Verdict:
        """The verdict over all `contrasts`.

        Args:
            contrasts: the arm against each of its partners.
            inadmissible: what forbids reading the numbers as the hypothesis does, one phrase each; any makes the
                verdict undecided.
        """
        if not contrasts:
            return Verdict("undecided", "undecided: no partner has been run", {})
        intervals = {contrast.partner: self._interval(contrast) for contrast in contrasts}
        few = {partner: interval.n for partner, interval in intervals.items() if interval.n < self.minimum_replicates}
        counts = [
            f"{n} of {self.minimum_replicates} replicates against {', '.join(p for p in few if few[p] == n)}"
            for n in sorted(set(few.values()))
        ]
        if reasons := [*inadmissible, *counts]:
            return Verdict("undecided", f"undecided: {'; '.join(reasons)}", intervals)
        outcome, why = self._weigh(contrasts, intervals)
        return Verdict(outcome, f"{outcome}: {why}", intervals)

    @abstractmethod
    def _check(self) -> None:
        """Raise `ValueError` for a field that makes no sense."""

    @abstractmethod
    def _interval(self, contrast: Contrast) -> Interval:
        """The interval that is drawn for a contrast."""

    @abstractmethod
    def _weigh(self, contrasts: Sequence[Contrast], intervals: Mapping[str, Interval]) -> tuple[Outcome, str]:
        """Outcome and reason, once there are replicates enough."""


@dataclass(frozen=True, kw_only=True)
class RatioWithin(Rule):
    """The two arms are equivalent: the geometric mean ratio lies within bounds, against every partner.

    Supported where two one-sided tests hold at `alpha`, which is to say that every 1 - 2 alpha interval lies wholly
    inside; refuted where some 1 - alpha interval lies wholly outside; else undecided.

    Attributes:
        low: lower bound of the ratio.
        high: upper bound of the ratio.
        alpha: level of each test.
    """

    name: ClassVar[str] = "ratio_within"
    low: float
    high: float
    alpha: float = 0.05

    def _check(self) -> None:
        if not 0 < self.low < 1 < self.high:
            raise ValueError(f"low and high are {self.low!r} and {self.high!r}; they must be 0 < low < 1 < high")
        _check_share("alpha", self.alpha, below=0.5)

    def _interval(self, contrast: Contrast) -> Interval:
        return contrast.ratio(1 - 2 * self.alpha)

    def _weigh(self, contrasts: Sequence[Contrast], intervals: Mapping[str, Interval]) -> tuple[Outcome, str]:
        bounds = f"{self.low:g}-{self.high:g}"
        for contrast in contrasts:
            wide = contrast.ratio(1 - self.alpha)
            if wide.outside(self.low, self.high):
                return "refuted", f"the ratio to {contrast.partner}, {_ratio(wide)}, lies outside {bounds}"
        open_ones = [
            f"the ratio to {partner}, {_ratio(interval)}, is not all inside {bounds}"
            for partner, interval in intervals.items()
            if not interval.inside(self.low, self.high)
        ]
        if open_ones:
            return "undecided", "; ".join(open_ones)
        held = "; ".join(
            f"to {contrast.partner} {_ratio(intervals[contrast.partner])}, "
            f"TOST p={contrast.equivalence_p(self.low, self.high):.1g}"
            for contrast in contrasts
        )
        return "supported", f"the ratio lies inside {bounds}: {held}"


@dataclass(frozen=True, kw_only=True)
class AdvantageOverEvery(Rule):
    """The arm's share (an accuracy) exceeds that of every partner, and so of the best, by more than a margin.

    Supported where the lower end of the interval of the paired difference is above `margin` against every partner. All
    must hold, so testing many partners needs no correction. Refuted where the upper end is below `margin` against
    some partner; else undecided. A failed cell counts as `worst`.

    Attributes:
        margin: in shares, 0.1 for ten points.
        confidence: of the two-sided intervals.
        worst: the share that a failed cell counts as.
    """

    name: ClassVar[str] = "advantage_over_every"
    margin: float
    confidence: float = 0.95
    worst: float = 0.0

    def _check(self) -> None:
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin is {self.margin!r}; it must be a share of at least 0 and below 1")
        if not 0 <= self.worst <= 1:
            raise ValueError(f"worst is {self.worst!r}; it must be a share between 0 and 1")
        _check_share("confidence", self.confidence, below=1)

    def _interval(self, contrast: Contrast) -> Interval:
        return contrast.difference(self.worst, self.confidence)

    def _weigh(self, contrasts: Sequence[Contrast], intervals: Mapping[str, Interval]) -> tuple[Outcome, str]:
        closest = min(intervals, key=lambda partner: intervals[partner].mean)
        margin = f"{100 * self.margin:g} points"
        beaten = {partner: interval for partner, interval in intervals.items() if interval.high < self.margin}
        if beaten:
            held = "; ".join(f"{partner} {_points(interval)}" for partner, interval in beaten.items())
            return "refuted", f"the advantage is below {margin} over {held}"
        unsure = {partner: interval for partner, interval in intervals.items() if interval.low <= self.margin}
        if unsure:
            held = "; ".join(f"{partner} {_points(interval)}" for partner, interval in unsure.items())
            return "undecided", f"the interval of the advantage holds {margin} over {held}"
        return "supported", f"over every partner more than {margin}; closest is {closest} {_points(intervals[closest])}"


_RULES: Mapping[str, type[Rule]] = {rule.name: rule for rule in (RatioWithin, AdvantageOverEvery)}


def rule_from(specification: Mapping[str, Any]) -> Rule:
    """The rule that a grid file describes: `rule` names it, the other keys are its fields.

    `ValueError` names an unknown rule or field, with the nearest known one, a field that is missing, and a value that
    is no number or makes no sense.
    """
    if not isinstance(specification, Mapping):
        raise ValueError(f"it is {specification!r}; it must be a rule with its fields")
    fields = dict(specification)
    name = fields.pop("rule", None)
    if name not in _RULES:
        raise ValueError(f"rule is {name!r}; it must be {' | '.join(_RULES)}{_hint(str(name), _RULES)}")
    known = {field.name: field for field in dataclasses.fields(_RULES[name])}
    for field in fields.keys() - known.keys():
        raise ValueError(f"{name}.{field} is unknown; known are {', '.join(known)}{_hint(field, known)}")
    needed = {field.name for field in known.values() if field.default is dataclasses.MISSING}
    if missing := sorted(needed - fields.keys()):
        raise ValueError(f"{name}.{missing[0]} is missing; {name} needs {', '.join(sorted(needed))}")
    for field, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}.{field} is {value!r}; it must be a number")
    return _RULES[name](**fields)


def _hint(given: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f". Did you mean {near[0]!r}?" if near else ""


def _check_share(field: str, value: float, below: float) -> None:
    if not 0 < value < below:
        raise ValueError(f"{field} is {value!r}; it must be above 0 and below {below}")


def _ratio(interval: Interval) -> str:
    return f"{interval.mean:.2f} ({_percent(interval)} {interval.low:.2f} to {interval.high:.2f}, n={interval.n})"


def _points(interval: Interval) -> str:
    mean, low, high = (100 * value for value in (interval.mean, interval.low, interval.high))
    return f"{mean:+.0f} points ({_percent(interval)} {low:+.0f} to {high:+.0f}, n={interval.n})"


def _percent(interval: Interval) -> str:
    return f"{100 * interval.confidence:.4g} %"
