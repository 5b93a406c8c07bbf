"""Chains longer than any trained one: composition of permutations, asked to run for more hops than it was taught."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from synthdata.chains import ChainOfThought, Chains, Wording, ask, chains, follow, spelled
from synthdata.examples import Examples
from synthdata.task import Task, register, require
from synthdata.vocabulary import SPECIALS, Vocabulary, numbered

MAX_NUMBERS = 200_000_000
"""Every hop of every question of every length is drawn in memory, and facts are listed as questions as wide as they."""


@register
@dataclass(frozen=True, kw_only=True)
class HopExtrapolation(Task):
    """Questions of k hops through relations that are permutations, trained up to some k and asked beyond it.

        inputs   <bos>  e3  r1  r4  r4
        labels   _      _   _   _   e17

    Relations are uniformly random permutations, so that long chains stay as varied as short ones. Facts and as many
    different questions of each of 2 … `trained_hops` hops are trained, in epochs; split `test` has others of the same
    lengths, `longer` has those of `trained_hops` + 1 … `hops` hops. Only the answer is trained. Questions are uniform
    over all of their length without repetition (beyond 2 ** 62 of them: different from one another already in as many
    first relations as fit that).

    The source has 200 entities, 10 relations, 15,000 training and 750 test questions of each length and 40 hops; its
    code draws first facts until enough differ. It raises the trained length by a curriculum, which is the trainer's
    affair: `trained_hops` alone changes neither facts nor questions.

    Attributes:
        entities: number of entities.
        relations: number of relations, each a permutation of the entities.
        trained_hops: hops of the longest trained question.
        hops: hops of the longest question. Difficulty is the number of hops, 1 for a fact.
        training_questions: trained questions of each length.
        test_questions: held-out questions of each length.
        chain_of_thought: whether the entities on the way are written before the answer, and trained and scored with it.
    """

    name: ClassVar[str] = "hop_extrapolation"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Loop, Think & Generalize 2026, arXiv 2604.07822 (depth extrapolation)"
    difficulty: ClassVar[str] = "hops"
    trained_splits: ClassVar[tuple[str, ...]] = ("facts", "seen")
    facts_split: ClassVar[str | None] = "facts"
    splits = ("train", "facts", "seen", "test", "longer")

    entities: int = 200
    relations: int = 10
    trained_hops: int = 4
    hops: int = 40
    training_questions: int = 15_000
    test_questions: int = 750
    chain_of_thought: ChainOfThought = "unsaid"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.entities >= 2, "entities", self.entities, "at least 2")
        require(self.relations >= 1, "relations", self.relations, "at least 1")
        require(2 <= self.trained_hops <= 1_000, "trained_hops", self.trained_hops, "between 2 and 1,000")
        require(
            self.trained_hops < self.hops <= 1_000,
            "hops",
            self.hops,
            f"above trained_hops, {self.trained_hops}, and at most 1,000",
        )
        require(
            self.entities * self.relations * self.hops <= MAX_NUMBERS,
            "entities",
            self.entities,
            f"fewer: entities * relations {self.relations} * hops {self.hops} is more than {MAX_NUMBERS:,}",
        )
        most = self.entities * self.relations**2 - 1
        require(
            1 <= self.test_questions <= most,
            "test_questions",
            self.test_questions,
            f"at least 1 and at most {most}, all but one of the questions of two hops",
        )
        available = self.entities * self.relations**2 - self.test_questions
        require(
            1 <= self.training_questions <= available,
            "training_questions",
            self.training_questions,
            f"at least 1 and, beside test_questions {self.test_questions}, at most the other {available} different "
            "questions of two hops",
        )
        require(
            self.hops**2 * (self.training_questions + self.test_questions) <= MAX_NUMBERS,
            "hops",
            self.hops,
            f"fewer: hops ** 2 * (training_questions {self.training_questions} + test_questions {self.test_questions}) "
            f"is more than {MAX_NUMBERS:,}",
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """Entities, then relations."""
        return Vocabulary((*numbered("e", self.entities), *numbered("r", self.relations)))

    @property
    def max_length(self) -> int:
        """BOS, entity, relations, the entities on the way where they are written, answer."""
        return self.hops + 3 + (self.hops - 1 if self.chain_of_thought == "written" else 0)

    def world_config(self) -> dict[str, Any]:
        """All that changes the facts or the questions; which lengths are trained and the wording do not."""
        return {key: value for key, value in self.config().items() if key not in ("trained_hops", "chain_of_thought")}

    def world(self, rng: np.random.Generator) -> Chains:
        """Draw the permutations and the questions of every length."""
        shape = (self.relations, self.entities)
        answer_RE = rng.permuted(np.broadcast_to(np.arange(self.entities, dtype=np.int32), shape), axis=1)
        answer_F = answer_RE.T.ravel()
        asked: dict[str, list[npt.NDArray]] = {"seen": [], "test": [], "longer": []}
        for hops in range(2, self.hops + 1):
            head_Q, slot_QH = self._questions(rng, hops)
            first = 0 if hops <= self.trained_hops else self.training_questions
            fact_QH = follow(answer_F, self.relations, head_Q[first:], slot_QH[first:])
            if hops > self.trained_hops:
                asked["longer"].append(fact_QH)
            else:
                asked["seen"].append(fact_QH[: self.training_questions])
                asked["test"].append(fact_QH[self.training_questions :])
        relation_F = np.tile(np.arange(self.relations, dtype=np.int32), self.entities)
        joined = {split: np.concatenate(lengths) for split, lengths in asked.items()}
        return chains(self.relations, relation_F, answer_F, joined)

    def _questions(self, rng: np.random.Generator, hops: int) -> tuple[npt.NDArray, npt.NDArray]:
        """First entities and slots [Q, H] of the questions of one length, the slots -1 behind the last hop."""
        countable = hops
        while self.entities * self.relations**countable > 2**62:
            countable -= 1
        count = self.training_questions + self.test_questions
        number_Q = rng.choice(self.entities * self.relations**countable, size=count, replace=False)
        slot_QH = np.full((count, self.hops), -1, dtype=np.int32)
        head_Q, slot_QH[:, :countable] = spelled(number_Q, self.relations, countable)
        slot_QH[:, countable:hops] = rng.integers(self.relations, size=(count, hops - countable))
        return head_Q, slot_QH

    def items(self, world: Chains, split: str) -> int | None:
        """Training shows the facts and the trained questions in turn."""
        return len(world.questions["facts"]) + len(world.questions["seen"]) if split == "train" else None

    def show(self, world: Chains, split: str, rng: np.random.Generator, item_N: npt.NDArray[np.integer]) -> Examples:
        """Facts first, then trained questions: questions are numbered in this order."""
        return self._ask(world, item_N)

    def pool(self, world: Chains, split: str) -> Examples | None:
        """Every question of an evaluated split."""
        return None if split == "train" else self._ask(world, world.questions[split])

    def constants(self, world: Chains) -> dict[str, float]:
        """`facts`, and `fact_bits`, the entropy of the permutations: R log2 E!."""
        bits = self.relations * math.lgamma(self.entities + 1) / math.log(2)
        return {"facts": self.entities * self.relations, "fact_bits": bits}

    def _ask(self, world: Chains, question_N: npt.NDArray[np.integer]) -> Examples:
        first = len(SPECIALS)
        wording = Wording(first, first + self.entities, self.max_length, "answer", self.chain_of_thought)
        return ask(world, question_N, wording)
