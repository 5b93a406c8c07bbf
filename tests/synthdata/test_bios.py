"""`bios`, read back sentence by sentence with the grammar as regular expressions; its pools, orders and bits."""

import dataclasses
import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest

from synthdata import biography
from synthdata.biography import ATTRIBUTES, FIRST_NAMES, LAST_NAMES, MIDDLE_NAMES, TEMPLATES, VALUES, work_city
from synthdata.examples import Examples
from synthdata.streams import Stream, pool, world
from synthdata.tasks.bios import NAMES, Bios

SMALL = Bios(people=50)
NEUTRAL = Bios(people=50, pronouns="neutral")
SIMPLE = Bios(people=50, variant="simple")

PATTERNS = [
    (attribute, template, re.compile(" ".join(map(re.escape, words)).replace(r"\{\}", "(.+)")))
    for attribute, templates in enumerate(TEMPLATES)
    for template, words in enumerate(templates)
]
KNOWN = [set(map(" ".join, values)) for values in VALUES]


@dataclasses.dataclass
class Read:
    name: str
    subjects: list[str]
    order: tuple[int, ...]
    templates: tuple[int, ...]
    values: dict[str, str]


def read(text: str) -> Read:
    """One biography; every sentence must fit exactly one template with a value of its attribute."""
    text = text.removeprefix("<bos> ")
    name, sentences = " ".join(text.split()[:3]), re.findall(r".*? \.(?: |$)", text)
    assert len(sentences) == 6
    subjects, found = [], []
    for number, sentence in enumerate(sentences):
        words = sentence.split()
        subject = 3 if number == 0 else 1
        subjects.append(" ".join(words[:subject]))
        rest = " ".join(words[subject:])
        matches = [(a, t, m[1]) for a, t, p in PATTERNS if (m := p.fullmatch(rest)) and m[1] in KNOWN[a]]
        assert len(matches) == 1
        found += matches
    orders, templates, values = zip(*found, strict=True)
    return Read(name, subjects, orders, templates, {ATTRIBUTES[a]: v for a, v in zip(orders, values, strict=True)})


def texts(task: Bios, examples: Examples) -> list[str]:
    return [
        task.vocabulary.decode(tokens[:n]) for tokens, n in zip(examples.tokens_NL, examples.lengths_N, strict=True)
    ]


def told(task: Bios, data_seed: int = 0) -> dict[str, tuple[str, dict[str, str]]]:
    """Pronoun and values of everybody, by name, in words, from the world."""
    people = world(task, data_seed)
    names = [f"{FIRST_NAMES[f]} {MIDDLE_NAMES[m]} {LAST_NAMES[last]}" for f, m, last in people.name_N3.tolist()]
    pronouns = ["They" if task.pronouns == "neutral" else ("He", "She")[p] for p in people.pronoun_N]
    values = [
        {attribute: " ".join(VALUES[a][row[a]]) for a, attribute in enumerate(ATTRIBUTES)} for row in people.value_NA
    ]
    return dict(zip(names, zip(pronouns, values, strict=True), strict=True))


@pytest.mark.parametrize("task", [SMALL, NEUTRAL, SIMPLE])
def test_every_exposure_tells_the_same_person(task: Bios) -> None:
    """Full name in the first sentence only, a pronoun in the others, all six attributes once, in the words of one
    template each."""
    people = told(task)
    assert len(people) == task.people
    tellings: dict[str, set[str]] = {}
    for text in texts(task, Stream(task, 0, 0).examples(0, 4 * task.people)):
        found = read(text)
        pronoun, values = people[found.name]
        assert found.subjects == [found.name] + [pronoun] * 5
        assert sorted(found.order) == list(range(6))
        assert found.values == values
        tellings.setdefault(found.name, set()).add(text)
    assert {len(told) for told in tellings.values()} == ({1} if task is SIMPLE else {4})


def test_the_evaluated_split_is_everybodys_fixed_text() -> None:
    fixed = texts(SIMPLE, pool(SIMPLE, 0, "people"))
    assert set(texts(SIMPLE, Stream(SIMPLE, 0, 0).examples(0, 50))) == set(fixed)
    assert texts(SMALL, pool(SMALL, 0, "people")) == fixed
    assert [read(text).name for text in fixed] == list(told(SMALL))


@pytest.mark.parametrize("task", [SMALL, NEUTRAL])
def test_scored_are_the_name_the_gender_where_it_is_told_and_every_value(task: Bios) -> None:
    examples = Stream(task, 0, 0).block(0)
    for n, text in enumerate(texts(task, examples.take(slice(40)))):
        found, words = read(text), text.split()
        assert [word for word, span in zip(words, examples.scored_NL[n], strict=True) if span == 0] == words[1:4]
        values = [found.values[ATTRIBUTES[a]] for a in found.order]
        if task is SMALL:
            values.insert(1, found.subjects[1])
        scored = [word for word, span in zip(words, examples.scored_NL[n], strict=True) if span == 1]
        assert " ".join(scored) == " ".join(values)
    assert (examples.trained_NL == (np.arange(56) > 0)).all()
    assert (examples.lengths_N == 56).all()


