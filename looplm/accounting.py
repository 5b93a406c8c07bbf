"""Parameters, floating-point operations and bytes, as closed forms. No torch here; tests count the real model.

A multiply-add is two FLOPs. Only matrix products count, as in `torch.utils.flop_counter`: norms, activations, softmax,
rotations and the embedding look-up are free. Attention scores count in full, although causality halves what matters.
The backward pass costs twice the forward one; what a fused kernel computes a second time is not counted.
"""

from collections.abc import Sequence
from typing import Literal

from looplm.config import ModelConfig, ObjectiveConfig

GROUPS = ("embedding", "attention", "feedforward", "norms", "gate", "head")
"""Groups of parameters; they add up to the whole model."""


def parameters(model: ModelConfig, vocab_size: int) -> dict[str, int]:
    """Parameters by group. The head has none where it is the embedding; each group counts shared blocks once."""
    hidden, layers = model.hidden_size, model.layers
    return {
        "embedding": vocab_size * hidden,
        "attention": layers * 4 * hidden**2,
        "feedforward": layers * 3 * hidden * model.feedforward_size,
        "norms": (4 * layers + 1) * hidden,
        "gate": hidden + 1,
        "head": 0 if model.tied_embeddings else vocab_size * hidden,
    }


def total_parameters(model: ModelConfig, vocab_size: int) -> int:
    """All parameters, each counted once."""
    return sum(parameters(model, vocab_size).values())


def non_embedding_parameters(model: ModelConfig, vocab_size: int) -> int:
    """All parameters but embedding and head."""
    groups = parameters(model, vocab_size)
    return sum(groups.values()) - groups["embedding"] - groups["head"]


def forward_flops(
    model: ModelConfig,
    vocab_size: int,
    *,
    rows: int,
    context: int,
    head_positions: int,
    head_exits: int,
    gate: bool,
) -> dict[str, int]:
    """FLOPs of one forward pass by group.

    Args:
        model: the architecture.
        vocab_size: tokens V.
        rows: rows B, padded ones included.
        context: positions S of a row, padding included.
        head_positions: positions at which something is trained or scored.
        head_exits: exits at which the head runs there.
        gate: whether the gate runs there too.
    """
    hidden, positions = model.hidden_size, rows * context
    return {
        "attention": model.depth * positions * 2 * 4 * hidden**2,
        "scores": model.depth * positions * 2 * 2 * context * hidden,
        "feedforward": model.depth * positions * 2 * 3 * hidden * model.feedforward_size,
        "gate": head_exits * head_positions * 2 * hidden if gate else 0,
        "head": head_exits * head_positions * 2 * hidden * vocab_size,
    }


def training_flops(
    model: ModelConfig,
    vocab_size: int,
    objective: ObjectiveConfig,
    *,
    steps: int,
    rows: int,
    context: int,
    trained_positions: int,
) -> dict[str, int]:
    """FLOPs of a training by group: three forward passes a step, exactly proportional to `steps`.

    The head is paid at every exit that the objective pays, and only at the trained positions. With truncated
    backpropagation the blocks of the first loops run forwards alone. So does all of a frozen model, where the gate pays
    for the gradient of its weights beside that.

    Args:
        model: the architecture.
        vocab_size: tokens V.
        objective: decides exits and gate.
        steps: optimiser steps.
        rows: rows of a batch, padded ones included.
        context: positions of a row, padding included.
        trained_positions: positions of a batch with a loss weight above 0.
    """
    once = forward_flops(
        model,
        vocab_size,
        rows=rows,
        context=context,
        head_positions=trained_positions,
        head_exits=model.exits if objective.pays_every_exit else 1,
        gate=objective.uses_gate,
    )
    if objective.freezes_model:
        return {group: (2 if group == "gate" else 1) * steps * flops for group, flops in once.items()}
    backward = {group: 2 * flops for group, flops in once.items()}
    for group in ("attention", "scores", "feedforward"):  # once for every loop, so that a share of the loops is exact
        backward[group] = backward[group] * objective.trained_loops(model) // model.loops
    return {group: steps * (flops + backward[group]) for group, flops in once.items()}


