"""`bio_questions` read back with a grammar of its own and answered from a table of the people of `bios`."""

import dataclasses
import math
import re
from collections import Counter

import numpy as np
import pytest

from synthdata.biography import ATTRIBUTES, FIRST_NAMES, LAST_NAMES, MIDDLE_NAMES, VALUES
from synthdata.examples import Examples
from synthdata.questions import KINDS
from synthdata.streams import BLOCK, Stream, evaluation_set, pool, world
from synthdata.tasks.bio_questions import BioQuestions
from synthdata.tasks.bios import Bios

TASK = BioQuestions(people=300)
MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905

GIVEN = re.compile(r"(birth date|birth city|university|major|employer|work city) (.+)")
INVERSE = [
    ("birth date",),
    ("birth date", "birth city"),
    ("university", "major", "employer"),
    ("birth city", "university", "major", "employer"),
    ("birth date", "birth city", "university", "major", "employer", "work city"),
]
"""What each pair of inverse questions tells."""


@dataclasses.dataclass(frozen=True)
class Person:
    name: str
    values: dict[str, str]
    luck: int

    @property
    def month(self) -> int:
        return 1 + MONTHS.index(self.values["birth date"].split()[0])


def everybody() -> dict[str, Person]:
    """From the world of `bios`, in words; luck from the questions' own world."""
    people, asked = world(Bios(people=300), 0), world(TASK, 0)
    found = {}
    for n, (first, middle, last) in enumerate(people.name_N3.tolist()):
        name = f"{FIRST_NAMES[first]} {MIDDLE_NAMES[middle]} {LAST_NAMES[last]}"
        values = {a.replace("_", " "): " ".join(VALUES[i][people.value_NA[n, i]]) for i, a in enumerate(ATTRIBUTES)}
        found[name] = Person(name, values, int(asked.luck_N[n]))
    return found


PEOPLE = everybody()


def yes(condition: bool) -> str:
    return "yes" if condition else "no"


def answer(question: str) -> tuple[str, int, str]:
    """Kind, attributes to know, and answer, from the definition."""
    name = r"(\w+ \w+ \w+)"
    if m := re.fullmatch(f"what is the birth (day|year) of {name}", question):
        return "partial", 1, PEOPLE[m[2]].values["birth date"].split()[1 if m[1] == "day" else 2]
    if m := re.fullmatch(f"is the birth month of {name} even", question):
        return "classification", 1, yes(PEOPLE[m[1]].month in (2, 4, 6, 8, 10, 12))
    if m := re.fullmatch(f"what is the birth month of {name} modulo (6|12)", question):
        return "classification", 1, str(PEOPLE[m[1]].month % int(m[2]))
    if m := re.fullmatch(f"what is the luck of the major of {name} modulo (5|20|100)", question):
        return "classification", 1, str(PEOPLE[m[1]].luck % int(m[2]))
    if m := re.fullmatch(f"is the birth month of {name} later than that of {name}", question):
        return "comparison", 2, yes(PEOPLE[m[1]].month > PEOPLE[m[2]].month)
    if m := re.fullmatch(f"how many months is the birth month of {name} after that of {name}", question):
        return "comparison", 2, str(PEOPLE[m[1]].month - PEOPLE[m[2]].month)
    if m := re.fullmatch(f"is the major of {name} luckier than that of {name}", question):
        return "comparison", 2, yes(PEOPLE[m[1]].luck > PEOPLE[m[2]].luck)
    if m := re.fullmatch(f"how much luckier is the major of {name} than that of {name}", question):
        return "comparison", 2, str(PEOPLE[m[1]].luck - PEOPLE[m[2]].luck)
    if m := re.fullmatch(r"what is the (first|full) name of the person with (.+)", question):
        told = dict(GIVEN.fullmatch(part).groups() for part in m[2].split(" , "))
        assert tuple(told) in INVERSE
        (person,) = [p for p in PEOPLE.values() if all(p.values[name] == value for name, value in told.items())]
        return "inverse", len(told), person.name if m[1] == "full" else person.name.split()[0]
    m = re.fullmatch(f"what is the (.+) of {name}", question)
    assert m
    values = PEOPLE[m[2]].values
    if m[1] in values:
        return "extraction", 1, values[m[1]]
    one, two = m[1].split(" and ")
    assert {one, two} in ({"birth city", "employer"}, {"university", "major"}, {"employer", "work city"})
    return "dual", 2, f"{values[one]} ; {values[two]}"


def hint(question: str) -> str:
    """What the answer follows from, as the question's own words tell."""
    who = [PEOPLE[name] for name in re.findall(r"(?:of) ([A-Z]\w+ \w+ \w+)", question)]
    assert who
    return " ; ".join(p.values["major"] if "luck" in question else p.values["birth date"].split()[0] for p in who)


