"""`looplm bench loss`: the loop-weighted cross-entropy, forward and backward, against other ways to the same numbers.

Every side is given the same states, head, targets and exit weights, and must return the same loss and the same
gradients before it is timed. `products alone` computes nothing but the three matrix products: the floor. Where there is
a C++ compiler, all logits are also left to torch.compile, and so is what ours does with a chunk of them.

Shapes in names: R = exit, N = position, M = exits and positions flattened, D = hidden, V = vocabulary.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from unittest import mock

import torch
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions
from torch.nn import functional as F

from experiments.bench.measure import Options, Row, chosen, memory_rows, paired_seconds, roofline_rows, time_rows
from looplm.execution import compiled, find_compiler
from looplm.loss import Backend, loop_cross_entropy, one_pass, why_no_triton
from looplm.loss.one_pass import chunk_rows, product_dtype, torch_rows

FLOOR = "products alone"
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest relative difference of a side's loss and gradients from ours."""


@dataclass(frozen=True)
class Case:
    """Sizes and precision of the states and the head."""

    exits: int
    positions: int
    vocab_size: int
    hidden: int
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        return f"R={self.exits} N={self.positions} V={self.vocab_size} D={self.hidden} {precision}"

    @property
    def flops(self) -> int:
        """Three products: logits, and the gradients towards states and head."""
        return 6 * self.exits * self.positions * self.vocab_size * self.hidden

    @property
    def traffic(self) -> int:
        """Bytes that have to move at least: states and head read, and their gradients written, once each."""
        return 2 * self.hidden * (self.exits * self.positions + self.vocab_size) * self.dtype.itemsize


QUICK = [Case(2, 64, 300, 16)]
CASES = {
    "cpu": [
        Case(4, 2816, 72, 32),
        Case(4, 1024, 512, 64),
        Case(4, 512, 8192, 128),
        Case(4, 512, 8192, 128, torch.bfloat16),
    ],
    "cuda": [
        Case(4, positions, vocab_size, hidden, torch.bfloat16)
        for positions, vocab_size, hidden in (
            (16384, 512, 128),
            (16384, 4096, 256),
            (8192, 50304, 256),
            (8192, 50304, 512),
            (8192, 50304, 768),
        )
    ],
}

Problem = tuple[Tensor, Tensor, Tensor, Tensor]
"""states_RND, head_VD, targets_N, weights_RN."""

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def problem(case: Case, device: str) -> Problem:
    """Random states and head of trained size; weights that differ by exit and sum to 1; every position supervised."""
    generator = torch.Generator().manual_seed(0)
    states_RND = torch.randn(case.exits, case.positions, case.hidden, generator=generator)
    head_VD = torch.randn(case.vocab_size, case.hidden, generator=generator) / case.hidden**0.5
    targets_N = torch.randint(case.vocab_size, (case.positions,), generator=generator)
    weights_RN = torch.rand(case.exits, case.positions, generator=generator)
    return (
        states_RND.to(device, case.dtype).requires_grad_(),
        head_VD.to(device, case.dtype).requires_grad_(),
        targets_N.to(device),
        (weights_RN / weights_RN.sum()).to(device).requires_grad_(),
    )


def _all_logits(states_RND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_RN: Tensor) -> Tensor:
    logits_MV = F.linear(states_RND, head_VD).flatten(0, 1).float()
    targets_M = targets_N.expand(len(states_RND), -1).flatten()
    return (F.cross_entropy(logits_MV, targets_M, reduction="none") * weights_RN.flatten()).sum()


