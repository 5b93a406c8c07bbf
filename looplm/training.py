"""Training one model under Lightning: resumable at any instant, bit for bit. What a step computes is elsewhere.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import lightning.pytorch as pl
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor

from looplm import NUMERICS, checkpoint
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig, Precision
from looplm.execution import Execution, choose_backend, compile_segments, open_logger
from looplm.lightning_module import LoopTraining
from looplm.model import LoopLM
from looplm.steps import StepData
from synthdata.batch import Batch

CHECKPOINT = "checkpoint.ckpt"
"""Name of the checkpoint in a training's folder."""


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


@dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes:
        model: on the device, with its present weights.
        finished: False where `should_stop` ended the training early; its checkpoint is written.
        step: optimiser steps done.
        seconds: time spent training, over all sittings.
        tokens: positions read, padding not counted, over all sittings.
        backend: `eager` or `compile`.
        notices: what the user should know, one clear line each.
    """

    model: LoopLM
    finished: bool
    step: int
    seconds: float
    tokens: int
    backend: str
    notices: tuple[str, ...]


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
        elapsed = now - self._began
        module.seconds += elapsed
        tokens_per_second = (module.tokens - self._tokens) / elapsed
        steps_per_second = (step - self._first) / elapsed
        self._on_progress(Progress(step, module.steps, module.chunk_loss, tokens_per_second, steps_per_second))
        if trainer.logger is not None:
            lr = module.optimizer.lr_at(step - 1, module.steps)
            numbers = {"loss": module.chunk_loss, "lr": lr, "tokens_per_second": tokens_per_second}
            trainer.logger.log_metrics(numbers, step)
        finished = step == module.steps
        trainer.should_stop = not finished and self._should_stop()
        if finished or trainer.should_stop or now - self._written >= self._every_seconds:
            trainer.save_checkpoint(self._path)
            self._written = now
        self._begin_chunk(trainer)

    def _begin_chunk(self, trainer: pl.Trainer) -> None:
        self._began, self._tokens, self._first = time.monotonic(), self._module.tokens, trainer.global_step


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning without banners and hints; warnings stay, but for four that say nothing about the training."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
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
        logger.setLevel(level)


def _differences(stored: dict[str, Any], wanted: dict[str, Any], path: str = "") -> Iterator[str]:
    for key in sorted(stored.keys() | wanted.keys()):
        old, new, name = stored.get(key), wanted.get(key), f"{path}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{name}.")
        elif old != new:
            yield f"{name} is {old!r} there and {new!r} here"


def _read_or_set_aside(path: Path) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The checkpoint at `path`, None if training is to begin anew, and notices."""
    if not path.exists():
        return None, ()
    try:
        return checkpoint.read(path), ()
    except ValueError as error:
        aside = checkpoint.set_aside(path)
        return None, (f"{error}; it is kept as {aside.name} and training begins anew",)


def fit(
    model: ModelConfig,
    vocab_size: int,
    objective: ObjectiveConfig,
    optimizer: OptimizerConfig,
    budget: BudgetConfig,
    precision: Precision,
    init_seed: int,
    batch_at: Callable[[int], Batch],
    folder: Path,
    execution: Execution,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    initial: Initial | None = None,
) -> Fitted:
    """Train a model for `budget.steps` steps, or carry on with the checkpoint in `folder`.

    Killed at any instant and called again with the same arguments, it ends with the same bits (on the same device and
    backend). Called on a finished training it returns at once. A damaged checkpoint is renamed, never overwritten, and
    reported in `Fitted.notices`.

    Args:
        model: the architecture.
        vocab_size: tokens V.
        objective: how the exits' losses become one.
        optimizer: AdamW and its schedule.
        budget: only `steps` matters here; the rest is `batch_at`'s business, but part of the checkpoint's identity.
        precision: `32-true`, or `bf16-mixed` for autocast in the blocks; norms, gate, head and loss stay in float32.
        init_seed: initial weights.
        batch_at: the batch of a step (0-based); a function of the step alone.
        folder: where the checkpoint lives; made if it is not there.
        execution: device, compilation and intervals.
        on_progress: called after every chunk of steps.
        should_stop: asked after every chunk; True ends the training with a checkpoint and `finished=False`.
        initial: weights to begin with, for a second phase (other loops, another objective or task); Stage II needs
            them. A checkpoint in `folder` wins over them, but must have begun with weights of the same origin.

    Raises:
        ValueError: naming field, value and what is allowed; or a checkpoint of another configuration.
        FloatingPointError: naming the step whose loss or gradient is not finite.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}; it must be {' | '.join(get_args(Precision))}")
    if objective.freezes_model and initial is None:
        raise ValueError(
            f"objective.name is {objective.name!r}, which trains a trained model's gate: it needs `initial`"
        )
    if objective.freezes_model and model.exits < 2:
        raise ValueError(f"objective.name is {objective.name!r} and the model has 1 exit; it must have at least 2")
    device = execution.torch_device()
    configuration = {
        "numerics": NUMERICS,
        "model": asdict(model),
        "vocab_size": vocab_size,
        "objective": asdict(objective),
        "optimizer": asdict(optimizer),
        "budget": asdict(budget),
        "precision": precision,
        "init_seed": init_seed,
        **({} if initial is None else {"initial": initial.origin}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    content, notices = _read_or_set_aside(path)
    if content is not None:
        differences = "; ".join(_differences(content["configuration"], configuration))
        if differences:
            raise ValueError(f"checkpoint {path} is of another configuration: {differences}")

    if content is None or content["global_step"] < budget.steps:
        backend = choose_backend(execution, budget.steps)
        notices += () if backend.notice is None else (backend.notice,)
        if content is not None and content["backend"] != backend.name:
            notices += (f"begun with backend {content['backend']}, carried on with {backend.name}: bits may differ",)
        begun = LoopLM(model, vocab_size, init_seed)
        if initial is not None:
            initial.load_into(begun)
        module = LoopTraining(
            begun,
            objective,
            optimizer,
            budget.steps,
            provenance={"configuration": configuration, "backend": backend.name},
        )
        module.model.attention = execution.attention_kernel(precision)
        with _quiet_lightning():
            if backend.name == "compile":
                compile_segments(module.model, execution.cache_folder)
            trainer = pl.Trainer(
                accelerator="cpu" if device.type == "cpu" else "gpu",
                devices=1,
                precision=precision,
                max_epochs=1,
                logger=open_logger(execution, folder) or False,
                log_every_n_steps=1,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
                plugins=[LightningEnvironment(), _SealedFiles()],
                callbacks=[_AfterChunk(module, path, execution.checkpoint_every_seconds, on_progress, should_stop)],
            )
            trainer.fit(
                module,
                datamodule=StepData(batch_at, budget.steps, execution.chunk_steps),
                ckpt_path=None if content is None else path,
            )
        content = checkpoint.read(path)
    return Fitted(
        model=checkpoint.model_of(content).to(device),
        finished=content["global_step"] == budget.steps,
        step=content["global_step"],
        seconds=content["seconds"],
        tokens=content["tokens"],
        backend=content["backend"],
        notices=notices,
    )
