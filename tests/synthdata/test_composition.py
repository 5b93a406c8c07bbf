"""`composition` against an oracle that lists every composition from the facts, and against the source's counts."""

import dataclasses
import math
import re
from collections import Counter

import numpy as np
import pytest

from synthdata.examples import Examples
from synthdata.streams import Stream, evaluation_set, pool, world
from synthdata.tasks.composition import Composition

SMALL = Composition(entities=40, relations=9, out_degree=5, phi=2.5, held_out_facts=0.2, test_share=0.1)
WRITTEN = dataclasses.replace(SMALL, chain_of_thought="written")

Question = tuple[str, ...]


def read(task: Composition, examples: Examples) -> list[tuple[Question, tuple[str, ...]]]:
    """Question and all that is scored, of every example."""
    pairs = []
    for n in range(len(examples)):
        bos, *prompt = task.vocabulary.decode(examples.prompt(n)).split()
        assert bos == "<bos>"
        pairs.append((tuple(prompt), tuple(task.vocabulary.decode(examples.answer(n)).split())))
    return pairs


def asked(task: Composition, split: str) -> dict[Question, tuple[str, ...]]:
    pairs = read(task, pool(task, 0, split))
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("task", [Composition(), SMALL])
def test_the_graph(task: Composition) -> None:
    facts = asked(task, "facts")
    assert len(facts) == task.entities * task.out_degree
    degrees = Counter(entity for entity, _ in facts)
    assert set(degrees.values()) == {task.out_degree}
    assert len({relation for _, relation in facts}) == task.relations


@pytest.mark.parametrize("task", [SMALL, WRITTEN])
def test_answers_follow_the_facts(task: Composition) -> None:
    facts = asked(task, "facts")
    for split in task.splits[2:]:
        for (head, first, second), answer in asked(task, split).items():
            bridge = facts[head, first][0]
            last = facts[bridge, second][0]
            assert answer == ((bridge, last) if task is WRITTEN else (last,))


@pytest.mark.parametrize("task", [SMALL, dataclasses.replace(SMALL, relations=5)])
def test_splits_are_what_the_held_out_facts_make_them(task: Composition) -> None:
    facts = asked(task, "facts")
    kinds: dict[tuple[bool, bool], set[Question]] = {}
    trained = {(h, r1) for h, r1, _ in asked(task, "seen")} | {
        (facts[h, r1][0], r2) for h, r1, r2 in asked(task, "seen")
    }
    both = asked(task, "ood_both")
    held_out = {(h, r1) for h, r1, _ in [*both, *asked(task, "ood_first")]}
    held_out |= {(facts[h, r1][0], r2) for h, r1, r2 in [*both, *asked(task, "ood_second")]}
    assert not held_out & trained
    for head, first in facts:
        bridge = facts[head, first][0]
        for entity, second in facts:
            if entity == bridge:
                kind = ((head, first) in held_out, (bridge, second) in held_out)
                kinds.setdefault(kind, set()).add((head, first, second))
    assert sum(map(len, kinds.values())) == task.entities * task.out_degree**2
    for split, kind in {"ood_first": (True, False), "ood_second": (False, True), "ood_both": (True, True)}.items():
        assert set(asked(task, split)) == kinds[kind]
    inside = kinds[False, False]
    seen, tested = set(asked(task, "seen")), set(asked(task, "id"))
    assert not seen & tested
    assert seen | tested <= inside
    assert len(tested) == round(task.test_share * len(inside))


def test_counts_of_the_source() -> None:
    """40,000 facts, 38,000 of them ID, and at phi 7.2 273,600 trained compositions; tests are capped at 3,000."""
    task = Composition(entities=2000, relations=200, out_degree=20, phi=7.2)
    sizes = {split: len(questions) for split, questions in world(task, 0).questions.items()}
    assert sizes["facts"] == 40_000
    assert sizes["seen"] == 273_600
    assert sizes["id"] == sizes["ood_first"] == sizes["ood_second"] == 3_000
    assert 1_500 < sizes["ood_both"] < 2_500  # 800,000 * 0.05 ** 2 on average