def _flattened(per_token: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    """A loss from a function of states_MD, head_VD and targets_M that returns every position's cross-entropy."""

    def loss(states_RND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_RN: Tensor) -> Tensor:
        targets_M = targets_N.expand(len(states_RND), -1).flatten()
        return (per_token(states_RND.flatten(0, 1), head_VD, targets_M).float() * weights_RN.flatten()).sum()

    return loss


def _torch_chunked(states_MD: Tensor, head_VD: Tensor, targets_M: Tensor) -> Tensor:
    options = LinearCrossEntropyOptions(
        batch_chunk_size=chunk_rows(len(head_VD), states_MD.device), chunking_method=None
    )
    return F.linear_cross_entropy(states_MD, head_VD, targets_M, reduction="none", options=options)


def _liger(states_MD: Tensor, head_VD: Tensor, targets_M: Tensor) -> Tensor:
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    return LigerFusedLinearCrossEntropyLoss(reduction="none")(head_VD, states_MD, targets_M)


def _cut(states_MD: Tensor, head_VD: Tensor, targets_M: Tensor) -> Tensor:
    from cut_cross_entropy import linear_cross_entropy

    return linear_cross_entropy(states_MD, head_VD, targets_M, reduction="none", impl="cce", filter_eps=None)


def losses(device: str) -> dict[str, Loss]:
    """The sides that can run on this device; ours first."""

    def ours(backend: Backend, *arguments: Tensor) -> Tensor:
        return loop_cross_entropy(*arguments, backend=backend).loss

    sides: dict[str, Loss] = {"chunked (ours)": partial(ours, "chunked")}
    if device == "cuda" and why_no_triton(device) is None:
        sides = {"triton (ours)": partial(ours, "triton")} | sides
    sides["all logits"] = _all_logits
    sides["torch linear_cross_entropy"] = _flattened(_torch_chunked)
    for package, side, loss in (("liger_kernel", "Liger", _liger), ("cut_cross_entropy", "cut-cross-entropy", _cut)):
        if device == "cuda" and importlib.util.find_spec(package) is not None:
            sides[side] = _flattened(loss)
    return sides


def _compiled_rows() -> Loss:
    """Ours in plain PyTorch, with the row kernel left to torch.compile."""
    rows = compiled(torch_rows)

    def loss(*arguments: Tensor) -> Tensor:
        with mock.patch.object(one_pass, "torch_rows", rows):
            return loop_cross_entropy(*arguments, backend="chunked").loss

    return loss


def gradients(loss: Loss, given: Problem) -> list[Tensor]:
    """The loss, and its gradients towards states, head and weights: one measured run."""
    states_RND, head_VD, _, weights_RN = given
    value = loss(*given)
    return [value.detach(), *torch.autograd.grad(value, (states_RND, head_VD, weights_RN))]


@torch.no_grad()
def _products(given: Problem) -> None:
    """The three products and nothing else, in the chunks and the precision that ours takes."""
    dtype = product_dtype(given[0].dtype, given[0].device.type)
    states_RND, head_VD = given[0].to(dtype), given[1].to(dtype)
    dhead_VD = torch.zeros_like(head_VD)
    for states_mD in states_RND.flatten(0, 1).split(chunk_rows(len(head_VD), head_VD.device)):
        logits_mV = states_mD @ head_VD.T
        logits_mV @ head_VD
        dhead_VD.addmm_(logits_mV.T, states_mD)


def _check_same(side: str, got: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for name, one, other in zip(("loss", "d states", "d head", "d weights"), got, wanted, strict=True):
        error = float((one.float() - other.float()).norm() / other.float().norm())
        if not error <= tolerance:
            raise RuntimeError(f"bench loss: {side} is not comparable: its {name} differs from ours by {error:.1e}")


def run(options: Options) -> Iterator[Row]:
    """Time, memory and roofline of every side, case by case."""
    for case in chosen(QUICK if options.quick else CASES[options.device], options):
        given = problem(case, options.device)
        ways = losses(options.device)
        if find_compiler() is not None and not options.quick:
            ways |= {"chunked, compiled": _compiled_rows(), "all logits, compiled": compiled(_all_logits)}
        sides = {side: partial(gradients, loss, given) for side, loss in ways.items()}
        wanted = next(iter(sides.values()))()
        for side, work in sides.items():
            _check_same(side, work(), wanted, TOLERANCE[case.dtype])
        yield from time_rows(
            "loss",
            str(case),
            paired_seconds({**sides, FLOOR: partial(_products, given)}, options.repeats, options.device),
        )
        yield from memory_rows("loss", str(case), sides, options.device)
        yield from roofline_rows("loss", str(case), case.flops, case.traffic)
