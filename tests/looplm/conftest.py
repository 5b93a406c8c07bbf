from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.training import Execution, Fitted, fit
from synthdata.batch import Batch, pack, pad
from synthdata.streams import Stream
from synthdata.tasks.twohop import TwoHop

TASK = TwoHop(entities=6, relations=2)


@pytest.fixture(scope="session")
def vocab_size() -> int:
    return len(TASK.vocabulary)


@pytest.fixture(scope="session")
def batch_at() -> Callable[[int], Batch]:
    stream = Stream(TASK, data_seed=0, order_seed=0)
    return lambda step: pad(stream.examples(16 * step, 16), TASK.max_length - 1)


@pytest.fixture(scope="session")
def packed_batch() -> Batch:
    return pack(Stream(TASK, data_seed=0, order_seed=0).examples(0, 24), context=11)


@pytest.fixture
def train(tmp_path: Path, batch_at: Callable[[int], Batch], vocab_size: int) -> Callable[..., Fitted]:
    """`fit` with small defaults, any of which may be replaced."""

    def run(**changes: Any) -> Fitted:
        arguments: dict[str, Any] = {
            "model": ModelConfig(loops=2, hidden_size=16),
            "vocab_size": vocab_size,
            "objective": ObjectiveConfig(name="entropy"),
            "optimizer": OptimizerConfig(warmup_steps=5),
            "budget": BudgetConfig(steps=20, batch_size=16),
            "precision": "32-true",
            "init_seed": 0,
            "batch_at": batch_at,
            "folder": tmp_path / "run",
            "execution": Execution(compile="off", chunk_steps=5, checkpoint_every_seconds=0),
            "on_progress": lambda progress: None,
            "should_stop": lambda: False,
        }
        return fit(**arguments | changes)

    return run
