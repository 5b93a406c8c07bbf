"""The cross-entropy of every exit in one call, weighted before the head runs. Nothing here knows objectives or gates.

Exit weights are functions of the states, not of the logits, so they are known beforehand; the loss is linear in them
and its gradient towards a weight is that position's cross-entropy. One function, three backends:

- `reference`: all logits at once, left to autograd. What the others are tested against, in float64 too.
- `chunked`: loss and gradients in one pass over chunks of positions, in plain PyTorch, on any device.
- `triton`: the same pass with a fused kernel for the softmax, on a CUDA device (or under Triton's interpreter).

`auto` is `chunked` on a CPU. On a CUDA device it is the reference while its float32 logits stay below
`FULL_LOGITS_BYTES`; beyond that `triton` where it runs, else `chunked`.

Shapes in names: R = exit, N = position, D = hidden, V = vocabulary.
"""

import importlib.util
import os
from typing import Literal, get_args

import torch
from torch import Tensor

from looplm.loss import one_pass, reference
from looplm.loss.reference import IGNORED, LoopLoss

Backend = Literal["auto", "reference", "chunked", "triton"]

FULL_LOGITS_BYTES = 2**30
"""Bytes of R x N x V float32 logits up to which `auto` holds them all on a CUDA device. On a CPU one pass is the faster
at every size, against eager logits (`looplm bench loss`)."""

__all__ = [
    "FULL_LOGITS_BYTES",
    "IGNORED",
    "Backend",
    "LoopLoss",
    "choose_backend",
    "loop_cross_entropy",
    "why_no_triton",
]

_TRITON_INSTALLED = importlib.util.find_spec("triton") is not None


def why_no_triton(device: str) -> str | None:
    """Why the `triton` backend cannot run on this type of device; None where it can."""
    if not _TRITON_INSTALLED:
        return "Triton is not installed"
    if device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"Triton has no code for {device!r} (TRITON_INTERPRET=1 interprets it, slowly)"
    return None


def choose_backend(logits: int, device: str) -> Backend:
    """What `auto` means for so many logits, R * N * V, on this type of device."""
    if device != "cuda":
        return "chunked"
    if 4 * logits <= FULL_LOGITS_BYTES:
        return "reference"
    return "triton" if why_no_triton(device) is None else "chunked"


def loop_cross_entropy(
    states_RND: Tensor,
    head_VD: Tensor,
    targets_N: Tensor,
    weights_RN: Tensor,
    *,
    z_loss: float = 0.0,
    backend: Backend = "auto",
) -> LoopLoss:
    """Sum over exits and positions of weight * (cross-entropy + z_loss * logsumexp^2), in nats.

    `loss` is differentiable, once, in states, head and weights; the other results carry no gradient. The reference
    multiplies in float32 (float64 for float64 states), also under autocast; the one-pass backends multiply in the
    states' precision, on a CPU that has no instructions for it in float32. Whatever the states' precision, softmax and
    losses are float32 or better, and so is the sum that becomes the head's gradient.

    Args:
        states_RND: normed states of the paid exits at the trained positions.
        head_VD: the head matrix.
        targets_N: int64 targets below V, shared by the exits. `IGNORED` ones cost nothing and have no gradient.
        weights_RN: weight of each cross-entropy.
        z_loss: strength of the penalty on the softmax's denominator.
        backend: `auto | reference | chunked | triton`.

    Raises:
        ValueError: naming the argument: shapes that do not fit, or a backend that is unknown or cannot run here.
    """
    exits, positions, hidden = states_RND.shape
    for name, tensor, shape in (
        ("head_VD", head_VD, (len(head_VD), hidden)),
        ("targets_N", targets_N, (positions,)),
        ("weights_RN", weights_RN, (exits, positions)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; beside these states it must be {shape}")
    device = states_RND.device.type
    if backend == "auto":
        backend = choose_backend(exits * positions * len(head_VD), device)
    if backend == "triton":
        reason = "it computes in float32" if states_RND.dtype == torch.float64 else why_no_triton(device)
        if reason is not None:
            raise ValueError(f"backend is 'triton', which cannot run here ({reason}); it must be reference | chunked")
    with torch.autocast(device, enabled=False):
        match backend:
            case "reference":
                return reference.loop_cross_entropy(states_RND, head_VD, targets_N, weights_RN, z_loss)
            case "chunked":
                return one_pass.loop_cross_entropy(states_RND, head_VD, targets_N, weights_RN, z_loss, "torch")
            case "triton":
                return one_pass.loop_cross_entropy(states_RND, head_VD, targets_N, weights_RN, z_loss, "triton")
    raise ValueError(f"backend is {backend!r}; it must be {' | '.join(get_args(Backend))}")
