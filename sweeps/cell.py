"""`Cell`: one training run, frozen, and identified by a hash of everything that decides its numbers.

Device, compilation, workers and commit are not here: they are provenance, and do not change what a cell is. Neither
does what is measured of it: `evaluations` is carried along, and is no part of the hash.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, get_args

import looplm
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig, Precision
from sweeps.config import SECTIONS, composed, construct, unknown
from sweeps.evaluations import check_evaluations
from synthdata.task import Task, task_class


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Three seeds, never one: which facts, which examples when, which initial weights."""

    data_seed: int = 0
    order_seed: int = 0
    init_seed: int = 0

    def __post_init__(self) -> None:
        for name, seed in _fields(self).items():
            if seed < 0:
                raise ValueError(f"seeds.{name} is {seed}; it must be at least 0")


_EFFECTIVE = {
    "last": ("name", "backprop_loops"),
    "uniform": ("name", "backprop_loops"),
    "entropy": ("name", "beta", "later_beta", "later_from", "backprop_loops"),
    "geometric": ("name", "beta", "later_beta", "later_from", "prior", "backprop_loops"),
    "stage_two": ("name",),
}
"""Fields of an objective that change anything, by its name."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a grid: a task and its world, a model, an objective, an optimiser, a budget, seeds, a precision.

    Attributes:
        task: what is learned.
        model: the architecture.
        objective: how the exits' losses become one.
        optimizer: AdamW and its schedule.
        budget: steps, batch and layout.
        seeds: which world, order and initialisation.
        precision: of the training arithmetic.
        pretrained: the cell whose trained weights this one begins with, or None. It may have another task, other loops
            and another objective; vocabulary and weights must be the same.
        evaluations: names of what is measured beside answers and floors; no part of what the cell is.
    """

    task: Task
    model: ModelConfig
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    budget: BudgetConfig
    seeds: Seeds
    precision: Precision = "32-true"
    pretrained: "Cell | None" = None
    evaluations: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        check_evaluations(self.evaluations)
        if self.pretrained is not None:
            self._check_pretrained(self.pretrained)
        if self.objective.freezes_model and (self.pretrained is None or self.model.exits < 2):
            raise ValueError(
                f"objective.name is {self.objective.name!r}, which trains the gate of a trained model with several "
                f"exits: it needs a pretrained cell and model.loops of at least 2"
            )
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}; it must be {' | '.join(get_args(Precision))}")
        if self.context < _max_length(self.task) - 1:
            raise ValueError(
                f"budget.context is {self.context}; the longest example of task {self.task.name!r} has "
                f"{_max_length(self.task)} tokens and needs at least {_max_length(self.task) - 1}"
            )

    def _check_pretrained(self, parent: "Cell") -> None:
        if not _same_vocabulary(self.task, parent.task):
            raise ValueError(
                f"pretrained is a cell of task {parent.task.name!r}, whose vocabulary differs from that of "
                f"{self.task.name!r}; it must be the same"
            )
        for name, own in _weights_shape(self.model).items():
            if own != (theirs := _weights_shape(parent.model)[name]):
                raise ValueError(f"model.{name} is {own}; it must be {theirs}, as in the pretrained cell")

    @classmethod
    def from_config(cls, config: Mapping[str, Any], evaluations: Sequence[str] = ()) -> "Cell":
        """The cell of a stored configuration; the inverse of `config`."""
        sections = {*SECTIONS, "task", "seeds", "precision", "pretrained"}
        for key in config:
            if key not in sections:
                raise unknown("key", str(key), sections)
        task = dict(config["task"])
        kind = task_class(str(task.pop("name")))
        version = task.pop("version", kind.version)
        if version != kind.version:
            raise ValueError(f"task.version is {version}; this code has version {kind.version} of {kind.name!r}")
        return cls(
            task=construct(kind, task, "task"),
            **{name: construct(section, config[name], name) for name, section in SECTIONS.items()},
            seeds=construct(Seeds, config["seeds"], "seeds"),
            precision=config["precision"],
            pretrained=cls.from_config(config["pretrained"]) if config.get("pretrained") else None,
            evaluations=tuple(evaluations),
        )

    @classmethod
    def compose(cls, overrides: Sequence[str]) -> "Cell":
        """The cell that overrides in Hydra's grammar ask for."""
        return cls.from_config(composed(overrides))

    def config(self) -> dict[str, Any]:
        """Everything about this cell as plain data, readable and complete."""
        sections = {name: _fields(getattr(self, name)) for name in (*SECTIONS, "seeds")}
        start = {} if self.pretrained is None else {"pretrained": self.pretrained.config()}
        return {"task": self.task.config(), **sections, "precision": self.precision, **start}

    def canonical(self) -> "Cell":
        """The same run written in the one canonical way: defaults resolved, fields without effect at their defaults."""
        model = dataclasses.replace(self.model, intermediate_size=self.model.feedforward_size)
        objective = self.objective
        if model.exits == 1:
            model, objective = dataclasses.replace(model, exit_every=None), ObjectiveConfig(name="last")
        else:
            objective = ObjectiveConfig(**{field: getattr(objective, field) for field in _EFFECTIVE[objective.name]})
            if (objective.backprop_loops or 0) >= model.loops:
                objective = dataclasses.replace(objective, backprop_loops=None)
        budget = dataclasses.replace(
            self.budget, context=self.context, batch_size=self.batch_size, batch_unit="examples"
        )
        seeds, pretrained = self.seeds, self.pretrained
        if pretrained is not None:
            seeds, pretrained = dataclasses.replace(seeds, init_seed=0), pretrained.canonical()
        return dataclasses.replace(
            self, model=model, objective=objective, budget=budget, seeds=seeds, pretrained=pretrained
        )

    def at_seeds(self, change: Callable[["Seeds"], "Seeds"]) -> "Cell":
        """The same cell with other seeds, all the way back through what it is pretrained from."""
        pretrained = None if self.pretrained is None else self.pretrained.at_seeds(change)
        return dataclasses.replace(self, seeds=change(self.seeds), pretrained=pretrained)

    def identity(self) -> dict[str, Any]:
        """What the id is a hash of: the canonical configuration without the fields that have no effect."""
        config = self.canonical().config()
        objective = config["objective"]
        effective = {key: objective[key] for key in _EFFECTIVE[objective["name"]]}
        config["objective"] = {key: value for key, value in effective.items() if value is not None}
        del config["budget"]["batch_unit"]
        if self.pretrained is not None:
            config["pretrained"] = self.pretrained.id
        return {**config, "numerics": looplm.NUMERICS}

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the hash of `identity`."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def context(self) -> int:
        """Positions a row."""
        return self.budget.context if self.budget.context is not None else _max_length(self.task) - 1

    @property
    def batch_size(self) -> int:
        """Examples a step."""
        a_window = self.context // (_max_length(self.task) - 1) if self.budget.batch_unit == "windows" else 1
        return self.budget.batch_size * a_window

    @property
    def vocab_size(self) -> int:
        """Symbols of the task's vocabulary."""
        return _vocab_size(self.task)

    @property
    def name(self) -> str:
        """A short reading of the cell for people: k⊗R, width and objective."""
        exits = f" exits/{self.model.exit_every}" if self.model.exit_every and self.model.exits > 1 else ""
        objective = f" {self.objective.name}" if self.model.exits > 1 else ""
        after = f" after {self.pretrained.name}" if self.pretrained is not None else ""
        return f"{self.model.layers}⊗{self.model.loops}{exits} d={self.model.hidden_size}{objective}{after}"


def _fields(section: Any) -> dict[str, Any]:
    """The fields of a section as plain data. They hold no containers, so that nothing needs copying."""
    return {name: getattr(section, name) for name in _names(section.__class__)}


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(cls))


@cache
def _vocab_size(task: Task) -> int:
    return len(task.vocabulary)


@cache
def _max_length(task: Task) -> int:
    return task.max_length


@cache
def _same_vocabulary(one: Task, other: Task) -> bool:
    return one.vocabulary == other.vocabulary


def _weights_shape(model: ModelConfig) -> dict[str, Any]:
    """What two models must agree in for the weights of one to be those of the other: all but loops and exits."""
    fields = _fields(model) | {"intermediate_size": model.feedforward_size}
    return {name: value for name, value in fields.items() if name not in ("loops", "exit_every", "init_std")}
