"""Run as a script: train as `test_resume.py` does, and die by SIGKILL where argument 2 says."""

import os
import signal
import sys
from pathlib import Path

import torch

from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.training import Execution, Progress, fit
from synthdata.batch import pad
from synthdata.streams import Stream
from synthdata.tasks.twohop import TwoHop


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_progress(progress: Progress) -> None:
    print(progress.step, flush=True)
    if progress.step < 10:
        return
    if sys.argv[2] == "before the second checkpoint":
        die()
    if sys.argv[2] == "while writing the second checkpoint":
        os.replace = lambda beside, path: die()


torch.set_num_threads(1)
task = TwoHop(entities=6, relations=2)
stream = Stream(task, data_seed=0, order_seed=0)
fit(
    model=ModelConfig(loops=2, hidden_size=16),
    vocab_size=len(task.vocabulary),
    objective=ObjectiveConfig(name="entropy"),
    optimizer=OptimizerConfig(warmup_steps=5),
    budget=BudgetConfig(steps=20, batch_size=16),
    precision="32-true",
    init_seed=0,
    batch_at=lambda step: pad(stream.examples(16 * step, 16), task.max_length - 1),
    folder=Path(sys.argv[1]),
    execution=Execution(compile="off", chunk_steps=int(sys.argv[3]), checkpoint_every_seconds=0),
    on_progress=on_progress,
    should_stop=lambda: False,
)
