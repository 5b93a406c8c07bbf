"""`twohop_editing` against the facts of `twohop`, told as dictionaries and walked one question at a time."""

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest

from synthdata.examples import Examples, concatenate
from synthdata.streams import BLOCK, Stream, pool, world
from synthdata.tasks.twohop import TwoHop
from synthdata.tasks.twohop_editing import TwoHopEditing

FIRST_PHASE = {"entities": 20, "relations": 3, "held_out_facts": 0.3, "fact_share": 0.4}
VARIANTS = [
    TwoHopEditing(),
    TwoHopEditing(**FIRST_PHASE, edited_facts=1),
    TwoHopEditing(**FIRST_PHASE, edited_facts=4, hops=3, edited_kind="held_out"),
    TwoHopEditing(**FIRST_PHASE, edited_facts=5, relation_kind="permutation", rehearsal_share=0),
]

Question = tuple[str, ...]


def first_phase(task: TwoHopEditing) -> TwoHop:
    shared = {field.name for field in dataclasses.fields(TwoHop)}
    return TwoHop(**{name: value for name, value in dataclasses.asdict(task).items() if name in shared})


def read(task: TwoHopEditing | TwoHop, examples: Examples) -> dict[Question, str]:
    found = {}
    for n in range(len(examples)):
        _, *question = task.vocabulary.decode(examples.prompt(n)).split()
        found[tuple(question)] = task.vocabulary.decode(examples.answer(n))
    return found


def asked(task: TwoHopEditing | TwoHop, split: str) -> dict[Question, str]:
    return read(task, pool(task, 0, split))


def path(facts: dict[Question, str], question: Question) -> tuple[list[Question], str]:
    """The facts that a question goes through, and where it ends."""
    at, gone = question[0], []
    for relation in question[1:]:
        gone.append((at, relation))
        at = facts[gone[-1]]
    return gone, at


@pytest.mark.parametrize("task", VARIANTS)
def test_some_facts_get_another_answer_and_the_others_keep_theirs(task: TwoHopEditing) -> None:
    before, after = asked(first_phase(task), "facts"), asked(task, "facts")
    edited = {fact for fact in before if before[fact] != after[fact]}
    assert len(edited) == task.edited_facts
    assert asked(task, "new_facts") == {fact: after[fact] for fact in edited}
    assert asked(task, "old_facts") == {fact: before[fact] for fact in edited}
    assert asked(task, "kept_facts") == {fact: before[fact] for fact in before if fact not in edited}
    held_out_F = world(first_phase(task), 0).held_out_F
    assert all(held_out_F[n] == (task.edited_kind == "held_out") for n, fact in enumerate(before) if fact in edited)


@pytest.mark.parametrize("task", VARIANTS)
def test_compositions_by_where_their_edited_facts_stand(task: TwoHopEditing) -> None:
    before, after = asked(first_phase(task), "facts"), asked(task, "facts")
    edited = set(asked(task, "new_facts"))
    found: dict[str, dict[Question, str]] = {
        split: {} for split in task.splits if "first" in split or "second" in split
    }
    kept = {}
    relations = [f"r{r}" for r in range(task.relations)]
    for hops in range(2, task.hops + 1):
        for head, *chain in itertools.product([f"e{e}" for e in range(task.entities)], *[relations] * hops):
            question = (head, *chain)
            (first, *later), new = path(after, question)
            old = path(before, question)[1]
            if first not in edited and not edited & set(later):
                assert new == old
                kept[question] = new
            elif new != old:
                place = "first" if first in edited else "second"
                found[f"new_{place}"][question] = new
                found[f"old_{place}"][question] = old
    assert asked(task, "kept_compositions") == kept
    for split, questions in found.items():
        assert asked(task, split) == questions
        assert questions


@pytest.mark.parametrize("task", VARIANTS)
def test_training_shows_edited_facts_and_rehearses_others(task: TwoHopEditing) -> None:
    drawn = concatenate([Stream(task, 0, order_seed).examples(0, BLOCK) for order_seed in range(8)])
    new, kept = asked(task, "new_facts"), asked(task, "kept_facts")
    assert read(task, drawn) == new | (kept if task.rehearsal_share else {})
    assert (drawn.difficulty_N == 1).all()
    rehearsed = np.mean(
        [fact in kept for fact in (tuple(task.vocabulary.decode(t[1:3]).split()) for t in drawn.tokens_NL)]
    )
    assert rehearsed == pytest.approx(task.rehearsal_share, abs=4 * math.sqrt(0.25 / len(drawn)))


def test_it_is_a_second_phase_of_twohop() -> None:
    for task in VARIANTS:
        assert task.vocabulary == first_phase(task).vocabulary
        assert task.max_length == first_phase(task).max_length
        assert task.world_config() == first_phase(task).world_config()


def test_edits_are_nested() -> None:
    few, many = (asked(TwoHopEditing(edited_facts=k), "new_facts") for k in (3, 9))
    assert few.items() < many.items()


def test_new_answers_are_uniform_among_the_others() -> None:
    task = TwoHopEditing(entities=4, relations=60, edited_facts=120, held_out_facts=0.1)
    edits = world(task, 0)
    change_F = (edits.after.answer_F - edits.before.answer_F) % 4
    counts = np.bincount(change_F, minlength=4)
    assert counts[0] == 120
    assert all(abs(count - 40) < 5 * math.sqrt(40) for count in counts[1:])


def test_parts_are_the_facts_on_the_way() -> None:
    task = VARIANTS[2]
    after, before = asked(task, "facts"), asked(first_phase(task), "facts")
    index = {fact: n for n, fact in enumerate(after)}
    for split in task.splits[1:]:
        examples, facts = pool(task, 0, split), before if split.startswith("old_") else after
        for question, parts_P in zip(read(task, examples), examples.parts_NP.tolist(), strict=True):
            wanted = [index[fact] for fact in path(facts, question)[0]]
            assert parts_P == wanted + [-1] * (task.hops - len(wanted))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"edited_facts": 0}, "edited_facts is 0; it must be at least 1, at most the 200 facts of kind composed"),
        ({"edited_facts": 201}, "edited_facts is 201; it must be at least 1, at most the 200 facts of kind composed"),
        ({"edited_facts": 51, "edited_kind": "held_out"}, "at most the 50 facts of kind held_out"),
        ({"edited_kind": "held_out", "held_out_facts": 0}, "edited_facts is 10; it must be at least 1, at most the 0"),
        ({"rehearsal_share": 1.0}, "rehearsal_share is 1.0; it must be at least 0 and below 1"),
        ({"edited_kind": "any"}, "edited_kind is 'any'; it must be composed | held_out"),
        ({"entities": 1}, "entities is 1; it must be at least 2"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TwoHopEditing(**parameters)


def test_a_world_with_too_few_facts_to_edit_is_refused() -> None:
    with pytest.raises(ValueError, match="so many facts of kind composed are a later fact of some composition"):
        world(TwoHopEditing(entities=50, relations=1, edited_facts=40), 0)
