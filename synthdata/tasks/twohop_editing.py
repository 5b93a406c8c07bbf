"""Facts that change: the answers of a few facts of `twohop` are replaced, and compositions must follow."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from synthdata.examples import Examples
from synthdata.task import Task, register, require
from synthdata.tasks.twohop import Facts, TwoHop
from synthdata.vocabulary import Vocabulary


@dataclass(frozen=True)
class Edits:
    """A world before and after the edit. The questions of all splits are those of `after`; their answers are too, but
    for the splits `old_…`."""

    before: Facts
    after: Facts


@register
@dataclass(frozen=True, kw_only=True)
class TwoHopEditing(Task):
    """The second phase of `twohop`: some facts get another answer, and only facts are trained.

        inputs   <bos>  e3  r1
        labels   _      _   e17

    Facts, vocabulary and splits of the first phase are those of `twohop` with the same first seven parameters and the
    same data seed. Of these facts some are edited: each leads to another entity, uniformly drawn among all but the old
    one. (So a permutation is none any more.) Edits are nested: more of them contain fewer. Training shows edited facts,
    and unedited ones as rehearsal; no composition is trained. Evaluated are, with the answers after the edit:

    - `facts`, every fact: `new_facts`, the edited ones, and `kept_facts`, the others.
    - `new_first`: compositions whose first fact is edited; `new_second`: those of which a later one is, not the first.
      How many follow the edit? Compositions that it leaves with the same answer are in neither.
    - `kept_compositions`: those that use no edited fact.

    and with the answers before it, how much has not followed: `old_facts`, `old_first`, `old_second`, the questions of
    `new_facts`, `new_first` and `new_second`.

    Attributes:
        entities: as in `twohop`, like the next six.
        relations: see there.
        hops: see there.
        relation_kind: see there.
        train_fraction: see there; of compositions trained in the first phase.
        held_out_facts: see there; of facts that no composition of the first phase used.
        fact_share: see there; of the first phase.
        edited_facts: how many facts are edited, among those that are a later fact of some composition.
        edited_kind: edit facts that compositions of the first phase used, or facts that were held out of them all.
        rehearsal_share: probability that a training example is an unedited fact.
    """

    name: ClassVar[str] = "twohop_editing"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "after Zhong et al. 2023, MQuAKE, arXiv 2305.14795, on the facts of twohop"
    difficulty: ClassVar[str] = "hops"
    trained_splits: ClassVar[tuple[str, ...]] = ("facts", "new_facts", "kept_facts")
    facts_split: ClassVar[str | None] = "facts"
    splits = (
        "train",
        "facts",
        "new_facts",
        "kept_facts",
        "new_first",
        "new_second",
        "kept_compositions",
        "old_facts",
        "old_first",
        "old_second",
    )

    entities: int = 50
    relations: int = 5
    hops: int = 2
    relation_kind: Literal["function", "permutation"] = "function"
    train_fraction: float = 0.8
    held_out_facts: float = 0.2
    fact_share: float = 0.25
    edited_facts: int = 10
    edited_kind: Literal["composed", "held_out"] = "composed"
    rehearsal_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        facts = self._twohop.fact_count
        held_out = self._twohop.held_out_count
        most = held_out if self.edited_kind == "held_out" else facts - held_out
        require(
            1 <= self.edited_facts <= most and self.edited_facts < facts,
            "edited_facts",
            self.edited_facts,
            f"at least 1, at most the {most} facts of kind {self.edited_kind}, and not all facts",
        )
        require(0 <= self.rehearsal_share < 1, "rehearsal_share", self.rehearsal_share, "at least 0 and below 1")

    @cached_property
    def _twohop(self) -> TwoHop:
        """The first phase."""
        return TwoHop(
            entities=self.entities,
            relations=self.relations,
            hops=self.hops,
            relation_kind=self.relation_kind,
            train_fraction=self.train_fraction,
            held_out_facts=self.held_out_facts,
            fact_share=self.fact_share,
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """That of `twohop`."""
        return self._twohop.vocabulary

    @property
    def max_length(self) -> int:
        """That of `twohop`."""
        return self._twohop.max_length

    def world_config(self) -> dict[str, Any]:
        """That of `twohop`: the same facts, before the edit."""
        return self._twohop.world_config()

    def world(self, rng: np.random.Generator) -> Edits:
        """Draw the facts as `twohop` does, then the edits.

        Raises:
            ValueError: if this world has too few facts to edit, or a split would be empty.
        """
        before = self._twohop.world(rng)
        entity_F = np.repeat(np.arange(self.entities), self.relations)
        reached_F = np.bincount(before.answer_F, minlength=self.entities)[entity_F] > (before.answer_F == entity_F)
        editable = np.flatnonzero(reached_F & (before.held_out_F == (self.edited_kind == "held_out")))
        if len(editable) < self.edited_facts:
            raise ValueError(
                f"edited_facts is {self.edited_facts}; it must be at most {len(editable)}: so many facts of kind "
                f"{self.edited_kind} are a later fact of some composition in this world"
            )
        editable = rng.permutation(editable)
        change = rng.integers(1, self.entities, size=len(editable), dtype=np.int32)[: self.edited_facts]
        edited, answer_F = editable[: self.edited_facts], before.answer_F.copy()
        answer_F[edited] = (answer_F[edited] + change) % self.entities
        return self._with_questions(before, replace(before, answer_F=answer_F), edited)

    def _with_questions(self, before: Facts, after: Facts, edited: np.ndarray) -> Edits:
        facts, edited_F = self._twohop.fact_count, np.zeros(len(before.answer_F), dtype=np.bool_)
        edited_F[edited] = True
        kind_C = self._twohop.kinds(after.answer_F, edited_F)
        first, second, kept = (
            facts + np.flatnonzero(found_C).astype(np.int32) for found_C in (kind_C % 2 == 1, kind_C == 2, kind_C == 0)
        )
        questions = {
            "facts": np.arange(facts, dtype=np.int32),
            "new_facts": np.flatnonzero(edited_F).astype(np.int32),
            "kept_facts": np.flatnonzero(~edited_F).astype(np.int32),
            "new_first": self._changed(before, after, first),
            "new_second": self._changed(before, after, second),
            "kept_compositions": kept,
        }
        for split, question_N in questions.items():
            if len(question_N) == 0:
                raise ValueError(
                    f"split {split!r} of task {self.name!r} would be empty in this world: entities {self.entities} and "
                    f"relations {self.relations} are too few for edited_facts {self.edited_facts}"
                )
        questions |= {f"old_{what}": questions[f"new_{what}"] for what in ("facts", "first", "second")}
        return Edits(before, replace(after, questions=questions))

    def _changed(self, before: Facts, after: Facts, question_N: np.ndarray) -> np.ndarray:
        """Those of these questions that have another answer after the edit."""
        old_NL, new_NL = (self._twohop.ask(facts, question_N).tokens_NL for facts in (before, after))
        return question_N[(old_NL != new_NL).any(axis=1)]

    def pool(self, world: Edits, split: str) -> Examples | None:
        """Every question of an evaluated split; `train`, a mixture of two of them, is drawn."""
        return None if split == "train" else self._ask(world, split, world.after.questions[split])

    def draw(self, world: Edits, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent questions: `train` is an unedited fact with probability `rehearsal_share`, else an edited one,
        uniform within either kind."""
        questions = world.after.questions
        if split != "train":
            return self._ask(world, split, rng.choice(questions[split], size=count))
        kept, new = (rng.choice(questions[name], size=count) for name in ("kept_facts", "new_facts"))
        return self._ask(world, split, np.where(rng.random(count) < self.rehearsal_share, kept, new))

    def constants(self, world: Edits) -> Mapping[str, float]:
        """Those of `twohop` (before the edit), and `edited_facts`."""
        return {**self._twohop.constants(world.before), "edited_facts": self.edited_facts}

    def _ask(self, world: Edits, split: str, question_N: np.ndarray) -> Examples:
        return self._twohop.ask(world.before if split.startswith("old_") else world.after, question_N)
