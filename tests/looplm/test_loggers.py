"""Lightning's loggers: off by default, and with what a training reports when they are on."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from looplm.execution import Execution
from looplm.training import Fitted, Progress

Train = Callable[..., Fitted]


def test_tensorboard_gets_the_loss_of_every_chunk(train: Train, tmp_path: Path) -> None:
    seen: list[Progress] = []
    folder = tmp_path / "run"
    train(execution=Execution(compile="off", chunk_steps=5, logger="tensorboard"), on_progress=seen.append)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (progress.step, pytest.approx(progress.loss)) for progress in seen
    ]
    assert len(seen) == 4


def test_a_logger_that_is_not_installed_is_refused(train: Train) -> None:
    with pytest.raises(ValueError, match=r"execution\.logger is 'wandb' but that package is not installed"):
        train(execution=Execution(compile="off", logger="wandb"))
