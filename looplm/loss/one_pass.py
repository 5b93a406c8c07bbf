"""Loss and gradients in one pass over chunks of positions: 6 R N V D FLOPs, and never R x N x V logits.

The weights are known before the head runs and the loss is linear in them, so that a chunk's gradients can be formed
while its logits are there. With P the softmax, Y the one-hot targets and z the strength of the z-loss,

    G = (1 + 2 z logsumexp) P - Y,   dL/dstates = w * (G head),   dL/dhead = G^T (w * states),   dL/dw = cost.

A row kernel, in plain PyTorch here or in Triton, turns logits into G in place; the products around it are the device's
own. The whole is one operator, which torch.compile keeps as one node and which never waits for the device.

Shapes in names: R = exit, N = position, M = exits and positions flattened, m = a chunk of M, D = hidden,
V = vocabulary, P = vocabulary with padding.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from looplm.loss.reference import IGNORED, LoopLoss

KernelName = Literal["torch", "triton"]
RowKernel = Callable[[Tensor, int, Tensor, float, bool], tuple[Tensor, Tensor, Tensor]]
"""(logits_mP, vocab_size, targets_m, z_loss, gradient) -> nats_m, logsumexp_m, correct_m; with `gradient` the logits
become G. The padding counts for nothing, and is finite afterwards."""


def torch_rows(
    logits_mP: Tensor, vocab_size: int, targets_m: Tensor, z_loss: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The row kernel in plain PyTorch. The G of an ignored target is of no meaning: its weight is 0."""
    logits_mV = logits_mP[:, :vocab_size]
    low = logits_mV.dtype in (torch.bfloat16, torch.float16)
    work_mV = logits_mV.float() if low else logits_mV
    kept_m = targets_m != IGNORED
    target_m1 = targets_m.where(kept_m, 0).unsqueeze(1)
    target_logit_m = work_mV.gather(1, target_m1).squeeze(1)
    largest_m = work_mV.amax(1)
    softmax_mV = torch.softmax(work_mV, 1, out=work_mV)
    logsumexp_m = largest_m - softmax_mV.amax(1).log()
    if gradient:
        if z_loss:
            softmax_mV.mul_((1 + 2 * z_loss * logsumexp_m).unsqueeze(1))
        softmax_mV.scatter_add_(1, target_m1, torch.full_like(target_m1, -1, dtype=softmax_mV.dtype))
        if low:
            logits_mV.copy_(softmax_mV)
    nats_m = (logsumexp_m - target_logit_m).where(kept_m, 0)
    return nats_m, logsumexp_m, (target_logit_m >= largest_m) & kept_m


def _row_kernel(name: str) -> RowKernel:
    if name == "torch":
        return torch_rows
    from looplm.loss.triton_rows import triton_rows  # here, because Triton need not be installed

    return triton_rows


