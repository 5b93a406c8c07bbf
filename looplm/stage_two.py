"""Stage II: with the model frozen, the gate alone learns to stop where a further loop stops helping.

Its loss and its training; what the gate is then used for is in `exit_rules.py` and `decoding.py`.

Shapes in names: R = exit, N = position, D = hidden.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from looplm.config import OptimizerConfig
from looplm.loss import loop_cross_entropy
from looplm.model import LoopLM
from looplm.steps import step_of
from synthdata.batch import Batch

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


def fit_gate(
    model: LoopLM, batch_at: Callable[[int], Batch], optimizer: OptimizerConfig, steps: int, first_step: int = 0
) -> list[float]:
    """Train the gate of `model` in place by `stage_two_loss`, everything else frozen; the loss of every step.

    AdamW on the gate's weight and bias, without weight decay, as in Stage I. The model is left in evaluation mode.

    Args:
        model: on any device.
        batch_at: the batch of a step, as for `training.fit`.
        optimizer: learning rate, schedule and clipping.
        steps: optimiser steps.
        first_step: the batch to begin with, so that Stage II need not see what Stage I saw.

    Raises:
        ValueError: if the model has one exit, whose gate has nothing to decide.
        FloatingPointError: naming the step whose loss is not finite.
    """
    if model.config.exits < 2:
        raise ValueError(f"the model has {model.config.exits} exit; Stage II needs at least 2")
    model.eval()
    adam = torch.optim.AdamW(
        model.gate.parameters(), betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.epsilon, weight_decay=0.0
    )
    losses = []
    for number in range(steps):
        states_RND, nats_RN, weights_N = _frozen(model, batch_at(first_step + number))
        loss = stage_two_loss(model.exit_logits(states_RND), nats_RN, weights_N)
        if not loss.isfinite():
            raise FloatingPointError(f"Stage II diverged at step {number}: loss {loss.item()}")
        adam.param_groups[0]["lr"] = optimizer.lr_at(number, steps)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.gate.parameters(), optimizer.clip)
        adam.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def _frozen(model: LoopLM, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """States (R, N, D), cross-entropies (R, N) and weights (N) at the trained positions; no gradient reaches them."""
    step = step_of(batch)
    device = model.head_VD.device
    documents_BS = None if step.documents_BS is None else step.documents_BS.to(device)
    positions_N, weights_N = step.positions_N.to(device), step.weights_N.to(device)
    states = model.exit_states(step.tokens_BS.to(device), documents_BS)
    states_RND = torch.stack([state_BSD.flatten(0, 1).index_select(0, positions_N) for state_BSD in states])
    weights_RN = weights_N.expand(len(states), -1)
    return (
        states_RND,
        loop_cross_entropy(states_RND, model.head_VD, step.targets_N.to(device), weights_RN).nats_RN,
        weights_N,
    )