def evaluation_flops(
    model: ModelConfig, vocab_size: int, *, rows: int, context: int, scored_positions: int
) -> dict[str, int]:
    """FLOPs by group of scoring one batch at every exit and at the gate's mixture."""
    return forward_flops(
        model,
        vocab_size,
        rows=rows,
        context=context,
        head_positions=scored_positions,
        head_exits=model.exits,
        gate=True,
    )


def decoding_flops(
    model: ModelConfig,
    vocab_size: int,
    *,
    prompt: int,
    loops: Sequence[int],
    reads: Literal["gate", "head"] | None = "gate",
) -> dict[str, int]:
    """FLOPs by group of continuing one sequence with a cache and early exit, as `decoding.generate` does.

    The prompt but for its last token is read at full depth and without the head; then each token runs its own number
    of loops, attending to all positions so far, and pays the head once for what it predicts.

    Args:
        model: the architecture.
        vocab_size: tokens V.
        prompt: tokens of the prompt.
        loops: loops run for each generated token.
        reads: what the exit rule reads after every loop but the last possible one; None for a rule that reads neither.
    """
    hidden = model.hidden_size
    total = forward_flops(model, vocab_size, rows=1, context=prompt - 1, head_positions=0, head_exits=0, gate=False)
    passes = model.layers * sum(loops)
    reached = sum(count * (prompt + number) for number, count in enumerate(loops))
    checks = sum(min(count, model.loops - 1) for count in loops)
    total["attention"] += passes * 2 * 4 * hidden**2
    total["scores"] += model.layers * reached * 2 * 2 * hidden
    total["feedforward"] += passes * 2 * 3 * hidden * model.feedforward_size
    total["gate"] += checks * 2 * hidden if reads == "gate" else 0
    total["head"] += (len(loops) + (checks if reads == "head" else 0)) * 2 * hidden * vocab_size
    return total


def kv_bytes(model: ModelConfig, *, rows: int, context: int, bytes_per_value: int, shared: bool = False) -> int:
    """Bytes of cached keys and values: one cache a layer and loop, or a layer where the loops share one.

    Args:
        model: the architecture.
        rows: sequences.
        context: positions cached of each.
        bytes_per_value: 4 for float32, 2 for bfloat16.
        shared: whether the loops share a cache at decoding (`last`, `average` or `first`).
    """
    caches = model.layers if shared else model.depth
    return 2 * caches * rows * context * model.hidden_size * bytes_per_value


def activation_bytes(model: ModelConfig, *, rows: int, context: int, trained_loops: int | None = None) -> int:
    """Bytes that the blocks and norms keep for the backward pass, in float32, eager, on rows of one document each.

    Per position and block: 8 D in the four norms, 5 D of queries, keys and values (with their rotated copies), 3 D that
    enter the projections, 4 F in the feed-forward, and a number for each norm and each head. Per position and exit:
    2 D + 1 in the final norm. Embedding, head, gate and loss come on top. With truncated backpropagation only the
    trained loops keep anything, and D + 1 less in the first norm, whose input is a constant.

    Args:
        model: the architecture.
        rows: rows B, padded ones included.
        context: positions S of a row, padding included.
        trained_loops: loops through which gradients flow (`ObjectiveConfig.trained_loops`); by default all.
    """
    block = 16 * model.hidden_size + 4 * model.feedforward_size + 4 + model.heads
    kept = model.depth * block + model.exits * (2 * model.hidden_size + 1)
    if trained_loops is not None and trained_loops < model.loops:
        kept = kept * trained_loops // model.loops - (model.hidden_size + 1 if trained_loops else 0)
    return 4 * rows * context * kept
