"""Objectives: how much each exit's cross-entropy counts, and what the exit distribution itself costs. No logits here.

Shapes in names: R = exit, N = position.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from looplm.config import ObjectiveConfig, ObjectiveName
from looplm.exits import exit_log_probabilities


class ExitTerms(NamedTuple):
    """The loss of a position is sum_t weights_t CE_t + penalty.

    Attributes:
        weights_RN: weight of each paid exit's cross-entropy; sums to 1 over the exits.
        penalty_N: nats added to the position's loss.
    """

    weights_RN: Tensor
    penalty_N: Tensor


Gate = Callable[[Tensor], Tensor]
"""Gate logits (R, N) of states (R, N, D)."""


def _mean(config: ObjectiveConfig, gate: Gate, states_RND: Tensor) -> ExitTerms:
    """Every paid exit alike: `uniform` over all of them, `last` over the only one it pays."""
    weights_RN = states_RND.new_full(states_RND.shape[:2], 1 / len(states_RND))
    return ExitTerms(weights_RN, torch.zeros_like(weights_RN[0]))


def _entropy(config: ObjectiveConfig, gate: Gate, states_RND: Tensor) -> ExitTerms:
    """sum_t p_t CE_t - beta H(p), per position (Ouro, arXiv 2510.25741, Eq. 4)."""
    log_p_RN = exit_log_probabilities(gate(states_RND))
    p_RN = log_p_RN.exp()
    return ExitTerms(p_RN, config.beta * (p_RN * log_p_RN).sum(0))


def _geometric(config: ObjectiveConfig, gate: Gate, states_RND: Tensor) -> ExitTerms:
    """sum_t p_t CE_t + beta KL(p || prior), per position (PonderNet, arXiv 2107.05407, Eq. 5).

    The prior is geometric, prior * (1 - prior)^(t - 1), cut at R exits with the remainder on the last: a gate that
    always says `prior`.
    """
    log_p_RN = exit_log_probabilities(gate(states_RND))
    constant_RN = torch.full_like(log_p_RN, math.log(config.prior / (1 - config.prior)))
    log_prior_RN = exit_log_probabilities(constant_RN)
    p_RN = log_p_RN.exp()
    return ExitTerms(p_RN, config.beta * (p_RN * (log_p_RN - log_prior_RN)).sum(0))


_OBJECTIVES: Mapping[ObjectiveName, Callable[[ObjectiveConfig, Gate, Tensor], ExitTerms]] = {
    "last": _mean,
    "uniform": _mean,
    "entropy": _entropy,
    "geometric": _geometric,
}


def exit_terms(config: ObjectiveConfig, gate: Gate, states_RND: Tensor) -> ExitTerms:
    """Weights and penalty of the paid exits, given their states; the gate is asked only where the objective uses it.

    `last` pays the last exit alone: it is to be given that exit's states only (R = 1). Where beta has a schedule, the
    objective is to be that of one step (`ObjectiveConfig.at`). Stage II weighs no exits: see `stage_two.py`.
    """
    return _OBJECTIVES[config.name](config, gate, states_RND)
