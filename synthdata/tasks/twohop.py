"""Composition in weights: facts that are only ever stored, and questions that chain them without naming the bridge."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from synthdata.examples import NO_PART, UNSCORED, Examples
from synthdata.task import MAX_COMPOSITIONS, Task, register, require
from synthdata.vocabulary import BOS, PAD, SPECIALS, Vocabulary, numbered


@dataclass(frozen=True)
class Facts:
    """A world. F = fact, with index entity * relations + relation.

    Attributes:
        answer_F: int32, the entity that a fact leads to.
        held_out_F: bool, the facts that occur in no training composition.
        questions: the questions of each split in ascending order, int32. Question q is fact q while q < F; the
            compositions of 2, 3, … hops follow. Within its number of hops, question q asked one relation further is
            question q * relations + relation.
    """

    answer_F: npt.NDArray[np.int32]
    held_out_F: npt.NDArray[np.bool_]
    questions: dict[str, npt.NDArray[np.int32]]


@register
@dataclass(frozen=True, kw_only=True)
class TwoHop(Task):
    """Facts `e r answer` and compositions `e r1 r2 answer` of random maps between entities; only answers are trained.

    A composition of two hops, its bridge entity left unsaid:

        inputs   <bos>  e3  r1  r4
        labels   _      _   _   e17

    Every fact is trained. A share of the facts is held out of every training composition, so that a composition of
    them can be answered only by looking both facts up. The compositions fall into `seen` (trained) and `id` (not
    trained, though of facts that training composes), and by where their held-out facts stand: `ood_first` (the first
    alone), `ood_second` (a later one, not the first), `ood_both` (the first and a later one). Without held-out facts
    there are no OOD splits, and matching rows of seen answers solves `id` without composing anything.

    Attributes:
        entities: number of entities; each can be asked about and be an answer.
        relations: number of relations; each maps every entity to one entity.
        hops: longest composition; compositions have 2 to `hops` hops. Difficulty is the number of hops, 1 for a fact.
        relation_kind: whether a relation is a uniformly random function or a uniformly random permutation.
        train_fraction: share of the compositions of facts not held out that is trained.
        held_out_facts: share of the facts that no training composition uses.
        fact_share: probability that a training example is a fact; else it is a composition. With 1 the facts alone are
            trained, as in the first of two phases.
    """

    name: ClassVar[str] = "twohop"
    version: ClassVar[int] = 1
    source: ClassVar[str] = (
        "after Wang et al. 2024, Grokked Transformers are Implicit Reasoners, arXiv 2405.15071, Sec. 3"
    )
    difficulty: ClassVar[str] = "hops"
    trained_splits: ClassVar[tuple[str, ...]] = ("facts", "seen")
    facts_split: ClassVar[str | None] = "facts"

    entities: int = 50
    relations: int = 5
    hops: int = 2
    relation_kind: Literal["function", "permutation"] = "function"
    train_fraction: float = 0.8
    held_out_facts: float = 0.2
    fact_share: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.entities >= 2, "entities", self.entities, "at least 2")
        require(self.relations >= 1, "relations", self.relations, "at least 1")
        require(self.hops >= 2, "hops", self.hops, "at least 2")
        require(0 < self.train_fraction < 1, "train_fraction", self.train_fraction, "between 0 and 1, exclusive")
        require(0 < self.fact_share <= 1, "fact_share", self.fact_share, "above 0 and at most 1")
        require(0 <= self.held_out_facts < 1, "held_out_facts", self.held_out_facts, "at least 0 and below 1")
        require(
            self.held_out_facts == 0 or 1 <= self.held_out_count < self.fact_count,
            "held_out_facts",
            self.held_out_facts,
            f"0, or hold out some but not all of the {self.fact_count} facts",
        )
        compositions = 0
        for hops in range(2, self.hops + 1):
            compositions += self.entities * self.relations**hops
            require(
                compositions <= MAX_COMPOSITIONS,
                "entities",
                self.entities,
                f"fewer: with relations {self.relations} and hops {self.hops} there are more than {MAX_COMPOSITIONS:,} "
                "compositions",
            )

    @property
    def fact_count(self) -> int:
        """F, all facts."""
        return self.entities * self.relations

    @property
    def held_out_count(self) -> int:
        """How many facts no training composition uses."""
        return round(self.held_out_facts * self.fact_count)

    @property
    def splits(self) -> tuple[str, ...]:
        """See `Task.splits`."""
        held_out = ("ood_first", "ood_second", "ood_both") if self.held_out_facts else ()
        return ("train", "facts", "seen", "id", *held_out)

    @property
    def vocabulary(self) -> Vocabulary:
        """Entities, then relations."""
        return Vocabulary((*numbered("e", self.entities), *numbered("r", self.relations)))

    @property
    def max_length(self) -> int:
        """BOS, entity, relations, answer."""
        return self.hops + 3

    def world(self, rng: np.random.Generator) -> Facts:
        """Draw the relations, which facts are held out, and which compositions are trained.

        Raises:
            ValueError: if a split of this world would be empty.
        """
        shape = (self.relations, self.entities)
        if self.relation_kind == "function":
            answer_RE = rng.integers(self.entities, size=shape, dtype=np.int32)
        else:
            answer_RE = rng.permuted(np.broadcast_to(np.arange(self.entities, dtype=np.int32), shape), axis=1)
        answer_F = answer_RE.T.ravel()
        held_out_F = np.zeros(self.fact_count, dtype=np.bool_)
        held_out_F[rng.choice(self.fact_count, size=self.held_out_count, replace=False)] = True

        kind_C = self.kinds(answer_F, held_out_F)
        trainable, first, later, both = (
            self.fact_count + np.flatnonzero(kind_C == k).astype(np.int32) for k in range(4)
        )
        seen = np.zeros(len(trainable), dtype=np.bool_)
        seen[rng.choice(len(seen), size=round(self.train_fraction * len(seen)), replace=False)] = True
        facts = np.arange(self.fact_count, dtype=np.int32)
        questions = {"facts": facts, "seen": trainable[seen], "id": trainable[~seen]}
        if self.held_out_facts:
            questions |= {"ood_first": first, "ood_second": later, "ood_both": both}
        for split, question_N in questions.items():
            if len(question_N) == 0:
                raise ValueError(
                    f"split {split!r} of task {self.name!r} would be empty in this world: entities {self.entities} and "
                    f"relations {self.relations} are too few for train_fraction {self.train_fraction} and "
                    f"held_out_facts {self.held_out_facts}"
                )
        return Facts(answer_F, held_out_F, questions)

    def kinds(self, answer_F: npt.NDArray[np.int32], marked_F: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
        """Of every composition C, in the order of `Facts.questions`: 1 if its first fact is marked, plus 2 if a later
        one is."""
        relation_R = np.arange(self.relations, dtype=np.int32)
        reached, first, later = answer_F, marked_F, np.zeros_like(marked_F)
        kinds = []
        for _ in range(2, self.hops + 1):
            fact = (reached[:, None] * np.int32(self.relations) + relation_R).ravel()
            reached, first, later = answer_F[fact], np.repeat(first, self.relations), np.repeat(later, self.relations)
            later |= marked_F[fact]
            kinds.append(first + 2 * later.astype(np.int8))
        return np.concatenate(kinds)

    def pool(self, world: Facts, split: str) -> Examples | None:
        """Every question of an evaluated split; `train`, a mixture of two of them, is drawn."""
        return None if split == "train" else self.ask(world, world.questions[split])

    def draw(self, world: Facts, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent questions: `train` is a fact with probability `fact_share`, uniform within either kind."""

        def pick(name: str) -> npt.NDArray[np.int32]:
            return rng.choice(world.questions[name], size=count)

        if split != "train":
            return self.ask(world, pick(split))
        return self.ask(world, np.where(rng.random(count) < self.fact_share, pick("facts"), pick("seen")))

    def constants(self, world: Facts) -> dict[str, float]:
        """`facts` and `fact_bits`, the entropy of the world's facts in bits: F log2 E for functions, R log2 E! for
        permutations. Compositions follow from the facts and add nothing.

        A model whose cross entropy over the facts sums to H nats has stored at least fact_bits - H / ln 2 of them.
        """
        if self.relation_kind == "function":
            bits = self.fact_count * math.log2(self.entities)
        else:
            bits = self.relations * math.lgamma(self.entities + 1) / math.log(2)
        return {"facts": self.fact_count, "fact_bits": bits}

    def ask(self, world: Facts, question_N: npt.NDArray[np.integer]) -> Examples:
        """The examples of questions, numbered as in `Facts.questions`."""
        starts = np.cumsum([0] + [self.entities * self.relations**hops for hops in range(1, self.hops)])
        hops_N = np.searchsorted(starts, question_N, side="right")
        tokens_NL = np.full((len(question_N), self.max_length), PAD, dtype=np.int32)
        scored_NL = np.full(tokens_NL.shape, UNSCORED, dtype=np.int8)
        parts_NP = np.full((len(question_N), self.hops), NO_PART, dtype=np.int32)
        entity_token, relation_token = len(SPECIALS), len(SPECIALS) + self.entities
        for hops in range(1, self.hops + 1):
            n = np.flatnonzero(hops_N == hops)
            rest = question_N[n] - starts[hops - 1]
            entity = rest // self.relations**hops
            tokens_NL[n, 0] = BOS
            tokens_NL[n, 1] = entity_token + entity
            for hop in range(hops):
                relation = rest // self.relations ** (hops - 1 - hop) % self.relations
                fact = entity * self.relations + relation
                entity = world.answer_F[fact]
                tokens_NL[n, 2 + hop] = relation_token + relation
                parts_NP[n, hop] = fact
            tokens_NL[n, 2 + hops] = entity_token + entity
            scored_NL[n, 2 + hops] = 0
        lengths_N = hops_N.astype(np.int32) + 3
        return Examples(tokens_NL, lengths_N, scored_NL != UNSCORED, scored_NL, hops_N.astype(np.int32), parts_NP)