def chunk_rows(vocab_size: int, device: torch.device) -> int:
    """Rows of a chunk: few enough that its logits stay in a CPU's cache, enough that products run at speed."""
    if device.type == "cuda":
        return min(8192, max(1024, 2**27 // vocab_size))
    return min(4096, max(128, 2**18 // vocab_size))


_MULTIPLIES = {torch.bfloat16: ("amx_bf16", "avx512_bf16"), torch.float16: ("amx_fp16", "avx512_fp16")}


@cache
def product_dtype(dtype: torch.dtype, device_type: str) -> torch.dtype:
    """What products of this precision are computed in: float32 where a CPU would only emulate it, ten times slower."""
    if device_type == "cpu" and dtype in _MULTIPLIES:
        here = torch.cpu.get_capabilities()
        return dtype if any(here.get(name, False) for name in _MULTIPLIES[dtype]) else torch.float32
    return dtype


def one_pass(
    states_MD: Tensor,
    head_VD: Tensor,
    targets_M: Tensor,
    weights_M: Tensor,
    z_loss: float,
    kernel: str,
    rows: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Loss, nats, logsumexp, correct; and, with `gradient`, dL/dstates and dL/dhead (else empty)."""
    positions, vocab_size, dtype = len(states_MD), len(head_VD), product_dtype(states_MD.dtype, states_MD.device.type)
    row_kernel = _row_kernel(kernel)
    exact = torch.promote_types(dtype, torch.float32)
    # Tensor cores want multiples of 128. Rows of zeros add nothing to a product, whatever G has there.
    padding = -vocab_size % 128 if kernel == "triton" else 0
    head_PD = F.pad(head_VD.to(dtype), (0, 0, 0, padding)) if padding else head_VD.to(dtype)
    weights_M = weights_M.to(exact).where(targets_M != IGNORED, 0)
    nats_M, logsumexp_M = torch.empty_like(weights_M), torch.empty_like(weights_M)
    correct_M = torch.empty_like(weights_M, dtype=torch.bool)
    dstates_MD = torch.empty_like(states_MD) if gradient else states_MD.new_empty(0)
    dhead_PD = torch.zeros_like(head_PD, dtype=exact) if gradient else head_PD.new_empty(0, dtype=exact)
    buffer_mP = head_PD.new_empty(min(rows, positions), len(head_PD))
    for start in range(0, positions, rows):
        m = slice(start, min(start + rows, positions))
        states_mD = states_MD[m].to(dtype)
        logits_mP = torch.mm(states_mD, head_PD.t(), out=buffer_mP[: m.stop - start])
        nats_M[m], logsumexp_M[m], correct_M[m] = row_kernel(logits_mP, vocab_size, targets_M[m], z_loss, gradient)
        if gradient:
            weights_m1 = weights_M[m].unsqueeze(1)
            torch.mul(torch.mm(logits_mP, head_PD), weights_m1, out=dstates_MD[m])
            _add_product(dhead_PD, logits_mP.t(), (weights_m1 * states_mD).to(dtype))
    cost_M = nats_M + z_loss * logsumexp_M.square() if z_loss else nats_M
    return (weights_M * cost_M).sum(), nats_M, logsumexp_M, correct_M, dstates_MD, dhead_PD[:vocab_size]


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, where the total may be more precise than the factors."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    elif left.is_cuda:
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.add_(torch.mm(left, right))


_operator = torch.library.custom_op("looplm::loop_cross_entropy", one_pass, mutates_args=())


@_operator.register_fake
def _shapes(
    states_MD: Tensor,
    head_VD: Tensor,
    targets_M: Tensor,
    weights_M: Tensor,
    z_loss: float,
    kernel: str,
    rows: int,
    gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    exact = torch.promote_types(states_MD.dtype, torch.float32)
    nats_M = torch.empty_like(weights_M, dtype=exact)
    return (
        nats_M.new_empty(()),
        nats_M,
        torch.empty_like(nats_M),
        torch.empty_like(nats_M, dtype=torch.bool),
        torch.empty_like(states_MD) if gradient else states_MD.new_empty(0),
        torch.empty_like(head_VD, dtype=exact) if gradient else head_VD.new_empty(0, dtype=exact),
    )


@register_flop_formula(torch.ops.looplm.loop_cross_entropy)
def _flops(states: torch.Size, head: torch.Size, *others: Any, out_shape: Any = None) -> int:
    """For `torch.utils.flop_counter`, which does not look into an operator; the last argument is `gradient`."""
    return (6 if others[-1] else 2) * states.numel() * head[0]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, head_VD, targets_M, weights_M, ctx.z_loss, _, _, ctx.gradient = inputs
    _, nats_M, logsumexp_M, _, dstates_MD, dhead_VD = output
    ctx.head_dtype, ctx.weights_dtype = head_VD.dtype, weights_M.dtype
    ctx.save_for_backward(targets_M, nats_M, logsumexp_M, dstates_MD, dhead_VD)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dloss: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError("loop_cross_entropy has no second derivative but in its reference backend")
    targets_M, nats_M, logsumexp_M, dstates_MD, dhead_VD = ctx.saved_tensors
    if dloss is None:
        return (None,) * 8
    cost_M = nats_M
    if ctx.z_loss:
        cost_M = nats_M + ctx.z_loss * logsumexp_M.square().where(targets_M != IGNORED, 0)
    dweights_M = (dloss * cost_M).to(ctx.weights_dtype)
    if not ctx.gradient:
        return None, None, None, dweights_M, None, None, None, None
    return dloss * dstates_MD, (dloss * dhead_VD).to(ctx.head_dtype), None, dweights_M, None, None, None, None


_operator.register_autograd(_backward, setup_context=_keep)


def loop_cross_entropy(
    states_RND: Tensor,
    head_VD: Tensor,
    targets_N: Tensor,
    weights_RN: Tensor,
    z_loss: float,
    kernel: KernelName,
    rows: int | None = None,
) -> LoopLoss:
    """See `looplm.loss.loop_cross_entropy`; `rows` is the size of a chunk, by default that of `chunk_rows`."""
    exits, positions, hidden = states_RND.shape
    gradient = torch.is_grad_enabled() and (states_RND.requires_grad or head_VD.requires_grad)
    loss, nats_M, logsumexp_M, correct_M, _, _ = _operator(
        states_RND.reshape(exits * positions, hidden),
        head_VD,
        targets_N.expand(exits, positions).reshape(-1),
        weights_RN.reshape(-1),
        z_loss,
        kernel,
        rows or chunk_rows(len(head_VD), states_RND.device),
        gradient,
    )
    by_exit = (exits, positions)
    return LoopLoss(
        loss, nats_M.detach().view(by_exit), logsumexp_M.detach().view(by_exit), correct_M.detach().view(by_exit)
    )
