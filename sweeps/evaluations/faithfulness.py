"""Is the answer made from what the loops seem to hold? Agreement between loops, and answers after a state is exchanged.

Shapes in names: N = question, S = position, R = exit.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from looplm.model import LoopLM
from looplm.predictions import interchange
from sweeps.cell import Cell
from sweeps.measure import Row, frame
from synthdata.streams import evaluation_set, generator, pool

LIMIT = 512
"""Most questions of a split that are measured."""

RELATION, QUESTION, BRIDGE = 2, 3, 4
"""Positions in `<bos> e r1 r2 [bridge]`: the first relation, the second, and the bridge where it is written out."""

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Questions:
    """Two-hop questions and what the model says to them.

    Attributes:
        token_NS: `<bos> e r1 r2`, and the bridge where it is written out.
        bridge_N: the entity between the hops.
        answer_N: the right answer.
        said_RN: what each exit answers.
    """

    token_NS: Ints
    bridge_N: Ints
    answer_N: Ints
    said_RN: Ints

    @property
    def right_N(self) -> Mask:
        """Questions that the last exit answers rightly: only there is there a computation to look into."""
        return self.said_RN[-1] == self.answer_N


def measure(cell: Cell, model: LoopLM, evaluation: str) -> pl.DataFrame:
    """Metrics by split of untrained questions and by loop t, that at whose end something is compared or exchanged.

    - `agreement/share`, `agreement/chance`, `agreement/kappa`: how often exits t and R say the same, how often they
      would by their marginals alone, and Cohen's kappa of the two.
    - `interchange/moved/relation`: the state at the first relation is replaced by that of another question, with
      another bridge; the share of answers that become what the other bridge and the own second relation give.
      `interchange/stayed/relation`: the share that remain. `interchange/control/relation`: the share that remain when
      the other question has the same bridge. `…/question`: the same at the second relation, which both share.
    - `interchange/moved/written`, without a loop: the bridge that a chain of thought has written is replaced.

    Only questions whose own answer is right count, and only other ones whose answer is right too. Read at the last
    exit. A model with one exit has no loops to exchange between.

    Raises:
        ValueError: for a task whose questions are not of the form `<bos> e r1 r2`.
    """
    facts = pool(cell.task, cell.seeds.data_seed, cell.task.facts_split) if cell.task.facts_split else None
    if facts is None:
        raise ValueError(f"task {cell.task.name!r} composes no facts; evaluation {evaluation} needs two-hop questions")
    said = {tuple(facts.prompt(n)[1:]): facts.answer(n)[-1] for n in range(len(facts))}
    rows: list[Row] = []
    for split in cell.task.splits[1:]:
        examples = evaluation_set(cell.task, cell.seeds.data_seed, split, LIMIT)
        if split in cell.task.trained_splits or not len(examples):
            continue
        if len(examples.prompt(0)) != QUESTION + 1 or examples.parts_NP.shape[1] != 2:
            raise ValueError(f"split {split!r} of task {cell.task.name!r} has no questions of the form <bos> e r1 r2")
        bridge_N = np.array([facts.answer(fact)[-1] for fact in examples.parts_NP[:, 0]], dtype=np.int64)
        written = len(examples.answer(0)) > 1
        token_NS = examples.tokens_NL[:, : BRIDGE + written].astype(np.int64)
        answer_N = np.array([examples.answer(n)[-1] for n in range(len(examples))], dtype=np.int64)
        asked = Questions(token_NS, bridge_N, answer_N, _said(model, token_NS))
        pair = _Pairs(asked, said, generator({"evaluation": evaluation, "cell": cell.seeds.data_seed, "split": split}))
        if written:
            rows.append(_row(None, split, "moved/written", _written(model, pair)))
            continue
        for loop in range(1, len(asked.said_RN)):
            rows += [Row(loop, split, None, f"agreement/{name}", *found) for name, found in _agreement(asked, loop)]
            for place, at in (("relation", RELATION), ("question", QUESTION)):
                for name, moved in _exchanged(model, pair, loop, at):
                    rows.append(_row(loop, split, f"{name}/{place}", moved))
    return frame(cell, evaluation, rows)


def _row(loop: int | None, split: str, name: str, happened: Mask) -> Row:
    value = float(happened.mean()) if len(happened) else None
    return Row(loop, split, None, f"interchange/{name}", value, len(happened))


@torch.no_grad()
def _said(model: LoopLM, token_NS: Ints) -> Ints:
    """What every exit says after the last of these tokens, (R, N)."""
    found = model.eval()(torch.from_numpy(token_NS).to(model.head_VD.device))
    return np.stack([found.logits[exit][:, -1].argmax(-1).cpu().numpy() for exit in range(len(found.logits))])


def _agreement(asked: Questions, loop: int) -> Iterator[tuple[str, tuple[float | None, int]]]:
    ours_N, last_N = asked.said_RN[loop - 1], asked.said_RN[-1]
    n, most = len(ours_N), int(asked.said_RN.max()) + 1
    share = float((ours_N == last_N).mean())
    chance = float((np.bincount(ours_N, minlength=most) / n) @ (np.bincount(last_N, minlength=most) / n))
    yield "share", (share, n)
    yield "chance", (chance, n)
    yield "kappa", ((share - chance) / (1 - chance), n) if chance < 1 else (None, 0)


class _Pairs:
    """For each question another one that fits a condition, drawn at random; questions without one are left out."""

    def __init__(self, asked: Questions, said: dict[tuple[int, ...], int], rng: np.random.Generator) -> None:
        self.asked = asked
        self._said, self._rng = said, rng

    def draw(self, fits: Callable[[int], Mask]) -> tuple[Ints, Ints]:
        """Base and source questions, both answered rightly; `fits` says which sources suit a base."""
        right_N = self.asked.right_N
        pairs = []
        for base in np.flatnonzero(right_N):
            suitable = np.flatnonzero(fits(int(base)) & right_N)
            if len(suitable):
                pairs.append((base, self._rng.choice(suitable)))
        found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def counterfactual(self, bridge: Ints, base: Ints) -> Ints:
        """What the second relation of each base gives of another bridge; -1 where that is no fact."""
        relation = self.asked.token_NS[base, QUESTION]
        keys = zip(bridge.tolist(), relation.tolist(), strict=True)
        return np.array([self._said.get(key, -1) for key in keys], dtype=np.int64)

    def other_bridge(self, base: int) -> Mask:
        """Sources whose bridge would give the base another answer."""
        would = self.counterfactual(self.asked.bridge_N, np.full(len(self.asked.bridge_N), base))
        return (would >= 0) & (would != self.asked.answer_N[base])

    def same_relation(self, base: int) -> Mask:
        """Sources that ask the same of their bridge."""
        relation_N = self.asked.token_NS[:, QUESTION]
        found: Mask = relation_N == relation_N[base]
        return found

    def same_bridge(self, base: int) -> Mask:
        """Other sources with the same bridge."""
        found: Mask = self.asked.bridge_N == self.asked.bridge_N[base]
        found[base] = False
        return found


def _exchanged(model: LoopLM, pair: _Pairs, loop: int, at: int) -> Iterator[tuple[str, Mask]]:
    """At the second relation, sources must share it: their state holds it too."""
    asked = pair.asked
    same = pair.same_relation if at == QUESTION else lambda base: np.ones(len(asked.answer_N), dtype=bool)
    base, source = pair.draw(lambda n: pair.other_bridge(n) & same(n))
    said = _after_exchange(model, asked, base, source, loop, at)
    yield "moved", said == pair.counterfactual(asked.bridge_N[source], base)
    yield "stayed", said == asked.answer_N[base]
    base, source = pair.draw(lambda n: pair.same_bridge(n) & same(n))
    yield "control", _after_exchange(model, asked, base, source, loop, at) == asked.answer_N[base]


def _after_exchange(model: LoopLM, asked: Questions, base: Ints, source: Ints, loop: int, at: int) -> Ints:
    if not len(base):
        return base
    device = model.head_VD.device
    base_BS, source_BS = (torch.from_numpy(asked.token_NS[rows]).to(device) for rows in (base, source))
    at_B = torch.full((len(base),), at, device=device)
    found: Ints = interchange(model, base_BS, source_BS, loop, at_B, at_B)[-1, :, -1].cpu().numpy()
    return found


def _written(model: LoopLM, pair: _Pairs) -> Mask:
    asked = pair.asked
    base, source = pair.draw(pair.other_bridge)
    token_BS = asked.token_NS[base]
    token_BS[:, BRIDGE] = asked.bridge_N[source]
    if not len(base):
        return np.empty(0, dtype=bool)
    moved: Mask = _said(model, token_BS)[-1] == pair.counterfactual(asked.bridge_N[source], base)
    return moved
