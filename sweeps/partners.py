"""The partners of a looped model k⊗R: what it must beat for looping, and not something that came with it, to be why.

Each is solved from the looped cell, never typed, and carries how far its matched quantity is from the target.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from looplm import accounting
from looplm.config import ModelConfig
from sweeps.cell import Cell
from sweeps.cost import total_parameters, training_flops


@dataclass(frozen=True)
class Match:
    """What a partner matches of its looped cell, and how well."""

    partner: str
    quantity: str
    target: float
    got: float

    @property
    def residual(self) -> float:
        """Relative deviation from the target."""
        return self.got / self.target - 1


def solve(partner: str, looped: Cell) -> tuple[Cell, Match]:
    """A partner of a looped cell.

    `plain`: k⊗1, equal parameters and steps. `longer`: k⊗1 with as many steps as spend the looped cell's training
    FLOPs. `deep`: kR⊗1, equal depth. `deep_exits`: kR⊗1 with an exit after every k layers under the same objective, so
    that deep supervision alone is controlled for. `narrow`: kR⊗1 at equal parameters.

    Raises:
        ValueError: if the cell is not looped, or no width has so few parameters.
    """
    if looped.model.loops < 2:
        raise ValueError(f"partner {partner!r} of a cell with model.loops={looped.model.loops}; it must be at least 2")
    return PARTNERS[partner](looped)


def _plain(looped: Cell) -> tuple[Cell, Match]:
    cell = dataclasses.replace(looped, model=dataclasses.replace(looped.model, loops=1))
    return cell, Match("plain", "parameters", total_parameters(looped), total_parameters(cell))


def _longer(looped: Cell) -> tuple[Cell, Match]:
    plain, _ = _plain(looped)
    target = training_flops(looped)
    steps = round(plain.budget.steps * target / training_flops(plain))
    cell = dataclasses.replace(plain, budget=dataclasses.replace(plain.budget, steps=steps))
    return cell, Match("longer", "training FLOPs", target, training_flops(cell))


def _stacked(looped: ModelConfig, **changes: Any) -> ModelConfig:
    """kR⊗1: as deep as the looped model, nothing shared."""
    return dataclasses.replace(looped, layers=looped.depth, loops=1, **changes)


def _deep(looped: Cell) -> tuple[Cell, Match]:
    cell = dataclasses.replace(looped, model=_stacked(looped.model))
    return cell, Match("deep", "depth", looped.model.depth, cell.model.depth)


def _deep_exits(looped: Cell) -> tuple[Cell, Match]:
    cell = dataclasses.replace(looped, model=_stacked(looped.model, exit_every=looped.model.layers))
    return cell, Match("deep_exits", "training FLOPs", training_flops(looped), training_flops(cell))


def _narrow(looped: Cell) -> tuple[Cell, Match]:
    hidden_size, intermediate_size = _narrow_sizes(looped.model, looped.vocab_size)
    model = _stacked(looped.model, hidden_size=hidden_size, intermediate_size=intermediate_size)
    cell = dataclasses.replace(looped, model=model)
    return cell, Match("narrow", "parameters", total_parameters(looped), total_parameters(cell))


@cache
def _narrow_sizes(looped: ModelConfig, vocab_size: int) -> tuple[int, int]:
    """Solve the width, then let the SwiGLU's width take up what the width's granularity leaves over."""
    target = accounting.total_parameters(looped, vocab_size)
    step = 2 * looped.heads

    def at(hidden_size: int, intermediate_size: int | None) -> ModelConfig:
        return _stacked(looped, hidden_size=hidden_size, intermediate_size=intermediate_size)

    def surplus(model: ModelConfig) -> int:
        return accounting.total_parameters(model, vocab_size) - target

    widths = [width for width in range(step, looped.hidden_size + 1, step) if ModelConfig.default_feedforward(width)]
    if not widths:
        raise ValueError(f"model.hidden_size is {looped.hidden_size}; no narrower width can match {target} parameters")
    width = min(widths, key=lambda w: abs(surplus(at(w, None))))
    wide = ModelConfig.default_feedforward(width)
    per_unit = surplus(at(width, wide + 1)) - surplus(at(width, wide))
    return width, max(1, wide - round(surplus(at(width, wide)) / per_unit))


PARTNERS: dict[str, Callable[[Cell], tuple[Cell, Match]]] = {
    "plain": _plain,
    "longer": _longer,
    "deep": _deep,
    "deep_exits": _deep_exits,
    "narrow": _narrow,
}
