"""The registry, and the checks of types that every task inherits."""

import importlib.metadata
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest

import synthdata.task
from synthdata.examples import Examples
from synthdata.task import Task, World, register, task_class, tasks
from synthdata.tasks.twohop import TwoHop
from synthdata.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Toy(Task):
    """Not registered; has a field of every kind."""

    name: ClassVar[str] = "twohop"
    version: ClassVar[int] = 1
    splits = ("train",)
    size: int = 1
    share: float = 0.5
    label: str = "x"
    kind: Literal["a", "b"] = "a"

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(())

    @property
    def max_length(self) -> int:
        return 1

    def world(self, rng: np.random.Generator) -> World:
        return None


def test_tasks_are_found_by_name() -> None:
    assert list(tasks()) == sorted(tasks())
    assert task_class("twohop") is TwoHop


def test_a_taken_name_is_refused_and_the_owner_named() -> None:
    with pytest.raises(ValueError, match=r"task name 'twohop' is taken by synthdata\.tasks\.twohop\.TwoHop"):
        register(Toy)
    assert task_class("twohop") is TwoHop
    assert register(TwoHop) is TwoHop


def plug_in(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = importlib.metadata.EntryPoint(name="theirs", value=value, group=synthdata.task.PLUG_INS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == "looplm.tasks" else [])
    monkeypatch.setattr(synthdata.task, "_load_plug_ins", synthdata.task._load_plug_ins.__wrapped__)


def test_plug_ins_are_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plugged_in.py").write_text("loaded = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    plug_in(monkeypatch, "plugged_in:loaded")
    assert "mano" in tasks()
    assert sys.modules.pop("plugged_in").loaded == []


def test_a_plug_in_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "no_such_module_anywhere")
    with pytest.raises(
        RuntimeError, match="task plug-in theirs = 'no_such_module_anywhere' of an unnamed package does"
    ):
        tasks()


@pytest.mark.parametrize(("name", "near"), [("two_hop", "twohop"), ("additon", "addition")])
def test_an_unknown_name_gets_a_suggestion(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"task '{name}' is not registered; known: .* Did you mean '{near}'?"):
        task_class(name)


def test_a_name_near_nothing_gets_no_suggestion() -> None:
    with pytest.raises(ValueError, match="known: addition") as refused:
        task_class("zzz")
    assert "Did you mean" not in str(refused.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": 1.0}, "size is 1.0; it must be of type int"),
        ({"size": True}, "size is True; it must be of type int"),
        ({"size": np.int64(1)}, "size is np.int64(1); it must be of type int"),
        ({"share": "0.5"}, "share is '0.5'; it must be of type float"),
        ({"share": False}, "share is False; it must be of type float"),
        ({"label": None}, "label is None; it must be of type str"),
        ({"kind": "c"}, "kind is 'c'; it must be a | b"),
        ({"kind": ["a"]}, "kind is ['a']; it must be a | b"),
    ],
)
def test_wrong_types_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Toy(**parameters)


def test_an_integer_is_taken_for_a_float_and_becomes_one() -> None:
    assert json.dumps(Toy(share=1).config()) == json.dumps(Toy(share=1.0).config())


def test_a_task_without_pool_or_draw_says_so() -> None:
    with pytest.raises(TypeError, match="implements neither pool nor draw for split 'train'"):
        Toy().draw(None, "train", np.random.default_rng(0), 1)


def test_the_default_draw_is_uniform_from_the_pool() -> None:
    class Pooled(Toy):
        def pool(self, world: World, split: str) -> Examples:
            return TwoHop().pool(TwoHop().world(np.random.default_rng(0)), "facts")

    drawn = Pooled().draw(None, "train", np.random.default_rng(1), 25_000)
    counts = np.bincount(drawn.parts_NP[:, 0], minlength=250)
    assert counts.min() > 50
    assert counts.max() < 150
