"""The cross-entropy of every exit in one call, weighted before the head runs. Nothing here knows objectives or gates.

Exit weights are functions of the states, not of the logits, so they are known beforehand; the loss is linear in them
and its gradient towards a weight is that position's cross-entropy.

Shapes in names: R = exit, N = position, D = hidden, V = vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LoopLoss(NamedTuple):
    """Result of `loop_cross_entropy`; all but `correct_RN` are float32, or float64 where the states are.

    Attributes:
        loss: sum over exits and positions of weight times cross-entropy, in nats.
        nats_RN: cross-entropy of each exit at each position.
        logsumexp_RN: log of the softmax's denominator.
        correct_RN: whether the target is the most probable token.
    """

    loss: Tensor
    nats_RN: Tensor
    logsumexp_RN: Tensor
    correct_RN: Tensor


def loop_cross_entropy(states_RND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_RN: Tensor) -> LoopLoss:
    """Weighted cross-entropy of every exit, with full logits: the reference that other kernels are tested against.

    Differentiable in states, head and weights. Computed in float32 (float64 for float64 states), also under autocast.

    Args:
        states_RND: normed states of the paid exits at the trained positions.
        head_VD: the head matrix.
        targets_N: int64 targets, shared by the exits.
        weights_RN: weight of each cross-entropy.
    """
    dtype = torch.promote_types(states_RND.dtype, torch.float32)
    with torch.autocast(states_RND.device.type, enabled=False):
        logits_RNV = F.linear(states_RND.to(dtype), head_VD.to(dtype))
        logsumexp_RN = logits_RNV.logsumexp(-1)
        target_RN1 = targets_N.expand(len(logits_RNV), -1).unsqueeze(-1)
        nats_RN = logsumexp_RN - logits_RNV.gather(-1, target_RN1).squeeze(-1)
        loss = (weights_RN * nats_RN).sum()
    return LoopLoss(loss, nats_RN, logsumexp_RN, logits_RNV.detach().argmax(-1) == targets_N)
