"""One sitting at a training, under Lightning: from its checkpoint, or its beginning, until it ends or is stopped.

Lightning's notion of a batch is here a chunk of several optimiser steps, so that its work per batch is shared between
them; manual optimisation keeps its count of steps, and with it the checkpoints, right.
"""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from looplm import checkpoint
from looplm.config import ModelConfig, ObjectiveConfig, OptimizerConfig, Precision
from looplm.execution import Execution, compile_segments, open_logger
from looplm.lightning_module import LoopTraining
from looplm.model import LoopLM
from looplm.ranks import Ranks
from looplm.steps import StepData
from synthdata.batch import Batch

DEVICE_TIMEOUT = timedelta(minutes=10)
"""How long one device waits for another."""


@dataclass(frozen=True, eq=False)
class Initial:
    """Weights that a training begins with, instead of drawing them.

    Attributes:
        origin: what tells them from others, such as the id of the cell that trained them; kept in the checkpoint.
        weights: `LoopLM.state_dict()` of a model with the same blocks, width and vocabulary. Its loops may differ.
    """

    origin: str
    weights: Mapping[str, Tensor]

    def load_into(self, model: LoopLM) -> None:
        """Give the model these weights.

        Raises:
            ValueError: naming the first parameter that is missing, unknown or of another shape.
        """
        own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        given = {name: tuple(value.shape) for name, value in self.weights.items()}
        for name in sorted(own.keys() | given.keys()):
            if own.get(name) != given.get(name):
                raise ValueError(
                    f"initial weights of {self.origin!r} do not fit: {name} has shape {given.get(name)} there; "
                    f"it must be {own.get(name)}"
                )
        model.load_state_dict(self.weights)


@dataclass(frozen=True)
class Progress:
    """Where a training stands, reported after every chunk.

    Attributes:
        step: optimiser steps done.
        steps: optimiser steps in all.
        loss: mean training loss of the chunk's steps, nats per trained token (with the objective's penalty).
        tokens_per_second: positions read per second in this chunk, padding not counted.
        steps_per_second: optimiser steps per second in this chunk.
    """

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    steps_per_second: float


class _SealedFiles(CheckpointIO):
    """Lightning's checkpoints, in the files of `checkpoint.py`."""

    def save_checkpoint(self, content: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        checkpoint.write(Path(path), content)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        return checkpoint.read(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink()


class _AfterChunk(pl.Callback):
    """Between two chunks: report, look at the clock and at `should_stop`, write the checkpoint."""

    def __init__(
        self,
        module: LoopTraining,
        path: Path,
        every_seconds: float,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._module = module
        self._path = path
        self._every_seconds = every_seconds
        self._on_progress = on_progress
        self._should_stop = should_stop

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sigterm = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has just taken SIGTERM, to raise it when training ends: whoever calls `fit` decides what it does.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._sigterm)
        self._begin_chunk(trainer)
        self._written = self._began

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module, now, step = self._module, time.monotonic(), trainer.global_step
        finished = step == module.steps
        elapsed = now - self._began
        module.seconds += elapsed
        tokens_per_second = (module.tokens - self._tokens) / elapsed
        steps_per_second = (step - self._first) / elapsed
        self._on_progress(Progress(step, module.steps, module.chunk_loss, tokens_per_second, steps_per_second))
        if trainer.logger is not None:
            lr = module.optimizer.lr_at(step - 1, module.steps)
            numbers = {"loss": module.chunk_loss, "lr": lr, "tokens_per_second": tokens_per_second}
            trainer.logger.log_metrics(numbers, step)
        stops = not finished and self._should_stop()
        saves = finished or stops or now - self._written >= self._every_seconds
        trainer.should_stop, saves = trainer.strategy.broadcast((stops, saves))  # the first device's clock and signals
        if saves:
            trainer.save_checkpoint(self._path)
            self._written = now
        self._begin_chunk(trainer)

    def _begin_chunk(self, trainer: pl.Trainer) -> None:
        self._began, self._tokens, self._first = time.monotonic(), self._module.tokens, trainer.global_step


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning without banners and hints; warnings stay, but for four that say nothing about the training."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # A GPU left idle on purpose; `srun`, which is not for us to call; and calls to deprecated functions inside
            # Lightning and inside torch.compile.
            warnings.filterwarnings("ignore", message="GPU available but not used")
            warnings.filterwarnings("ignore", message="The `srun` command is available on your system")
            warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)` is deprecated")
            warnings.filterwarnings("ignore", message="`torch.jit.script_method` is deprecated")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """What every device has to know of it; pickled where there are several.

    Attributes:
        model: the architecture.
        vocab_size: tokens V.
        objective: how the exits' losses become one.
        optimizer: AdamW and its schedule.
        steps: optimiser steps of the whole training.
        precision: of the blocks.
        init_seed: initial weights.
        batch_at: the batch of a step, all devices together.
        path: the checkpoint.
        execution: device, compilation and intervals.
        compiles: whether blocks are compiled.
        provenance: written into every checkpoint as it is.
        resumes: whether there is a checkpoint to begin from.
    """

    model: ModelConfig
    vocab_size: int
    objective: ObjectiveConfig
    optimizer: OptimizerConfig
    steps: int
    precision: Precision
    init_seed: int
    batch_at: Callable[[int], Batch]
    path: Path
    execution: Execution
    compiles: bool
    provenance: dict[str, Any]
    resumes: bool

    def follow(self, ranks: Ranks) -> None:
        """Be a device other than the first: DDP sends it the first one's weights, and its decisions."""
        self.run(ranks, lambda progress: None, lambda: False, None)

    def run(
        self,
        ranks: Ranks,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        initial: Initial | None,
    ) -> None:
        """Train; what comes of it is in the checkpoint. For `on_progress` and so on see `looplm.training.fit`."""
        execution, devices = self.execution, self.execution.devices
        model = LoopLM(self.model, self.vocab_size, self.init_seed)
        if initial is not None:
            initial.load_into(model)
        model.attention = execution.attention_kernel(self.precision)
        rank, folder = ranks.global_rank(), self.path.parent
        data = StepData(self.batch_at, self.steps, execution.chunk_steps, rank, devices)
        module = LoopTraining(
            model,
            self.objective,
            self.optimizer,
            self.steps,
            self.provenance,
            execution.cuda_graphs,
            meanwhile=data.make_ahead,
        )
        with _quiet_lightning():
            if self.compiles:
                compile_segments(model, execution.cache_folder)
            trainer = pl.Trainer(
                accelerator="cpu" if execution.device == "cpu" else "gpu",
                devices=devices,
                strategy="auto" if devices == 1 else DDPStrategy(timeout=DEVICE_TIMEOUT),
                precision=self.precision,
                max_epochs=1,
                logger=(rank == 0 and open_logger(execution, folder)) or False,
                log_every_n_steps=1,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
                plugins=[LightningEnvironment() if devices == 1 else ranks, _SealedFiles()],
                callbacks=[
                    _AfterChunk(module, self.path, execution.checkpoint_every_seconds, on_progress, should_stop)
                ],
            )
            trainer.fit(module, datamodule=data, ckpt_path=self.path if self.resumes else None)
