"""What biographies are made of: pools of names and values, and the sentences that state them. All of it is our own.

Pools have the sizes of Part 3.3. No name or value is the beginning of another, so that the end of a value never has to
be guessed. All sentences about one attribute are equally long, so that every biography has the same number of tokens
and a share of the tokens is a share of the exposures. Shapes in names: A = attribute, T = template, G = place in a
sentence, V = value, J = token of a value.
"""

from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from synthdata.vocabulary import PAD, SPECIALS

Words = tuple[str, ...]


def _words(text: str) -> Words:
    return tuple(text.split())


def _joined(beginnings: str, endings: str) -> Words:
    return tuple(f"{one}{other}" for one, other in product(beginnings.split(), endings.split()))


FIRST_NAMES = _joined(
    "Ad Bel Cor Dan El Fen Gar Hal Is Jor Kel Lor Mar Nor Ol Per Ros Sel Tam Vin",
    "a an ara as ea en eon era ia ian ick iel in ina is o on or us yn",
)
MIDDLE_NAMES = _joined(
    "Au Bri Cas Dev Em Flo Gwen Har Ign Jul Kas Lu Mil Nad Oct Phil Quin Ru Syl Theo",
    "bert da dan dor fred gar lan lyn mar mir na nel ra rick ston ta van vin wen zo",
)
LAST_NAMES = _joined(
    "Ash Bar Black Brad Brook Cald Carl Clay Crow Dal Den East Fair Far Glen Gran Hart Hay Hol Kings "
    "Lang Lin Long Marl Mill New North Oak Pem Rad Red Rock Rush Shel Stan Stock Thorn Wake West Win",
    "berg born bridge bury by croft dale den field ford gate ham hurst land ley low man mere more shaw stead ton well "
    "wick worth",
)
CITIES = _joined(
    "Alder Amber Birch Cedar Coral Copper Eagle Elm Falcon Garnet Hazel Iron Juniper Laurel Maple Opal River Silver "
    "Stone Willow",
    "bay cliff creek falls haven mouth point port side ville",
)
_CAMPUSES = _joined("Alm Berr Chal Dorn Ester Farn Gald Hest Ivel Jarn", "abury ale and arth eigh ell eth ick olme ord")
_SCHOOLS = _words("University College Institute")
_FIELDS = _words(
    "Applied Comparative Computational Environmental Experimental Historical Industrial Medical Social Theoretical"
)
_SUBJECTS = _words("Acoustics Biology Chemistry Economics Ethics Genetics Geography Linguistics Physics Statistics")
_FIRMS = _joined("Arc Bolt Cres Delt Equin Flux Glob Hyper Inter Just Kin", "alis ara enta ex oro")[:53]
_SECTORS = _words("Energy Foods Logistics Software Textiles")
_MONTHS = _words("January February March April May June July August September October November December")
DAYS, YEARS = 28, tuple(str(year) for year in range(1900, 2100))
EMPLOYERS = 263
_CAPITAL_EMPLOYERS, _EMPLOYING_CITIES = 36, 133
"""Employers whose city is the first, and cities that have any: as uneven as the source's (36 of 263; 133 cities)."""

PRONOUNS = ("He", "She")
NEUTRAL_PRONOUN = "They"

ATTRIBUTES = ("birth_date", "birth_city", "university", "major", "employer", "work_city")
"""In the order of `VALUES`, `TEMPLATES` and a person's values. The work city follows from the employer."""

VALUES: tuple[tuple[Words, ...], ...] = (
    tuple(product(_MONTHS, map(str, range(1, DAYS + 1)), YEARS)),
    tuple((city,) for city in CITIES),
    tuple(product(_CAMPUSES, _SCHOOLS)),
    tuple(product(_FIELDS, _SUBJECTS)),
    tuple(product(_FIRMS, _SECTORS))[:EMPLOYERS],
    tuple((city,) for city in CITIES),
)
"""Every value of each attribute, as words."""