def named(text: str) -> set[str]:
    return {name for name in PEOPLE if name in text}


def texts(examples: Examples) -> list[str]:
    pairs, decode = zip(examples.tokens_NL, examples.lengths_N, strict=True), TASK.vocabulary.decode
    return [decode(tokens[:length]).removeprefix("<bos> ") for tokens, length in pairs]


@pytest.mark.parametrize("split", TASK.splits[2:])
def test_answers(split: str) -> None:
    examples = Stream(TASK, 0, 0, split).examples(0, 400)
    for n, text in enumerate(texts(examples)):
        question, given = text.split(" ? answer: ")
        kind, facts, wanted = answer(question)
        assert split in ("seen", kind)
        assert given == wanted
        assert examples.difficulty_N[n] == facts
        assert TASK.vocabulary.decode(examples.answer(n)) == given
        assert np.array_equal(examples.trained_NL[n], examples.scored_NL[n] == 0)


@pytest.mark.parametrize(
    ("kind", "forms"),
    [("extraction", 6), ("partial", 2), ("dual", 6), ("classification", 6), ("comparison", 4), ("inverse", 10)],
)
def test_every_form_is_asked_equally_often_within_its_kind(kind: str, forms: int) -> None:
    def form(text: str) -> str:
        question = text.split(" ? ")[0]
        if kind == "inverse":
            told = dict(GIVEN.fullmatch(part).groups() for part in question.split(" person with ")[1].split(" , "))
            return f"{question.split(' name ')[0]} {tuple(told)}"
        for name in named(question):
            question = question.replace(name, "X")
        return question

    counts = Counter(form(text) for text in texts(Stream(TASK, 0, 0, kind).examples(0, 1500)))
    assert len(counts) == forms
    assert all(abs(count - 1500 / forms) < 5 * math.sqrt(1500 / forms) for count in counts.values())


def test_hints_are_the_values_that_the_answer_follows_from() -> None:
    task = dataclasses.replace(TASK, hint_share=0.4)
    assert task.splits[:9] == TASK.splits
    with_hint, alone = (
        [f"{kind}{end}" for kind in ("classification", "comparison")] for end in ("_with_hint", "_hint")
    )
    assert set(task.splits[9:]) == {*with_hint, *alone}
    for split in (*with_hint, *alone):
        examples = Stream(task, 0, 0, split).examples(0, 300)
        for n, text in enumerate(texts(examples)):
            question, given = text.split(" ? hint: ")
            kind, facts, wanted = answer(question)
            assert split.startswith(kind)
            assert given == f"{hint(question)} answer: {wanted}"
            scored = task.vocabulary.decode(examples.answer(n))
            assert scored == (given if split in with_hint else hint(question))
            assert examples.difficulty_N[n] == facts
    for kind in ("classification", "comparison", "seen"):
        assert not any("hint:" in text for text in texts(Stream(task, 0, 0, kind).block(0)))
    examples = Stream(task, 0, 0).examples(0, 6 * BLOCK)
    drawn = texts(examples)
    for text in drawn:
        if "hint:" in text:
            question, given = text.split(" ? hint: ")
            assert given == f"{hint(question)} answer: {answer(question)[2]}"
    may = [
        text for text in drawn if "?" in text and answer(text.split(" ? ")[0])[0] in ("classification", "comparison")
    ]
    share = sum("hint:" in text for text in may) / len(may)
    assert share == pytest.approx(0.4, abs=4 * math.sqrt(0.4 * 0.6 / len(may)))
    assert sum("hint:" in text for text in drawn) == sum("hint:" in text for text in may)
    assert not any("hint:" in text for text in texts(Stream(TASK, 0, 0).examples(0, 2 * BLOCK)))


def test_two_phases_share_the_world_and_the_vocabulary() -> None:
    facts = dataclasses.replace(TASK, question_share=0.0, variant="simple")
    questions = dataclasses.replace(TASK, question_share=1.0, hint_share=0.5, questions="classification")
    assert facts.vocabulary == questions.vocabulary == TASK.vocabulary
    assert facts.max_length == questions.max_length
    assert (facts.world_config(), questions.world_config()) == (TASK.world_config(), TASK.world_config())
    for task in (facts, questions):
        assert np.array_equal(world(task, 3).said_NC, world(TASK, 3).said_NC)
        assert np.array_equal(world(task, 3).trained.person_P, world(TASK, 3).trained.person_P)
    assert texts(evaluation_set(questions, 3, "classification", 50)) == texts(
        evaluation_set(TASK, 3, "classification", 50)
    )
    assert all("?" in text for text in texts(Stream(questions, 0, 0).examples(0, 2 * BLOCK)))
    told = Counter(texts(Stream(facts, 0, 0).examples(0, 4 * 300)))
    assert set(told.values()) == {4}
    assert set(told) == set(texts(pool(facts, 0, "people")))


