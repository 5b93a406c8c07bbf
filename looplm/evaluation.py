"""Scores of a trained model: nats, answers and exits, per exit, document and span. No means, no metrics here.

Shapes in names: R = exit, N = document, P = span, M = scored position, D = hidden, V = vocabulary.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from looplm.exits import exit_log_probabilities
from looplm.model import LoopLM
from looplm.steps import documents_of
from synthdata.batch import Batch

CHUNK_LOGITS = 2**22
"""Logits held at a time, all exits together; bounds the memory of `score`."""


@dataclass(frozen=True)
class Scores:
    """What a model says about N documents, in the order of the batches and of the documents within each.

    Attributes:
        nats_RNP: float64, cross-entropy of each span's tokens, summed, per exit.
        mixture_nats_NP: float64, the same for the gate's mixture: -log sum_t p_t P_t per token, summed.
        correct_RN: bool, every scored token of the document is the most probable one.
        mixture_correct_N: bool, the same for the mixture.
        exit_RN: float64, probability of leaving at each exit, mean over the document's scored positions.
    """

    nats_RNP: npt.NDArray[np.float64]
    mixture_nats_NP: npt.NDArray[np.float64]
    correct_RN: npt.NDArray[np.bool_]
    mixture_correct_N: npt.NDArray[np.bool_]
    exit_RN: npt.NDArray[np.float64]


class Scored(NamedTuple):
    """What a model offers at the scored positions of one batch, in the order of rows and positions.

    Attributes:
        document_M: the document of each.
        span_M: its span.
        targets_M: the token that follows.
        states_RMD: normed states of every exit.
    """

    document_M: npt.NDArray[np.int32]
    span_M: npt.NDArray[np.int8]
    targets_M: Tensor
    states_RMD: Tensor


@torch.no_grad()
def scored_states(model: LoopLM, batch: Batch, loops: int | None = None) -> Scored:
    """Run a model over a batch, `loops` times or as often as it is made for, and keep what is scored."""
    span_BS, device = batch.scored_BS.reshape(-1), model.head_VD.device
    positions_M = np.flatnonzero(span_BS >= 0)
    apart_BS = documents_of(batch)
    states = model.exit_states(
        torch.from_numpy(batch.tokens_BS).to(device), None if apart_BS is None else apart_BS.to(device), loops
    )
    index_M = torch.from_numpy(positions_M).to(device)
    return Scored(
        batch.documents_BS.reshape(-1)[positions_M],
        span_BS[positions_M],
        torch.from_numpy(batch.targets_BS.reshape(-1)[positions_M]).to(device),
        torch.stack([state_BSD.flatten(0, 1).index_select(0, index_M) for state_BSD in states]),
    )


@torch.no_grad()
def score(model: LoopLM, batches: Iterable[Batch], spans: int, loops: int | None = None) -> Scores:
    """Score every document of `batches` at the positions that `Batch.scored_BS` names.

    Log-probabilities are float32, whatever the precision of training; sums are float64. The model is left in
    evaluation mode.

    Args:
        model: on any device.
        batches: each made from examples of its own, so that its documents count from 0.
        spans: P, one more than the largest span in `Batch.scored_BS`.
        loops: R, times the stack runs; by default as often as the model is made for. The gate's mixture is over all of
            them, so that one that always goes on leaves at the last.

    Raises:
        ValueError: if there is no batch, a span is not below `spans`, or a document has no scored position.
    """
    model.eval()
    pieces = [_score_batch(model, batch, spans, loops) for batch in batches]
    if not pieces:
        raise ValueError("batches is empty; it must hold at least one batch")
    return Scores(
        nats_RNP=np.concatenate([piece.nats_RNP for piece in pieces], axis=1),
        mixture_nats_NP=np.concatenate([piece.mixture_nats_NP for piece in pieces]),
        correct_RN=np.concatenate([piece.correct_RN for piece in pieces], axis=1),
        mixture_correct_N=np.concatenate([piece.mixture_correct_N for piece in pieces]),
        exit_RN=np.concatenate([piece.exit_RN for piece in pieces], axis=1),
    )


def _score_batch(model: LoopLM, batch: Batch, spans: int, loops: int | None) -> Scores:
    document_M, span_M, targets_M, states_RMD = scored_states(model, batch, loops)
    documents = int(batch.documents_BS.max()) + 1
    scored_N = np.bincount(document_M, minlength=documents)
    if not scored_N.all():
        raise ValueError(f"document {int(np.argmin(scored_N))} of a batch has no scored position; it must have one")
    if span_M.max() >= spans:
        raise ValueError(f"scored_BS names span {span_M.max()}; with spans = {spans} it must be below that")

    log_p_RM = exit_log_probabilities(model.exit_logits(states_RMD))
    nats_TM, correct_TM = _score_positions(states_RMD, model.head_VD, targets_M, log_p_RM)

    nats_TNP = np.zeros((len(nats_TM), documents, spans))
    correct_TN = np.ones((len(nats_TM), documents), dtype=np.bool_)
    for t in range(len(nats_TM)):
        np.add.at(nats_TNP[t], (document_M, span_M), nats_TM[t])
        np.logical_and.at(correct_TN[t], document_M, correct_TM[t])
    p_RM = log_p_RM.exp().cpu().numpy()
    exit_RN = np.stack([np.bincount(document_M, weights=p_M, minlength=documents) for p_M in p_RM]) / scored_N
    return Scores(nats_TNP[:-1], nats_TNP[-1], correct_TN[:-1], correct_TN[-1], exit_RN)


def _score_positions(
    states_RMD: Tensor, head_VD: Tensor, targets_M: Tensor, log_p_RM: Tensor
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Nats and whether the most probable token is right, (R + 1, M) each: the exits, then their mixture."""
    size = max(1, CHUNK_LOGITS // (len(states_RMD) * len(head_VD)))
    nats, correct = [], []
    for states_RmD, targets_m, log_p_Rm in zip(
        states_RMD.split(size, dim=1), targets_M.split(size), log_p_RM.split(size, dim=1), strict=True
    ):
        exits_RmV = F.linear(states_RmD, head_VD).log_softmax(-1)
        mixture_1mV = (log_p_Rm.unsqueeze(-1) + exits_RmV).logsumexp(0, keepdim=True)
        all_TmV = torch.cat([exits_RmV, mixture_1mV])
        nats.append(-all_TmV.gather(-1, targets_m.expand(len(all_TmV), -1).unsqueeze(-1)).squeeze(-1))
        correct.append(all_TmV.argmax(-1) == targets_m)
    return torch.cat(nats, dim=1).cpu().numpy(), torch.cat(correct, dim=1).cpu().numpy()
