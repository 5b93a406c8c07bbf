"""The loop-weighted cross-entropy as its equation says, with full logits and autograd; and what its result holds.

Shapes in names: R = exit, N = position, D = hidden, V = vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""A target that is not there, as in `torch.nn.functional.cross_entropy`."""


class LoopLoss(NamedTuple):
    """Result of `loop_cross_entropy`; all but `correct_RN` are float32, or float64 where the states are.

    Attributes:
        loss: sum over exits and positions of weight times cost, in nats.
        nats_RN: cross-entropy of each exit at each position, 0 where the target is `IGNORED`.
        logsumexp_RN: log of the softmax's denominator.
        correct_RN: whether no token is more probable than the target; False where that is `IGNORED`.
    """

    loss: Tensor
    nats_RN: Tensor
    logsumexp_RN: Tensor
    correct_RN: Tensor


def loop_cross_entropy(
    states_RND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_RN: Tensor, z_loss: float
) -> LoopLoss:
    """See `looplm.loss.loop_cross_entropy`."""
    dtype = torch.promote_types(states_RND.dtype, torch.float32)
    logits_RNV = F.linear(states_RND.to(dtype), head_VD.to(dtype))
    logsumexp_RN = logits_RNV.logsumexp(-1)
    kept_N = targets_N != IGNORED
    target_RN1 = targets_N.where(kept_N, 0).expand(len(logits_RNV), -1).unsqueeze(-1)
    target_logit_RN = logits_RNV.gather(-1, target_RN1).squeeze(-1)
    nats_RN = (logsumexp_RN - target_logit_RN).where(kept_N, 0)
    cost_RN = nats_RN
    if z_loss:
        cost_RN = nats_RN + z_loss * logsumexp_RN.square().where(kept_N, 0)
    loss = (weights_RN * cost_RN).sum()
    correct_RN = (target_logit_RN >= logits_RNV.detach().amax(-1)) & kept_N
    return LoopLoss(loss, nats_RN.detach(), logsumexp_RN.detach(), correct_RN)
