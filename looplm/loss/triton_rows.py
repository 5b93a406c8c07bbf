"""The row kernel of the one-pass cross-entropy in Triton: one program a row, logits become gradients in place.

Rows are moved with their padding: where the width is a multiple of 16, accesses are of 16 bytes whatever the vocabulary
is. A mask that ends at an odd vocabulary would make them of one number each.

Importing this module needs Triton. On a CPU it runs under Triton's interpreter, in float32 and float16 (the
interpreter gets bfloat16 wrong).

Shapes in names: m = row of a chunk, P = vocabulary with padding.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from looplm.loss.reference import IGNORED

_LARGEST_BLOCK = 8192


@triton.jit
def _rows(  # type: ignore[no-untyped-def]
    logits_ptr,
    stride,
    targets_ptr,
    nats_ptr,
    logsumexp_ptr,
    correct_ptr,
    z_loss,
    vocab_size,
    width,
    ignored: tl.constexpr,
    gradient: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * stride
    target = tl.load(targets_ptr + row)
    kept = target != ignored
    target_logit = tl.load(logits_ptr + tl.where(kept, target, 0)).to(tl.float32)
    largest = -float("inf")
    total = 0.0
    for start in range(0, width, block):
        token = start + tl.arange(0, block)
        logits = tl.load(logits_ptr + token, mask=token < width, other=0.0).to(tl.float32)
        logits = tl.where(token < vocab_size, logits, -float("inf"))
        larger = tl.maximum(largest, tl.max(logits, axis=0))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(logits - larger), axis=0)
        largest = larger
    logsumexp = largest + tl.log(total)
    tl.store(logsumexp_ptr + row, logsumexp)
    tl.store(nats_ptr + row, tl.where(kept, logsumexp - target_logit, 0.0))
    tl.store(correct_ptr + row, kept & (target_logit >= largest))
    if gradient:
        scale = 1 + 2 * z_loss * logsumexp
        for start in range(0, width, block):
            token = start + tl.arange(0, block)
            logits = tl.load(logits_ptr + token, mask=token < width, other=0.0).to(tl.float32)
            logits = tl.where(token < vocab_size, logits, -float("inf"))
            slope = scale * tl.exp(logits - logsumexp) - tl.where(token == target, 1.0, 0.0)
            tl.store(logits_ptr + token, slope, mask=token < width)


def triton_rows(
    logits_mP: Tensor, vocab_size: int, targets_m: Tensor, z_loss: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """A `one_pass.RowKernel`; rows of logits may be strided."""
    nats_m = torch.empty_like(targets_m, dtype=torch.float32)
    logsumexp_m = torch.empty_like(nats_m)
    correct_m = torch.empty_like(targets_m, dtype=torch.bool)
    width = logits_mP.shape[1]
    block = min(_LARGEST_BLOCK, triton.next_power_of_2(width))
    _rows[(len(logits_mP),)](
        logits_mP,
        logits_mP.stride(0),
        targets_m,
        nats_m,
        logsumexp_m,
        correct_m,
        z_loss,
        vocab_size,
        width,
        ignored=IGNORED,
        gradient=gradient,
        block=block,
        num_warps=min(16, max(1, block // 512)),
    )
    return nats_m, logsumexp_m, correct_m