def test_training_asks_about_one_half_and_the_tests_about_the_other() -> None:
    train = [text for text in texts(Stream(TASK, 0, 0).examples(0, 4 * BLOCK)) if "?" in text]
    asked = set().union(*map(named, train))
    assert len(asked) == 150
    seen = set().union(*map(named, texts(Stream(TASK, 0, 0, "seen").examples(0, 2000))))
    assert seen == asked
    for kind in KINDS:
        tested = set().union(*(named(text) for text in texts(Stream(TASK, 0, 0, kind).examples(0, 500))))
        assert tested
        assert not tested & asked
    everybody = set().union(*(named(text) for text in texts(pool(TASK, 0, "people"))))
    assert everybody == set(PEOPLE)


def test_the_share_of_questions_and_of_kinds() -> None:
    task = dataclasses.replace(TASK, question_share=0.3)
    examples = Stream(task, 0, 0).examples(0, 6 * BLOCK)
    questions = [text for text in texts(examples) if "?" in text]
    count = len(examples)
    assert len(questions) / count == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / count))
    kinds = Counter(answer(text.split(" ? ")[0])[0] for text in questions)
    expected = len(questions) / 6
    assert sum((kinds[kind] - expected) ** 2 / expected for kind in KINDS) < 5 + 5 * math.sqrt(10)


def test_biographies_are_those_of_bios_scored_at_their_values() -> None:
    biographies, ours = pool(Bios(people=300), 0, "people"), pool(TASK, 0, "people")
    assert np.array_equal(ours.tokens_NL, biographies.tokens_NL)
    assert np.array_equal(ours.scored_NL == 0, biographies.scored_NL == 1)
    drawn = Stream(TASK, 0, 0).block(0)
    told = [set(text.split()) for text in texts(drawn) if "?" not in text]
    assert told
    words = {
        name: set(person.name.split()) | {w for v in person.values.values() for w in v.split()}
        for name, person in PEOPLE.items()
    }
    assert all(any(words[name] <= text for name in words) for text in told)


def test_luck_is_a_rank_of_majors() -> None:
    lucks = {(person.values["major"], person.luck) for person in PEOPLE.values()}
    majors, ranks = zip(*lucks, strict=True)
    assert len(set(majors)) == len(majors) == len(set(ranks))
    assert set(ranks) <= set(range(100))


def test_one_kind_alone() -> None:
    task = BioQuestions(people=100, questions="dual", pronouns="neutral", variant="simple")
    assert task.splits == ("train", "people", "seen", "dual")
    assert all(
        " and " in text for text in (task.vocabulary.decode(t) for t in Stream(task, 0, 0, "seen").block(0).tokens_NL)
    )


def test_who_is_searched_for_can_be_found() -> None:
    """20,000 people over 67,200 dates: a quarter of them share theirs, and so on for what else is told."""
    task = BioQuestions(people=20_000, questions="inverse")
    people = world(task, 0).people
    spoken = [
        {a.replace("_", " "): " ".join(VALUES[i][v]) for i, (a, v) in enumerate(zip(ATTRIBUTES, row, strict=True))}
        for row in people.value_NA.tolist()
    ]
    counts = {given: Counter(tuple(values[name] for name in given) for values in spoken) for given in INVERSE}
    assert sum(count for count in counts["birth date",].values() if count > 1) > 4_000
    asked = set()
    for text in (task.vocabulary.decode(t) for t in Stream(task, 0, 0, "inverse").block(0).tokens_NL):
        told = dict(GIVEN.fullmatch(p).groups() for p in text.split(" ? ")[0].split(" person with ")[1].split(" , "))
        assert counts[tuple(told)][tuple(told.values())] == 1
        asked.add(tuple(told))
    assert asked == set(INVERSE)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"people": 3}, "people is 3; it must be at least 4"),
        ({"people": 8_928_572}, "people is 8928572; it must be at least 4 and at most 8,928,571"),
        ({"question_share": 1.1}, "question_share is 1.1; it must be between 0 and 1"),
        ({"question_share": float("nan")}, "question_share is nan; it must be between 0 and 1"),
        ({"hint_share": -0.1}, "hint_share is -0.1; it must be between 0 and 1"),
        (
            {"hint_share": 0.5, "questions": "dual"},
            "hint_share is 0.5; it must be 0 for dual questions, which have no hints; classification and comparison",
        ),
        (
            {"asked_people": 0.001},
            "asked_people is 0.001; it must be a share that leaves at least 2 of the 1000 people",
        ),
        ({"asked_people": float("nan")}, "asked_people is nan; it must be a share"),
        ({"questions": "none"}, "questions is 'none'; it must be all | extraction | partial"),
        ({"variant": "single"}, "variant is 'single'; it must be multi | simple"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        BioQuestions(**parameters)
