"""What a model says at every exit, where rules would leave, and what a state that is exchanged changes.

One forward pass serves all rules: they read the same states. When a rule leaves is decided in `exit_rules.py`.

Shapes in names: R = exit, M = scored position, N = document, K = rule, B = row, S = position, D = hidden.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from looplm.evaluation import CHUNK_LOGITS, scored_states
from looplm.exit_rules import ExitRule, choose_exits
from looplm.model import LoopLM
from synthdata.batch import Batch


@dataclass(frozen=True)
class Predictions:
    """What a model says at M scored positions, in the order of the batches.

    Attributes:
        token_RM: int64, the most probable token of every exit.
        target_M: int64, the token that follows.
        document_M: int64, which document each position belongs to, counted over all batches.
        exit_KM: int64, the exit (from 0) at which each rule leaves.
    """

    token_RM: npt.NDArray[np.int64]
    target_M: npt.NDArray[np.int64]
    document_M: npt.NDArray[np.int64]
    exit_KM: npt.NDArray[np.int64]

    @property
    def agreement_RR(self) -> npt.NDArray[np.float64]:
        """Share of positions at which two exits say the same."""
        return (self.token_RM[:, None] == self.token_RM[None]).mean(-1)

    @property
    def oracle_M(self) -> npt.NDArray[np.int64]:
        """The first exit that is right, the last where none is: what a rule can reach."""
        right_RM = self.token_RM == self.target_M
        return np.where(right_RM.any(0), right_RM.argmax(0), len(right_RM) - 1)

    def control_M(self, exit_M: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
        """The same exits handed out at random: exactly as deep, and blind to what is asked."""
        return np.random.Generator(np.random.Philox(seed)).permutation(exit_M)

    def by_document(self, exit_M: npt.NDArray[np.int64]) -> "Left":
        """What becomes of the documents if their positions leave there."""
        count_N = np.bincount(self.document_M)
        right_M = self.token_RM[exit_M, np.arange(len(exit_M))] == self.target_M
        right_N = np.bincount(self.document_M, weights=right_M, minlength=len(count_N))
        return Left(right_N == count_N, np.bincount(self.document_M, weights=exit_M + 1) / count_N)


@dataclass(frozen=True)
class Left:
    """Documents that have left the loop.

    Attributes:
        correct_N: bool, every scored token is right at its own exit.
        loops_N: float64, loops run, mean over the document's scored positions.
    """

    correct_N: npt.NDArray[np.bool_]
    loops_N: npt.NDArray[np.float64]


@torch.no_grad()
def predict(
    model: LoopLM, batches: Iterable[Batch], rules: Sequence[ExitRule] = (), loops: int | None = None
) -> Predictions:
    """Read every exit at the positions that `Batch.scored_BS` names, and let every rule choose among them.

    The model is left in evaluation mode.

    Args:
        model: on any device.
        batches: each made from examples of its own, so that its documents count from 0.
        rules: each sees all tokens; what tells them apart is their order.
        loops: R, times the stack runs; by default as often as the model is made for.

    Raises:
        ValueError: if there is no batch.
    """
    model.eval()
    tokens, targets, documents, exits = [], [], [], []
    positions = first_document = 0
    for batch in batches:
        document_M, _, targets_M, states_RMD = scored_states(model, batch, loops)
        number_M = positions + torch.arange(len(targets_M), device=targets_M.device)
        exits.append([choose_exits(rule, states_RMD, model.exit_logits, model.head_VD, number_M) for rule in rules])
        tokens.append(_best(states_RMD, model.head_VD))
        targets.append(targets_M)
        documents.append(first_document + document_M.astype(np.int64))
        positions += len(targets_M)
        first_document += int(batch.documents_BS.max()) + 1
    if not tokens:
        raise ValueError("batches is empty; it must hold at least one batch")
    chosen = [torch.cat(parts).cpu().numpy() for parts in zip(*exits, strict=True)]
    return Predictions(
        torch.cat(tokens, dim=1).cpu().numpy(),
        torch.cat(targets).cpu().numpy(),
        np.concatenate(documents),
        np.stack(chosen) if chosen else np.empty((0, positions), dtype=np.int64),
    )


def _best(states_RMD: Tensor, head_VD: Tensor) -> Tensor:
    """The most probable token (R, M), a bounded number of logits at a time."""
    size = max(1, CHUNK_LOGITS // (len(states_RMD) * len(head_VD)))
    return torch.cat([F.linear(part_RmD, head_VD).argmax(-1) for part_RmD in states_RMD.split(size, dim=1)], dim=1)


@torch.no_grad()
def interchange(
    model: LoopLM,
    base_BS: Tensor,
    source_BS: Tensor,
    loop: int,
    base_at_B: Tensor,
    source_at_B: Tensor,
    loops: int | None = None,
) -> Tensor:
    """The most probable tokens (R, B, S) of runs in which one state is that of another run.

    Row b runs on `base_BS` up to the end of loop `loop`. There its state at position `base_at_B[b]` is replaced by the
    one that `source_BS` has there after as many loops, at position `source_at_B[b]`; exit `loop` and all later loops
    see it. If the answer then follows the source, the state carried what the answer is made from.

    Args:
        model: on any device; left in evaluation mode.
        base_BS: int64 tokens, a document a row; padding goes to the right.
        source_BS: the same, with as many rows.
        loop: 1 ... R.
        base_at_B: int64 positions.
        source_at_B: int64 positions.
        loops: R; by default as often as the model is made for.

    Raises:
        ValueError: if the loop is not among those that run.
    """
    model.eval()
    source_states = model.exit_states(source_BS, loops=loops)
    if not 1 <= loop <= len(source_states):
        raise ValueError(f"loop is {loop}; it must be from 1 to {len(source_states)}")
    rows_B = torch.arange(len(base_BS), device=base_BS.device)
    given_BD = source_states[loop - 1][rows_B, source_at_B]

    def edit(exit: int, state_BSD: Tensor) -> Tensor:
        return state_BSD.index_put((rows_B, base_at_B), given_BD) if exit == loop - 1 else state_BSD

    states_RBSD = torch.stack(model.exit_states(base_BS, loops=loops, edit=edit))
    return _best(states_RBSD.flatten(1, 2), model.head_VD).unflatten(1, base_BS.shape)
