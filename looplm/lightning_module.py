"""The Lightning module: a model, its objective and its optimiser, a chunk of steps at a time."""

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from looplm import checkpoint
from looplm.config import ObjectiveConfig, OptimizerConfig
from looplm.cuda_graphs import RecordedGradients
from looplm.loss import loop_cross_entropy
from looplm.model import LoopLM
from looplm.objective import exit_terms
from looplm.stability import LossWatch, Probe, Reading, is_sampled
from looplm.stage_two import gate_loss
from looplm.steps import Chunk, Step


def training_loss(model: LoopLM, objective: ObjectiveConfig, step: Step, probe: Probe | None = None) -> Tensor:
    """The objective on one step's data: mean over the trained positions, by their weights, in nats."""
    trained_loops = objective.trained_loops(model.config)
    states = model.exit_states(step.tokens_BS, step.documents_BS, trained_loops=trained_loops)
    if probe is not None:
        probe.look(states, step.positions_N)
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
    written into every checkpoint as it is. With `cuda_graphs` all steps but those that are looked into are replayed.
    `meanwhile` is called once a chunk, when the device has been told all of it.

    Raises (from `training_step`, and before a checkpoint is written):
        FloatingPointError: naming the step at which the training diverged (see `LossWatch`), or the parameter that is
            no longer finite, so that a checkpoint never holds such weights.
    """

    def __init__(
        self,
        model: LoopLM,
        objective: ObjectiveConfig,
        optimizer: OptimizerConfig,
        steps: int,
        provenance: dict[str, Any],
        cuda_graphs: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model.requires_grad_(not objective.freezes_model)
        self.model.gate.requires_grad_(objective.uses_gate)
        if model.head is not None and objective.trained_loops(model.config) < model.config.loops:
            self.model.embedding.requires_grad_(False)
        self.objective = objective
        self.optimizer = optimizer
        self.steps = steps
        self.provenance = provenance
        self.tokens = 0
        self.seconds = 0.0
        self.chunk_loss = float("nan")
        self.watch = LossWatch(model.vocab_size)
        self.stability: list[Reading] = []
        self._meanwhile = meanwhile
        self._replayed = RecordedGradients(list(model.parameters()), self._gradients) if cuda_graphs else None

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
        first = self.global_step
        losses, norms, probes = [], [], {}
        for number, step in enumerate(chunk.steps):
            for group in optimizer.param_groups:
                group["lr"] = self.optimizer.lr_at(first + number, self.steps)
            if is_sampled(first + number, self.steps):
                probes[number] = Probe(self.model, self.objective, self.trainer.world_size)
            objective = self.objective.at(first + number, self.steps)
            if self._replayed is None or number in probes:
                loss, norm = self._gradients(objective, step, probes.get(number))
            else:
                loss, norm = self._replayed(objective, step)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss)
            norms.append(norm)
        self._meanwhile()  # a GPU is still at work; what follows waits for it
        losses_S = self._sum(torch.stack(losses))
        health_S2 = torch.stack([losses_S, torch.stack(norms)], dim=1)
        for number, (loss_value, norm_value) in enumerate(health_S2.tolist()):
            self.watch.see(first + number, loss_value, norm_value)
            if number in probes:
                probe = probes[number]
                self.stability += probe.readings(first + number, self._sum(probe.found), loss_value, norm_value)
        self.chunk_loss = losses_S.mean().item()
        self.tokens += chunk.tokens

    def _gradients(self, objective: ObjectiveConfig, step: Step, probe: Probe | None = None) -> tuple[Tensor, Tensor]:
        """Loss, and norm of the gradients before they are clipped."""
        devices = self.trainer.world_size
        loss = training_loss(self.model, objective, step, probe)
        self.manual_backward(loss * devices if devices > 1 else loss)  # DDP takes the mean of what is to be summed
        return loss.detach(), nn.utils.clip_grad_norm_(list(self.model.parameters()), self.optimizer.clip)

    def _sum(self, tensor: Tensor) -> Tensor:
        """The sum over devices."""
        return self.trainer.strategy.reduce(tensor, reduce_op="sum")

    def on_save_checkpoint(self, checkpoint_content: dict[str, Any]) -> None:
        """Add what Lightning does not know of."""
        for name, parameter in self.model.named_parameters():
            if not parameter.isfinite().all():
                raise FloatingPointError(f"training diverged before step {self.global_step}: {name} is not finite")
        checkpoint_content.update(self.provenance)
        checkpoint_content["random_state"] = checkpoint.random_state()
        checkpoint_content["tokens"] = self.tokens
        checkpoint_content["seconds"] = self.seconds
        checkpoint_content["first_loss"] = self.watch.first
        checkpoint_content["steps_above"] = self.watch.above
        checkpoint_content["stability"] = [tuple(reading) for reading in self.stability]

    def on_load_checkpoint(self, checkpoint_content: dict[str, Any]) -> None:
        """The inverse of `on_save_checkpoint`; checkpoints from before stability was watched say nothing of it."""
        checkpoint.restore_random_state(checkpoint_content["random_state"])
        self.tokens = checkpoint_content["tokens"]
        self.seconds = checkpoint_content["seconds"]
        self.watch.first = checkpoint_content.get("first_loss")
        self.watch.above = checkpoint_content.get("steps_above", 0)
        self.stability = [Reading(*values) for values in checkpoint_content.get("stability", [])]
