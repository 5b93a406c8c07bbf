"""A question's `grid.yaml`, and its expansion into cells.

A grid is data: parts (each a baseline and the named arms that leave it, or another part with changes), axes crossed
with every arm, and scales that say which arms, axes, sizes and how many replicates. An arm is either a set of changes
or a partner solved from another arm (`partners.py`); `pretrained: part/arm` lets it begin with the trained weights of
another arm's cell, at the same replicate and axis point, and with its model where nothing else is said. A part's
`evaluations` name what is measured of each of its cells beside the answers. Replicates are worlds with their
initialisation, paired across arms, and come seed-major, so that an interrupted sweep loses replicates and not arms.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from results.verdict import rule_from
from sweeps.cell import Cell, Seeds
from sweeps.config import assigned, composed, parse, unknown
from sweeps.evaluations import check_evaluations
from sweeps.partners import PARTNERS, Match, solve

SCALES = ("smoke", "quick", "lab", "paper")
_GRID_KEYS = {"question", "hypotheses", "parts", "scales"}
_PART_KEYS = {"baseline", "arms"}
_LIKE_KEYS = {"like", "set"}
_EVALUATIONS = "evaluations"
_PRETRAINED = "pretrained"
_SCALE_KEYS = {"about", "replicates", "parts"}
_SCALE_PART_KEYS = {"arms", "set", "axes", "replicates"}
_HYPOTHESIS_KEYS = {"claim", "part", "arm", "reading", "decision"}
_HYPOTHESIS_MAY = {"partners", "against", "point", "requires", "ladder"}
_READING_KEYS = {"split", "metric"}
_READING_MAY = {"loop", "difficulty", "step"}
_LADDER_KEYS = {"people", "exposures"}


@dataclass(frozen=True)
class Member:
    """One cell in its place in the grid. `point` holds the values of the axes, as JSON."""

    part: str
    arm: str
    point: str
    replicate: int
    cell: Cell


@dataclass(frozen=True)
class Plan:
    """A question at a scale: every member in running order, and how well each solved partner matches.

    `cells` are its distinct cells by id: two arms may be the same run.
    """

    question: str
    scale: str
    members: tuple[Member, ...]
    matches: Mapping[tuple[str, str], Match]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Distinct cells by id, in running order, each with everything that any member wants measured of it."""
        found: dict[str, Cell] = {}
        for cell in (member.cell for member in self.members):
            known = found.setdefault(cell.id, cell)
            if not set(cell.evaluations) <= set(known.evaluations):
                merged = tuple(dict.fromkeys((*known.evaluations, *cell.evaluations)))
                found[cell.id] = dataclasses.replace(known, evaluations=merged)
        return found

    def only(self, parts: Sequence[str] = (), arms: Sequence[str] = ()) -> "Plan":
        """The members of these parts and arms; of all where none are named."""
        for what, names, known in (
            ("part", parts, {member.part for member in self.members}),
            ("arm", arms, {member.arm for member in self.members}),
        ):
            for name in names:
                if name not in known:
                    raise unknown(f"{self.question} at scale {self.scale}: {what}", name, sorted(known))
        chosen = [m for m in self.members if (not parts or m.part in parts) and (not arms or m.arm in arms)]
        return dataclasses.replace(self, members=tuple(chosen))