def test_an_epoch_is_every_fact_and_every_trained_composition() -> None:
    epoch = len(asked(SMALL, "facts")) + len(asked(SMALL, "seen"))
    assert len(asked(SMALL, "seen")) == round(2.5 * 160)
    drawn = read(SMALL, Stream(SMALL, 0, 0).examples(epoch, epoch))
    assert Counter(drawn) == Counter([*asked(SMALL, "facts").items(), *asked(SMALL, "seen").items()])


def test_phi_is_nested_and_changes_no_test() -> None:
    more = dataclasses.replace(SMALL, phi=3.0)
    assert set(asked(SMALL, "seen")) < set(asked(more, "seen"))
    for split in ("facts", "id", "ood_both"):
        assert asked(SMALL, split) == asked(more, split)
        assert set(asked(SMALL, split)) == set(asked(WRITTEN, split))
    kept = [evaluation_set(task, 0, "id", 10).tokens_NL.tolist() for task in (SMALL, more)]
    assert kept[0] == kept[1]


def test_parts_are_the_facts_on_the_way() -> None:
    facts = asked(SMALL, "facts")
    index = {fact: i for i, fact in enumerate(facts)}
    examples = pool(SMALL, 0, "id")
    for ((head, first, second), _), parts in zip(read(SMALL, examples), examples.parts_NP.tolist(), strict=True):
        assert parts == [index[head, first], index[facts[head, first][0], second]]
    assert (pool(SMALL, 0, "facts").parts_NP[:, 1] == -1).all()


def test_only_what_is_scored_is_trained() -> None:
    for task in (SMALL, WRITTEN):
        examples = Stream(task, 0, 0).block(0)
        assert np.array_equal(examples.trained_NL, examples.scored_NL == 0)
        written = examples.difficulty_N if task is WRITTEN else np.ones(len(examples))
        assert np.array_equal(examples.trained_NL.sum(axis=1), written)


def test_fact_bits() -> None:
    assert SMALL.constants(world(SMALL, 0)) == {"facts": 200, "fact_bits": pytest.approx(200 * math.log2(40))}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"entities": 1}, "entities is 1; it must be at least 2"),
        ({"out_degree": 21}, "out_degree is 21; it must be at least 1 and at most relations, 20"),
        ({"entities": 200_001}, "entities is 200001; it must be fewer: with out_degree 10"),
        ({"held_out_facts": 0.0}, "held_out_facts is 0.0; it must be a share that holds out some but not all of the"),
        ({"held_out_facts": float("nan")}, "held_out_facts is nan; it must be a share"),
        ({"phi": float("nan")}, "phi is nan; it must be above 0"),
        ({"test_share": 1.0}, "test_share is 1.0; it must be between 0 and 1, exclusive"),
        ({"relations": 10**9}, "relations is 1000000000; it must be fewer: 200 entities draw theirs from more than"),
        ({"phi": 1e-9}, "phi is 1e-09; it must be large enough for one composition"),
        ({"phi": 0.0}, "phi is 0.0; it must be above 0 and at most 9.95"),
        ({"phi": 9.96}, "phi is 9.96; it must be above 0 and at most 9.95, the compositions that an ID fact can begin"),
        ({"test_questions": 0}, "test_questions is 0"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Composition(**parameters)


def test_a_phi_that_the_world_cannot_give_is_refused() -> None:
    with pytest.raises(ValueError, match=r"phi is 9\.9; it must be smaller: it asks for 18810 of \d+ compositions"):
        world(Composition(phi=9.9), 0)


def test_a_world_with_an_empty_split_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"split 'ood_.*' of task 'composition' would be empty in this world: entities"
    ):
        world(Composition(entities=30, out_degree=3, relations=3, held_out_facts=0.02, phi=1.0, test_share=0.1), 0)
