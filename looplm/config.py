"""What is chosen about a model and its training, as frozen dataclasses that refuse impossible values. No torch here."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

ObjectiveName = Literal["last", "uniform", "entropy", "geometric", "stage_two"]
Precision = Literal["32-true", "bf16-mixed"]


def _require(condition: bool, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{field} is {value!r}; it must be {allowed}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`layers` distinct blocks run `loops` times: k⊗R is layers=k, loops=R; loops=1 is the plain transformer.

    Attributes:
        layers: distinct blocks.
        loops: times the whole stack runs.
        hidden_size: width D; a multiple of 2 * `heads` (RoPE turns pairs).
        heads: attention heads.
        intermediate_size: width of the SwiGLU; by default 8/3 of `hidden_size` rounded down to a multiple of 16.
        exit_every: with loops=1, an exit after every so many layers instead of one after the last: the deep-supervised
            partner of a looped model, with the same exits and no shared blocks. Must divide `layers`.
        tied_embeddings: whether head and embedding are one matrix.
        rope_base: base of the rotary angles.
        norm_epsilon: epsilon of every RMSNorm.
        init_std: standard deviation of every initial weight matrix.
    """

    layers: int = 1
    loops: int = 1
    hidden_size: int = 64
    heads: int = 2
    intermediate_size: int | None = None
    exit_every: int | None = None
    tied_embeddings: bool = True
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for field in ("layers", "loops", "hidden_size", "heads"):
            _require(getattr(self, field) >= 1, f"model.{field}", getattr(self, field), "at least 1")
        _require(
            self.hidden_size % (2 * self.heads) == 0,
            "model.hidden_size",
            self.hidden_size,
            f"a multiple of 2 * model.heads = {2 * self.heads}",
        )
        if self.intermediate_size is None:
            _require(self.feedforward_size >= 16, "model.hidden_size", self.hidden_size, "at least 6")
        else:
            _require(self.intermediate_size >= 1, "model.intermediate_size", self.intermediate_size, "at least 1")
        if self.exit_every is not None:
            _require(self.loops == 1, "model.exit_every", self.exit_every, "null where model.loops is above 1")
            _require(
                self.exit_every >= 1 and self.layers % self.exit_every == 0,
                "model.exit_every",
                self.exit_every,
                f"a divisor of model.layers = {self.layers}",
            )
        _require(self.rope_base > 1, "model.rope_base", self.rope_base, "above 1")
        _require(self.norm_epsilon > 0, "model.norm_epsilon", self.norm_epsilon, "above 0")
        _require(self.init_std > 0, "model.init_std", self.init_std, "above 0")

    @property
    def feedforward_size(self) -> int:
        """Width of the SwiGLU."""
        return self.intermediate_size or self.default_feedforward(self.hidden_size)

    @staticmethod
    def default_feedforward(hidden_size: int) -> int:
        """8/3 of the hidden size, rounded down to a multiple of 16."""
        return hidden_size * 8 // 3 // 16 * 16

    @property
    def exits(self) -> int:
        """Number of exits R: loops of a looped model, segments of an untied one with `exit_every`."""
        return self.loops if self.exit_every is None else self.layers // self.exit_every

    @property
    def depth(self) -> int:
        """Blocks that a token passes through: layers times loops."""
        return self.layers * self.loops


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """How the losses of the R exits become one.

    Attributes:
        name: `last` trains the last exit; `uniform` their mean; `entropy` is sum_t p_t CE_t - beta H(p) (Ouro Eq. 4);
            `geometric` is sum_t p_t CE_t + beta KL(p || truncated geometric prior) (PonderNet); `stage_two` trains the
            gate of a trained model and nothing else (Ouro Eq. 5 and 6).
        beta: strength of the entropy or prior term, in nats per nat; without effect elsewhere.
        later_beta: strength from the share `later_from` of the steps on; by default `beta` holds throughout. Ouro has
            0.1 and later 0.05 (sec. 4.3).
        later_from: share of the steps, between 0 and 1; goes with `later_beta`.
        prior: success probability of the geometric prior; without effect elsewhere.
        backprop_loops: truncated backpropagation: gradients flow through the last so many loops, and the state that
            enters them is a constant; by default through all. Every exit stays in the loss, but those before train
            head and gate alone, and an embedding that is not the head stays as it was drawn. Without effect where it
            is at least model.loops, and on a frozen model.
    """

    name: ObjectiveName = "last"
    beta: float = 0.05
    later_beta: float | None = None
    later_from: float | None = None
    prior: float = 0.5
    backprop_loops: int | None = None

    def __post_init__(self) -> None:
        names = get_args(ObjectiveName)
        _require(self.name in names, "objective.name", self.name, " | ".join(names))
        _require(self.beta >= 0, "objective.beta", self.beta, "at least 0")
        _require(0 < self.prior < 1, "objective.prior", self.prior, "between 0 and 1, exclusive")
        if self.backprop_loops is not None:
            _require(self.backprop_loops >= 1, "objective.backprop_loops", self.backprop_loops, "at least 1")
        if self.later_beta is None or self.later_from is None:
            alone = self.later_beta is self.later_from
            _require(alone, "objective.later_from", self.later_from, "given with objective.later_beta, and only then")
        else:
            _require(self.later_beta >= 0, "objective.later_beta", self.later_beta, "at least 0")
            _require(
                self.later_beta != self.beta, "objective.later_beta", self.later_beta, "null or not objective.beta"
            )
            _require(0 < self.later_from < 1, "objective.later_from", self.later_from, "between 0 and 1, exclusive")

    def at(self, step: int, steps: int) -> "ObjectiveConfig":
        """The objective of optimiser step `step` (0-based) of `steps`, whose beta is constant."""
        if self.later_beta is None or self.later_from is None:
            return self
        beta = self.beta if step < self.later_from * steps else self.later_beta
        return replace(self, beta=beta, later_beta=None, later_from=None)

    def trained_loops(self, model: ModelConfig) -> int:
        """Loops of a model through which gradients flow."""
        if self.freezes_model:
            return 0
        return min(self.backprop_loops or model.loops, model.loops)

    @property
    def pays_every_exit(self) -> bool:
        """Whether training runs the head at every exit (else at the last alone)."""
        return self.name != "last"

    @property
    def uses_gate(self) -> bool:
        """Whether the gate is trained."""
        return self.name in ("entropy", "geometric", "stage_two")

    @property
    def freezes_model(self) -> bool:
        """Whether everything but the gate stays as it is, so that training must begin with weights."""
        return self.name == "stage_two"


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up and a cosine to `final_lr_fraction` of the peak.

    Attributes:
        lr: peak learning rate.
        weight_decay: decoupled, on weight matrices (not on norms, biases or the gate).
        beta1: first-moment decay.
        beta2: second-moment decay.
        epsilon: denominator floor.
        clip: gradients are scaled to at most this global norm.
        warmup_steps: steps of linear warm-up from 0.
        final_lr_fraction: learning rate after the last step, as a share of the peak.
    """

    lr: float = 3e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    clip: float = 1.0
    warmup_steps: int = 200
    final_lr_fraction: float = 0.1

    def __post_init__(self) -> None:
        for field in ("lr", "epsilon", "clip"):
            _require(getattr(self, field) > 0, f"optimizer.{field}", getattr(self, field), "above 0")
        for field in ("weight_decay", "warmup_steps"):
            _require(getattr(self, field) >= 0, f"optimizer.{field}", getattr(self, field), "at least 0")
        for field in ("beta1", "beta2"):
            _require(0 <= getattr(self, field) < 1, f"optimizer.{field}", getattr(self, field), "in [0, 1)")
        _require(
            0 <= self.final_lr_fraction <= 1, "optimizer.final_lr_fraction", self.final_lr_fraction, "between 0 and 1"
        )

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of optimiser step `step` (0-based) of `steps`.

        Warm-up: lr * (step + 1) / warmup_steps. After it: lr * (f + (1 - f) * (1 + cos(pi * x)) / 2), with x the share
        of the remaining steps that is done and f `final_lr_fraction`.
        """
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        floor = self.final_lr_fraction
        return self.lr * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


