"""`multihop` against an oracle that walks the facts, told as dictionaries, one question at a time."""

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest

from synthdata.examples import Examples
from synthdata.streams import BLOCK, Stream, pool, world
from synthdata.tasks.multihop import MultiHop

SMALL = {"entities": 20, "layers": 4, "relations": 3, "hops": 3, "training_questions": 60, "test_questions": 30}
COMPACT = MultiHop(**SMALL, form="compact")
SENTENCE = MultiHop(**SMALL)
WRITTEN = MultiHop(**SMALL, chain_of_thought="written")
VARIANTS = [COMPACT, SENTENCE, WRITTEN, MultiHop(**SMALL, form="compact", chain_of_thought="written")]

Question = tuple[str, ...]


def texts(task: MultiHop, examples: Examples) -> list[str]:
    pairs = zip(examples.tokens_NL, examples.lengths_N, strict=True)
    return [task.vocabulary.decode(tokens[:length]) for tokens, length in pairs]


def read(task: MultiHop, text: str) -> tuple[Question, list[str]]:
    """The person and relations in the order they are followed, and what is answered, by the form's own grammar."""
    text = text.removeprefix("<bos> ")
    if task.form == "sentence":
        if text.startswith("the "):
            match = re.fullmatch(r"the (r\d+) of (e\d+) is (e\d+)", text)
            assert match
            return (match[2], match[1]), [match[3]]
        match = re.fullmatch(r"who is ((?:the r\d+ of )+)(e\d+) \? answer: (.*)", text)
        assert match
        return (match[2], *reversed(re.findall(r"r\d+", match[1]))), match[3].split()
    head, *rest = text.split()
    relations = [word for word in rest if word.startswith("r")]
    assert rest[: len(relations)] == relations
    return (head, *relations), rest[len(relations) :]


def asked(task: MultiHop, split: str) -> dict[Question, list[str]]:
    pairs = [read(task, text) for text in texts(task, pool(task, 0, split))]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def walk(facts: dict[Question, list[str]], question: Question) -> list[str]:
    at, reached = question[0], []
    for relation in question[1:]:
        at = facts[at, relation][0]
        reached.append(at)
    return reached


@pytest.mark.parametrize("task", VARIANTS)
def test_answers_and_the_people_on_the_way(task: MultiHop) -> None:
    facts = asked(task, "facts")
    for split in ("seen", "test"):
        for question, answer in asked(task, split).items():
            reached = walk(facts, question)
            assert answer == (reached if task.chain_of_thought == "written" else reached[-1:])


def test_everybody_knows_different_people_of_the_next_layer() -> None:
    facts = asked(COMPACT, "facts")
    assert len(facts) == 15 * 3
    for person in range(15):
        known = [int(facts[f"e{person}", f"r{r}"][0][1:]) for r in range(3)]
        assert len(set(known)) == 3
        assert {other // 5 for other in known} == {person // 5 + 1}


def test_acquaintances_are_uniform() -> None:
    task = MultiHop(entities=3000, layers=3, relations=1, hops=2, training_questions=1, test_questions=1)
    offsets = world(task, 0).answer_F.reshape(2, 1000) - [[1000], [2000]]
    assert offsets.min() == 0
    assert offsets.max() == 999
    assert offsets.mean() == pytest.approx(499.5, abs=4 * 1000 / math.sqrt(12 * 2000))


def test_questions_are_different_held_out_and_of_the_stated_number() -> None:
    """|E| / layers * |R| ** k of them; with a budget of all but the tests, none is missing."""
    assert MultiHop().questions == 800_000
    task = MultiHop(**(SMALL | {"training_questions": 5 * 27 - 30}), form="compact")
    seen, test = set(asked(task, "seen")), set(asked(task, "test"))
    relations = [f"r{r}" for r in range(3)]
    everything = set(itertools.product([f"e{e}" for e in range(5)], relations, relations, relations))
    assert len(test) == 30
    assert not seen & test
    assert seen | test == everything


def test_budgets_are_nested_and_wordings_share_facts_and_tests() -> None:
    larger = MultiHop(**(SMALL | {"training_questions": 100}), form="compact")
    assert set(asked(COMPACT, "seen")) < set(asked(larger, "seen"))
    for task in (larger, SENTENCE, MultiHop(**SMALL, form="compact", fact_share=0)):
        assert asked(task, "test") == asked(COMPACT, "test")
        assert asked(task, "facts") == asked(COMPACT, "facts")
    other = {read(COMPACT, text)[0] for text in texts(COMPACT, pool(COMPACT, 1, "test"))}
    assert other != set(asked(COMPACT, "test"))


@pytest.mark.parametrize("task", VARIANTS)
def test_training_draws_facts_and_the_budget_and_nothing_else(task: MultiHop) -> None:
    drawn = Stream(task, 0, 0).examples(0, 6 * BLOCK)
    wanted = set(texts(task, pool(task, 0, "facts"))) | set(texts(task, pool(task, 0, "seen")))
    assert set(texts(task, drawn)) == wanted
    share = np.mean(drawn.difficulty_N == 1)
    assert share == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / len(drawn)))


