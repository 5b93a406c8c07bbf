"""Biographies to store: people with random names and attributes, told in sentences that vary at every exposure."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from synthdata.biography import (
    ATTRIBUTES,
    FIRST_NAMES,
    LAST_NAMES,
    MIDDLE_NAMES,
    NEUTRAL_PRONOUN,
    PRONOUNS,
    TEMPLATES,
    VALUE_WIDTH,
    VALUES,
    Words,
    template_tokens,
    value_tokens,
    vocabulary_words,
    work_city,
)
from synthdata.examples import UNSCORED, Examples
from synthdata.layout import write
from synthdata.task import MAX_STORED, Attributes, Task, register, require
from synthdata.vocabulary import BOS, PAD, SPECIALS, Vocabulary

NAME, VALUE = 0, 1
"""Places of the spans."""


@dataclass(frozen=True)
class Spans:
    """Which span each thing that a biography tells is scored in, or `UNSCORED`: name, the six values, gender."""

    name: int = NAME
    values: tuple[int, ...] = (VALUE,) * len(ATTRIBUTES)
    gender: int = VALUE


SPANS = Spans()
"""Of the task's own reading: the name, and all values together."""

NAMES = len(FIRST_NAMES) * len(MIDDLE_NAMES) * len(LAST_NAMES)

LENGTH = 1 + 3 + (len(ATTRIBUTES) - 1) + sum(len(t[0]) - 1 + len(v[0]) for t, v in zip(TEMPLATES, VALUES, strict=True))
"""Tokens of every biography, 56: BOS, the name, five pronouns, six sentences of six words besides the value, values of
3, 1, 2, 2, 2 and 1 words."""

MAX_PEOPLE = MAX_STORED // LENGTH
"""Everybody's biography is listed in memory where they are evaluated."""
"""N0, the number of full names."""


@dataclass(frozen=True)
class People:
    """A world. N = person, A = attribute, in the order of `biography.ATTRIBUTES`.

    Attributes:
        name_N3: int32, first, middle and last name, each an index into its pool; no two full names are equal.
        pronoun_N: int32, 0 or 1.
        value_NA: int32, indices into `biography.VALUES`.
        order_NA: the order of the sentences of everybody's fixed text.
        template_NA: which sentence states each attribute there.
    """

    name_N3: npt.NDArray[np.int32]
    pronoun_N: npt.NDArray[np.int32]
    value_NA: npt.NDArray[np.int32]
    order_NA: npt.NDArray[np.int64]
    template_NA: npt.NDArray[np.int64]