def test_orders_and_templates_are_uniform() -> None:
    """All 6! orders, and 49 sentences for each attribute."""
    task = Bios(people=1000)
    rng = np.random.default_rng(0)
    order_NA, template_NA = task._telling(rng, 72_000)
    counts = np.unique(order_NA, axis=0, return_counts=True)[1]
    assert len(counts) == math.factorial(6)
    assert np.sum((counts - 100) ** 2) / 100 == pytest.approx(719, abs=5 * math.sqrt(2 * 719))
    for column in template_NA.T:
        counts = np.bincount(column, minlength=49)
        assert len(counts) == 49
        assert np.sum((counts - counts.mean()) ** 2) / counts.mean() == pytest.approx(48, abs=5 * math.sqrt(2 * 48))


def test_pools_have_the_sizes_of_the_source() -> None:
    assert (len(FIRST_NAMES), len(MIDDLE_NAMES), len(LAST_NAMES), NAMES) == (400, 400, 1000, 160_000_000)
    assert list(map(len, VALUES)) == [12 * 28 * 200, 200, 300, 100, 263, 200]
    assert [len(set(templates)) for templates in TEMPLATES] == [49] * 6


def test_no_name_or_value_begins_another() -> None:
    for values in (*VALUES, tuple(itertools.product(FIRST_NAMES[:20], MIDDLE_NAMES[:20], LAST_NAMES[:20]))):
        known = set(values)
        assert len(known) == len(values)
        assert not any(value[:cut] in known for value in values for cut in range(1, len(value)))


def test_words_of_pools_mean_one_thing() -> None:
    """No first name is also a city, no value a word of a sentence: each word is in one pool, or in sentences only."""
    parts = [set(pool) for pool in (FIRST_NAMES, MIDDLE_NAMES, LAST_NAMES, biography.CITIES, biography.PRONOUNS)]
    for attribute, width in ((0, 3), (2, 2), (3, 2), (4, 2)):
        parts += [{words[place] for words in VALUES[attribute]} for place in range(width)]
    parts.append({word for templates in TEMPLATES for words in templates for word in words})
    assert sum(map(len, parts)) == len(set().union(*parts))


def test_work_cities() -> None:
    """36 of 263 employers, 13.7 %, are in one city, and 133 cities have employers."""
    counts = Counter(work_city(np.arange(263)).tolist())
    assert counts[0] == 36 == max(counts.values())
    assert sorted(counts) == list(range(133))
    assert {count for city, count in counts.items() if city} == {1, 2}


def test_values_are_uniform() -> None:
    people = world(Bios(people=60_000), 0)
    assert len(np.unique(people.name_N3, axis=0)) == 60_000
    for column, size in ((people.value_NA[:, 1], 200), (people.value_NA[:, 4], 263), (people.pronoun_N, 2)):
        counts = np.bincount(column, minlength=size)
        chi_square = np.sum((counts - counts.mean()) ** 2) / counts.mean()
        assert chi_square == pytest.approx(size - 1, abs=5 * math.sqrt(2 * size))
    assert np.array_equal(people.value_NA[:, 5], work_city(people.value_NA[:, 4]))


def test_bits_are_those_of_the_source() -> None:
    """log2 S0 is 47.59 with the gender, which counts only where a pronoun tells it; log2 N0 is 27.253. At N = 100,000
    a model can show at most 58.24 bits for each person."""
    gendered, neutral = SMALL.constants(None), NEUTRAL.constants(None)
    assert gendered["value_bits"] == pytest.approx(math.log2(2 * 12 * 28 * 200 * 200 * 300 * 100 * 263))
    assert gendered["value_bits"] == pytest.approx(47.592, abs=5e-4)
    assert neutral["value_bits"] == pytest.approx(46.592, abs=5e-4)
    assert gendered["name_bits"] == pytest.approx(27.253, abs=5e-4)
    assert Bios(people=100_000).constants(None)["ceiling_bits"] / 100_000 == pytest.approx(58.24, abs=0.01)
    assert Bios(people=2_000_000).constants(None)["ceiling_bits"] / 2e6 == pytest.approx(53.91, abs=0.01)


def test_employer_and_work_city_together_cost_what_the_employer_is_worth() -> None:
    """In either order, a reader who knows the pools but not the person pays log2 263 bits for the two."""
    cities = work_city(np.arange(263))
    employer_first = math.log2(263)
    share = np.bincount(cities) / 263
    city_first = -(share * np.log2(share)).sum() + (share * np.log2(263 * share)).sum()
    assert city_first == pytest.approx(employer_first)


def test_the_people_are_the_same_however_they_are_told() -> None:
    assert [value for _, value in told(SMALL).values()] == [value for _, value in told(NEUTRAL).values()]
    assert told(SMALL) == told(SIMPLE) != told(SMALL, data_seed=1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"people": 0}, "people is 0; it must be at least 1"),
        (
            {"people": 8_928_572},
            "people is 8928572; it must be at least 1 and at most 8,928,571",
        ),
        ({"variant": "single"}, "variant is 'single'; it must be multi | simple"),
        ({"pronouns": "none"}, "pronouns is 'none'; it must be gendered | neutral"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Bios(**parameters)
