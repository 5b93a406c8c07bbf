"""How a model is run: device, compilation, chunks, checkpoint interval. None of it is part of what a cell is."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from looplm.attention import AttentionName, choose_attention, why_not
from looplm.config import Precision
from looplm.model import LoopLM, run_segment

DeviceName = Literal["cpu", "cuda"]
CompileMode = Literal["auto", "on", "off"]
AttentionMode = Literal["auto", AttentionName]
LoggerName = Literal["none", "tensorboard", "wandb"]

COMPILE_FROM_STEPS = 500
"""Optimiser steps from which `auto` compiles; fewer do not earn the compilation back, even from a warm cache.

A step of the headline's two-hop model is a third shorter compiled (`looplm bench choices`), by hundredths of a second;
compiling takes seconds from a warm cache and many from a cold one, once for each number of blocks between two exits.
"""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How to run a training.

    Attributes:
        device: `cpu` or `cuda`.
        devices: how many of them, on this machine; each trains on its share of every batch, as one would on all of it.
            On `cpu` they are processes.
        compile: whether blocks go through torch.compile. `auto` does so where a C++ compiler is found and the training
            is long enough; `on` insists.
        cuda_graphs: whether the passes of a step are recorded once and replayed (see `looplm.cuda_graphs`), meant for
            small models, whose kernels take longer to launch than to run. On one CUDA device.
        attention: what keeps packed documents apart (see `looplm.attention`); `auto` takes rows on a CPU, else the
            first of flash, varlen and sdpa that runs. With `cuda_graphs` it is sdpa, as the others wait for the device.
        checkpoint_every_seconds: least time between two checkpoints (one is always written at the end).
        chunk_steps: optimiser steps between two looks at progress, clock and `should_stop`.
        cache_folder: where compiled code is kept for the next process; by default $TORCHINDUCTOR_CACHE_DIR, else a
            temporary folder of torch's choice.
        logger: where Lightning writes loss, learning rate and tokens per second of every chunk, in the training's
            folder (`wandb` offline unless $WANDB_MODE says otherwise). The extra `[loggers]` installs both.
    """

    device: DeviceName = "cpu"
    devices: int = 1
    compile: CompileMode = "auto"
    cuda_graphs: bool = False
    attention: AttentionMode = "auto"
    checkpoint_every_seconds: float = 60.0
    chunk_steps: int = 20
    cache_folder: str | Path | None = None
    logger: LoggerName = "none"

    def __post_init__(self) -> None:
        choices = {"device": DeviceName, "compile": CompileMode, "attention": AttentionMode, "logger": LoggerName}
        for field, names in ((field, get_args(kind)) for field, kind in choices.items()):
            if getattr(self, field) not in names:
                raise ValueError(f"execution.{field} is {getattr(self, field)!r}; it must be {' | '.join(names)}")
        if self.devices < 1:
            raise ValueError(f"execution.devices is {self.devices}; it must be at least 1")
        if self.cuda_graphs:
            allowed = {"device": ("cuda",), "devices": (1,), "attention": ("auto", "sdpa")}
            for field, values in allowed.items():
                if (value := getattr(self, field)) not in values:
                    raise ValueError(
                        f"execution.{field} is {value!r}; with execution.cuda_graphs it must be "
                        f"{' | '.join(map(str, values))}"
                    )
        if self.checkpoint_every_seconds < 0:
            raise ValueError(
                f"execution.checkpoint_every_seconds is {self.checkpoint_every_seconds}; it must be at least 0"
            )
        if self.chunk_steps < 1:
            raise ValueError(f"execution.chunk_steps is {self.chunk_steps}; it must be at least 1")

    def torch_device(self) -> torch.device:
        """The device, the first if there are several, if this machine has them; else a `ValueError`."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("execution.device is 'cuda'; torch finds no CUDA device here, so it must be 'cpu'")
        if self.device == "cuda" and self.devices > torch.cuda.device_count():
            raise ValueError(
                f"execution.devices is {self.devices}; torch finds {torch.cuda.device_count()} CUDA devices here, and "
                "it must be at most that"
            )
        return torch.device(self.device)

    def attention_kernel(self, precision: Precision) -> AttentionName:
        """What keeps packed documents apart in a training of this precision; a `ValueError` if it cannot run here."""
        if self.cuda_graphs:
            return "sdpa"
        if self.attention == "auto":
            return choose_attention(self.device, precision)
        if (reason := why_not(self.attention, self.device, precision)) is not None:
            raise ValueError(
                f"execution.attention is {self.attention!r}, which {reason}; it must be auto | sdpa | rows"
            )
        return self.attention


def open_logger(execution: Execution, folder: Path) -> Logger | None:
    """Lightning's logger for a training in `folder`, or None.

    Raises:
        ValueError: if its package is not installed.
    """
    if execution.logger == "none":
        return None
    try:
        if execution.logger == "tensorboard":
            return TensorBoardLogger(save_dir=folder, name="", version="tensorboard")
        return WandbLogger(save_dir=folder, name=folder.name, offline=os.environ.get("WANDB_MODE") != "online")
    except ModuleNotFoundError:
        raise ValueError(
            f"execution.logger is {execution.logger!r} but that package is not installed; it must be 'none', or "
            "`pip install -e '.[loggers]'` be run"
        ) from None


class Backend(NamedTuple):
    """What runs the blocks, and why it is not what one might expect (or None)."""

    name: Literal["eager", "compile"]
    notice: str | None


def find_compiler() -> str | None:
    """The C++ compiler that torch.compile will call: $CXX, else g++, else clang++; None if there is none."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next((path for path in map(shutil.which, candidates) if path is not None), None)


def choose_backend(execution: Execution, steps: int) -> Backend:
    """Eager or compiled, for a training of `steps` optimiser steps in all.

    Raises:
        ValueError: if `execution.compile` is `on` and no C++ compiler is found.
    """
    if execution.compile == "off":
        return Backend("eager", None)
    if find_compiler() is None:
        if execution.compile == "on":
            raise ValueError(
                "execution.compile is 'on' but no C++ compiler is found ($CXX, g++, clang++); "
                "it must be 'auto' or 'off', or a compiler installed"
            )
        return Backend("eager", "no C++ compiler found ($CXX, g++, clang++): running eager, slower than compiled")
    if execution.compile == "auto" and steps < COMPILE_FROM_STEPS:
        return Backend("eager", None)
    return Backend("compile", None)


Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`torch.compile` by the C++ compiler that is found, once something has said that there is one.

    What this process compiled before is forgotten (not what lies in the cache folder). Else the shapes of earlier
    trainings would decide how this one is compiled, with other bits, and after eight of them torch would run it eager.
    """
    compiler = find_compiler()
    assert compiler is not None, "choose_backend says `compile` only where there is a compiler"
    options: dict[str, Any] = {"cpp.cxx": (compiler,)}
    torch.compiler.reset()
    return cast(Function, torch.compile(function, options=options))


def compile_segments(model: LoopLM, cache_folder: str | Path | None) -> None:
    """Compile what lies between two exits, once for all loops; the loop itself stays in Python."""
    if cache_folder is not None:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder)
    model.run_segment = compiled(run_segment)
