"""`comparison` against a table of values read off its own facts, and against counted splits."""

import dataclasses
import math
import re
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from synthdata.examples import Examples
from synthdata.streams import Stream, pool, world
from synthdata.tasks.comparison import Comparison

SMALL = Comparison(entities=20, attributes=3, values=4, phi=4.0, held_out_entities=0.25, test_share=0.2)
WRITTEN = dataclasses.replace(SMALL, chain_of_thought="written")


def read(task: Comparison, examples: Examples) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    pairs = []
    for n in range(len(examples)):
        bos, *prompt = task.vocabulary.decode(examples.prompt(n)).split()
        assert bos == "<bos>"
        pairs.append((tuple(prompt), tuple(task.vocabulary.decode(examples.answer(n)).split())))
    return pairs


def asked(task: Comparison, split: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    pairs = read(task, pool(task, 0, split))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("task", [Comparison(entities=30), SMALL, WRITTEN])
def test_answers_compare_the_values(task: Comparison) -> None:
    facts = asked(task, "facts")
    assert len(facts) == task.entities * task.attributes
    for split in task.splits[2:]:
        for (attribute, one, other), answer in asked(task, split).items():
            (left,), (right,) = facts[one, attribute], facts[other, attribute]
            difference = int(left[1:]) - int(right[1:])
            sign = "<" if difference < 0 else ">" if difference else "="
            values = (left, right) if task is WRITTEN else ()
            assert answer == (*values, f"{attribute}{sign}")


def test_splits_by_entities_and_by_pairs() -> None:
    """For each attribute 5 of 20 entities are OOD; of the 105 pairs of the others 21 are tests, in both orders."""
    task = dataclasses.replace(SMALL, phi=168 / 15)
    seen, tested, ood = (set(asked(task, split)) for split in ("seen", "id", "ood"))
    held_out = set()
    for a in range(3):
        outside = {e for attribute, *pair in ood if attribute == f"a{a}" for e in pair}
        inside = {f"e{e}" for e in range(20)} - outside
        assert len(outside) == 5
        held_out.add(frozenset(outside))
        assert {(one, other) for attribute, one, other in ood if attribute == f"a{a}"} == set(permutations(outside, 2))
        here = {(one, other) for attribute, one, other in tested if attribute == f"a{a}"}
        assert len(here) == 2 * 21
        assert {(other, one) for one, other in here} == here
        trained = {(one, other) for attribute, one, other in seen if attribute == f"a{a}"}
        assert not trained & here
        assert trained | here == set(permutations(inside, 2))
    assert len(held_out) == 3


def test_counts_of_the_source() -> None:
    """Of each of its attributes 900 facts are ID; at phi 7.2 6,480 comparisons are trained; tests are capped."""
    task = Comparison(entities=1000, attributes=4, values=20, phi=7.2)
    assert {split: len(questions) for split, questions in world(task, 0).questions.items()} == {
        "seen": 4 * 6_480,
        "id": 3_000,
        "ood": 3_000,
    }


@pytest.mark.parametrize("task", [SMALL, WRITTEN])
def test_an_epoch_is_every_fact_and_every_trained_comparison(task: Comparison) -> None:
    assert len(asked(task, "seen")) == 4 * 45
    drawn = read(task, Stream(task, 0, 0).examples(240, 240))
    assert Counter(drawn) == Counter([*asked(task, "facts").items(), *asked(task, "seen").items()])


def test_phi_is_nested_and_changes_no_test() -> None:
    more = dataclasses.replace(SMALL, phi=6.0)
    assert set(asked(SMALL, "seen")) < set(asked(more, "seen"))
    for split in ("facts", "id", "ood"):
        assert asked(SMALL, split) == asked(more, split)
        assert set(asked(SMALL, split)) == set(asked(WRITTEN, split))


def test_parts_are_both_facts() -> None:
    index = {fact: i for i, fact in enumerate(asked(SMALL, "facts"))}
    examples = pool(SMALL, 0, "ood")
    for ((attribute, one, other), _), parts in zip(read(SMALL, examples), examples.parts_NP.tolist(), strict=True):
        assert parts == [index[one, attribute], index[other, attribute]]
    assert (pool(SMALL, 0, "facts").parts_NP[:, 1] == -1).all()
    assert (pool(SMALL, 0, "facts").difficulty_N == 1).all()
    assert (examples.difficulty_N == 2).all()


def test_only_what_is_scored_is_trained() -> None:
    for task in (SMALL, WRITTEN):
        examples = Stream(task, 0, 0).block(0)
        assert np.array_equal(examples.trained_NL, examples.scored_NL == 0)


def test_values_are_uniform_and_their_bits_counted() -> None:
    counts = np.bincount(world(Comparison(entities=500), 0).value_EA.ravel(), minlength=20)
    assert np.sum((counts - 250) ** 2) / 250 < 19 + 5 * math.sqrt(2 * 19)
    assert SMALL.constants(world(SMALL, 0)) == {"facts": 60, "fact_bits": 120}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"entities": 3}, "entities is 3; it must be at least 4"),
        ({"attributes": 0}, "attributes is 0; it must be at least 1"),
        ({"values": 10**9}, "values is 1000000000; it must be at least 2 and at most 1,000,000"),
        ({"values": 1}, "values is 1; it must be at least 2"),
        ({"entities": 3000}, "entities is 3000; it must be fewer: with attributes 10 there are more than 50,000,000"),
        ({"held_out_entities": 0.01}, "held_out_entities is 0.01; it must be a share that leaves at least 2 of the"),
        ({"held_out_entities": 0.99}, "held_out_entities is 0.99; it must be a share that leaves at least 2 of the"),
        ({"held_out_entities": float("nan")}, "held_out_entities is nan; it must be a share"),
        ({"test_share": float("nan")}, "test_share is nan; it must be a share"),
        ({"phi": float("inf")}, "phi is inf; it must be above 0 and at most"),
        ({"test_share": 0.0}, "test_share is 0.0; it must be a share that takes some but not all of 4005 pairs"),
        ({"phi": 0.0}, "phi is 0.0; it must be above 0 and at most 80.1"),
        ({"phi": 80.2}, "phi is 80.2; it must be above 0 and at most 80.1"),
        ({"test_questions": 0}, "test_questions is 0"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Comparison(**parameters)
