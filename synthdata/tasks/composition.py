"""Two-hop composition over a sparse graph of facts, with so many trained compositions to each fact."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from synthdata.chains import ChainOfThought, Chains, Wording, ask, chains
from synthdata.examples import Examples
from synthdata.task import MAX_COMPOSITIONS, Task, register, require
from synthdata.vocabulary import SPECIALS, Vocabulary, numbered


@register
@dataclass(frozen=True, kw_only=True)
class Composition(Task):
    """Facts `e r answer` and two-hop compositions `e r1 r2 answer`; only answers are trained.

        inputs   <bos>  e3  r1  r4
        labels   _      _   _   e17

    Every entity has `out_degree` of the relations, each leading to a random entity. All facts are trained; a share of
    them is held out of every training composition (the OOD facts). Of the compositions of two other facts a share is
    kept for split `id`, and phi times as many as there are ID facts are trained: `seen`. The source tests OOD on
    compositions of two OOD facts (`ood_both`) and leaves the mixed ones out; here they are splits too (`ood_first`,
    `ood_second`: which fact is OOD). Training goes through facts and trained compositions in epochs, as the source's
    code does. Where the code draws the ID test by a coin for each composition, the paper's share is taken exactly, and
    a phi that the world cannot give is refused, where the code quietly takes what there is. The code's `</a>` behind
    each answer, constant, is left out.

    The source has 2,000 entities, 200 relations, out-degree 20 and phi 3.6, 5.4, 7.2, 9, 12.6 or 18. A larger phi
    contains every smaller one of its data seed.

    Attributes:
        entities: number of entities.
        relations: number of relations.
        out_degree: facts of each entity.
        phi: trained compositions for each ID fact.
        held_out_facts: share of the facts that is OOD.
        test_share: share of the compositions of two ID facts that is not trained.
        test_questions: most questions of a held-out split.
        chain_of_thought: whether the bridge entity is written before the answer, and trained and scored with it.
    """

    name: ClassVar[str] = "composition"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "Wang et al. 2024, Grokked Transformers are Implicit Reasoners, arXiv 2405.15071, Sec. 3"
    difficulty: ClassVar[str] = "hops"
    trained_splits: ClassVar[tuple[str, ...]] = ("facts", "seen")
    facts_split: ClassVar[str | None] = "facts"
    splits = ("train", "facts", "seen", "id", "ood_first", "ood_second", "ood_both")

    entities: int = 200
    relations: int = 20
    out_degree: int = 10
    phi: float = 7.2
    held_out_facts: float = 0.05
    test_share: float = 0.005
    test_questions: int = 3_000
    chain_of_thought: ChainOfThought = "unsaid"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.entities >= 2, "entities", self.entities, "at least 2")
        require(
            1 <= self.out_degree <= self.relations,
            "out_degree",
            self.out_degree,
            f"at least 1 and at most relations, {self.relations}",
        )
        require(
            self.entities * self.out_degree**2 <= MAX_COMPOSITIONS,
            "entities",
            self.entities,
            f"fewer: with out_degree {self.out_degree} there are more than {MAX_COMPOSITIONS:,} compositions",
        )
        require(
            self.entities * self.relations <= MAX_COMPOSITIONS,
            "relations",
            self.relations,
            f"fewer: {self.entities} entities draw theirs from more than {MAX_COMPOSITIONS:,} in all",
        )
        require(0 < self.test_share < 1, "test_share", self.test_share, "between 0 and 1, exclusive")
        require(
            0 < self.held_out_facts < 1 and 1 <= self._held_out_count < self._fact_count,
            "held_out_facts",
            self.held_out_facts,
            f"a share that holds out some but not all of the {self._fact_count} facts",
        )
        most = (1 - self.test_share) * self.out_degree
        require(
            0 < self.phi <= most,
            "phi",
            self.phi,
            f"above 0 and at most {most:g}, the compositions that an ID fact can begin, less test_share of them",
        )
        require(self._trained_count >= 1, "phi", self.phi, "large enough for one composition")
        require(self.test_questions >= 1, "test_questions", self.test_questions, "at least 1")

    @property
    def _fact_count(self) -> int:
        return self.entities * self.out_degree

    @property
    def _held_out_count(self) -> int:
        return round(self.held_out_facts * self._fact_count)

    @property
    def _trained_count(self) -> int:
        return round(self.phi * (self._fact_count - self._held_out_count))

    @property
    def vocabulary(self) -> Vocabulary:
        """Entities, then relations."""
        return Vocabulary((*numbered("e", self.entities), *numbered("r", self.relations)))

    @property
    def max_length(self) -> int:
        """BOS, entity, two relations, the bridge where it is written, answer."""
        return 6 if self.chain_of_thought == "written" else 5

    def world_config(self) -> dict[str, Any]:
        """All that changes the facts or the order of the compositions; phi and the wording do not."""
        return {key: value for key, value in self.config().items() if key not in ("phi", "chain_of_thought")}

    def world(self, rng: np.random.Generator) -> Chains:
        """Draw the facts, which of them are OOD, and which compositions are trained.

        Raises:
            ValueError: if this world has too few compositions for phi, or none for a split.
        """
        relation_ER = rng.permuted(
            np.broadcast_to(np.arange(self.relations, dtype=np.int32), (self.entities, self.relations)), axis=1
        )
        relation_F = relation_ER[:, : self.out_degree].ravel()
        answer_F = rng.integers(self.entities, size=self._fact_count, dtype=np.int32)
        held_out_F = np.zeros(self._fact_count, dtype=np.bool_)
        held_out_F[rng.choice(self._fact_count, size=self._held_out_count, replace=False)] = True

        slot = np.arange(self.out_degree)
        first_C = np.repeat(np.arange(self._fact_count), self.out_degree)
        second_C = (answer_F[:, None] * self.out_degree + slot).ravel()
        kind_C = held_out_F[first_C] + 2 * held_out_F[second_C].astype(np.int8)
        inside, first, second, both = (rng.permutation(np.flatnonzero(kind_C == kind)) for kind in range(4))
        tested = round(self.test_share * len(inside))
        wanted, available = self._trained_count, len(inside) - tested
        require(wanted <= available, "phi", self.phi, f"smaller: it asks for {wanted} of {available} compositions")

        chosen = {"seen": inside[tested : tested + wanted]}
        held_out = {"id": inside[:tested], "ood_first": first, "ood_second": second, "ood_both": both}
        chosen |= {split: composition_Q[: self.test_questions] for split, composition_Q in held_out.items()}
        for split, composition_Q in chosen.items():
            if len(composition_Q) == 0:
                raise ValueError(
                    f"split {split!r} of task {self.name!r} would be empty in this world: entities {self.entities} and "
                    f"out_degree {self.out_degree} are too few for held_out_facts {self.held_out_facts} and test_share "
                    f"{self.test_share}"
                )
        asked = {split: np.stack([first_C[of], second_C[of]], axis=1) for split, of in chosen.items()}
        return chains(self.out_degree, relation_F, answer_F, asked)

    def items(self, world: Chains, split: str) -> int | None:
        """Training shows the facts and the trained compositions in turn."""
        return self._fact_count + len(world.questions["seen"]) if split == "train" else None

    def show(self, world: Chains, split: str, rng: np.random.Generator, item_N: npt.NDArray[np.integer]) -> Examples:
        """Facts first, then trained compositions: questions are numbered in this order."""
        return self._ask(world, item_N)

    def pool(self, world: Chains, split: str) -> Examples | None:
        """Every question of an evaluated split."""
        return None if split == "train" else self._ask(world, world.questions[split])

    def constants(self, world: Chains) -> dict[str, float]:
        """`facts`, F, and `fact_bits`, F log2 E: the entropy of the answers, given which relations an entity has."""
        return {"facts": self._fact_count, "fact_bits": self._fact_count * math.log2(self.entities)}

    def _ask(self, world: Chains, question_N: npt.NDArray[np.integer]) -> Examples:
        first = len(SPECIALS)
        wording = Wording(first, first + self.entities, self.max_length, "answer", self.chain_of_thought)
        return ask(world, question_N, wording)