MAX_BATCH = 1_000_000
"""Rows of a batch, and positions of a row: a batch is in memory as a whole."""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """How long a model trains, and on what shape of batch.

    Attributes:
        steps: optimiser steps.
        batch_size: how many of `batch_unit` a step takes.
        batch_unit: `examples`, or `windows`: packed rows, each holding as many examples as it surely can, which is as
            many of the longest as fit into `context`.
        context: positions a row; by default what the task's longest example needs.
        layout: `pad` gives each example a row of its own, `pack` fills rows with whole examples.
    """

    steps: int = 1000
    batch_size: int = 512
    batch_unit: Literal["examples", "windows"] = "examples"
    context: int | None = None
    layout: Literal["pad", "pack"] = "pad"

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "budget.steps", self.steps, "at least 1")
        for field in ("batch_size", "context"):
            size, allowed = getattr(self, field), f"at least 1 and at most {MAX_BATCH:,}"
            _require(size is None or 1 <= size <= MAX_BATCH, f"budget.{field}", size, allowed)
        _require(self.layout in ("pad", "pack"), "budget.layout", self.layout, "pad | pack")
        units = ("examples", "windows") if self.layout == "pack" else ("examples",)
        _require(
            self.batch_unit in units,
            "budget.batch_unit",
            self.batch_unit,
            f"{' | '.join(units)} in layout {self.layout}",
        )
