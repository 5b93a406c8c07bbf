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
from synthdata.questions import KINDS, LUCK, OF_ONE, QUESTIONS, Lexicon, lexicon
from synthdata.task import Task, register, require
from synthdata.tasks.bios import NAMES, VALUE, Bios, People
from synthdata.vocabulary import Vocabulary

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Asked:
    """A world. N = person, C = token of what can be said of a person.

    Attributes:
        people: as in `bios`.
        trained_N: people that training asks about.
        tested_N: all others.
        own_date_N: bool, whose birth date nobody shares.
        month_N: birth month, 1 … 12.
        luck_N: the luck of everybody's major.
        said_NC: int32, the tokens of every slot that concerns one person.
    """

    people: People
    trained_N: npt.NDArray[np.int64]
    tested_N: npt.NDArray[np.int64]
    own_date_N: npt.NDArray[np.bool_]
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
    everybody, uniformly drawn and trained on every token, with questions about a share of the people, trained on the
    answer alone. Split `people` is everybody's biography, scored where it states a value or first a gender; `seen` asks
    about people that training asks about; each kind of question is a split about the others:

    - `extraction`: one of the six attributes. `partial`: birth day or year alone. `dual`: two that belong together
      (birth date and city, university and major, employer and work city), in either order.
    - `classification`: is the birth month even, the month modulo 6 and 12, the luck of the major modulo 5, 20 and 100.
    - `comparison`: later birth month, luckier major (a tie is `no`), and both differences.
    - `inverse`: first or full name, from the birth date (of people who share it with nobody) or from all attributes.

    Kinds are drawn uniformly, then the forms of a kind. Difficulty is the number of attributes that must be known. The
    luck of majors, never stated, is drawn with the world. The source mixes by tokens, in windows of either sort;
    `question_share` counts examples. It fixes luck once and for all and has ten inverse questions.

    Attributes:
        people: N.
        variant: texts of the biographies, see `bios`.
        pronouns: pronouns of the biographies, see `bios`.
        questions: one kind of question, or all of them.
        question_share: probability that a training example is a question.
        asked_people: share of the people that training asks about.
    """

    name: ClassVar[str] = "bio_questions"
    version: ClassVar[int] = 1
    source: ClassVar[str] = (
        "Allen-Zhu & Li 2023, Physics of Language Models: Parts 3.1, 3.2, arXiv 2309.14316, 2309.14402"
    )
    trained_splits: ClassVar[tuple[str, ...]] = ("people", "seen")

    people: int = 1000
    variant: Literal["multi", "simple"] = "multi"
    pronouns: Literal["gendered", "neutral"] = "gendered"
    questions: Literal["all", "extraction", "partial", "dual", "classification", "comparison", "inverse"] = "all"
    question_share: float = 0.5
    asked_people: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            4 <= self.people <= NAMES, "people", self.people, f"at least 4 and at most {NAMES}, the number of names"
        )
        require(0 < self.question_share < 1, "question_share", self.question_share, "between 0 and 1, exclusive")
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
    def splits(self) -> tuple[str, ...]:
        """See `Task.splits`."""
        return ("train", "people", "seen", *self._kinds)

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
        trained_N, tested_N = np.split(person_N, [self._trained_count])
        _, date_N, shared = np.unique(people.value_NA[:, 0], return_inverse=True, return_counts=True)
        own_date_N = shared[date_N] == 1
        if "inverse" in self._kinds and not (own_date_N[trained_N].any() and own_date_N[tested_N].any()):
            raise ValueError(f"people is {self.people}; it must be fewer: in this world they share all birth dates")
        month_N = 1 + people.value_NA[:, 0].astype(np.int64) // (DAYS * len(YEARS))
        luck_N = luck_V[people.value_NA[:, ATTRIBUTES.index("major")]]
        everybody = np.arange(self.people)
        values = [self._bios.value_tokens(people, everybody, a)[:, : OF_ONE[name]] for a, name in enumerate(ATTRIBUTES)]
        residues = [month_N % 6, month_N % 12, luck_N % 5, luck_N % 20, luck_N]
        said = [self._bios.name_tokens(people, everybody), *values, self._truth(month_N % 2 == 0)]
        said_NC = np.concatenate([*said, *map(self._number, residues)], axis=1, dtype=np.int32)
        return Asked(people, trained_N, tested_N, own_date_N, month_N, luck_N, said_NC)

    def _number(self, number_N: Ints) -> npt.NDArray[np.int32]:
        """Tokens [N, 1] of numbers -99 … 99."""
        return self._lexicon.number[LUCK - 1 + number_N][:, None]

    def _truth(self, true_N: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
        """Tokens [N, 1] of yes and no."""
        return self._lexicon.truth[true_N.astype(np.int64)][:, None]

    def pool(self, world: Asked, split: str) -> Examples | None:
        """Everybody's biography; questions are drawn."""
        return _values_only(self._bios.pool(world.people, split)) if split == "people" else None

    def draw(self, world: Asked, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent questions; in `train`, biographies among them."""
        if split == "people":
            return super().draw(world, split, rng, count)
        if split != "train":
            kinds = self._kinds if split == "seen" else (split,)
            return self._ask(world, kinds, world.trained_N if split == "seen" else world.tested_N, rng, count)
        question_N = rng.random(count) < self.question_share
        asked = int(question_N.sum())
        person_N = rng.integers(self.people, size=count - asked)
        pieces = [
            _values_only(self._bios.show(world.people, split, rng, person_N)),
            self._ask(world, self._kinds, world.trained_N, rng, asked),
        ]
        place_N = np.empty(count, dtype=np.int64)
        place_N[~question_N], place_N[question_N] = np.arange(count - asked), np.arange(count - asked, count)
        return concatenate(pieces).take(place_N)

    def constants(self, world: Asked) -> Mapping[str, float]:
        """Those of `bios`, and how many people training asks about."""
        return {**self._bios.constants(world.people), "asked": self._trained_count}

    def _ask(
        self, world: Asked, kinds: tuple[str, ...], person_P: Ints, rng: np.random.Generator, count: int
    ) -> Examples:
        """Questions of these kinds about these people."""
        form_N = self._forms(kinds, rng, count)
        words = self._lexicon
        first_N, distance_N = rng.random(count), rng.integers(1, len(person_P), size=count)
        among_P = np.flatnonzero(world.own_date_N[person_P])
        by_date_N = np.array([q.kind == "inverse" and q.facts == 1 for q in QUESTIONS])[form_N]
        place_N = (first_N * len(person_P)).astype(np.int64)
        if by_date_N.any():
            place_N[by_date_N] = among_P[(first_N[by_date_N] * len(among_P)).astype(np.int64)]
        one_N, two_N = person_P[place_N], person_P[(place_N + distance_N) % len(person_P)]

        months_N, luck_N = (known_N[one_N] - known_N[two_N] for known_N in (world.month_N, world.luck_N))
        pair = [self._truth(months_N > 0), self._number(months_N), self._truth(luck_N > 0), self._number(luck_N)]
        name_N3 = world.said_NC[two_N, :3]
        said_NC = np.concatenate([world.said_NC[one_N], name_N3, *pair], axis=1)
        form_NG = words.form_FG[form_N]
        token_NG = np.where(form_NG < 0, np.take_along_axis(said_NC, np.maximum(-1 - form_NG, 0), axis=1), form_NG)
        facts_N = np.array([question.facts for question in QUESTIONS])[form_N]
        return write(token_NG, words.span_FG[form_N], self.max_length, "answer", facts_N)

    def _forms(self, kinds: tuple[str, ...], rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Indices into `QUESTIONS`: kinds uniformly, then the forms of a kind."""
        of_kind = [[form for form, question in enumerate(QUESTIONS) if question.kind == kind] for kind in kinds]
        sizes = np.array([len(forms) for forms in of_kind])
        starts = np.cumsum(sizes) - sizes
        kind_N = rng.integers(len(kinds), size=count)
        return np.concatenate(of_kind)[starts[kind_N] + rng.integers(sizes[kind_N])]


def _values_only(biographies: Examples | None) -> Examples:
    """Biographies scored where they state a value, in the one span there is."""
    assert biographies is not None
    scored_NL = np.where(biographies.scored_NL == VALUE, 0, UNSCORED).astype(np.int8)
    return replace(biographies, scored_NL=scored_NL)