@register
@dataclass(frozen=True, kw_only=True)
class Bios(Task):
    """bioS(N): six sentences about a person, with the full name in the first of them and a pronoun in the others.

        inputs  <bos> Adan Brigar Ashton earned a degree at historic Almale College . He took a job there at Arcex Foods
        labels  Adan Brigar Ashton earned a degree at historic Almale College . He took a job there at Arcex Foods .

    Names, 400 x 400 x 1,000 of them, are drawn without replacement; values uniformly: birth date (12 x 28 x 200), birth
    city (200), university (300), major (100), employer (263) and, for the pronoun, gender (2). The sixth sentence, the
    work city, follows from the employer. All six sentences always occur.

    Everything is trained. Scored are the full name (span `name`) and what is random about the person (span `value`):
    all values, and the first pronoun where it tells the gender. With sentences in random order an employer is often
    half told by a work city before it; so both are scored, and together always cost what the employer is worth. (The
    source charges the employer alone, which credits a model with up to 6.3 bits that it read off the context.)

    Training goes through the people in epochs; after E * `people` examples everybody has been shown exactly E times.
    Split `people` has everybody's fixed text. The pools and the 49 sentences of each attribute are our own; the source
    has 46 to 52, counts the gender always, and cuts its text into windows that may divide a biography.

    Attributes:
        people: N.
        variant: `multi` draws order and sentences anew at each exposure; `simple` shows everybody's fixed text.
        pronouns: `gendered` is he or she and part of what is stored; `neutral` is they and tells nothing.
    """

    name: ClassVar[str] = "bios"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Allen-Zhu & Li 2024, Physics of Language Models: Part 3.3, arXiv 2404.05405 (bioS)"
    difficulty: ClassVar[str] = "attributes told"
    trained_splits: ClassVar[tuple[str, ...]] = ("people",)
    spans: ClassVar[tuple[str, ...]] = ("name", "value")
    splits, max_length = ("train", "people"), LENGTH

    people: int = 1000
    variant: Literal["multi", "simple"] = "multi"
    pronouns: Literal["gendered", "neutral"] = "gendered"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.people <= MAX_PEOPLE, "people", self.people, f"at least 1 and at most {MAX_PEOPLE:,}")

    @property
    def _pronouns(self) -> Words:
        return PRONOUNS if self.pronouns == "gendered" else (NEUTRAL_PRONOUN,)

    @property
    def vocabulary(self) -> Vocabulary:
        """Names, pronouns, the words of values, the words of sentences."""
        return Vocabulary(self.words)

    @property
    def words(self) -> Words:
        """The words of the vocabulary."""
        return vocabulary_words(self._pronouns)

    def world_config(self) -> dict[str, Any]:
        """The people are the same whatever is told of them."""
        return {"name": self.name, "version": self.version, "people": self.people}

    def world(self, rng: np.random.Generator) -> People:
        """Draw names, pronouns, values, and everybody's fixed text."""
        name_N = rng.choice(NAMES, size=self.people, replace=False)
        name_N3 = np.stack(np.unravel_index(name_N, (len(FIRST_NAMES), len(MIDDLE_NAMES), len(LAST_NAMES))), axis=1)
        pronoun_N = rng.integers(len(PRONOUNS), size=self.people, dtype=np.int32)
        sizes = [len(values) for values in VALUES]
        value_NA = rng.integers(sizes, size=(self.people, len(sizes)), dtype=np.int32)
        value_NA[:, -1] = work_city(value_NA[:, -2])
        return People(name_N3.astype(np.int32), pronoun_N, value_NA, *self._telling(rng, self.people))

    def items(self, world: People, split: str) -> int | None:
        """Training shows the people in turn."""
        return self.people if split == "train" else None

    def show(self, world: People, split: str, rng: np.random.Generator, item_N: npt.NDArray[np.integer]) -> Examples:
        """A biography of each of these people."""
        if self.variant == "simple":
            return self.tell(world, item_N, world.order_NA[item_N], world.template_NA[item_N])
        return self.tell(world, item_N, *self._telling(rng, len(item_N)))

    def pool(self, world: People, split: str) -> Examples | None:
        """Everybody's fixed text."""
        if split == "train":
            return None
        return self.tell(world, np.arange(self.people), world.order_NA, world.template_NA)

    def constants(self, world: People) -> dict[str, float]:
        """What measured nats are turned into bits with; in bits, but for the counts.

        - `people`: N, `name_bits`: log2 N0, `value_bits`: log2 S0, per person: 47.59 with the gender, 46.59 without.
        - `attributes`: 6; `diversity_strings` and `diversity_bits`: 0, the pools are taken to be known (Def. 4.3).
        - `ceiling_bits`: N log2(N0 / N) + N log2 S0, the most that the measure can show.

        With summed nats per person averaged over people, p1 of the name and p2 of all values, the bits stored are
        N (name_bits - p1 / ln 2) + N (value_bits - p2 / ln 2).
        """
        told = [len(values) for values in VALUES[:-1]] + ([len(PRONOUNS)] if self.pronouns == "gendered" else [])
        name_bits, value_bits = math.log2(NAMES), sum(map(math.log2, told))
        return {
            "people": self.people,
            "name_bits": name_bits,
            "value_bits": value_bits,
            "attributes": len(ATTRIBUTES),
            "diversity_strings": 0,
            "diversity_bits": 0,
            "ceiling_bits": self.people * (name_bits - math.log2(self.people) + value_bits),
        }

    def stored(self, world: People) -> Attributes:
        """Everybody's values. The work city, which follows from the employer, is scored with it: whichever is told
        first, both together cost what the employer is worth."""
        *told, employer = ATTRIBUTES[:-1]
        bits = {name: math.log2(len(values)) for name, values in zip((*told, employer), VALUES, strict=False)}
        if self.pronouns == "gendered":
            bits["gender"] = math.log2(len(PRONOUNS))
        spans = Spans(UNSCORED, (*range(len(told) + 1), len(told)), len(told) + 1)
        everybody = np.arange(self.people)
        return Attributes(bits, self.tell(world, everybody, world.order_NA, world.template_NA, spans))

    def _telling(self, rng: np.random.Generator, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Order of the sentences and the sentence of each attribute, [N, A], for a fresh text of each of `count`."""
        order_NA = rng.permuted(np.broadcast_to(np.arange(len(ATTRIBUTES)), (count, len(ATTRIBUTES))), axis=1)
        return order_NA, rng.integers(len(TEMPLATES[0]), size=order_NA.shape)

    def name_tokens(self, world: People, person_N: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """First, middle and last name of people, [N, 3]; the pools of names are the first words there are."""
        starts = np.array([0, len(FIRST_NAMES), len(FIRST_NAMES) + len(MIDDLE_NAMES)], dtype=np.int32)
        return np.int32(len(SPECIALS)) + starts + world.name_N3[person_N]

    def value_tokens(
        self, world: People, person_N: npt.NDArray[np.integer], attribute: npt.NDArray[np.integer] | int
    ) -> npt.NDArray[np.int32]:
        """Tokens of one or, per person, several attributes' values, along a new last axis padded with `PAD`."""
        token_VJ, start_A = value_tokens(self._pronouns)
        return token_VJ[start_A[attribute] + world.value_NA[person_N, attribute]]

    def tell(
        self,
        world: People,
        person_N: npt.NDArray[np.integer],
        order_NA: npt.NDArray[np.integer],
        template_NA: npt.NDArray[np.integer],
        spans: Spans = SPANS,
    ) -> Examples:
        """Biographies of people; sentence i is about attribute `order_NA[:, i]`, in words `template_NA[:, i]`."""
        body_NAG = template_tokens(self._pronouns)[order_NA, template_NA]
        value_NAJ = self.value_tokens(world, person_N[:, None], order_NA)
        spoken_NAG = np.take_along_axis(value_NAJ, np.clip(-1 - body_NAG, 0, VALUE_WIDTH - 1), axis=2)
        subject_NA3 = np.full((*order_NA.shape, 3), PAD, dtype=np.int32)
        subject_NA3[:, 0] = self.name_tokens(world, person_N)
        first_pronoun = len(SPECIALS) + len(FIRST_NAMES) + len(MIDDLE_NAMES) + len(LAST_NAMES)
        told_N = world.pronoun_N[person_N] if self.pronouns == "gendered" else np.zeros(len(person_N), dtype=np.int32)
        subject_NA3[:, 1:, 0] = first_pronoun + told_N[:, None]
        token_NAG = np.concatenate([subject_NA3, np.where(body_NAG < 0, spoken_NAG, body_NAG)], axis=2)
        span_NAG = np.full(token_NAG.shape, UNSCORED, dtype=np.int8)
        span_NAG[:, :, 3:] = np.where(
            body_NAG < 0, np.array(spans.values, dtype=np.int8)[order_NA][:, :, None], UNSCORED
        )
        span_NAG[:, 0, :3] = spans.name
        if self.pronouns == "gendered":
            span_NAG[:, 1, 0] = spans.gender
        count, width = len(person_N), math.prod(token_NAG.shape[1:])
        return write(
            np.concatenate([np.full((count, 1), BOS, dtype=np.int32), token_NAG.reshape(count, width)], axis=1),
            np.concatenate([np.full((count, 1), UNSCORED, dtype=np.int8), span_NAG.reshape(count, width)], axis=1),
            self.max_length,
            "all",
            np.full(count, len(ATTRIBUTES)),
        )
