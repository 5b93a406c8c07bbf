"""Run as a script: a training on two CPU processes, for `test_ranks.py`. Argument 1 is a folder, 2 what happens.

Prints a line of JSON for every step: losses as `fit` reports them, and the other processes of the training.
"""

import json
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.model import LoopLM
from looplm.training import Execution, Fitted, Initial, Progress, fit
from synthdata.batch import Batch, pad
from synthdata.streams import Stream
from synthdata.tasks.twohop import TwoHop

TASK = TwoHop(entities=6, relations=2)
MODEL = ModelConfig(loops=2, hidden_size=16)


@dataclass(frozen=True)
class Batches:
    """Five rows a step, which two devices cannot share evenly, and of which the second trains nothing in even steps.

    In a process other than the first, step 3 may go wrong.
    """

    mishap: str = "none"

    def __call__(self, step: int) -> Batch:
        batch = pad(Stream(TASK, data_seed=0, order_seed=0).examples(5 * step, 5), TASK.max_length - 1)
        if step % 2 == 0:
            batch.weights_BS[1::2] = 0
        if step == 3 and multiprocessing.parent_process() is not None:
            if self.mishap == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.mishap == "fails":
                raise KeyError("no step 3 here")
        return batch


def train(folder: Path, devices: int, stop_at: int = 0, kill_at: int = 0, mishap: str = "none") -> Fitted:
    """20 steps of a small model, which begins with the weights of another seed than its own."""
    done = 0

    def on_progress(progress: Progress) -> None:
        nonlocal done
        done = progress.step
        others = [process.pid for process in multiprocessing.active_children()]
        print(json.dumps({"step": progress.step, "loss": progress.loss, "others": others}), flush=True)
        if progress.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return fit(
        model=MODEL,
        vocab_size=len(TASK.vocabulary),
        objective=ObjectiveConfig(name="entropy"),
        optimizer=OptimizerConfig(warmup_steps=5),
        budget=BudgetConfig(steps=20, batch_size=5),
        precision="32-true",
        init_seed=0,
        batch_at=Batches(mishap),
        folder=folder,
        execution=Execution(compile="off", chunk_steps=1, devices=devices, checkpoint_every_seconds=0),
        on_progress=on_progress,
        should_stop=lambda: done == stop_at,
        initial=Initial("seed 9", LoopLM(MODEL, len(TASK.vocabulary), init_seed=9).state_dict()),
    )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    match sys.argv[2]:
        case "stopped, then killed":
            train(path, devices=2, stop_at=6)
            train(path, devices=2, kill_at=12)
        case "resumed":
            train(path, devices=2)
        case "mishaps":
            for mishap in ("dies", "fails"):
                try:
                    train(path / mishap, devices=2, mishap=mishap)
                except (OSError, RuntimeError) as error:
                    print(json.dumps({mishap: f"{type(error).__name__}: {error}"}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # a process group whose other processes have died may keep this one from ending
