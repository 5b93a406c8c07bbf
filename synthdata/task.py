"""`Task`, the interface that every synthetic task implements, and the registry that finds them by name.

A task is a frozen dataclass of its parameters. It says nothing of seeds, blocks or batches: it is handed a generator
and returns examples (`streams.py` decides which generator). The contracts that all tasks keep are tests in
`tests/contracts/`.
"""

import dataclasses
import difflib
import importlib
import importlib.metadata
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from synthdata.examples import Examples
from synthdata.vocabulary import Vocabulary

World = Any
"""What `Task.world` drew: facts, tables, permutations. Only its own task looks inside."""


MAX_SYMBOLS = 1_000_000
"""Symbols of a vocabulary: they are listed one by one in memory."""

MAX_LENGTH = 10_000
"""Tokens of an example."""

MAX_STORED = 500_000_000
"""Numbers that a world or its listed examples keep in memory."""

MAX_COMPOSITIONS = 20_000_000
"""Compositions that a world lists one by one in memory (about 30 bytes each while it is drawn)."""


def require(condition: bool, field: str, value: Any, allowed: str) -> None:
    """Raise `ValueError` naming the field, its value and what is allowed, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{field} is {value!r}; it must be {allowed}")


@dataclass(frozen=True)
class Attributes:
    """What a task stores of each of its things, attribute by attribute.

    Attributes:
        bits: of each attribute by name, what a model that knows nothing pays for one value.
        examples: an example of each thing, scored in spans that are indices into `bits`.
    """

    bits: Mapping[str, float]
    examples: Examples


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """One synthetic task with its parameters as fields.

    A subclass sets the class variables, implements the abstract members and for each split either `pool` (a finite
    split, listed once), `draw` (independent examples) or `items` and `show` (things shown equally often). Its docstring
    shows one example, inputs and labels aligned token by token. `__post_init__` raises `ValueError` naming the field,
    the value and what is allowed; it begins with `super().__post_init__()`, which checks types. Fields are int, float,
    str or a `Literal` of strings.

    Class variables:
        name: the registry name.
        version: raised whenever the same parameters and seeds would give other bytes.
        source: where the task is defined (paper and section).
        difficulty: what `Examples.difficulty_N` counts.
        trained_splits: evaluation splits whose examples also occur in training (recall of what was trained).
        facts_split: the split that `Examples.parts_NP` points into, or None for a task that composes nothing.
        spans: names of the scored spans, in the order that `Examples.scored_NL` counts them.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    source: ClassVar[str]
    difficulty: ClassVar[str]
    trained_splits: ClassVar[tuple[str, ...]] = ()
    facts_split: ClassVar[str | None] = None
    spans: ClassVar[tuple[str, ...]] = ("answer",)

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for field in dataclasses.fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if get_origin(hint) is Literal:
                require(value in get_args(hint), field.name, value, " | ".join(get_args(hint)))
            elif hint is float and type(value) is int:
                # 1 == 1.0, but their JSON differs: one value must have one identity.
                object.__setattr__(self, field.name, float(value))
            else:
                require(type(value) is hint, field.name, value, f"of type {hint.__name__}")

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: `train`, then those that are evaluated. An evaluated split is never empty, and shares
        no example with `train` unless it is one of `trained_splits`."""

    @property
    @abstractmethod
    def vocabulary(self) -> Vocabulary:
        """The closed vocabulary. A function of the parameters alone, never of the world."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Tokens of the longest possible example."""

    @abstractmethod
    def world(self, rng: np.random.Generator) -> World:
        """Draw what the data seed decides (which facts are true)."""

    def pool(self, world: World, split: str) -> Examples | None:
        """Every example of a finite split, in a fixed order; None where examples are only ever drawn."""
        return None

    def draw(self, world: World, split: str, rng: np.random.Generator, count: int) -> Examples:
        """`count` independent examples of a split. By default, uniformly from its pool."""
        pool = self.pool(world, split)
        if pool is None:
            raise TypeError(f"task {self.name!r} implements neither pool nor draw for split {split!r}")
        return pool.take(rng.integers(len(pool), size=count))

    def items(self, world: World, split: str) -> int | None:
        """How many things a split shows in turn, each once per epoch; None where examples are drawn independently."""
        return None

    def show(self, world: World, split: str, rng: np.random.Generator, item_N: npt.NDArray[np.integer]) -> Examples:
        """One example of each of these items, for a split that has `items`."""
        raise TypeError(f"task {self.name!r} gives split {split!r} items but does not implement show")

    def constants(self, world: World) -> Mapping[str, float]:
        """Exact quantities of the world that a measurement is read against (bits stored at most, people, …)."""
        return {}

    def stored(self, world: World) -> Attributes | None:
        """What is stored, attribute by attribute; None for a task that stores no such things."""
        return None

    def check_split(self, split: str) -> None:
        """Raise `ValueError` unless `split` is one of this task's."""
        if split not in self.splits:
            raise ValueError(f"split {split!r} is not one of task {self.name!r}: {', '.join(self.splits)}")

    def config(self) -> dict[str, Any]:
        """Name, version and parameters: what identifies the task in a hash and in a stored configuration."""
        return {
            "name": self.name,
            "version": self.version,
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
        }

    def world_config(self) -> dict[str, Any]:
        """The part of `config` that the world and what is measured of it depend on: two tasks that agree in it have the
        same facts and the same questions under one data seed, whatever else they do with them. By default all of it."""
        return self.config()


@cache
def _hints(cls: type[Task]) -> dict[str, Any]:
    """Types of the fields of a task."""
    return get_type_hints(cls)


_REGISTRY: dict[str, type[Task]] = {}
T = TypeVar("T", bound=type[Task])


def register(cls: T) -> T:
    """Class decorator: make a task known by its `name`. Refuses a name that is taken."""
    taken = _REGISTRY.get(cls.name)
    if taken is not None and taken is not cls:
        raise ValueError(f"task name {cls.name!r} is taken by {taken.__module__}.{taken.__qualname__}")
    _REGISTRY[cls.name] = cls
    return cls


PLUG_INS = "looplm.tasks"
"""Entry-point group under which other installed packages name the modules that register their tasks."""


@cache
def _load_own() -> None:
    package = importlib.import_module("synthdata.tasks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


@cache
def _load_plug_ins() -> None:
    for entry in importlib.metadata.entry_points(group=PLUG_INS):
        try:
            entry.load()
        except Exception as error:
            owner = entry.dist.name if entry.dist else "an unnamed package"
            raise RuntimeError(
                f"task plug-in {entry.name} = {entry.value!r} of {owner} does not load: {error}"
            ) from error


def tasks() -> Mapping[str, type[Task]]:
    """Every registered task by name, in alphabetical order. Imports all of `synthdata.tasks`, then the plug-ins.

    Raises:
        RuntimeError: if a plug-in does not load, or takes a name that another task has.
    """
    _load_own()
    _load_plug_ins()
    return dict(sorted(_REGISTRY.items()))


def task_class(name: str) -> type[Task]:
    """The task registered as `name`; a `ValueError` suggests the nearest name."""
    known = tasks()
    if name not in known:
        _load_own.cache_clear()  # its file may be newer than the last look
        known = tasks()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"task {name!r} is not registered; known: {', '.join(known)}.{hint}")
    return known[name]