@dataclass(frozen=True)
class Grid:
    """A parsed grid file: `text` is the YAML's data, `tuning` that of the `tuning.yaml` beside it."""

    name: str
    text: Mapping[str, Any]
    tuning: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> "Grid":
        """Read `folder/grid.yaml` and, where it exists, `folder/tuning.yaml`.

        Raises:
            ValueError: for a file that is not YAML, has unknown or missing keys, or a hypothesis about a part or an arm
                that it does not have.
        """
        text = _read(folder / "grid.yaml")
        where = str(folder / "grid.yaml")
        _keys(text, _GRID_KEYS | {"tuning"}, where, required=_GRID_KEYS)
        for name, part in text["parts"].items():
            alike = "like" in part
            keys = _LIKE_KEYS if alike else _PART_KEYS
            _keys(part, keys | {_EVALUATIONS}, f"{where}: parts.{name}", required=keys)
            check_evaluations(part.get(_EVALUATIONS, ()))
            if alike and part["like"] not in text["parts"]:
                raise unknown(f"{where}: parts.{name}.like", part["like"], text["parts"])
        for name, scale in text["scales"].items():
            if name not in SCALES:
                raise unknown(f"{where}: scale", name, SCALES)
            _keys(scale, _SCALE_KEYS, f"{where}: scales.{name}")
            for part, changes in scale["parts"].items():
                if part not in text["parts"]:
                    raise unknown(f"{where}: scales.{name}: part", part, text["parts"])
                _keys(changes or {}, _SCALE_PART_KEYS, f"{where}: scales.{name}.parts.{part}")
        tuning = folder / "tuning.yaml"
        found = cls(folder.name, text, _read(tuning) if tuning.exists() else {})
        for name, hypothesis in text["hypotheses"].items():
            found._check_hypothesis(hypothesis, f"{where}: hypotheses.{name}")
        return found

    def expand(self, scale: str, overrides: Sequence[str] = ()) -> Plan:
        """Every cell of the grid at a scale. `overrides` change the baseline of every part that has the key.

        Raises:
            ValueError: for an unknown scale, arm or key, or an override of something that the grid varies.
        """
        if scale not in self.text["scales"]:
            raise unknown(f"{self.name}: scale", scale, self.text["scales"])
        rules = self.text["scales"][scale]
        parsed = {str(o.key_or_group): o.value() for o in parse(overrides)}
        matches: dict[tuple[str, str], Match] = {}
        runs: list[tuple[int, str, str, str, Cell]] = []
        for part, changes in rules["parts"].items():
            changes = changes or {}
            count = int(changes.get("replicates", rules["replicates"]))
            for arm, point, cell, match in self._arms(scale, part, changes, parsed):
                if match is not None:
                    matches.setdefault((part, arm), match)
                runs += [(r, part, arm, point, _replicate(cell, r)) for r in range(count)]
        runs.sort(key=lambda run: run[0])
        return Plan(self.name, scale, tuple(Member(p, a, x, r, c) for r, p, a, x, c in runs), matches)

    def _arms(
        self, scale: str, part: str, changes: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> list[tuple[str, str, Cell, Match | None]]:
        """(arm, point, cell of replicate 0, match) for every arm and axis point of a part."""
        _, arms = self._part(part)
        chosen = changes.get("arms", list(arms))
        for arm in chosen:
            if arm not in arms:
                raise unknown(f"{self.name}: scales.{scale}.parts.{part}: arm", arm, arms)
        axes = [_axis(name, values) for name, values in (changes.get("axes") or {}).items()]
        varied = {key for axis in axes for settings in axis for key in settings} | {
            key for arm in chosen for key in arms[arm] if "partner" not in arms[arm]
        }
        for key in overrides:
            if key in varied or key == "task":
                raise ValueError(
                    f"override of {key!r}: the grid of {self.name!r} varies it; edit its grid.yaml instead"
                )
        found: list[tuple[str, str, Cell, Match | None]] = []
        for settings in itertools.product(*axes):
            point = {key: value for setting in settings for key, value in setting.items()}
            looped: dict[str, Cell] = {}
            for arm in chosen:
                cell, match = self._cell(scale, part, arm, point, overrides, looped)
                cell = dataclasses.replace(cell, evaluations=tuple(self._evaluations(part)))
                found.append((arm, json.dumps(point, sort_keys=True), cell, match))
        return found

    def _cell(
        self,
        scale: str,
        part: str,
        arm: str,
        point: Mapping[str, Any],
        overrides: Mapping[str, Any],
        looped: dict[str, Cell],
    ) -> tuple[Cell, Match | None]:
        """The cell of an arm at an axis point, and how well it matches if it is a partner.

        `looped` keeps the cells, by arm, that partners at this point are solved from.
        """
        _, arms = self._part(part)
        own = self.tuned(scale, part).get("choices", {}).get(arm, {})
        partner, change = self._solved_from(arms, arm)
        if partner is None:
            return Cell.from_config(assigned(self._config(scale, part, change, point, overrides), own)), None
        if (of := arms[arm]["of"]) not in looped:
            looped[of] = Cell.from_config(self._config(scale, part, change, point, overrides))
        cell, match = solve(partner, looped[of])
        return Cell.from_config(assigned(cell.config(), own)) if own else cell, match

    def _config(
        self, scale: str, part: str, change: Mapping[str, Any], point: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What an arm with these changes is at an axis point, before tuning, as plain data."""
        baseline, _ = self._part(part)
        set_here = (self.text["scales"][scale]["parts"][part] or {}).get("set") or {}
        settings = {**baseline, **set_here, **overrides, **point, **change}
        base = _defaults(settings.pop("task"))
        if (of := settings.pop(_PRETRAINED, None)) is not None:
            parent = self._parent(scale, part, of, point, overrides).config()
            base = {**base, "model": dict(parent["model"]), "pretrained": parent}
        return assigned(base, settings)

    def _parent(self, scale: str, part: str, of: str, point: Mapping[str, Any], overrides: Mapping[str, Any]) -> Cell:
        """The cell that `pretrained: part/arm` names, at those of the point's axes that its part has."""
        where, (of_part, _, of_arm) = f"{self.name}: parts.{part}: pretrained", of.partition("/")
        planned = self.text["scales"][scale]["parts"]
        if of_part == part or of_part not in planned:
            raise ValueError(
                f"{where} is {of!r}; it must be part/arm with another part of scale {scale}: {', '.join(planned)}"
            )
        if of_arm not in self.arms(of_part):
            raise unknown(f"{where}: arm", of_arm, self.arms(of_part))
        axes = [_axis(name, values) for name, values in ((planned[of_part] or {}).get("axes") or {}).items()]
        keys = {key for axis in axes for settings in axis for key in settings}
        if missing := sorted(keys - point.keys()):
            raise ValueError(f"{where} is {of!r}, which varies {missing[0]!r}; part {part!r} must vary it too")
        return self._cell(scale, of_part, of_arm, {key: point[key] for key in point if key in keys}, overrides, {})[0]

    def arms(self, part: str) -> list[str]:
        """Names of a part's arms, in the file's order; none for a part that the file does not have."""
        return list(self._part(part)[1]) if part in self.text["parts"] else []

    def _check_hypothesis(self, hypothesis: Mapping[str, Any], where: str) -> None:
        """Whether all that a hypothesis names is there, so that no sweep is run for one that cannot be judged."""
        _keys(hypothesis, _HYPOTHESIS_KEYS | _HYPOTHESIS_MAY, where, required=_HYPOTHESIS_KEYS)
        _keys(hypothesis["reading"], _READING_KEYS | _READING_MAY, f"{where}.reading", required=_READING_KEYS)
        for label, change in hypothesis.get("against", {}).items():
            _keys(change, _READING_KEYS | _READING_MAY, f"{where}.against.{label}")
        for need in hypothesis.get("requires", []):
            _keys(need, _READING_KEYS | {"least"}, f"{where}.requires", required=_READING_KEYS | {"least"})
        ladder = hypothesis.get("ladder", {})
        _keys(ladder, _LADDER_KEYS, f"{where}.ladder", required=_LADDER_KEYS if ladder else frozenset())
        for key, part in {
            "part": hypothesis["part"],
            **{f"ladder.{key}": part for key, part in ladder.items()},
        }.items():
            if part not in self.text["parts"]:
                raise unknown(f"{where}.{key}", part, self.text["parts"])
        if not hypothesis.get("partners") and not hypothesis.get("against"):
            raise ValueError(f"{where}: partners or against must name what the arm is compared with")
        for arm in (hypothesis["arm"], *hypothesis.get("partners", [])):
            if arm not in self.arms(hypothesis["part"]):
                raise unknown(f"{where}: arm", arm, self.arms(hypothesis["part"]))
        try:
            rule_from(hypothesis["decision"])
        except ValueError as error:
            raise ValueError(f"{where}.decision: {error}") from error

    def tuned(self, scale: str, part: str) -> Mapping[str, Any]:
        """What `tuning.yaml` has of a part at a scale; of one that is like another and was not tuned itself, what it
        has of that one, so that the two differ by what the part changes alone. Empty where neither was tuned."""
        found = self.tuning.get(scale, {}).get(part)
        if found is None and "like" in self.text["parts"][part]:
            return self.tuned(scale, self.text["parts"][part]["like"])
        return found or {}

    def _part(self, name: str) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Baseline and arms of a part; one that is like another takes both from it, with its own changes."""
        part = self.text["parts"][name]
        if "like" not in part:
            return dict(part["baseline"]), part["arms"]
        baseline, arms = self._part(part["like"])
        return baseline | part["set"], arms

    def _evaluations(self, name: str) -> Sequence[str]:
        """What a part wants measured; one that is like another wants the same, unless it says otherwise."""
        part = self.text["parts"][name]
        if _EVALUATIONS in part or "like" not in part:
            return part.get(_EVALUATIONS, ())
        return self._evaluations(part["like"])

    def _solved_from(self, arms: Mapping[str, Any], arm: str) -> tuple[str | None, Mapping[str, Any]]:
        """Which partner an arm is, if any, and what its own cell, or the looped one that it is solved from, changes."""
        change = arms[arm] or {}
        if "partner" not in change:
            return None, change
        if set(change) != {"partner", "of"}:
            raise ValueError(
                f"{self.name}: arm {arm!r} is a partner; it has the keys partner and of, not {set(change)}"
            )
        if change["partner"] not in PARTNERS:
            raise unknown(f"{self.name}: arm {arm!r}: partner", change["partner"], PARTNERS)
        if change["of"] not in arms:
            raise unknown(f"{self.name}: arm {arm!r}: of", change["of"], arms)
        if "partner" in (arms[change["of"]] or {}):
            raise ValueError(f"{self.name}: arm {arm!r}: of is {change['of']!r}; it must not itself be a partner")
        return change["partner"], arms[change["of"]] or {}


@cache
def _defaults(task: str) -> Mapping[str, Any]:
    """The default cell of a task as plain data; not to be written to."""
    return composed([f"task={task}"])


def _axis(name: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """What each value of an axis sets: the axis's own key, or, where a value is a mapping, several keys together."""
    return [dict(value) if isinstance(value, Mapping) else {name: value} for value in values]


def _replicate(cell: Cell, index: int) -> Cell:
    def shifted(seeds: Seeds) -> Seeds:
        return Seeds(**{name: seed + index for name, seed in vars(seeds).items()})

    return cell.at_seeds(shifted)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} is not a grid: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a mapping")
    return {str(key): value for key, value in data.items()}


def _keys(data: Mapping[str, Any], allowed: Set[str], where: str, required: Set[str] = frozenset()) -> None:
    for key in data:
        if key not in allowed:
            raise unknown(f"{where}: key", key, sorted(allowed))
    for key in sorted(required):
        if key not in data:
            raise ValueError(f"{where}: key {key!r} is missing")
