"""How a training fares inside: what is read at a few of its steps, and when it counts as diverged. It changes nothing.

Shapes in names: R = exit, N = trained position, D = hidden.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from looplm.config import ObjectiveConfig
from looplm.exits import exit_log_probabilities
from looplm.model import LoopLM

SAMPLES = 32
"""Steps of a training that are looked into, evenly spread, the last among them; but never more than one in ten."""
CEILING = 2.0
"""A loss this many times what guessing costs, or the first step's loss if that is more, is too high."""
PATIENCE = 100
"""Steps in a row with too high a loss after which a training has diverged."""


class Reading(NamedTuple):
    """One number read during training.

    Attributes:
        step: optimiser steps that the weights had seen.
        loop: exit 1 ... R, or None for what belongs to none.
        metric: `state_norm`, the mean over trained positions of ||h_t||; `update_norm`, that of ||h_t - h_{t-1}||, from
            the second exit on; `state_gradient_norm`, ||dL/dh_t|| over all positions, through every later loop;
            `gate_entropy_nats`, the mean of H(p) where the gate is trained; `loss_nats`; and `gradient_norm`, that of
            all parameters before clipping.
        value: the number.
        n: trained positions behind it.
    """

    step: int
    loop: int | None
    metric: str
    value: float
    n: int


def is_sampled(step: int, steps: int) -> bool:
    """Whether step `step` (0-based) of `steps` is looked into."""
    samples = min(SAMPLES, -(-steps // 10))
    return (step + 1) * samples // steps > step * samples // steps


class Probe:
    """Looks into one optimiser step; what it finds is complete after the backward pass.

    `found` holds sums, so that the shares of a batch that is split over devices add up: of ||h_t|| (R), of
    ||h_t - h_{t-1}|| (R - 1), of the squares of dL/dh_t (R), of H(p), and the number of positions.

    Args:
        model: the model.
        objective: says whether the gate is trained.
        scale: what the loss is multiplied by before the backward pass.
    """

    def __init__(self, model: LoopLM, objective: ObjectiveConfig, scale: float = 1.0) -> None:
        self._model = model
        self._gate = objective.uses_gate
        self._exits = model.config.exits
        self._scale = scale
        self.found = torch.empty(0)

    @torch.no_grad()
    def look(self, states: list[Tensor], positions_N: Tensor) -> None:
        """Read the states of every exit, and wait for their gradients."""
        states_RND = torch.stack([state_BSD.flatten(0, 1).index_select(0, positions_N) for state_BSD in states])
        norms_R = states_RND.norm(dim=-1).sum(1)
        updates_Q = (states_RND[1:] - states_RND[:-1]).norm(dim=-1).sum(1)
        log_p_RN = exit_log_probabilities(self._model.exit_logits(states_RND))
        entropy = -(log_p_RN.exp() * log_p_RN).sum()
        count = entropy.new_tensor(len(positions_N))
        self.found = torch.cat([norms_R, updates_Q, torch.zeros_like(norms_R), torch.stack([entropy, count])]).double()
        for exit, state_BSD in enumerate(states):
            if state_BSD.requires_grad:
                state_BSD.register_hook(partial(self._keep, 2 * self._exits - 1 + exit))

    def _keep(self, place: int, gradient_BSD: Tensor) -> None:
        self.found[place] = (gradient_BSD.norm() / self._scale).square()

    def readings(self, step: int, found: Tensor, loss: float, gradient_norm: float) -> list[Reading]:
        """What was found at a step, as numbers; `found` is `self.found`, summed over devices."""
        exits, (*sums, entropy, count) = self._exits, found.tolist()
        n = int(count)
        read = [Reading(step, exit + 1, "state_norm", sums[exit] / n, n) for exit in range(exits)]
        read += [Reading(step, exit + 1, "update_norm", sums[exits + exit - 1] / n, n) for exit in range(1, exits)]
        for exit, square in enumerate(sums[2 * exits - 1 :]):
            read.append(Reading(step, exit + 1, "state_gradient_norm", math.sqrt(square), n))
        if self._gate:
            read.append(Reading(step, None, "gate_entropy_nats", entropy / n, n))
        read.append(Reading(step, None, "loss_nats", loss, n))
        read.append(Reading(step, None, "gradient_norm", gradient_norm, n))
        return read


class LossWatch:
    """Ends a training that has diverged, by a loss that is no number or one that stays too high.

    Too high is above `CEILING` times the larger of log V, what guessing costs, and the first step's loss (to which a
    large beta may add from the start). `PATIENCE` such steps in a row are a divergence, fewer are a spike; a loss that
    is merely at chance is a result, not a failure.

    Attributes:
        first: loss of the first step, None before it.
        above: steps in a row, up to now, with too high a loss.
    """

    def __init__(self, vocab_size: int) -> None:
        self._guessing = math.log(vocab_size)
        self.first: float | None = None
        self.above = 0

    def see(self, step: int, loss: float, gradient_norm: float) -> None:
        """Look at one step.

        Raises:
            FloatingPointError: naming the step, if the training has diverged there.
        """
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise FloatingPointError(f"training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}")
        if self.first is None:
            self.first = loss
        limit = CEILING * max(self._guessing, self.first)
        self.above = self.above + 1 if loss > limit else 0
        if self.above == PATIENCE:
            raise FloatingPointError(
                f"training diverged at step {step}: loss {loss:.3g}, above {limit:.3g} for {PATIENCE} steps in a row"
            )
