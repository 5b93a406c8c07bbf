"""Multi-hop questions over people in layers: how many must be seen until the others can be answered."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from synthdata.chains import ChainOfThought, Chains, Wording, ask, chains, follow, spelled
from synthdata.examples import Examples
from synthdata.layout import Trained
from synthdata.task import MAX_STORED, Task, register, require
from synthdata.vocabulary import SPECIALS, Vocabulary, numbered

MAX_QUESTIONS = 20_000_000
"""Questions are put in random order in memory (8 bytes each while a world is drawn)."""

WORDS = ("the", "of", "who", "is", "?", "answer:")


@register
@dataclass(frozen=True, kw_only=True)
class MultiHop(Task):
    """k-hop questions over layered people, of which a budget of different ones is trained and others are held out.

        inputs   <bos>  who  is  the  r7  of   the  r0  of  the  r3  of  e17  ?  answer:
        labels   who    is   the  r7  of  the  r0   of  the  r3  of  e17  ?  answer:  e341

    The people stand in equal layers. Everyone above the last layer has one acquaintance in the next layer for each
    relation, all different, drawn uniformly. A k-hop question starts in the first layer, which gives
    |E| / layers * |R| ** k of them, the count that the source states; facts are those of all layers. Splits: `facts`
    and `seen` are trained; `test` holds questions that are not. Every fact may occur in training questions, so that
    `test` is no proof of composition: read it beside its floors.

    The source trains on people's profiles and on questions in sentences, with the loss on every token. It does not say
    how the two are mixed; here `fact_share` does, with one statement for each fact. Names and relations are symbols of
    our own, as no lists were released. Nor is it said whether its batch of 2,048 counts questions or windows of 1,024
    tokens packed with them (`budget.batch_unit`). Budgets are nested: a larger one contains every smaller one of its
    data seed.

    Attributes:
        entities: |E|, people.
        layers: layers of people.
        relations: |R|.
        hops: k of every question. Difficulty is the number of hops, 1 for a fact.
        training_questions: how many different questions are trained.
        test_questions: how many others are held out.
        fact_share: probability that a training example is a fact; 0 leaves the facts out.
        form: sentences, as shown; or compact, `e17 r3 r0 r7 e341` (and `e17 r3 e250` for a fact).
        trained: `all` trains every token, `answer` what is scored.
        chain_of_thought: whether the people on the way are written before the answer, and scored with it.
    """

    name: ClassVar[str] = "multihop"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Yao et al. 2025, arXiv 2505.17923, at the size of Ouro, arXiv 2510.25741, App. B.3"
    difficulty: ClassVar[str] = "hops"
    trained_splits: ClassVar[tuple[str, ...]] = ("facts", "seen")
    facts_split: ClassVar[str | None] = "facts"
    splits = ("train", "facts", "seen", "test")

    entities: int = 500
    layers: int = 5
    relations: int = 20
    hops: int = 3
    training_questions: int = 120_000
    test_questions: int = 3_000
    fact_share: float = 0.25
    form: Literal["sentence", "compact"] = "sentence"
    trained: Trained = "all"
    chain_of_thought: ChainOfThought = "unsaid"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.layers >= 3, "layers", self.layers, "at least 3")
        require(
            self.entities >= self.layers and self.entities % self.layers == 0,
            "entities",
            self.entities,
            f"a positive multiple of layers, {self.layers}",
        )
        require(
            (self.entities - self._width) * self._width <= MAX_STORED,
            "entities",
            self.entities,
            f"fewer: acquaintances are drawn from more than {MAX_STORED:,} pairs of people",
        )
        require(
            1 <= self.relations <= self._width,
            "relations",
            self.relations,
            f"at least 1 and at most {self._width}, the people of a layer",
        )
        require(2 <= self.hops < self.layers, "hops", self.hops, f"at least 2 and below layers, {self.layers}")
        require(
            self.questions <= MAX_QUESTIONS,
            "hops",
            self.hops,
            f"fewer: entities {self.entities} and relations {self.relations} give {self.questions:,} questions, more "
            f"than {MAX_QUESTIONS:,}",
        )
        require(
            1 <= self.test_questions < self.questions,
            "test_questions",
            self.test_questions,
            f"at least 1 and below {self.questions}, all different questions",
        )
        require(
            1 <= self.training_questions <= self.questions - self.test_questions,
            "training_questions",
            self.training_questions,
            f"at least 1 and, beside test_questions {self.test_questions}, at most the other "
            f"{self.questions - self.test_questions} of {self.questions} different questions",
        )
        require(0 <= self.fact_share < 1, "fact_share", self.fact_share, "at least 0 and below 1")

    @property
    def _width(self) -> int:
        return self.entities // self.layers

    @property
    def questions(self) -> int:
        """How many different questions there are."""
        return self._width * self.relations**self.hops

    @property
    def vocabulary(self) -> Vocabulary:
        """People, relations, and the words of sentences where there are any."""
        words = WORDS if self.form == "sentence" else ()
        return Vocabulary((*numbered("e", self.entities), *numbered("r", self.relations), *words))

    @property
    def max_length(self) -> int:
        """Of a question: BOS, person, relations, answer; sentences add `who is`, `the … of` around each relation,
        `? answer:`; a chain of thought adds the people on the way."""
        written = self.hops - 1 if self.chain_of_thought == "written" else 0
        return self.hops + 3 + written + (2 * self.hops + 4 if self.form == "sentence" else 0)

    def world_config(self) -> dict[str, Any]:
        """All that changes the facts or the order of the questions; budgets and wording do not."""
        kept = ("name", "version", "entities", "layers", "relations", "hops")
        return {key: value for key, value in self.config().items() if key in kept}

    def world(self, rng: np.random.Generator) -> Chains:
        """Draw everybody's acquaintances, and an order of all questions: the first are trained, the last are tests."""
        askable = self.entities - self._width
        choice_EW = rng.permuted(np.broadcast_to(np.arange(self._width), (askable, self._width)), axis=1)
        next_layer_E = (np.arange(askable) // self._width + 1) * self._width
        answer_F = (next_layer_E[:, None] + choice_EW[:, : self.relations]).astype(np.int32).ravel()
        order_Q = rng.permutation(self.questions)
        asked = {
            split: follow(answer_F, self.relations, *spelled(number_Q, self.relations, self.hops))
            for split, number_Q in (
                ("seen", order_Q[: self.training_questions]),
                ("test", order_Q[-self.test_questions :]),
            )
        }
        relation_F = np.tile(np.arange(self.relations, dtype=np.int32), askable)
        return chains(self.relations, relation_F, answer_F, asked)

    def pool(self, world: Chains, split: str) -> Examples | None:
        """Every question of an evaluated split; `train`, a mixture of two of them, is drawn."""
        return None if split == "train" else self._ask(world, world.questions[split])

    def draw(self, world: Chains, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent questions: `train` is a fact with probability `fact_share`, uniform within either kind."""
        if split != "train":
            return self._ask(world, rng.choice(world.questions[split], size=count))
        facts, seen = (rng.choice(world.questions[name], size=count) for name in ("facts", "seen"))
        return self._ask(world, np.where(rng.random(count) < self.fact_share, facts, seen))

    def constants(self, world: Chains) -> dict[str, float]:
        """`questions`: how many there are; `facts` and `fact_bits`, their entropy: log2 of W! / (W - |R|)! for each of
        the people above the last layer, W people to a layer."""
        askable = self.entities - self._width
        ways = math.lgamma(self._width + 1) - math.lgamma(self._width - self.relations + 1)
        return {
            "questions": self.questions,
            "facts": askable * self.relations,
            "fact_bits": askable * ways / math.log(2),
        }

    def _ask(self, world: Chains, question_N: npt.NDArray[np.integer]) -> Examples:
        first = len(SPECIALS)
        relation, words = first + self.entities, first + self.entities + self.relations
        spoken = tuple(range(words, words + len(WORDS))) if self.form == "sentence" else None
        wording = Wording(first, relation, self.max_length, self.trained, self.chain_of_thought, spoken)
        return ask(world, question_N, wording)
