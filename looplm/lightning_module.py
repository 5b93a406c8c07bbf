"""The Lightning module: a model, its objective and its optimiser, a chunk of steps at a time."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from looplm import checkpoint
from looplm.config import ObjectiveConfig, OptimizerConfig
from looplm.loss import loop_cross_entropy
from looplm.model import LoopLM
from looplm.objective import exit_terms
from looplm.stage_two import gate_loss
from looplm.steps import Chunk, Step


def training_loss(model: LoopLM, objective: ObjectiveConfig, step: Step) -> Tensor:
    """The objective on one step's data: mean over the trained positions, by their weights, in nats."""
    states = model.exit_states(step.tokens_BS, step.documents_BS)
    paid = states if objective.pays_every_exit else states[-1:]
    states_RND = torch.stack([state_BSD.flatten(0, 1).index_select(0, step.positions_N) for state_BSD in paid])
    if objective.freezes_model:
        return gate_loss(model, states_RND, step.targets_N, step.weights_N)
    terms = exit_terms(objective, model.exit_logits, states_RND)
    weights_RN = terms.weights_RN * step.weights_N
    cross_entropy = loop_cross_entropy(states_RND, model.head_VD, step.targets_N, weights_RN)
    return cross_entropy.loss + (step.weights_N * terms.penalty_N).sum()


class LoopTraining(pl.LightningModule):
    """One model's training: a chunk of optimiser steps at a time.

    What the objective does not train is left without gradients, so that the optimiser passes it over. `provenance` is
    written into every checkpoint as it is.

    Raises (from `training_step`):
        FloatingPointError: naming the first step whose loss or gradient norm is not finite.
    """

    def __init__(
        self,
        model: LoopLM,
        objective: ObjectiveConfig,
        optimizer: OptimizerConfig,
        steps: int,
        provenance: dict[str, Any],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model.requires_grad_(not objective.freezes_model)
        self.model.gate.requires_grad_(objective.uses_gate)
        self.objective = objective
        self.optimizer = optimizer
        self.steps = steps
        self.provenance = provenance
        self.tokens = 0
        self.seconds = 0.0
        self.chunk_loss = float("nan")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW. Embedding, head and the blocks' matrices decay; norms and the gate do not."""
        config = self.optimizer
        decayed: list[nn.Parameter] = []
        free: list[nn.Parameter] = []
        for name, parameter in self.model.named_parameters():
            (decayed if parameter.ndim == 2 and not name.startswith("gate") else free).append(parameter)
        return torch.optim.AdamW(
            [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=True,
        )

    def training_step(self, chunk: Chunk, batch_idx: int) -> None:
        """Run the chunk's optimiser steps."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        parameters = list(self.model.parameters())
        first = self.global_step
        health = []
        for number, step in enumerate(chunk.steps):
            for group in optimizer.param_groups:
                group["lr"] = self.optimizer.lr_at(first + number, self.steps)
            loss = training_loss(self.model, self.objective.at(first + number, self.steps), step)
            self.manual_backward(loss)
            norm = nn.utils.clip_grad_norm_(parameters, self.optimizer.clip)
            optimizer.step()
            optimizer.zero_grad()
            health.append(torch.stack([loss.detach(), norm]))
        health_S2 = torch.stack(health)
        healthy_S = health_S2.isfinite().all(1).tolist()
        if not all(healthy_S):
            bad = healthy_S.index(False)
            loss_value, norm_value = health_S2[bad].tolist()
            raise FloatingPointError(
                f"training diverged at step {first + bad}: loss {loss_value}, gradient norm {norm_value}"
            )
        self.chunk_loss = health_S2[:, 0].mean().item()
        self.tokens += chunk.tokens

    def on_save_checkpoint(self, checkpoint_content: dict[str, Any]) -> None:
        """Add what Lightning does not know of."""
        checkpoint_content.update(self.provenance)
        checkpoint_content["random_state"] = checkpoint.random_state()
        checkpoint_content["tokens"] = self.tokens
        checkpoint_content["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint_content: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`."""
        checkpoint.restore_random_state(checkpoint_content["random_state"])
        self.tokens = checkpoint_content["tokens"]
        self.seconds = checkpoint_content["seconds"]
