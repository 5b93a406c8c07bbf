"""`looplm bench attention`: every way to attend that runs here, forward and backward, against the one that is chosen.

Rows are one document each, of several lengths, or hold several documents. Compiled where there is a compiler, as in a
training. Every side must give the same numbers before it is timed.

Shapes in names: B = row, S = position, H = head, K = size of a head.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import get_args
from unittest import mock

import torch
from torch import Tensor

from experiments.bench.measure import Options, Row, chosen, paired_seconds, roofline_rows, time_rows
from looplm import attention
from looplm.attention import AttentionName, Documents, attend, choose_attention, multiplied, prepare, summed, why_not
from looplm.config import Precision
from looplm.execution import compiled, find_compiler

OURS = "chosen (ours)"
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference of a side's numbers from ours, relative to the largest of them."""


@dataclass(frozen=True)
class Case:
    """Rows, their positions, and heads; `document` positions to a document, by default the whole row."""

    rows: int
    context: int
    heads: int
    head_size: int
    document: int | None = None

    def __str__(self) -> str:
        packed = "" if self.document is None else f", documents of {self.document}"
        return f"{self.rows}x{self.context} heads={self.heads}x{self.head_size}{packed}"

    @property
    def flops(self) -> int:
        """Two products forward and twice as many backward, over all pairs of positions of a document."""
        pairs = self.rows * self.context * (self.document or self.context)
        return 3 * 2 * 2 * pairs * self.heads * self.head_size

    def traffic(self, dtype: torch.dtype) -> int:
        """Bytes that have to move at least: queries, keys, values, what comes out, and their gradients, once each."""
        return 2 * 4 * self.rows * self.context * self.heads * self.head_size * dtype.itemsize


QUICK = [Case(3, 5, 2, 8), Case(3, 8, 2, 8, document=4)]
CASES = {
    "cpu": [
        *(Case(2816 // context, context, 2, 16) for context in (4, 8, 12, 16, 22, 32, 48, 64, 128)),
        *(Case(22, 128, 2, 16, document=document) for document in (4, 8, 16, 32, 64)),
    ],
    "cuda": [Case(256, 128, 4, 64), Case(64, 512, 4, 64), Case(64, 512, 4, 64, document=64)],
}

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Outcome = tuple[Tensor, ...]
"""What comes out, and the gradients towards queries, keys and values."""
Works = dict[str, Callable[[], Outcome]]


def sides(case: Case, device: str, precision: Precision, compiles: bool) -> Works:
    """Every side on the same numbers; ours comes first."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, case.rows, case.context, case.heads, case.head_size)
    dtype = torch.float32 if precision == "32-true" else torch.bfloat16
    *leaves, direction_BSHK = torch.randn(shape, generator=generator).to(device, dtype).unbind()
    for leaf in leaves:
        leaf.requires_grad_()

    def work(function: Attend) -> Outcome:
        mixed_BSHK = function(*leaves)
        return mixed_BSHK.detach(), *torch.autograd.grad(mixed_BSHK, leaves, direction_BSHK)

    def by_sdpa(function: Attend) -> Outcome:
        with mock.patch.multiple(attention, SHORT=0, MEDIUM=0):
            return work(function)

    def side(function: Attend) -> Attend:
        return compiled(function) if compiles else function

    if case.document is None:
        whole = partial(attend, documents=None)
        found: Works = {OURS: partial(work, side(whole)), "sdpa": partial(by_sdpa, side(whole))}
        if device == "cpu":
            found |= {"summed": partial(work, side(summed)), "multiplied": partial(work, side(multiplied))}
        return found
    documents_BS = torch.arange(case.context, device=device).div(case.document, rounding_mode="floor")
    ours = choose_attention(device, precision)
    names = [name for name in get_args(AttentionName) if why_not(name, device, precision) is None]
    given_BS = documents_BS.expand(case.rows, -1)
    prepared: dict[str, Documents] = {OURS: prepare(given_BS, ours)}
    with mock.patch.object(attention, "FEW_PAIRS", 1):  # `rows` whether it pays or not
        prepared |= {name: prepare(given_BS, name) for name in names}
    return {name: partial(work, side(partial(attend, documents=documents))) for name, documents in prepared.items()}


def check(works: Works, dtype: torch.dtype) -> None:
    """Let every side run once.

    Raises:
        RuntimeError: naming a side whose numbers are not ours, so that it is not to be timed.
    """
    wanted = works[OURS]()
    for side, work in works.items():
        for number, (got, want) in enumerate(zip(work(), wanted, strict=True)):
            difference = ((got - want).abs().max() / want.abs().max()).item()
            if not difference <= TOLERANCE[dtype]:
                name = ("result", "gradient of queries", "gradient of keys", "gradient of values")[number]
                raise RuntimeError(f"{side} is not comparable: its {name} differs from ours by {difference:.1%}")


def run(options: Options) -> Iterator[Row]:
    """Milliseconds of every side, case by case, and what each asks of the machine."""
    compiles = find_compiler() is not None and not options.quick
    precision: Precision = "bf16-mixed" if options.device == "cuda" else "32-true"
    dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
    for case in chosen(QUICK if options.quick else CASES[options.device], options):
        works = sides(case, options.device, precision, compiles)
        check(works, dtype)
        yield from time_rows("attention", str(case), paired_seconds(works, options.repeats, options.device))
        yield from roofline_rows("attention", str(case), case.flops, case.traffic(dtype))
