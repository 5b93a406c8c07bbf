"""Training one model: resumable at any instant, bit for bit. How one sitting at it goes is in `sitting.py`."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from looplm import NUMERICS, checkpoint
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig, Precision
from looplm.execution import Execution, choose_backend
from looplm.model import LoopLM
from looplm.ranks import followers
from looplm.sitting import Initial, Progress, Sitting
from looplm.stability import Reading
from synthdata.batch import Batch

__all__ = ["CHECKPOINT", "Execution", "Fitted", "Initial", "Progress", "fit"]

CHECKPOINT = "checkpoint.ckpt"
"""Name of the checkpoint in a training's folder."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes:
        model: on the device, with its present weights.
        finished: False where `should_stop` ended the training early; its checkpoint is written.
        step: optimiser steps done.
        seconds: time spent training, over all sittings.
        tokens: positions read, padding not counted, over all sittings.
        backend: `eager` or `compile`, and on how many devices if there are several, or whether in CUDA graphs.
        stability: what was read at some steps, over all sittings (see `looplm.stability`).
        notices: what the user should know, one clear line each.
    """

    model: LoopLM
    finished: bool
    step: int
    seconds: float
    tokens: int
    backend: str
    stability: tuple[Reading, ...]
    notices: tuple[str, ...]


_SECTIONS = {"model": ModelConfig, "objective": ObjectiveConfig, "optimizer": OptimizerConfig, "budget": BudgetConfig}


def _completed(stored: dict[str, Any]) -> dict[str, Any]:
    """A configuration as it was stored, with the fields that later code has added: at their defaults they change
    nothing."""
    return stored | {name: asdict(section()) | stored[name] for name, section in _SECTIONS.items() if name in stored}


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
        batch_at: the batch of a step (0-based); a function of the step alone, and picklable where there are several
            devices, of which each trains on its share of the rows.
        folder: where the checkpoint lives; made if it is not there.
        execution: device, compilation and intervals.
        on_progress: called after every chunk of steps.
        should_stop: asked after every chunk; True ends the training with a checkpoint and `finished=False`.
        initial: weights to begin with, for a second phase (other loops, another objective or task); Stage II needs
            them. A checkpoint in `folder` wins over them, but must have begun with weights of the same origin.

    Raises:
        ValueError: naming field, value and what is allowed; or a checkpoint of another configuration.
        FloatingPointError: naming the step at which the training diverged; the checkpoint before it is kept.
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
        differences = "; ".join(_differences(_completed(content["configuration"]), configuration))
        if differences:
            raise ValueError(f"checkpoint {path} is of another configuration: {differences}")

    if content is None or content["global_step"] < budget.steps:
        backend = choose_backend(execution, budget.steps)
        label = backend.name if execution.devices == 1 else f"{backend.name} on {execution.devices} devices"
        label += " in CUDA graphs" if execution.cuda_graphs else ""
        notices += () if backend.notice is None else (backend.notice,)
        if content is not None and content["backend"] != label:
            notices += (f"begun with backend {content['backend']}, carried on with {label}: bits may differ",)
        sitting = Sitting(
            model=model,
            vocab_size=vocab_size,
            objective=objective,
            optimizer=optimizer,
            steps=budget.steps,
            precision=precision,
            init_seed=init_seed,
            batch_at=batch_at,
            path=path,
            execution=execution,
            compiles=backend.name == "compile",
            provenance={"configuration": configuration, "backend": label},
            resumes=content is not None,
        )
        with followers(execution.devices, sitting.follow) as ranks:
            sitting.run(ranks, on_progress, should_stop, initial)
        content = checkpoint.read(path)
    return Fitted(
        model=checkpoint.model_of(content).to(device),
        finished=content["global_step"] == budget.steps,
        step=content["global_step"],
        seconds=content["seconds"],
        tokens=content["tokens"],
        backend=content["backend"],
        stability=tuple(Reading(*values) for values in content.get("stability", [])),
        notices=notices,
    )
