"""From what a user typed to plain, typed data: Hydra's override grammar over defaults that live in the dataclasses.

Hydra composes once per command; what it returns is plain data, and `construct` turns that into frozen dataclasses. No
key can be invented (`+`, `~` and sweeps are refused) and no unknown key passes: the nearest known one is suggested.
"""

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from synthdata.task import tasks

T = TypeVar("T")

SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "objective": ObjectiveConfig,
    "optimizer": OptimizerConfig,
    "budget": BudgetConfig,
}


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that does not exist, with the nearest one that does."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{what} {name!r} does not exist; known: {', '.join(known)}.{hint}")


@cache
def _defaults() -> dict[str, Any]:
    """The default cell as plain data, `task` being a Hydra group with one option per registered task."""
    store = ConfigStore.instance()
    for name, task in tasks().items():
        store.store(group="task", name=name, node={"name": name, **dataclasses.asdict(task())})
    body: dict[str, Any] = {name: dataclasses.asdict(section()) for name, section in SECTIONS.items()}
    body |= {"seeds": {"data_seed": 0, "order_seed": 0, "init_seed": 0}, "precision": "32-true"}
    store.store(name="cell", node={"defaults": ["_self_", {"task": "twohop"}], **body})
    return body


def parse(overrides: Sequence[str]) -> list[Override]:
    """Overrides in Hydra's grammar (`model.loops=4`, `task=addition`), checked for form.

    Raises:
        ValueError: for a malformed override, and for `+`, `~` and sweeps (`a=1,2`), which would invent or multiply.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ValueError(
            f"override not understood: {_first_line(error)}; write key=value, as in model.loops=4"
        ) from None
    for override in parsed:
        if override.is_add() or override.is_delete() or override.is_force_add():
            raise ValueError(f"override {override.input_line!r}: keys cannot be added or deleted; write key=value")
        if override.is_sweep_override():
            raise ValueError(f"override {override.input_line!r} is a sweep; axes belong in a grid.yaml")
        if override.value_type is None and override.value() is None and "=" not in (override.input_line or ""):
            raise ValueError(f"override {override.input_line!r} has no value; write key=value")
    return parsed


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The cell configuration that the overrides ask for, as plain data; later overrides win.

    Raises:
        ValueError: for an unknown key or task, naming the nearest known one.
    """
    defaults = _defaults()
    parsed = parse(overrides)
    chosen = [o.value() for o in parsed if o.key_or_group == "task"]
    if len(set(map(str, chosen))) > 1:
        raise ValueError(f"task is given as {' and as '.join(map(str, chosen))}; a configuration has one task")
    name = str(chosen[-1]) if chosen else "twohop"
    if name not in tasks():
        raise unknown("task", name, tasks())
    schema = {**defaults, "task": {"name": name, **dataclasses.asdict(tasks()[name]())}}
    for override in parsed:
        check_key(override.key_or_group, schema)
    lines = [str(o.input_line) for o in parsed if o.key_or_group != "task"]
    try:
        with initialize(version_base="1.3", config_path=None):
            config = compose(config_name="cell", overrides=[f"task={name}", *lines])
    except HydraException as error:
        raise ValueError(f"configuration not understood: {_first_line(error)}") from None
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def check_key(key: str, schema: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the dotted `key` names a single value of `schema`, or is the choice of task."""
    node: Any = schema
    path = key.split(".")
    for depth, step in enumerate(path):
        if not isinstance(node, Mapping) or step not in node:
            known = node if isinstance(node, Mapping) else ()
            raise unknown(f"key {key!r}:" if depth else "key", step, known)
        node = node[step]
    if isinstance(node, Mapping) and key != "task":
        raise ValueError(f"key {key!r} is a section; set one of its fields: {', '.join(f'{key}.{k}' for k in node)}")
    if key == "task.name":
        raise ValueError("key 'task.name' is not set directly; choose a task with task=NAME")


def assigned(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with dotted keys set; an unknown key is refused with the nearest known one."""
    result = _copied(config)
    for key, value in values.items():
        check_key(key, result)
        *path, last = key.split(".")
        node = result
        for step in path:
            node = node[step]
        node[last] = value
    return result


def _copied(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in config.items()}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def construct(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from plain data: no unknown or missing keys, every value of its declared type.

    Raises:
        ValueError: naming `where.field`, the value and what is allowed.
    """
    assert dataclasses.is_dataclass(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = _hints(cls)
    for key in mapping:
        if key not in fields:
            raise unknown(f"key {where!r}:", str(key), fields)
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    for name in required:
        if name not in mapping:
            raise ValueError(f"{where}.{name} is missing; it has no default")
    values = {key: typed(value, hints[key], f"{where}.{key}") for key, value in mapping.items()}
    return cls(**values)


@cache
def _hints(cls: type) -> dict[str, Any]:
    """Types of the fields of a dataclass."""
    return get_type_hints(cls)


def typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type; an integer may stand for a float and a list for a tuple, nothing else converts."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        (only,) = [option for option in options if option is not type(None)]
        return typed(value, only, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{where} is {value!r}; it must be {' | '.join(map(str, get_args(hint)))}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(typed(item, get_args(hint)[0], where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    expected = hint if isinstance(hint, type) else origin
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise ValueError(f"{where} is {value!r}; it must be of type {expected.__name__}")
    return value
