"""Facts and the questions that chain them: the world that the composing tasks share, and how its questions are written.

Shapes in names: F = fact, Q = question, H = hop, N = example, G = place in a row before gaps are closed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from synthdata.examples import NO_PART, UNSCORED, Examples
from synthdata.layout import Trained, write
from synthdata.vocabulary import BOS, PAD

ChainOfThought = Literal["unsaid", "written"]
"""Whether the entities between a question and its answer are written out before the answer."""


@dataclass(frozen=True)
class Chains:
    """A world. Every entity that can be asked about has `slots` facts; fact f belongs to entity f // slots.

    Attributes:
        slots: facts of an entity.
        relation_F: int32, the relation of each fact.
        answer_F: int32, the entity that each fact leads to.
        fact_QH: int32, the facts that each question goes through, `NO_PART` behind the last.
        questions: the questions of each split, as indices into `fact_QH`.
    """

    slots: int
    relation_F: npt.NDArray[np.int32]
    answer_F: npt.NDArray[np.int32]
    fact_QH: npt.NDArray[np.int32]
    questions: dict[str, npt.NDArray[np.int64]]


def chains(
    slots: int,
    relation_F: npt.NDArray[np.int32],
    answer_F: npt.NDArray[np.int32],
    asked: Mapping[str, npt.NDArray[np.integer]],
) -> Chains:
    """A world that has every fact as a question (split `facts`, numbered as the facts are), then those of `asked`: the
    facts [Q, H] that the questions of each split go through."""
    hops = max(fact_QH.shape[1] for fact_QH in asked.values())
    fact_FH = np.full((len(answer_F), hops), NO_PART, dtype=np.int32)
    fact_FH[:, 0] = np.arange(len(answer_F))
    parts = {"facts": fact_FH, **asked}
    ends = np.cumsum([len(fact_QH) for fact_QH in parts.values()])
    questions = {split: np.arange(end - len(parts[split]), end) for split, end in zip(parts, ends, strict=True)}
    fact_QH = np.concatenate(list(parts.values()), dtype=np.int32)
    return Chains(slots, relation_F, answer_F, fact_QH, questions)


def follow(
    answer_F: npt.NDArray[np.int32], slots: int, head_Q: npt.NDArray[np.integer], slot_QH: npt.NDArray[np.integer]
) -> npt.NDArray[np.int32]:
    """The facts that questions go through, [Q, H], from their first entity and the slot of each hop (-1 behind the
    last)."""
    fact_QH = np.full(slot_QH.shape, NO_PART, dtype=np.int32)
    at_Q = np.asarray(head_Q, dtype=np.int32)
    for h, slot_Q in enumerate(slot_QH.T):
        here = np.flatnonzero(slot_Q >= 0)
        fact_QH[here, h] = at_Q[here] * slots + slot_Q[here]
        at_Q = at_Q.copy()
        at_Q[here] = answer_F[fact_QH[here, h]]
    return fact_QH


def spelled(number_Q: npt.NDArray[np.int64], base: int, hops: int) -> tuple[npt.NDArray, npt.NDArray]:
    """First entity and slots [Q, hops] of questions numbered entity * base ** hops + slots read as digits."""
    digit_QH = number_Q[:, None] // base ** np.arange(hops - 1, -1, -1) % base
    return number_Q // base**hops, digit_QH


@dataclass(frozen=True)
class Wording:
    """How a task writes its questions.

    Attributes:
        entity: token of the first entity.
        relation: token of the first relation.
        width: tokens of the longest example.
        trained: what is trained.
        chain_of_thought: whether bridge entities are written out; if so they are scored with the answer, so that an
            example is right exactly when greedy decoding would have written all of it.
        words: tokens of `the`, `of`, `who`, `is`, `?`, `answer:` for questions in sentences, or None for compact ones.
    """

    entity: int
    relation: int
    width: int
    trained: Trained
    chain_of_thought: ChainOfThought
    words: tuple[int, ...] | None = None


def ask(world: Chains, question_N: npt.NDArray[np.integer], wording: Wording) -> Examples:
    """Write these questions. Compact: `e r1 r2 answer`. In a sentence, the last relation comes first: `who is the r2
    of the r1 of e ? answer: answer`, and a fact is a statement, `the r of e is answer`."""
    parts_NP = world.fact_QH[question_N]
    hops_N = (parts_NP != NO_PART).sum(axis=1)
    fact_NH = parts_NP[:, : hops_N.max()]
    used_NH = fact_NH != NO_PART
    known_NH = np.where(used_NH, fact_NH, 0)
    head_N1 = wording.entity + fact_NH[:, :1] // world.slots
    relation_NH = np.where(used_NH, wording.relation + world.relation_F[known_NH], PAD)
    reached_NH = np.where(used_NH, wording.entity + world.answer_F[known_NH], PAD)
    if wording.chain_of_thought == "unsaid":
        reached_NH[np.arange(fact_NH.shape[1]) < hops_N[:, None] - 1] = PAD
    question_NG = (
        np.concatenate([head_N1, relation_NH], axis=1)
        if wording.words is None
        else _sentence(head_N1, relation_NH, hops_N == 1, wording.words)
    )
    bos_N1 = np.full((len(fact_NH), 1), BOS)
    token_NG = np.concatenate([bos_N1, question_NG, reached_NH], axis=1, dtype=np.int32)
    span_NG = np.full(token_NG.shape, UNSCORED, dtype=np.int8)
    span_NG[:, -fact_NH.shape[1] :] = 0
    return write(token_NG, span_NG, wording.width, wording.trained, hops_N, parts_NP)


def _sentence(
    head_N1: npt.NDArray, relation_NH: npt.NDArray, fact_N: npt.NDArray[np.bool_], words: tuple[int, ...]
) -> npt.NDArray:
    """`the r of e is` where `fact_N`, else `who is the r2 of the r1 of e ? answer:`."""
    the, of, who, be, mark, answer = words
    used_NH = relation_NH[:, ::-1] != PAD
    phrase_NH3 = np.stack([used_NH * the, relation_NH[:, ::-1], used_NH * of], axis=2)
    asked_N1 = ~fact_N[:, None]
    opening_N2 = asked_N1 * np.array([who, be])
    ending_N2 = np.where(asked_N1, [mark, answer], [be, PAD])
    return np.concatenate([opening_N2, phrase_NH3.reshape(len(head_N1), -1), head_N1, ending_N2], axis=1)
