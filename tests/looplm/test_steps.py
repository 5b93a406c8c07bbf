"""Steps are handed out in chunks."""

from collections.abc import Callable

import numpy as np
import pytest

from looplm.steps import StepData, step_of
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
