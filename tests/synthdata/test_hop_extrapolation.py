"""`hop_extrapolation` against walking the permutations one hop at a time."""

import dataclasses
import math
import re
from collections import Counter

import numpy as np
import pytest

from synthdata.examples import Examples
from synthdata.streams import Stream, pool, world
from synthdata.tasks.hop_extrapolation import HopExtrapolation

SMALL = HopExtrapolation(
    entities=9, relations=3, trained_hops=3, hops=30, training_questions=50, test_questions=31
)  # 81 two-hop questions: all of them
WRITTEN = dataclasses.replace(SMALL, chain_of_thought="written")


def read(task: HopExtrapolation, examples: Examples) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    pairs = []
    for n in range(len(examples)):
        bos, *prompt = task.vocabulary.decode(examples.prompt(n)).split()
        assert bos == "<bos>"
        pairs.append((tuple(prompt), tuple(task.vocabulary.decode(examples.answer(n)).split())))
    return pairs


def asked(task: HopExtrapolation, split: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    pairs = read(task, pool(task, 0, split))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("task", [HopExtrapolation(training_questions=200, test_questions=20), SMALL, WRITTEN])
def test_answers_follow_the_facts(task: HopExtrapolation) -> None:
    facts = asked(task, "facts")
    for relation in range(task.relations):
        assert len({facts[f"e{e}", f"r{relation}"] for e in range(task.entities)}) == task.entities
    for split in ("seen", "test", "longer"):
        for (at, *relations), answer in asked(task, split).items():
            path = []
            for relation in relations:
                (at,) = facts[at, relation]
                path.append(at)
            assert answer == (tuple(path) if task is WRITTEN else (at,))


def test_lengths_and_numbers_of_questions() -> None:
    def lengths(split: str) -> Counter[int]:
        return Counter(len(question) - 1 for question in asked(SMALL, split))

    assert lengths("facts") == {1: 27}
    assert lengths("seen") == {2: 50, 3: 50}
    assert lengths("test") == {2: 31, 3: 31}
    assert lengths("longer") == {hops: 31 for hops in range(4, 31)}
    assert not set(asked(SMALL, "seen")) & set(asked(SMALL, "test"))
    examples = pool(SMALL, 0, "longer")
    assert np.array_equal(examples.difficulty_N, examples.lengths_N - 3)


def test_sizes_of_the_source() -> None:
    task = HopExtrapolation(trained_hops=5)
    sizes = {split: len(questions) for split, questions in world(task, 0).questions.items()}
    assert sizes == {"facts": 2000, "seen": 4 * 15_000, "test": 4 * 750, "longer": 35 * 750}


def test_relations_of_long_questions_are_uniform() -> None:
    """Beyond the relations that a question is numbered by, too."""
    examples = pool(HopExtrapolation(test_questions=3000, training_questions=1), 0, "longer")
    relations_N = examples.tokens_NL[examples.difficulty_N == 40, 2:42] - 202
    for hop in (0, 15, 16, 17, 39):
        counts = np.bincount(relations_N[:, hop], minlength=10)
        assert np.sum((counts - 300) ** 2) / 300 < 9 + 5 * math.sqrt(2 * 9)


def test_an_epoch_is_every_fact_and_every_trained_question() -> None:
    drawn = read(SMALL, Stream(SMALL, 0, 0).examples(127, 127))
    assert Counter(drawn) == Counter([*asked(SMALL, "facts").items(), *asked(SMALL, "seen").items()])


def test_the_trained_length_changes_neither_facts_nor_questions() -> None:
    further = dataclasses.replace(SMALL, trained_hops=4)
    assert asked(SMALL, "facts") == asked(further, "facts")
    assert set(asked(SMALL, "seen")) < set(asked(further, "seen"))
    assert set(asked(SMALL, "test")) < set(asked(further, "test"))
    assert set(asked(further, "longer")) < set(asked(SMALL, "longer"))
    assert set(asked(SMALL, "longer")) == set(asked(WRITTEN, "longer"))


def test_parts_are_the_facts_on_the_way() -> None:
    facts = asked(SMALL, "facts")
    index = {fact: i for i, fact in enumerate(facts)}
    examples = pool(SMALL, 0, "test")
    for ((at, *relations), _), parts in zip(read(SMALL, examples), examples.parts_NP.tolist(), strict=True):
        path = []
        for relation in relations:
            path.append(index[at, relation])
            (at,) = facts[at, relation]
        assert parts == path + [-1] * (30 - len(path))


def test_fact_bits() -> None:
    constants = SMALL.constants(world(SMALL, 0))
    assert constants == {"facts": 27, "fact_bits": pytest.approx(3 * math.log2(math.factorial(9)))}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"entities": 1}, "entities is 1; it must be at least 2"),
        ({"relations": 0}, "relations is 0; it must be at least 1"),
        ({"trained_hops": 1}, "trained_hops is 1; it must be between 2 and 1,000"),
        ({"hops": 4}, "hops is 4; it must be above trained_hops, 4, and at most 1,000"),
        ({"hops": 1000}, "hops is 1000; it must be fewer: hops ** 2 * (training_questions 15000 + test_questions 750)"),
        (
            {"entities": 10**9},
            "entities is 1000000000; it must be fewer: entities * relations 10 * hops 40 is more than",
        ),
        ({"entities": 2}, "test_questions is 750; it must be at least 1 and at most 199, all but one of the questions"),
        ({"test_questions": 0}, "test_questions is 0; it must be at least 1"),
        (
            {"training_questions": 19_251},
            "training_questions is 19251; it must be at least 1 and, beside test_questions 750, at most the other",
        ),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        HopExtrapolation(**parameters)
