"""`twohop` against an oracle that follows its definition one question at a time."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdata.examples import Examples
from synthdata.streams import BLOCK, Stream, pool, world
from synthdata.tasks.twohop import TwoHop

THREE = TwoHop(entities=12, relations=3, hops=3, held_out_facts=0.25)
VARIANTS = [TwoHop(), THREE, TwoHop(relation_kind="permutation"), TwoHop(held_out_facts=0)]

Question = tuple[str, ...]


def ask(task: TwoHop, examples: Examples) -> list[tuple[Question, str]]:
    """Question and answer of every example, as symbols."""
    pairs = []
    for n in range(len(examples)):
        bos, *prompt = task.vocabulary.decode(examples.prompt(n)).split()
        assert bos == "<bos>"
        pairs.append((tuple(prompt), task.vocabulary.decode(examples.answer(n))))
    return pairs


def asked(task: TwoHop, split: str) -> dict[Question, str]:
    pairs = ask(task, pool(task, 0, split))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def hops_of(facts: dict[Question, str], question: Question) -> list[Question]:
    """The facts that a question goes through, found by walking."""
    at, path = question[0], []
    for relation in question[1:]:
        path.append((at, relation))
        at = facts[path[-1]]
    return path


@pytest.mark.parametrize("task", VARIANTS)
def test_answers_are_what_following_the_facts_gives(task: TwoHop) -> None:
    facts = asked(task, "facts")
    for split in task.splits[1:]:
        for question, answer in asked(task, split).items():
            assert answer == facts[hops_of(facts, question)[-1]]


@pytest.mark.parametrize("task", VARIANTS)
def test_splits_partition_the_compositions_by_their_held_out_facts(task: TwoHop) -> None:
    facts = asked(task, "facts")
    held_out_F = world(task, 0).held_out_F
    held_out = {fact for index, fact in enumerate(facts) if held_out_F[index]}
    assert len(held_out) == round(task.held_out_facts * task.entities * task.relations)

    expected: dict[str, set[Question]] = {"in": set(), "ood_first": set(), "ood_second": set(), "ood_both": set()}
    relations = [f"r{r}" for r in range(task.relations)]
    for hops in range(2, task.hops + 1):
        for entity, *chain in itertools.product([f"e{e}" for e in range(task.entities)], *[relations] * hops):
            question = (entity, *chain)
            first, *later = (fact in held_out for fact in hops_of(facts, question))
            kind = {(0, 0): "in", (1, 0): "ood_first", (0, 1): "ood_second", (1, 1): "ood_both"}[first, any(later)]
            expected[kind].add(question)

    seen, unseen = set(asked(task, "seen")), set(asked(task, "id"))
    assert not seen & unseen
    assert seen | unseen == expected.pop("in")
    assert len(seen) == round(task.train_fraction * len(seen | unseen))
    for split, questions in expected.items():
        assert questions == (set(asked(task, split)) if split in task.splits else set())


def test_split_sizes_in_closed_form() -> None:
    """Of permutations, every fact is the second of exactly `relations` two-hop questions."""
    task = TwoHop(relation_kind="permutation")
    size = {split: len(asked(task, split)) for split in task.splits[1:]}
    assert size["facts"] == 250
    assert size["ood_first"] + size["ood_both"] == 50 * 5
    assert size["ood_second"] + size["ood_both"] == 50 * 5
    assert size["seen"] + size["id"] + size["ood_first"] + size["ood_second"] + size["ood_both"] == 1250
    assert size["seen"] == round(0.8 * (size["seen"] + size["id"]))


@pytest.mark.parametrize("task", VARIANTS)
def test_training_draws_every_fact_and_only_seen_compositions(task: TwoHop) -> None:
    examples = Stream(task, 0, 0).examples(0, 20 * BLOCK)
    drawn = ask(task, examples.take(np.unique(examples.tokens_NL, axis=0, return_index=True)[1]))
    facts, seen = asked(task, "facts"), asked(task, "seen")
    assert set(drawn) == set(facts.items()) | set(seen.items())
    held_out_F = world(task, 0).held_out_F
    held_out = {fact for index, fact in enumerate(facts) if held_out_F[index]}
    for question, _ in set(drawn):
        assert len(question) == 2 or not held_out & set(hops_of(facts, question))


def test_fact_share_and_uniformity_of_the_training_draw() -> None:
    task = TwoHop(fact_share=0.3)
    drawn = Stream(task, 0, 0).examples(0, 40 * BLOCK)
    share = np.mean(drawn.difficulty_N == 1)
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / len(drawn)))
    for hops in (1, 2):
        counts = np.unique(drawn.tokens_NL[drawn.difficulty_N == hops], axis=0, return_counts=True)[1]
        chi_square = np.sum((counts - counts.mean()) ** 2) / counts.mean()
        freedom = len(counts) - 1
        assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("task", VARIANTS)
def test_parts_are_the_facts_on_the_way(task: TwoHop) -> None:
    facts = asked(task, "facts")
    index = {fact: i for i, fact in enumerate(facts)}
    assert index["e1", "r0"] == task.relations
    for split in task.splits[1:]:
        examples = pool(task, 0, split)
        for (question, _), parts_P in zip(ask(task, examples), examples.parts_NP.tolist(), strict=True):
            path = [index[fact] for fact in hops_of(facts, question)]
            assert parts_P == path + [-1] * (task.hops - len(path))


def test_relation_kinds() -> None:
    def images(task: TwoHop) -> list[int]:
        answer_ER = world(task, 0).answer_F.reshape(task.entities, task.relations)
        return [len(set(answer_E)) for answer_E in answer_ER.T.tolist()]

    assert images(TwoHop(relation_kind="permutation")) == [50] * 5
    # A random function of 50 elements has 50 * (1 - 0.98**50) = 31.8 images on average, with a deviation of 2.2.
    assert all(22 < image < 42 for image in images(TwoHop()))


def test_only_the_answer_is_trained_and_scored() -> None:
    for split in TwoHop().splits:
        examples = Stream(TwoHop(), 0, 0, split).examples(0, 50)
        assert np.array_equal(examples.trained_NL, examples.scored_NL == 0)
        assert np.array_equal(examples.trained_NL.argmax(axis=1), examples.lengths_N - 1)
        assert np.array_equal(examples.lengths_N, examples.difficulty_N + 3)


def test_fact_bits() -> None:
    assert TwoHop().constants(world(TwoHop(), 0)) == {"facts": 250, "fact_bits": pytest.approx(250 * math.log2(50))}
    permutations = TwoHop(relation_kind="permutation", entities=4, relations=3)
    assert permutations.constants(world(permutations, 0))["fact_bits"] == pytest.approx(3 * math.log2(24))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    entities=st.integers(25, 40),
    relations=st.integers(3, 4),
    hops=st.integers(2, 3),
    train_fraction=st.floats(0.3, 0.7),
    held_out_facts=st.floats(0.3, 0.6),
    seed=st.integers(0, 10),
)
def test_no_parameters_leak_a_held_out_fact(
    entities: int, relations: int, hops: int, train_fraction: float, held_out_facts: float, seed: int
) -> None:
    task = TwoHop(
        entities=entities, relations=relations, hops=hops, train_fraction=train_fraction, held_out_facts=held_out_facts
    )
    examples = Stream(task, seed, 0).examples(0, 200)
    parts_NP = examples.parts_NP[examples.difficulty_N > 1]
    held_out_F = world(task, seed).held_out_F
    assert held_out_F.sum() == round(held_out_facts * entities * relations)
    assert not (held_out_F[parts_NP] & (parts_NP >= 0)).any()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"entities": 1}, "entities is 1; it must be at least 2"),
        ({"relations": 0}, "relations is 0; it must be at least 1"),
        ({"hops": 1}, "hops is 1; it must be at least 2"),
        ({"hops": 2.0}, "hops is 2.0; it must be of type int"),
        ({"relation_kind": "bijection"}, "relation_kind is 'bijection'; it must be function | permutation"),
        ({"train_fraction": 1.0}, "train_fraction is 1.0; it must be between 0 and 1, exclusive"),
        ({"train_fraction": float("nan")}, "train_fraction is nan"),
        ({"held_out_facts": 1.0}, "held_out_facts is 1.0; it must be at least 0 and below 1"),
        ({"held_out_facts": 0.001}, "held_out_facts is 0.001; it must be 0, or hold out some but not all of the 250"),
        ({"held_out_facts": 0.999}, "held_out_facts is 0.999; it must be 0, or hold out some but not all of the 250"),
        ({"fact_share": 0.0}, "fact_share is 0.0"),
        ({"fact_share": 1.5}, "fact_share is 1.5"),
        (
            {"entities": 2_000_001},
            "entities is 2000001; it must be fewer: with relations 5 and hops 2 there are more than",
        ),
        ({"hops": 10**9}, "entities is 50; it must be fewer: with relations 5 and hops 1000000000"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TwoHop(**parameters)


def test_a_world_with_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="would be empty in this world: entities 2 and relations 1 are too few"):
        world(TwoHop(entities=2, relations=1, held_out_facts=0.5), 0)
