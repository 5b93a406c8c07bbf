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
HINTED_KINDS = ("classification", "comparison")
LUCK = 100
"""Majors have a luck of 0 … 99, each its own."""

_COUPLES = (("birth_city", "employer"), ("university", "major"), ("employer", "work_city"))

GIVEN: tuple[Words, ...] = (
    ("birth_date",),
    ("birth_date", "birth_city"),
    ("university", "major", "employer"),
    ("birth_city", "university", "major", "employer"),
    ATTRIBUTES,
)
"""What inverse questions tell of the person they search for."""


@dataclass(frozen=True)
class Question:
    """One form of question.

    Attributes:
        kind: one of `KINDS`.
        asked: its words, with slots `{…}` among them.
        answer: those of the answer.
        facts: how many attributes one must know to answer.
        hint: the values that the answer follows from, for the kinds that have hints.
        given: which of `GIVEN` it tells, or None.
    """

    kind: str
    asked: str
    answer: str
    facts: int
    hint: str | None = None
    given: int | None = None

    @property
    def plain(self) -> str:
        """The question, answered at once."""
        return f"{self.asked} ? answer: {self.answer}"

    @property
    def hinted(self) -> str:
        """The question, answered behind its hint."""
        return f"{self.asked} ? hint: {self.hint} answer: {self.answer}"


def _spoken(attribute: str) -> str:
    return attribute.replace("_", " ")


def _of_month(asked: str, answer: str) -> Question:
    return Question("classification", asked, answer, 1, hint="{month}")


def _of_major(modulus: int) -> Question:
    asked = f"what is the luck of the major of {{name}} modulo {modulus}"
    return Question("classification", asked, f"{{luck_{modulus}}}", 1, hint="{major}")


def _of_months(asked: str, answer: str) -> Question:
    return Question("comparison", asked, answer, 2, hint="{month} ; {other_month}")


def _of_majors(asked: str, answer: str) -> Question:
    return Question("comparison", asked, answer, 2, hint="{major} ; {other_major}")


QUESTIONS = (
    *(Question("extraction", f"what is the {_spoken(a)} of {{name}}", f"{{{a}}}", 1) for a in ATTRIBUTES),
    *(Question("partial", f"what is the birth {part} of {{name}}", f"{{{part}}}", 1) for part in ("day", "year")),
    *(
        Question("dual", f"what is the {_spoken(a)} and {_spoken(b)} of {{name}}", f"{{{a}}} ; {{{b}}}", 2)
        for couple in _COUPLES
        for a, b in (couple, couple[::-1])
    ),
    _of_month("is the birth month of {name} even", "{even}"),
    _of_month("what is the birth month of {name} modulo 6", "{month_6}"),
    _of_month("what is the birth month of {name} modulo 12", "{month_12}"),
    *map(_of_major, (5, 20, 100)),
    _of_months("is the birth month of {name} later than that of {other}", "{later}"),
    _of_months("how many months is the birth month of {name} after that of {other}", "{months}"),
    _of_majors("is the major of {name} luckier than that of {other}", "{luckier}"),
    _of_majors("how much luckier is the major of {name} than that of {other}", "{luck}"),
    *(
        Question(
            "inverse",
            f"what is the {which} name of the person with {' , '.join(f'{_spoken(a)} {{{a}}}' for a in given)}",
            f"{{{slot}}}",
            len(given),
            given=place,
        )
        for place, given in enumerate(GIVEN)
        for which, slot in (("first", "first"), ("full", "name"))
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
OF_TWO = {"other": 3, "other_month": 1, "other_major": 2, "later": 1, "months": 1, "luckier": 1, "luck": 1}
"""What slots can say about one person, and about that person and another, in how many tokens."""


def _places() -> dict[str, range]:
    """Where each slot's tokens stand in what can be said."""
    ends = np.cumsum([*OF_ONE.values(), *OF_TWO.values()]).tolist()
    places = {slot: range(end - width, end) for (slot, width), end in zip((OF_ONE | OF_TWO).items(), ends, strict=True)}
    name, date = places["name"], places["birth_date"]
    return places | {"first": name[:1], "month": date[:1], "day": date[1:2], "year": date[2:]}


PLACES = _places()


PLAIN, HINTED, HINT = range(3)
"""Ways to put a question: the answer at once; behind a hint where the question has one, and both scored; the same, but
of those with a hint the hint alone is scored."""


@dataclass(frozen=True)
class Lexicon:
    """Questions in tokens. W = way, F = form, in the order of `QUESTIONS`, G = place.

    Attributes:
        vocabulary: the known words, continued.
        number: tokens of -99 … 99.
        truth: tokens of no and yes.
        token_WFG: int32, every question in every way; the c-th token that can be said is -1 - c, and `PAD` follows the
            end.
        span_WFG: int8, 0 where something is scored, else `UNSCORED`.
    """

    vocabulary: Vocabulary
    number: npt.NDArray[np.int32]
    truth: npt.NDArray[np.int32]
    token_WFG: npt.NDArray[np.int32]
    span_WFG: npt.NDArray[np.int8]


@lru_cache(maxsize=4)
def lexicon(known: Words) -> Lexicon:
    """The questions in a vocabulary that begins with the words of biographies."""
    numbers = [str(number) for number in range(1 - LUCK, LUCK)]
    plain = [question.plain for question in QUESTIONS]
    hinted = [question.plain if question.hint is None else question.hinted for question in QUESTIONS]
    words = [word for text in hinted for word in text.split() if not word.startswith("{")]
    vocabulary = Vocabulary(tuple(dict.fromkeys((*known, *numbers, "no", "yes", *words))))
    token = {symbol: place for place, symbol in enumerate(vocabulary.symbols)}
    rows, spans = [], []
    for way, texts in ((PLAIN, plain), (HINTED, hinted), (HINT, hinted)):
        for text in texts:
            row, span = _tokens(text, token, hint_alone=way == HINT)
            rows.append(row)
            spans.append(span)
    shape, width = (3, len(QUESTIONS), -1), max(map(len, rows))
    return Lexicon(
        vocabulary,
        np.array([token[number] for number in numbers], dtype=np.int32),
        np.array([token["no"], token["yes"]], dtype=np.int32),
        np.array([row + [PAD] * (width - len(row)) for row in rows], dtype=np.int32).reshape(shape),
        np.array([span + [UNSCORED] * (width - len(span)) for span in spans], dtype=np.int8).reshape(shape),
    )


def _tokens(text: str, token: dict[str, int], hint_alone: bool) -> tuple[list[int], list[int]]:
    """Tokens and spans of a text, scored behind `hint:` where it has one, else behind `answer:`; with `hint_alone` a
    hint is scored without what follows it."""
    row, span = [BOS], [UNSCORED]
    scored, has_hint = False, "hint:" in text
    for word in text.split():
        if hint_alone and has_hint and word == "answer:":
            scored = False
        tokens = [-1 - c for c in PLACES[word[1:-1]]] if word.startswith("{") else [token[word]]
        row += tokens
        span += [0 if scored else UNSCORED] * len(tokens)
        if word == ("hint:" if has_hint else "answer:"):
            scored = True
    return row, span
