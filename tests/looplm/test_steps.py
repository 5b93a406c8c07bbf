"""Steps are handed out in chunks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from looplm.config import BudgetConfig
from looplm.stability import LossWatch
from looplm.steps import StepData, step_of
from looplm.training import Execution, Fitted
from synthdata.batch import Batch


@pytest.mark.parametrize(("steps", "done", "sizes"), [(5, 0, [2, 2, 1]), (4, 0, [2, 2]), (5, 3, [2]), (1, 0, [1])])
def test_every_step_is_handed_out_once(
    batch_at: Callable[[int], Batch], steps: int, done: int, sizes: list[int]
) -> None:
    data = StepData(batch_at, steps, chunk_steps=2)
    data.load_state_dict({"steps_done": done})
    chunks = list(data.train_dataloader())
    assert [len(chunk.steps) for chunk in chunks] == sizes
    for number, step in enumerate((step for chunk in chunks for step in chunk.steps), start=done):
        assert np.array_equal(step.tokens_BS, step_of(batch_at(number)).tokens_BS)


def test_a_batch_that_cannot_be_made_is_an_error_of_the_training(batch_at: Callable[[int], Batch]) -> None:
    def broken(step: int) -> Batch:
        if step == 2:
            raise ValueError("no such batch")
        return batch_at(step)

    chunks = StepData(broken, steps=6, chunk_steps=2).train_dataloader()
    next(chunks)
    with pytest.raises(ValueError, match="no such batch"):
        next(chunks)


def test_a_chunk_is_made_while_the_one_before_it_is_trained(
    train: Callable[..., Fitted], batch_at: Callable[[int], Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two before the training begins: Lightning asks one ahead, to know which is the last."""
    events: list[str] = []
    clip = torch.nn.utils.clip_grad_norm_

    def made(step: int) -> Batch:
        events.append(f"made {step}")
        return batch_at(step)

    def launched(*arguments: Any) -> Tensor:
        events.append("launched")
        return clip(*arguments)

    def see(watch: LossWatch, step: int, loss: float, norm: float) -> None:
        events.append(f"waited for {step}")

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", launched)
    monkeypatch.setattr(LossWatch, "see", see)
    train(batch_at=made, execution=Execution(compile="off", chunk_steps=1), budget=BudgetConfig(steps=4))
    assert events == [
        *("made 0", "made 1"),
        *("launched", "made 2", "waited for 0"),
        *("launched", "made 3", "waited for 1"),
        *("launched", "waited for 2"),
        *("launched", "waited for 3"),
    ]
