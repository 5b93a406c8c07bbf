"""Questions about the people of `bios`: is what is stored also extracted, classified, compared and searched?"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from synthdata.biography import ATTRIBUTES, DAYS, YEARS
from synthdata.examples import UNSCORED, Examples, concatenate
from synthdata.layout import write
from synthdata.questions import (
    GIVEN,
    HINT,
    HINTED,
    HINTED_KINDS,
    KINDS,
    LUCK,
    OF_ONE,
    PLACES,
    PLAIN,
    QUESTIONS,
    Lexicon,
    lexicon,
)
from synthdata.task import Task, register, require
from synthdata.tasks.bios import MAX_PEOPLE, VALUE, Bios, People
from synthdata.vocabulary import Vocabulary

Ints = npt.NDArray[np.integer]

_FACTS_F = np.array([question.facts for question in QUESTIONS])
_GIVEN_F = np.array([-1 if question.given is None else question.given for question in QUESTIONS])
"""Of every form of question, in the order of `QUESTIONS`."""


@dataclass(frozen=True)
class Side:
    """The people whom training asks about, or the others.

    Attributes:
        person_P: their numbers.
        sole_GP: for each of `GIVEN`, those who share what it tells with nobody in the world.
    """

    person_P: npt.NDArray[np.int64]
    sole_GP: tuple[npt.NDArray[np.int64], ...]


@dataclass(frozen=True)
class Asked:
    """A world. N = person, C = token of what can be said of a person.

    Attributes:
        people: as in `bios`.
        trained: those whom training asks about.
        tested: all others.
        month_N: birth month, 1 … 12.
        luck_N: the luck of everybody's major.
        said_NC: int32, the tokens of every slot that concerns one person.
    """

    people: People
    trained: Side
    tested: Side
    month_N: npt.NDArray[np.int64]
    luck_N: npt.NDArray[np.int64]
    said_NC: npt.NDArray[np.int32]


@register
@dataclass(frozen=True, kw_only=True)
class BioQuestions(Task):
    """Biographies of everybody, and questions about some: can the others, known from their biographies, be asked too?

        inputs  <bos> is the birth month of Adan Brigar Ashton later than that of Bela Casdan Barbury ? answer:
        labels  _     _  _   _     _     _  _    _      _      _     _    _    _  _    _      _       _ no

    People and biographies are those of `bios` with as many people and the same data seed. Training mixes biographies of
    everybody, trained on every token, with questions about a share of the people, trained on the answer alone. Split
    `people` is everybody's biography, scored where it states a value or first a gender; `seen` asks about people that
    training asks about; each kind of question is a split about the others:

    - `extraction`: one of the six attributes. `partial`: birth day or year alone. `dual`: birth city and employer,
      university and major, or employer and work city, in either order.
    - `classification`: is the birth month even, the month modulo 6 and 12, the luck of the major modulo 5, 20 and 100.
    - `comparison`: later birth month, luckier major (a tie is `no`), and both differences.
    - `inverse`: first or full name, from the birth date; birth date and city; university, major and employer; these and
      the birth city; all six. About people who share what is told with nobody (the source does not see to that).

    A question with a hint says the values that its answer follows from, and then the answer:

        is the birth month of Adan Brigar Ashton even ? hint: June answer: yes

    With `hint_share` above 0 training has such questions too; split `K_with_hint` then has questions of kind K that
    must be answered behind a hint, right when hint and answer are, `K_hint` scores the hint alone, and K remains the
    test without.

    Two phases share one world and one vocabulary, whatever their parameters but `people`, `asked_people` and
    `pronouns`: with a `question_share` of 0 training goes through the biographies in epochs, as `bios` does, and with
    one of 1 it has questions alone. Else biographies are drawn uniformly.

    Kinds are drawn uniformly, then the forms of a kind. Difficulty is the number of attributes that must be known. The
    luck of majors, never stated, is drawn with the world; in the source it is fixed once and for all. The source mixes
    by tokens, in windows of either sort; `question_share` counts examples. It gives half of the questions hints.

    Attributes:
        people: N.
        variant: texts of the biographies, see `bios`.
        pronouns: pronouns of the biographies, see `bios`.
        questions: one kind of question, or all of them.
        question_share: probability that a training example is a question.
        hint_share: probability that a training question which has a hint is asked with it.
        asked_people: share of the people that training asks about.
    """

    name: ClassVar[str] = "bio_questions"
    version: ClassVar[int] = 3
    source: ClassVar[str] = (
        "Allen-Zhu & Li 2023, Physics of Language Models: Parts 3.1, 3.2, arXiv 2309.14316, 2309.14402"
    )
    difficulty: ClassVar[str] = "attributes to know"
    trained_splits: ClassVar[tuple[str, ...]] = ("people", "seen")

    people: int = 1000
    variant: Literal["multi", "simple"] = "multi"
    pronouns: Literal["gendered", "neutral"] = "gendered"
    questions: Literal["all", "extraction", "partial", "dual", "classification", "comparison", "inverse"] = "all"
    question_share: float = 0.5
    hint_share: float = 0.0
    asked_people: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(4 <= self.people <= MAX_PEOPLE, "people", self.people, f"at least 4 and at most {MAX_PEOPLE:,}")
        require(0 <= self.question_share <= 1, "question_share", self.question_share, "between 0 and 1")
        require(0 <= self.hint_share <= 1, "hint_share", self.hint_share, "between 0 and 1")
        require(
            self.hint_share == 0 or bool(self._hinted_kinds),
            "hint_share",
            self.hint_share,
            f"0 for {self.questions} questions, which have no hints; {' and '.join(HINTED_KINDS)} have",
        )
        require(
            0 < self.asked_people < 1 and 2 <= self._trained_count <= self.people - 2,
            "asked_people",
            self.asked_people,
            f"a share that leaves at least 2 of the {self.people} people on either side",
        )

    @cached_property
    def _bios(self) -> Bios:
        return Bios(people=self.people, variant=self.variant, pronouns=self.pronouns)

    @property
    def _lexicon(self) -> Lexicon:
        return lexicon(self._bios.words)

    @property
    def _trained_count(self) -> int:
        return round(self.asked_people * self.people)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return KINDS if self.questions == "all" else (self.questions,)

    @property
    def _hinted_kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in HINTED_KINDS if kind in self._kinds)

    @property
    def splits(self) -> tuple[str, ...]:
        """See `Task.splits`."""
        hinted = self._hinted_kinds if self.hint_share else ()
        return ("train", "people", "seen", *self._kinds, *(f"{k}_{what}" for k in hinted for what in _WAYS if what))

    @property
    def vocabulary(self) -> Vocabulary:
        """That of `bios`, then numbers and the words of questions as far as they are new."""
        return self._lexicon.vocabulary

    @property
    def max_length(self) -> int:
        """That of a biography."""
        return self._bios.max_length

    def world_config(self) -> dict[str, Any]:
        """That of `bios`: the same people."""
        return self._bios.world_config()

    def world(self, rng: np.random.Generator) -> Asked:
        """Draw the people as `bios` does, the luck of majors, and whom training asks about.

        Raises:
            ValueError: if inverse questions are asked but on one side nobody has a birth date of his own.
        """
        people = self._bios.world(rng)
        luck_V, person_N = rng.permutation(LUCK), rng.permutation(self.people)
        sole_GN = np.stack([_sole(people.value_NA[:, [ATTRIBUTES.index(a) for a in given]]) for given in GIVEN])
        trained, tested = (
            Side(person_P, tuple(person_P[sole_N[person_P]] for sole_N in sole_GN))
            for person_P in np.split(person_N, [self._trained_count])
        )
        if "inverse" in self._kinds and not all(len(s) for side in (trained, tested) for s in side.sole_GP):
            raise ValueError(
                f"people is {self.people}; it must be fewer for inverse questions: in this world all share birth dates"
            )
        month_N = 1 + people.value_NA[:, 0].astype(np.int64) // (DAYS * len(YEARS))
        luck_N = luck_V[people.value_NA[:, ATTRIBUTES.index("major")]]
        everybody = np.arange(self.people)
        values = [self._bios.value_tokens(people, everybody, a)[:, : OF_ONE[name]] for a, name in enumerate(ATTRIBUTES)]
        residues = [month_N % 6, month_N % 12, luck_N % 5, luck_N % 20, luck_N]
        said = [self._bios.name_tokens(people, everybody), *values, self._truth(month_N % 2 == 0)]
        said_NC = np.concatenate([*said, *map(self._number, residues)], axis=1, dtype=np.int32)
        return Asked(people, trained, tested, month_N, luck_N, said_NC)

    def _number(self, number_N: Ints) -> npt.NDArray[np.int32]:
        """Tokens [N, 1] of numbers -99 … 99."""
        return self._lexicon.number[LUCK - 1 + number_N][:, None]

    def _truth(self, true_N: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
        """Tokens [N, 1] of yes and no."""
        return self._lexicon.truth[true_N.astype(np.int64)][:, None]

    def items(self, world: Asked, split: str) -> int | None:
        """Training shows the people in turn where it has biographies alone."""
        return self.people if split == "train" and self.question_share == 0 else None

    def show(self, world: Asked, split: str, rng: np.random.Generator, item_N: Ints) -> Examples:
        """A biography of each of these people."""
        return _values_only(self._bios.show(world.people, split, rng, item_N))

    def pool(self, world: Asked, split: str) -> Examples | None:
        """Everybody's biography; questions are drawn."""
        return _values_only(self._bios.pool(world.people, split)) if split == "people" else None

    def draw(self, world: Asked, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent questions; in `train`, biographies among them."""
        if split == "people":
            return super().draw(world, split, rng, count)
        if split == "train":
            return self._mixture(world, rng, count)
        if split == "seen":
            return self._ask(world, world.trained, self._forms(self._kinds, rng, count), PLAIN, rng)
        kind, _, way = split.partition("_")
        return self._ask(world, world.tested, self._forms((kind,), rng, count), _WAYS[way], rng)

    def _mixture(self, world: Asked, rng: np.random.Generator, count: int) -> Examples:
        """Biographies and questions, as often as `question_share` and `hint_share` say."""
        question_N = rng.random(count) < self.question_share
        asked = int(question_N.sum())
        way_N = np.where(rng.random(asked) < self.hint_share, HINTED, PLAIN)
        pieces = [
            self.show(world, "train", rng, rng.integers(self.people, size=count - asked)),
            self._ask(world, world.trained, self._forms(self._kinds, rng, asked), way_N, rng),
        ]
        place_N = np.empty(count, dtype=np.int64)
        place_N[~question_N], place_N[question_N] = np.arange(count - asked), np.arange(count - asked, count)
        return concatenate(pieces).take(place_N)

    def constants(self, world: Asked) -> Mapping[str, float]:
        """Those of `bios`, and how many people training asks about."""
        return {**self._bios.constants(world.people), "asked": self._trained_count}

    def _ask(self, world: Asked, side: Side, form_N: Ints, way_N: Ints | int, rng: np.random.Generator) -> Examples:
        """Questions of these forms, put in these ways, about people of one side."""
        one_N, two_N = self._pairs(side, form_N, rng)
        months_N, luck_N = (known_N[one_N] - known_N[two_N] for known_N in (world.month_N, world.luck_N))
        other = [world.said_NC[two_N][:, PLACES[slot]] for slot in ("name", "month", "major")]
        pair = [self._truth(months_N > 0), self._number(months_N), self._truth(luck_N > 0), self._number(luck_N)]
        said_NC = np.concatenate([world.said_NC[one_N], *other, *pair], axis=1)
        form_NG = self._lexicon.token_WFG[way_N, form_N]
        token_NG = np.where(form_NG < 0, np.take_along_axis(said_NC, np.maximum(-1 - form_NG, 0), axis=1), form_NG)
        return write(token_NG, self._lexicon.span_WFG[way_N, form_N], self.max_length, "answer", _FACTS_F[form_N])

    def _pairs(self, side: Side, form_N: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Whom questions are about, and another of the same side; uniform, but who is searched for is to be found."""
        first_N, distance_N = rng.random(len(form_N)), rng.integers(1, len(side.person_P), size=len(form_N))
        place_N = (first_N * len(side.person_P)).astype(np.int64)
        one_N, two_N = side.person_P[place_N], side.person_P[(place_N + distance_N) % len(side.person_P)]
        given_N = _GIVEN_F[form_N]
        for given, person_P in enumerate(side.sole_GP):
            here = np.flatnonzero(given_N == given)
            one_N[here] = person_P[(first_N[here] * len(person_P)).astype(np.int64)]
        return one_N, two_N

    def _forms(self, kinds: tuple[str, ...], rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Indices into `QUESTIONS`: kinds uniformly, then the forms of a kind."""
        of_kind = [[form for form, question in enumerate(QUESTIONS) if question.kind == kind] for kind in kinds]
        sizes = np.array([len(forms) for forms in of_kind])
        starts = np.cumsum(sizes) - sizes
        kind_N = rng.integers(len(kinds), size=count)
        return np.concatenate(of_kind)[starts[kind_N] + rng.integers(sizes[kind_N])]


_WAYS = {"": PLAIN, "with_hint": HINTED, "hint": HINT}
"""How a split's questions are put, by what its name has behind the kind."""


def _sole(value_NA: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which rows occur once."""
    row_N = np.zeros(len(value_NA), dtype=np.int64)
    for value_N in value_NA.T:
        row_N = np.unique(row_N * (value_N.max() + 1) + value_N, return_inverse=True)[1]
    return np.bincount(row_N)[row_N] == 1


def _values_only(biographies: Examples | None) -> Examples:
    """Biographies scored where they state a value, in the one span there is."""
    assert biographies is not None
    scored_NL = np.where(biographies.scored_NL == VALUE, 0, UNSCORED).astype(np.int8)
    return replace(biographies, scored_NL=scored_NL)
