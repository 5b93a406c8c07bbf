"""From a `Batch` to what one optimiser step needs on the device, and the data module that hands steps out in chunks.

Which positions are trained is found in NumPy, before anything is on a device, so that the head runs only there and
nothing has to wait for it.

Shapes in names: B = row, S = position, N = trained position (rows and positions flattened).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from synthdata.batch import PADDING, Batch


class Step(NamedTuple):
    """One optimiser step's data.

    Attributes:
        tokens_BS: int64, inputs.
        documents_BS: int32, the document of each position, or None where every row is one document.
        positions_N: int64, where something is trained, as indices into rows and positions flattened.
        targets_N: int64, the token that follows there.
        weights_N: float32, loss weights, which sum to 1 (over all devices).
    """

    tokens_BS: Tensor
    documents_BS: Tensor | None
    positions_N: Tensor
    targets_N: Tensor
    weights_N: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> "Step":
        """The step with every tensor of it changed."""
        return self._replace(**{name: change(tensor) for name, tensor in self._asdict().items() if tensor is not None})


class Chunk(NamedTuple):
    """Successive optimiser steps: what Lightning takes for one batch.

    Attributes:
        steps: their data.
        tokens: positions read in them, by all devices, padding not counted.
    """

    steps: list[Step]
    tokens: int


def documents_of(batch: Batch) -> Tensor | None:
    """The documents that attention must keep apart; None where no row holds two, so that causality suffices."""
    return torch.from_numpy(batch.documents_BS) if batch.packed else None


def step_of(batch: Batch, device: int = 0, devices: int = 1) -> Step:
    """The tensors of one optimiser step, or one device's share of them: every `devices`-th row, from row `device` on.

    Raises:
        ValueError: if the batch trains nothing, or has fewer rows than there are devices.
    """
    total = batch.weights_BS[batch.weights_BS != 0].sum()
    if total == 0:
        raise ValueError("weights_BS is 0 everywhere; a training batch must have a position with a loss weight above 0")
    if len(batch.tokens_BS) < devices:
        raise ValueError(
            f"execution.devices is {devices}; a batch has {len(batch.tokens_BS)} rows, and it is at most that"
        )
    documents_BS = documents_of(batch)
    share = slice(device, None, devices)
    weights_M = batch.weights_BS[share].reshape(-1)
    positions_N = np.flatnonzero(weights_M)
    return Step(
        torch.from_numpy(batch.tokens_BS[share]),
        None if documents_BS is None else documents_BS[share],
        torch.from_numpy(positions_N),
        torch.from_numpy(batch.targets_BS[share].reshape(-1)[positions_N]),
        torch.from_numpy(weights_M[positions_N] / total),
    )


class StepData(pl.LightningDataModule):
    """Training data as chunks of steps, from the first step that is not done.

    Its state is the number of steps done: a step's data is a function of its number alone.
    """

    def __init__(
        self, batch_at: Callable[[int], Batch], steps: int, chunk_steps: int, device: int = 0, devices: int = 1
    ) -> None:
        super().__init__()
        self._share = (device, devices)
        self._batch_at = batch_at
        self._steps = steps
        self._chunk_steps = chunk_steps
        self._first = 0
        self._coming: Iterator[Chunk] = iter(())
        self._made: Chunk | None = None

    def train_dataloader(self) -> Iterator[Chunk]:
        """Chunks of `chunk_steps` steps; the last may be shorter."""
        self._coming = self._chunks()
        while True:
            self.make_ahead()
            if self._made is None:
                return
            chunk, self._made = self._made, None
            yield chunk

    def make_ahead(self) -> None:
        """Make the chunk that will be asked for next, to be called while the device is busy with one before it."""
        if self._made is None:
            self._made = next(self._coming, None)

    def _chunks(self) -> Iterator[Chunk]:
        for start in range(self._first, self._steps, self._chunk_steps):
            batches = [self._batch_at(step) for step in range(start, min(start + self._chunk_steps, self._steps))]
            tokens = sum(int((batch.documents_BS != PADDING).sum()) for batch in batches)
            yield Chunk([step_of(batch, *self._share) for batch in batches], tokens)

    def state_dict(self) -> dict[str, int]:
        """Steps done, for the checkpoint."""
        assert self.trainer is not None
        return {"steps_done": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue after the checkpoint's steps."""
        self._first = state_dict["steps_done"]