def work_city(employer_N: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The city that employers are in: the first for the first 36 of them, the others in turn for the rest."""
    others = 1 + (np.asarray(employer_N) - _CAPITAL_EMPLOYERS) % (_EMPLOYING_CITIES - 1)
    return np.where(np.asarray(employer_N) < _CAPITAL_EMPLOYERS, 0, others)


_SENTENCES = (
    (
        "came into being; entered the world; began life's journey; drew first breath; joined the living; "
        "saw first light; started life out",
        "early on {}; late on {}; safely on {}; quietly on {}; precisely on {}; on {} exactly; on {} indeed",
    ),
    (
        "hailed with pride; came by birth; descended by family; sprang by origin; traced childhood memories; "
        "derived family roots; drew earliest memories",
        "from distant {}; from bustling {}; from quiet {}; directly from {}; straight from {}; from {} itself; "
        "from {} originally",
    ),
    (
        "studied for years; earned a degree; completed all courses; pursued higher education; attended many lectures; "
        "finished formal studies; spent student days",
        "at renowned {}; at distinguished {}; at historic {}; over at {}; there at {}; at {} itself; at {} proper",
    ),
    (
        "majored with honors; specialized with zeal; trained with rigor; excelled among peers; "
        "graduated with distinction; received thorough training; gained deep expertise",
        "mainly in {}; chiefly in {}; largely in {}; solely in {}; specifically in {}; in {} alone; in {} primarily",
    ),
    (
        "worked with devotion; built a career; held a post; spent working years; accepted a position; "
        "found steady work; took a job",
        "at prominent {}; at thriving {}; at ambitious {}; over at {}; there at {}; at {} itself; at {} headquarters",
    ),
    (
        "performed daily duties; carried out tasks; conducted daily business; did professional work; "
        "commuted every day; labored each weekday; kept an office",
        "in sunny {}; in central {}; in modern {}; over in {}; right in {}; in {} itself; in {} proper",
    ),
)
"""For each attribute how its sentences begin behind the person, and how they go on; `{}` is the value. Verbs are in the
past tense, which has one form for every pronoun, and nothing refers back to the person."""

TEMPLATES: tuple[tuple[Words, ...], ...] = tuple(
    tuple(
        (*beginning.split(), *ending.split(), ".")
        for beginning, ending in product(beginnings.split("; "), endings.split("; "))
    )
    for beginnings, endings in _SENTENCES
)
"""49 sentences for each attribute, as words; the person goes before them and the value in the place of `{}`."""

VALUE_WIDTH = max(len(value) for values in VALUES for value in values)


@lru_cache(maxsize=4)
def vocabulary_words(pronouns: Words) -> Words:
    """Every word of biographies that use these pronouns, each once; a word's token is its place, behind the specials.
    First, middle and last names come first, then the pronouns."""
    pools = (FIRST_NAMES, MIDDLE_NAMES, LAST_NAMES, pronouns, _MONTHS, tuple(map(str, range(1, DAYS + 1))), YEARS)
    rest = (CITIES, _CAMPUSES, _SCHOOLS, _FIELDS, _SUBJECTS, _FIRMS, _SECTORS)
    sentences = tuple(word for templates in TEMPLATES for words in templates for word in words if word != "{}")
    return tuple(dict.fromkeys(word for pool in (*pools, *rest, sentences) for word in pool))


@lru_cache(maxsize=4)
def value_tokens(pronouns: Words) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Tokens of all values of all attributes, [V, J] with `PAD` behind short ones, and where each attribute's begin."""
    token = _tokens(pronouns)
    flat = [value for values in VALUES for value in values]
    token_VJ = np.full((len(flat), VALUE_WIDTH), PAD, dtype=np.int32)
    for v, value in enumerate(flat):
        token_VJ[v, : len(value)] = [token[word] for word in value]
    return token_VJ, np.cumsum([0, *map(len, VALUES)])[:-1]


@lru_cache(maxsize=4)
def template_tokens(pronouns: Words) -> npt.NDArray[np.int32]:
    """Tokens of all templates, [A, T, G]; the j-th token of the value is -1 - j."""
    token = _tokens(pronouns)
    slots = [-1 - j for j in range(VALUE_WIDTH)]
    rows = [
        [[t for word in template for t in (slots if word == "{}" else [token[word]])] for template in templates]
        for templates in TEMPLATES
    ]
    return np.array(rows, dtype=np.int32)


def _tokens(pronouns: Words) -> dict[str, int]:
    return {word: len(SPECIALS) + place for place, word in enumerate(vocabulary_words(pronouns))}
