"""`bio_questions` read back with a grammar of its own and answered from a table of the people of `bios`."""

import dataclasses
import math
import re
from collections import Counter

import numpy as np
import pytest

from synthdata.biography import ATTRIBUTES, FIRST_NAMES, LAST_NAMES, MIDDLE_NAMES, VALUES
from synthdata.examples import Examples
from synthdata.questions import KINDS, QUESTIONS
from synthdata.streams import BLOCK, Stream, pool, world
from synthdata.tasks.bio_questions import BioQuestions
from synthdata.tasks.bios import Bios

TASK = BioQuestions(people=300)
MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905


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
    if m := re.fullmatch(r"who was born on (.+)", question):
        (person,) = [person for person in PEOPLE.values() if person.values["birth date"] == m[1]]
        return "inverse", 1, person.name
    if question.startswith("who has "):
        stated = question.removeprefix("who has ")
        (person,) = [
            person
            for person in PEOPLE.values()
            if " , ".join(f"{attribute} {value}" for attribute, value in person.values.items()) == stated
        ]
        return "inverse", 6, person.name
    m = re.fullmatch(f"what is the (.+) of {name}", question)
    assert m
    values = PEOPLE[m[2]].values
    if m[1] in values:
        return "extraction", 1, values[m[1]]
    one, two = m[1].split(" and ")
    assert {one, two} in ({"birth date", "birth city"}, {"university", "major"}, {"employer", "work city"})
    return "dual", 2, f"{values[one]} ; {values[two]}"


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
        assert given == (wanted if kind != "inverse" or " " in given else wanted.split()[0])
        assert examples.difficulty_N[n] == facts
        assert TASK.vocabulary.decode(examples.answer(n)) == given
        assert np.array_equal(examples.trained_NL[n], examples.scored_NL[n] == 0)


def test_every_form_is_asked_equally_often_within_its_kind() -> None:
    def form(text: str) -> tuple[str, bool]:
        for name in named(text):
            text = text.replace(name, "X")
        question, given = text.split(" ? answer: ")
        question = re.sub("who was born on .*", "who was born", re.sub("who has .*", "who has", question))
        return question, given == "X"

    for kind in KINDS:
        counts = Counter(form(text) for text in texts(Stream(TASK, 0, 0, kind).examples(0, 1500)))
        forms = sum(question.kind == kind for question in QUESTIONS)
        if kind in ("inverse",):
            assert len({question for question, _ in counts}) == 2
            assert len(counts) == forms
        else:
            assert len({question for question, _ in counts}) == forms
            totals = Counter({q: sum(c for (other, _), c in counts.items() if other == q) for q, _ in counts})
            expected = 1500 / forms
            assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in totals.values())


def test_training_asks_about_one_half_and_the_tests_about_the_other() -> None:
    train = [text for text in texts(Stream(TASK, 0, 0).examples(0, 4 * BLOCK)) if "?" in text]
    asked = set().union(*(named(text) for text in train if not text.startswith("who")))
    assert len(asked) == 150
    seen = set().union(*(named(t) for t in texts(Stream(TASK, 0, 0, "seen").examples(0, 2000)) if t[:3] != "who"))
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


def test_shared_birth_dates_are_not_searched_by() -> None:
    """20,000 people over 67,200 dates: a quarter of them share theirs."""
    task = BioQuestions(people=20_000, questions="inverse")
    people = world(task, 0).people
    dates = Counter(people.value_NA[:, 0].tolist())
    spoken = {" ".join(VALUES[0][date]): count for date, count in dates.items()}
    examples = Stream(task, 0, 0, "inverse").block(0)
    found = [
        task.vocabulary.decode(t).split(" ? ")[0].removeprefix("<bos> who was born on ") for t in examples.tokens_NL
    ]
    assert {spoken[date] for date in found if date in spoken} == {1}
    assert sum(count for count in dates.values() if count > 1) > 4_000


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"people": 3}, "people is 3; it must be at least 4"),
        ({"people": 160_000_001}, "people is 160000001; it must be at least 4 and at most 160000000"),
        ({"question_share": 1.0}, "question_share is 1.0; it must be between 0 and 1, exclusive"),
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
