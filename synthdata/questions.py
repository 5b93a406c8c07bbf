"""The forms of questions about people: their words, what stands in their slots, and their tokens.

Which people are asked about, and what is true of them, is the affair of the task.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from synthdata.biography import ATTRIBUTES, Words
from synthdata.examples import UNSCORED
from synthdata.vocabulary import BOS, PAD, Vocabulary

KINDS = ("extraction", "partial", "dual", "classification", "comparison", "inverse")
LUCK = 100
"""Majors have a luck of 0 … 99, each its own."""

_COUPLES = (("birth_date", "birth_city"), ("university", "major"), ("employer", "work_city"))


@dataclass(frozen=True)
class Question:
    """One form of question: its words, the slots `{…}` among them, and how many attributes one must know to answer."""

    kind: str
    text: str
    facts: int


def _spoken(attribute: str) -> str:
    return attribute.replace("_", " ")


QUESTIONS = (
    *(Question("extraction", f"what is the {_spoken(a)} of {{name}} ? answer: {{{a}}}", 1) for a in ATTRIBUTES),
    *(Question("partial", f"what is the birth {part} of {{name}} ? answer: {{{part}}}", 1) for part in ("day", "year")),
    *(
        Question("dual", f"what is the {_spoken(a)} and {_spoken(b)} of {{name}} ? answer: {{{a}}} ; {{{b}}}", 2)
        for couple in _COUPLES
        for a, b in (couple, couple[::-1])
    ),
    Question("classification", "is the birth month of {name} even ? answer: {even}", 1),
    Question("classification", "what is the birth month of {name} modulo 6 ? answer: {month_6}", 1),
    Question("classification", "what is the birth month of {name} modulo 12 ? answer: {month_12}", 1),
    Question("classification", "what is the luck of the major of {name} modulo 5 ? answer: {luck_5}", 1),
    Question("classification", "what is the luck of the major of {name} modulo 20 ? answer: {luck_20}", 1),
    Question("classification", "what is the luck of the major of {name} modulo 100 ? answer: {luck_100}", 1),
    Question("comparison", "is the birth month of {name} later than that of {other} ? answer: {later}", 2),
    Question("comparison", "how many months is the birth month of {name} after that of {other} ? answer: {months}", 2),
    Question("comparison", "is the major of {name} luckier than that of {other} ? answer: {luckier}", 2),
    Question("comparison", "how much luckier is the major of {name} than that of {other} ? answer: {luck}", 2),
    Question("inverse", "who was born on {birth_date} ? answer: {first}", 1),
    Question("inverse", "who was born on {birth_date} ? answer: {name}", 1),
    *(
        Question(
            "inverse", f"who has {' , '.join(f'{_spoken(a)} {{{a}}}' for a in ATTRIBUTES)} ? answer: {{{answer}}}", 6
        )
        for answer in ("first", "name")
    ),
)


OF_ONE = {
    "name": 3,
    "birth_date": 3,
    "birth_city": 1,
    "university": 2,
    "major": 2,
    "employer": 2,
    "work_city": 1,
    "even": 1,
    "month_6": 1,
    "month_12": 1,
    "luck_5": 1,
    "luck_20": 1,
    "luck_100": 1,
}
OF_TWO = {"other": 3, "later": 1, "months": 1, "luckier": 1, "luck": 1}
"""What slots can say about one person, and about that person and another, in how many tokens."""


def _places() -> dict[str, range]:
    """Where each slot's tokens stand in what can be said."""
    ends = np.cumsum([*OF_ONE.values(), *OF_TWO.values()]).tolist()
    places = {slot: range(end - width, end) for (slot, width), end in zip((OF_ONE | OF_TWO).items(), ends, strict=True)}
    name, date = places["name"], places["birth_date"]
    return places | {"first": name[:1], "day": date[1:2], "year": date[2:]}


@dataclass(frozen=True)
class Lexicon:
    """Questions in tokens. F = form, G = place.

    Attributes:
        vocabulary: the known words, continued.
        number: tokens of -99 … 99.
        truth: tokens of no and yes.
        form_FG: int32, every form of question; the c-th token that can be said is -1 - c, and `PAD` follows the end.
        span_FG: int8, 0 for the answers of the forms, else `UNSCORED`.
    """

    vocabulary: Vocabulary
    number: npt.NDArray[np.int32]
    truth: npt.NDArray[np.int32]
    form_FG: npt.NDArray[np.int32]
    span_FG: npt.NDArray[np.int8]


@lru_cache(maxsize=4)
def lexicon(known: Words) -> Lexicon:
    """The questions in a vocabulary that begins with the words of biographies."""
    numbers = [str(number) for number in range(1 - LUCK, LUCK)]
    words = [word for question in QUESTIONS for word in question.text.split() if not word.startswith("{")]
    vocabulary = Vocabulary(tuple(dict.fromkeys((*known, *numbers, "no", "yes", *words))))
    token = {symbol: place for place, symbol in enumerate(vocabulary.symbols)}
    places = _places()
    forms, spans = [], []
    for question in QUESTIONS:
        row = [BOS]
        for word in question.text.split():
            row += [-1 - c for c in places[word[1:-1]]] if word.startswith("{") else [token[word]]
        forms.append(row)
        asked = row.index(token["answer:"]) + 1
        spans.append([UNSCORED] * asked + [0] * (len(row) - asked))
    width = max(map(len, forms))
    return Lexicon(
        vocabulary,
        np.array([token[number] for number in numbers], dtype=np.int32),
        np.array([token["no"], token["yes"]], dtype=np.int32),
        np.array([row + [PAD] * (width - len(row)) for row in forms], dtype=np.int32),
        np.array([row + [UNSCORED] * (width - len(row)) for row in spans], dtype=np.int8),
    )
