"""Floors on planted truth, and the shortcut that makes them necessary."""

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pytest

from synthdata.examples import Examples
from synthdata.floors import _questions, _row_matching_predictions, floors
from synthdata.task import Task, World
from synthdata.tasks.addition import Addition
from synthdata.tasks.twohop import TwoHop
from synthdata.vocabulary import BOS, Vocabulary, numbered

SYMBOLS = 40


@dataclass(frozen=True, kw_only=True)
class Planted(Task):
    """`<bos> w a b c answer`, or a two-token answer: what the answer is made of is the parameter.

    Training prompts have w below 20 and test prompts from 20 on, so that no test prompt was trained.
    """

    name: ClassVar[str] = "planted"
    version: ClassVar[int] = 1
    splits = ("train", "test")
    rule: Literal["constant", "copy", "copy_two", "bigram", "noise"] = "constant"

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(tuple(numbered("s", SYMBOLS)))

    @property
    def max_length(self) -> int:
        return 7

    def world(self, rng: np.random.Generator) -> World:
        return rng.integers(2, 2 + SYMBOLS, size=(SYMBOLS, SYMBOLS))

    def draw(self, world: World, split: str, rng: np.random.Generator, count: int) -> Examples:
        w = rng.integers(20, size=count) + (0 if split == "train" else 20)
        a, b, c = rng.integers(SYMBOLS, size=(3, count))
        answers = {
            "constant": [np.where(rng.random(count) < 0.7, 2 + 5, 2 + a), np.full(count, 2)],
            "copy": [2 + a],
            "copy_two": [2 + a, 2 + b],
            "bigram": [world[b, c]],
            "noise": [rng.integers(2, 2 + SYMBOLS, size=count)],
        }[self.rule]
        tokens_NL = np.stack([np.full(count, BOS), 2 + w, 2 + a, 2 + b, 2 + c, *answers], axis=1).astype(np.int32)
        scored_NL = np.full(tokens_NL.shape, -1, dtype=np.int8)
        scored_NL[:, 5:] = 0
        length_N = np.full(count, tokens_NL.shape[1], dtype=np.int32)
        return Examples(tokens_NL, length_N, scored_NL == 0, scored_NL, length_N, np.empty((count, 0), np.int32))


def planted(rule: str) -> dict[str, float]:
    return floors(Planted(rule=rule), 0, "test", 2000)


def test_constant_finds_the_commonest_whole_answer() -> None:
    assert planted("constant")["constant"] == pytest.approx(0.7 + 0.3 / SYMBOLS, abs=0.03)


@pytest.mark.parametrize("rule", ["copy", "copy_two"])
def test_copy_finds_the_place(rule: str) -> None:
    found = planted(rule)
    assert found["copy"] == 1
    assert found["constant"] < 0.1


def test_ngram_finds_the_shortest_context_that_decides() -> None:
    """Longer suffixes of a test prompt were never trained: the best n is 2, and longer ones back off to it."""
    found = planted("bigram")
    assert found["ngram"] == 1
    assert max(found["constant"], found["copy"]) < 0.1


@pytest.mark.parametrize("name", ["constant", "ngram", "row_matching", "copy"])
def test_noise_is_predicted_by_nothing(name: str) -> None:
    assert planted("noise")[name] < 2.5 / SYMBOLS


@pytest.mark.parametrize(
    ("table", "answer"),
    [
        (["56.", "568", ".67", ".67"], 8),  # the row that agrees most
        (["56.", "574", ".68"], 8),  # a row that agrees once and contradicts once is out
        (["56.", "778", "..9"], 0),  # rows that contradict or share nothing say nothing: constant and n-gram answer
        (["56.", ".69", ".68", ".68"], 8),  # of equals, the commonest
    ],
)
def test_row_matching_by_hand(table: list[str], answer: int) -> None:
    """Rows by columns of known answers; the first row's last entry is asked for. Answer 0 stands for the fallback."""

    def asked(cells: list[tuple[int, int, int]]) -> Examples:
        tokens_NL = np.array([[BOS, 20 + row, 30 + column, cell] for row, column, cell in cells], dtype=np.int32)
        scored_NL = np.where(np.arange(4) == 3, 0, -1).astype(np.int8) * np.ones((len(cells), 1), dtype=np.int8)
        length_N = np.full(len(cells), 4, dtype=np.int32)
        return Examples(tokens_NL, length_N, scored_NL == 0, scored_NL, length_N, np.empty((len(cells), 0), np.int32))

    known = [(r, c, int(cell)) for r, row in enumerate(table) for c, cell in enumerate(row) if cell != "."]
    train, test = _questions(asked(known), asked([(0, 2, answer or 9)]))
    fallback = test.answer_id_N + 1
    found = _row_matching_predictions(train, test, fallback)
    assert found == (test.answer_id_N if answer else fallback)


def test_row_matching_solves_a_random_split_without_composing() -> None:
    """The trap: held-out compositions of facts that were all composed in training, in other pairings."""
    found = [floors(TwoHop(held_out_facts=0), seed, "id", 1000) for seed in range(4)]
    assert np.mean([floor["row_matching"] for floor in found]) > 0.93
    assert all(floor["row_matching"] > 0.85 for floor in found)
    assert all(max(floor["constant"], floor["copy"]) < 0.15 for floor in found)
    permutations = TwoHop(held_out_facts=0, relation_kind="permutation")
    assert floors(permutations, 0, "id", 1000)["row_matching"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("split", ["ood_first", "ood_second", "ood_both"])
def test_row_matching_stays_at_the_floor_where_facts_are_held_out(split: str) -> None:
    found = [floors(TwoHop(), seed, split, 1000) for seed in range(4)]
    assert np.mean([floor["row_matching"] for floor in found]) < 0.12
    for floor in found:
        assert floor["row_matching"] <= max(floor["ngram"], floor["constant"]) + 0.05


def test_what_was_trained_is_looked_up() -> None:
    for split in TwoHop.trained_splits:
        assert floors(TwoHop(), 0, split, 1000)["ngram"] == 1


def test_addition_has_no_shortcut() -> None:
    assert max(floors(Addition(), 0, "test", 2000).values()) < 0.03


def test_floors_are_deterministic_and_fast() -> None:
    start = time.process_time()
    first = floors(TwoHop(), 0, "id", 1000)
    assert time.process_time() - start < 1
    assert first == floors(TwoHop(), 0, "id", 1000)
