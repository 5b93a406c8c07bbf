"""Comparison of stored values: two facts are looked up and set against each other, rather than chained."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from synthdata.chains import ChainOfThought
from synthdata.examples import NO_PART, UNSCORED, Examples
from synthdata.layout import write
from synthdata.task import MAX_SYMBOLS, Task, register, require
from synthdata.vocabulary import BOS, PAD, SPECIALS, Vocabulary, numbered

MAX_PAIRS = 50_000_000
"""Ordered pairs of entities, for all attributes, are numbered in memory (8 bytes each while a world is drawn)."""


@dataclass(frozen=True)
class Values:
    """A world. E = entity, A = attribute.

    Attributes:
        value_EA: int32, the value that each entity has of each attribute.
        questions: the questions of each split, numbered (attribute * E + first entity) * E + second entity.
    """

    value_EA: npt.NDArray[np.int32]
    questions: dict[str, npt.NDArray[np.int64]]


@register
@dataclass(frozen=True, kw_only=True)
class Comparison(Task):
    """Facts `e a value`, and of two entities which has the smaller value of an attribute; only answers are trained.

        inputs   <bos>  a3  e5  e17
        labels   _      _   _   a3<

    Values are uniform. For each attribute a share of the entities is OOD, drawn for it alone: their facts are trained
    like all others, but no training comparison on this attribute has them, and split `ood` compares two of them. Of the
    pairs of two other entities a share is kept for split `id`, in both orders; phi times as many comparisons as there
    are ID facts are trained: `seen`. Training goes through facts and trained comparisons in epochs.

    The answer is smaller, equal or larger, by a symbol of the attribute's own, as in the source's code. Where that code
    draws the ID test by a coin for each pair, the share is taken exactly. Its fillers and constant `</a>` are left out.
    The source has 1,000 entities, 20 attributes of 20 values, and phi 3.6, 7.2, 9 or 12.6.

    Attributes:
        entities: number of entities.
        attributes: number of attributes.
        values: number of values of each attribute.
        phi: trained comparisons for each ID fact.
        held_out_entities: share of the entities that is OOD, for each attribute.
        test_share: share of the pairs of ID entities that is not trained.
        test_questions: most questions of a held-out split.
        chain_of_thought: whether both values are written before the answer, and trained and scored with it.
    """

    name: ClassVar[str] = "comparison"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Wang et al. 2024, Grokked Transformers are Implicit Reasoners, arXiv 2405.15071, Sec. 4"
    difficulty: ClassVar[str] = "facts to know"
    trained_splits: ClassVar[tuple[str, ...]] = ("facts", "seen")
    facts_split: ClassVar[str | None] = "facts"
    splits = ("train", "facts", "seen", "id", "ood")

    entities: int = 100
    attributes: int = 10
    values: int = 20
    phi: float = 7.2
    held_out_entities: float = 0.1
    test_share: float = 0.1
    test_questions: int = 3_000
    chain_of_thought: ChainOfThought = "unsaid"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.entities >= 4, "entities", self.entities, "at least 4")
        require(self.attributes >= 1, "attributes", self.attributes, "at least 1")
        require(2 <= self.values <= MAX_SYMBOLS, "values", self.values, f"at least 2 and at most {MAX_SYMBOLS:,}")
        require(
            self.attributes * self.entities**2 <= MAX_PAIRS,
            "entities",
            self.entities,
            f"fewer: with attributes {self.attributes} there are more than {MAX_PAIRS:,} ordered pairs",
        )
        require(
            0 < self.held_out_entities < 1 and 2 <= self._held_out_count <= self.entities - 2,
            "held_out_entities",
            self.held_out_entities,
            f"a share that leaves at least 2 of the {self.entities} entities on either side",
        )
        pairs = math.comb(self.entities - self._held_out_count, 2)
        tested = round(self.test_share * pairs) if 0 < self.test_share < 1 else 0
        require(
            1 <= tested < pairs, "test_share", self.test_share, f"a share that takes some but not all of {pairs} pairs"
        )
        available = 2 * (pairs - tested) * self.attributes
        require(
            0 < self.phi < math.inf and 1 <= self._trained_count <= available,
            "phi",
            self.phi,
            f"above 0 and at most {available / self._id_fact_count:g}, for {available} comparisons of "
            f"{self._id_fact_count} ID facts",
        )
        require(self.test_questions >= 1, "test_questions", self.test_questions, "at least 1")

    @property
    def _held_out_count(self) -> int:
        return round(self.held_out_entities * self.entities)

    @property
    def _id_fact_count(self) -> int:
        return self.attributes * (self.entities - self._held_out_count)

    @property
    def _trained_count(self) -> int:
        return round(self.phi * self._id_fact_count)

    @property
    def vocabulary(self) -> Vocabulary:
        """Entities, attributes, values, and for each attribute its answers smaller, equal and larger."""
        answers = (f"{attribute}{sign}" for attribute in numbered("a", self.attributes) for sign in "<=>")
        symbols = (("e", self.entities), ("a", self.attributes), ("v", self.values))
        return Vocabulary((*(symbol for kind in symbols for symbol in numbered(*kind)), *answers))

    @property
    def max_length(self) -> int:
        """BOS, attribute, two entities, their values where they are written, answer."""
        return 7 if self.chain_of_thought == "written" else 5

    def world_config(self) -> dict[str, Any]:
        """All that changes the facts or the order of the comparisons; phi and the wording do not."""
        return {key: value for key, value in self.config().items() if key not in ("phi", "chain_of_thought")}

    def world(self, rng: np.random.Generator) -> Values:
        """Draw the values, which entities are OOD for which attribute, and which comparisons are trained."""
        value_EA = rng.integers(self.values, size=(self.entities, self.attributes), dtype=np.int32)
        trained, tested, ood = [], [], []
        for attribute in range(self.attributes):
            entity_E = rng.permutation(self.entities)
            pair_Q2 = self._pairs(rng, attribute, entity_E[self._held_out_count :])
            tests = round(self.test_share * len(pair_Q2))
            tested.append(pair_Q2[:tests].ravel())
            trained.append(pair_Q2[tests:].ravel())
            ood.append(self._pairs(rng, attribute, entity_E[: self._held_out_count]).ravel())
        trained_Q, id_Q, ood_Q = (rng.permutation(np.concatenate(side)) for side in (trained, tested, ood))
        questions = {
            "seen": trained_Q[: self._trained_count],
            "id": id_Q[: self.test_questions],
            "ood": ood_Q[: self.test_questions],
        }
        return Values(value_EA, questions)

    def _pairs(
        self, rng: np.random.Generator, attribute: int, entity_E: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Every pair of these entities once, in random order, as the numbers of its two questions."""
        every_2Q = np.stack(np.triu_indices(len(entity_E), 1))
        pair_Q2 = entity_E[every_2Q[:, rng.permutation(every_2Q.shape[1])].T]
        return (attribute * self.entities + pair_Q2) * self.entities + pair_Q2[:, ::-1]

    def items(self, world: Values, split: str) -> int | None:
        """Training shows the facts and the trained comparisons in turn."""
        return world.value_EA.size + self._trained_count if split == "train" else None

    def show(self, world: Values, split: str, rng: np.random.Generator, item_N: npt.NDArray[np.integer]) -> Examples:
        """Facts first, numbered entity * attributes + attribute, then trained comparisons."""
        facts = world.value_EA.size
        fact_N = item_N < facts
        number_N = np.where(fact_N, item_N, world.questions["seen"][np.maximum(item_N - facts, 0)])
        return self._write(world, fact_N, number_N)

    def pool(self, world: Values, split: str) -> Examples | None:
        """Every fact, or every comparison of a split."""
        if split == "train":
            return None
        number_N = np.arange(world.value_EA.size) if split == "facts" else world.questions[split]
        return self._write(world, np.full(len(number_N), split == "facts"), number_N)

    def constants(self, world: Values) -> dict[str, float]:
        """`facts`, and `fact_bits`, their entropy: E A log2 V. Comparisons follow from the facts and add nothing."""
        facts = self.entities * self.attributes
        return {"facts": facts, "fact_bits": facts * math.log2(self.values)}

    def _write(self, world: Values, fact_N: npt.NDArray[np.bool_], number_N: npt.NDArray[np.integer]) -> Examples:
        """`e a value` where `fact_N`, else `a e e answer`."""
        pair_N, second_N = np.divmod(number_N, self.entities)
        attribute_N, first_N = np.divmod(pair_N, self.entities)
        attribute_N = np.where(fact_N, number_N % self.attributes, attribute_N)
        first_N, second_N = (
            np.where(fact_N, number_N // self.attributes, entity_N) for entity_N in (first_N, second_N)
        )
        left_N, right_N = world.value_EA[first_N, attribute_N], world.value_EA[second_N, attribute_N]

        entity, attribute = len(SPECIALS), len(SPECIALS) + self.entities
        value = attribute + self.attributes
        answer_N = value + self.values + 3 * attribute_N + 1 + np.sign(left_N - right_N)
        asked_N = ~fact_N
        says_values_N = asked_N if self.chain_of_thought == "written" else np.zeros_like(asked_N)
        columns = [
            np.full(len(number_N), BOS),
            np.where(fact_N, entity + first_N, attribute + attribute_N),
            np.where(fact_N, attribute + attribute_N, entity + first_N),
            np.where(fact_N, PAD, entity + second_N),
            np.where(fact_N | says_values_N, value + left_N, PAD),
            np.where(says_values_N, value + right_N, PAD),
            np.where(fact_N, PAD, answer_N),
        ]
        token_NG = np.stack(columns, axis=1)
        span_NG = np.full(token_NG.shape, UNSCORED)
        span_NG[:, 4:] = 0
        fact_NP = np.stack([first_N, second_N], axis=1) * self.attributes + attribute_N[:, None]
        fact_NP[fact_N, 1] = NO_PART
        return write(token_NG, span_NG, self.max_length, "answer", 1 + asked_N, fact_NP)
