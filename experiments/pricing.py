"""What a plan costs, from the speed at which cells have been measured to train. Where nothing was measured, no price.

A cell's speed depends on the arithmetic of one step: small steps leave a device idle. A planned cell is priced at the
median speed of the measured cells of that device that are nearest to it in this; how far it lies beyond the largest
of them is said with the price.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from results.bundle import read_bundle
from results.collection import is_collection
from results.schema import CELLS
from results.store import Store
from sweeps.cell import Cell
from sweeps.cost import training_flops

NEIGHBOURS = 5
"""Measured cells whose median speed prices a planned one."""

_GPU_NAMES = ("nvidia", "tesla", "geforce", "quadro", "rtx", "instinct", "radeon")


@dataclass(frozen=True)
class Speeds:
    """What was measured on one device.

    Attributes:
        device: its model name.
        sources: where the rows lie, with how many of each.
        step_flops: FLOPs of a step of each measured cell.
        speeds: FLOPs a second of each, over its whole training.
    """

    device: str
    sources: dict[str, int]
    step_flops: tuple[float, ...]
    speeds: tuple[float, ...]

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU, by its name."""
        return any(name in self.device.lower() for name in _GPU_NAMES)

    def seconds(self, cell: Cell) -> float:
        """Training time of a cell on this device, one cell at a time."""
        flops = training_flops(cell)
        sizes, speeds = self._sorted
        wanted = math.log(flops / cell.budget.steps)
        place = int(np.searchsorted(sizes, wanted))
        around = slice(max(0, place - NEIGHBOURS), place + NEIGHBOURS)
        nearest = np.argsort(np.abs(sizes[around] - wanted), kind="stable")[:NEIGHBOURS]
        return flops / float(np.median(speeds[around][nearest]))

    @cached_property
    def _sorted(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Logarithms of the FLOPs of a step, smallest first, and the speeds in the same order."""
        sizes = np.log(np.array(self.step_flops))
        order = np.argsort(sizes, kind="stable")
        return sizes[order], np.array(self.speeds)[order]


@dataclass(frozen=True)
class Price:
    """What the cells of a plan cost on one device.

    Attributes:
        speeds: what the price rests on.
        hours: of all cells, one after the other.
        hours_left: of those without rows.
        beyond: how many times the arithmetic of a step of the largest measured cell the largest planned one has.
    """

    speeds: Speeds
    hours: float
    hours_left: float
    beyond: float

    @property
    def sentence(self) -> str:
        """The price, what it rests on, and how far it reaches beyond that."""
        unit = "GPU-hours" if self.speeds.is_gpu else "core-hours"
        left = "" if self.hours_left == self.hours else f", {_hours(self.hours_left)} of them still to run"
        origin = ", ".join(f"{n} in {source}" for source, n in self.speeds.sources.items())
        reach = f"; a step is up to {self.beyond:,.0f} times the largest measured" if self.beyond > 2 else ""
        return (
            f"{_hours(self.hours)} {unit}{left} on {self.speeds.device}, "
            f"by the speed of cells that were measured ({origin}){reach}"
        )


def measured_speeds(store: Store, references: Iterable[Path]) -> list[Speeds]:
    """The speeds of every device that trained a done cell in the store or in a saved collection, GPUs first.

    The references that are no whole collection are passed over: a price needs no particular row.
    """
    frames = [(str(store.root), store.read().cells)]
    for folder in references:
        if is_collection(folder):
            frames.append((folder.name, CELLS.validate(read_bundle(folder, ("cells",))["cells"])))
    rows = pl.concat([cells.with_columns(source=pl.lit(source)) for source, cells in frames])
    rows = rows.filter(pl.col("status") == "done", pl.col("seconds") > 0, pl.col("train_flops") > 0)
    rows = rows.unique(["cell", "device"], keep="first", maintain_order=True)
    found = []
    for (device,), here in rows.group_by("device", maintain_order=True):
        sources = dict(here.group_by("source", maintain_order=True).len().iter_rows())
        step_flops = (here["train_flops"] / here["steps"]).to_list()
        found.append(
            Speeds(str(device), sources, tuple(step_flops), tuple((here["train_flops"] / here["seconds"]).to_list()))
        )
    return sorted(found, key=lambda speeds: (not speeds.is_gpu, -len(speeds.speeds)))


def price(cells: Sequence[Cell], speeds: Speeds, done: frozenset[str] = frozenset()) -> Price:
    """What distinct cells, and those that they are pretrained from, cost on a device."""
    every = {each.id: each for cell in cells for each in _with_parents(cell)}
    seconds = {name: speeds.seconds(cell) for name, cell in every.items()}
    largest = max(training_flops(cell) / cell.budget.steps for cell in every.values())
    return Price(
        speeds,
        math.fsum(seconds.values()) / 3600,
        math.fsum(taken for name, taken in seconds.items() if name not in done) / 3600,
        largest / max(speeds.step_flops),
    )


def _with_parents(cell: Cell) -> list[Cell]:
    return [cell, *(_with_parents(cell.pretrained) if cell.pretrained is not None else [])]


def _hours(hours: float) -> str:
    return f"{float(f'{hours:.2g}'):,.15g}"
