"""Stage II: with the model frozen, the gate alone learns to stop where a further loop stops helping.

Its loss; what the gate is then used for is in `exit_rules.py` and `decoding.py`.

Shapes in names: R = exit, N = position, D = hidden.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from looplm.loss import loop_cross_entropy
from looplm.model import LoopLM

SLOPE = 50.0
"""k of Ouro's Eq. 5: how fast the label turns, per nat."""
MARGIN = 0.005
"""gamma of Ouro's Eq. 5: the improvement, in nats, at which going on and stopping weigh the same."""


def continue_labels(nats_RN: Tensor) -> Tensor:
    """Soft labels for going on, w_t = sigmoid(k (max(0, L_{t-1} - L_t) - gamma)), (R, N) -> (R - 1, N): exits 2 to R.

    The label looks back: it says whether loop t has just helped, not whether loop t + 1 will (Ouro, arXiv 2510.25741,
    Eq. 5). A loop that did not help at all is labelled sigmoid(-k gamma) = 0.44, not 0.
    """
    return torch.sigmoid(SLOPE * ((nats_RN[:-1] - nats_RN[1:]).clamp(min=0) - MARGIN))


def stage_two_loss(gate_logits_RN: Tensor, nats_RN: Tensor, weights_N: Tensor) -> Tensor:
    """Ouro's adaptive exit loss (Eq. 6): 1/R sum_{t=2}^{R} -sum_n weight_n [w log(1 - lambda) + (1 - w) log lambda].

    w and lambda are those of exit t and position n. The sum begins at the second exit but is divided by R: the first
    exit gets no target, and only follows the gate that it shares with the others. The last exit gets one, although
    nothing reads it. Labels carry no gradient.

    Args:
        gate_logits_RN: gate logits, lambda = sigmoid.
        nats_RN: cross-entropy of each exit.
        weights_N: weight of each position; they sum to 1.
    """
    labels_QN = continue_labels(nats_RN.detach())
    nats_QN = F.binary_cross_entropy_with_logits(-gate_logits_RN[1:], labels_QN, reduction="none")
    return (weights_N * nats_QN).sum() / len(gate_logits_RN)


def gate_loss(model: LoopLM, states_RND: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """`stage_two_loss` of a model's gate, in nats; its gradient reaches the gate and nothing else.

    Args:
        model: offers head and gate.
        states_RND: normed states of every exit at the trained positions.
        targets_N: the token that follows there.
        weights_N: weight of each position; they sum to 1.
    """
    states_RND = states_RND.detach()
    with torch.no_grad():
        weights_RN = weights_N.expand(len(states_RND), -1)
        nats_RN = loop_cross_entropy(states_RND, model.head_VD, targets_N, weights_RN).nats_RN
    return stage_two_loss(model.exit_logits(states_RND), nats_RN, weights_N)