def test_facts_can_be_left_out() -> None:
    drawn = Stream(MultiHop(**SMALL, fact_share=0), 0, 0).examples(0, 2 * BLOCK)
    assert (drawn.difficulty_N == 3).all()


@pytest.mark.parametrize("task", VARIANTS)
@pytest.mark.parametrize("trained", ["all", "answer"])
def test_masks(task: MultiHop, trained: str) -> None:
    chosen = dataclasses.replace(task, trained=trained)
    examples = pool(chosen, 0, "test")
    for n, text in enumerate(texts(chosen, examples)):
        answers, length = len(read(chosen, text)[1]), int(examples.lengths_N[n])
        assert examples.scored_NL[n, :length].tolist() == [-1] * (length - answers) + [0] * answers
        first = 1 if trained == "all" else length - answers
        assert examples.trained_NL[n, :length].tolist() == [False] * first + [True] * (length - first)


def test_parts_are_the_facts_on_the_way() -> None:
    facts = list(asked(COMPACT, "facts"))
    for split in ("facts", "test"):
        examples = pool(COMPACT, 0, split)
        for text, parts in zip(texts(COMPACT, examples), examples.parts_NP.tolist(), strict=True):
            head, *relations = read(COMPACT, text)[0]
            path = [head, *walk(asked(COMPACT, "facts"), (head, *relations))]
            wanted = [facts.index((at, relation)) for at, relation in zip(path, relations, strict=False)]
            assert parts == wanted + [-1] * (3 - len(wanted))


def test_fact_bits_count_the_worlds() -> None:
    """15 people choose 3 of 5 in order: 60 ways each."""
    constants = COMPACT.constants(world(COMPACT, 0))
    assert constants == {"questions": 135, "facts": 45, "fact_bits": pytest.approx(15 * math.log2(60))}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layers": 2}, "layers is 2; it must be at least 3"),
        ({"entities": 501}, "entities is 501; it must be a positive multiple of layers, 5"),
        ({"entities": 0}, "entities is 0; it must be a positive multiple of layers, 5"),
        (
            {"entities": 60_000},
            "entities is 60000; it must be fewer: acquaintances are drawn from more than 500,000,000",
        ),
        ({"relations": 101}, "relations is 101; it must be at least 1 and at most 100, the people of a layer"),
        ({"hops": 5}, "hops is 5; it must be at least 2 and below layers, 5"),
        ({"hops": 4, "relations": 30}, "hops is 4; it must be fewer"),
        (
            {"training_questions": 797_001},
            "training_questions is 797001; it must be at least 1 and, beside test_questions 3000, at most the other "
            "797000 of 800000 different questions",
        ),
        ({"relations": 1}, "test_questions is 3000; it must be at least 1 and below 100, all different questions"),
        ({"test_questions": 0}, "test_questions is 0; it must be at least 1"),
        ({"fact_share": 1.0}, "fact_share is 1.0; it must be at least 0 and below 1"),
        ({"form": "prose"}, "form is 'prose'; it must be sentence | compact"),
        ({"trained": "some"}, "trained is 'some'; it must be all | answer"),
        ({"chain_of_thought": "yes"}, "chain_of_thought is 'yes'; it must be unsaid | written"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiHop(**parameters)
