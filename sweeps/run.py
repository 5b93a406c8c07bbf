"""`run_cell`: one cell from configuration to published rows. The same on a laptop and in a cluster job.

A cell's folder bears its id and holds a readable `config.yaml`, the checkpoint, `claims/`, `progress.json` while it
runs, and the published rows. A cell ends exactly once: done, or failed with the reason; anything else (stopped, killed,
disk full) leaves a folder that the next run carries on.
"""

import json
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from looplm.accounting import non_embedding_parameters, parameters, total_parameters
from looplm.execution import CompileMode, DeviceName, Execution, LoggerName, choose_backend
from looplm.training import Fitted, Progress, fit
from results.schema import json_text
from results.store import Store
from sweeps.cell import Cell
from sweeps.claim import Claim
from sweeps.cost import training_flops_by_group
from sweeps.files import write_atomically
from sweeps.measure import measure
from sweeps.provenance import device_model, suite_commit
from synthdata.batch import Batch, pack, pad
from synthdata.streams import Stream, world

PROGRESS_SECONDS = 0.5


class Outcome(StrEnum):
    """How an attempt at a cell ended."""

    DONE = "done"
    ALREADY = "already done"
    CLAIMED = "claimed by another"
    STOPPED = "stopped"
    FAILED = "failed"


def local_execution(
    store: Store, device: DeviceName = "cpu", compile: CompileMode = "auto", logger: LoggerName = "none"
) -> Execution:
    """How cells of a store run: compiled code is kept beside them, for every worker and the next sitting."""
    return Execution(device=device, compile=compile, cache_folder=store.root / "cache" / "compile", logger=logger)


def batch_at(cell: Cell) -> Callable[[int], Batch]:
    """The batch of each optimiser step: a pure function of the cell and the step."""
    stream = Stream(cell.task, cell.seeds.data_seed, cell.seeds.order_seed)
    lay_out = pad if cell.budget.layout == "pad" else pack
    size = cell.budget.batch_size

    @lru_cache(maxsize=2)
    def at(step: int) -> Batch:
        return lay_out(stream.examples(step * size, size), cell.context)

    return at


def run_cell(
    cell: Cell,
    store: Store,
    execution: Execution,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    notify: Callable[[str], None] = lambda notice: None,
    retry_failed: bool = False,
) -> Outcome:
    """Train, measure and publish one cell, or carry on where an earlier attempt stopped.

    A cell that is done, or that somebody else runs, is left alone; a failed one too, unless `retry_failed`. What is
    wrong with the cell itself (it diverges, it raises) is published as a failure and returned as `Outcome.FAILED`;
    what is wrong with the machine (`OSError`: disk full, folder not writable) is raised and ends nothing.

    Raises:
        ValueError: if this machine lacks the device or the compiler that `execution` insists on.
    """
    cell = cell.canonical()
    execution.torch_device()
    choose_backend(execution, cell.budget.steps)
    status = store.status(cell.id)
    if status == "done" or (status == "failed" and not retry_failed):
        return Outcome.ALREADY
    folder = store.folder(cell.id)
    folder.mkdir(parents=True, exist_ok=True)
    claim = Claim.acquire(folder)
    if claim is None:
        return Outcome.CLAIMED
    with claim:
        if store.status(cell.id) == "done":
            return Outcome.ALREADY
        write_atomically(folder / "config.yaml", f"# {cell.name}\n" + OmegaConf.to_yaml(cell.config()))
        report = _Reporter(folder / "progress.json", on_progress)
        try:
            fitted = _fit(cell, folder, execution, report, should_stop)
            for notice in fitted.notices:
                notify(notice)
            if not fitted.finished:
                return Outcome.STOPPED
            row = cell_row(cell, fitted, execution)
            records = measure(cell, fitted.model)
        except OSError:
            raise
        except Exception as error:
            write_atomically(folder / "traceback.txt", traceback.format_exc())
            failure = cell_row(cell, None, execution) | {"status": "failed", "error": _last_line(error)}
            if claim.held():
                store.publish_failure(failure)
            return Outcome.FAILED
        if not claim.held():
            return Outcome.CLAIMED
        store.publish(row, records)
        (folder / "progress.json").unlink(missing_ok=True)
        return Outcome.DONE


def _last_line(error: Exception) -> str:
    return " ".join(traceback.format_exception_only(error)[-1].split())


def _fit(
    cell: Cell,
    folder: Path,
    execution: Execution,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> Fitted:
    return fit(
        model=cell.model,
        vocab_size=cell.vocab_size,
        objective=cell.objective,
        optimizer=cell.optimizer,
        budget=cell.budget,
        precision=cell.precision,
        init_seed=cell.seeds.init_seed,
        batch_at=batch_at(cell),
        folder=folder,
        execution=execution,
        on_progress=on_progress,
        should_stop=should_stop,
    )


class _Reporter:
    """Passes progress on, and leaves it where `status` finds it, at most every `PROGRESS_SECONDS`."""

    def __init__(self, path: Path, on_progress: Callable[[Progress], None]) -> None:
        self._path, self._on_progress, self._written = path, on_progress, 0.0

    def __call__(self, progress: Progress) -> None:
        self._on_progress(progress)
        if time.monotonic() - self._written >= PROGRESS_SECONDS:
            write_atomically(self._path, json.dumps(asdict(progress)))
            self._written = time.monotonic()


def cell_row(cell: Cell, fitted: Fitted | None, execution: Execution) -> dict[str, Any]:
    """The cell's row of the `cells` table."""
    flops = training_flops_by_group(cell)
    return {
        "cell": cell.id,
        "status": "done",
        "error": None,
        "config": json_text(cell.config()),
        "task": f"{cell.task.name}@{cell.task.version}",
        "objective": cell.objective.name,
        "precision": cell.precision,
        "layers": cell.model.layers,
        "loops": cell.model.loops,
        "exits": cell.model.exits,
        "hidden_size": cell.model.hidden_size,
        "vocab_size": cell.vocab_size,
        "parameters": total_parameters(cell.model, cell.vocab_size),
        "parameters_nonembedding": non_embedding_parameters(cell.model, cell.vocab_size),
        "parameters_by_group": json_text(parameters(cell.model, cell.vocab_size)),
        "steps": cell.budget.steps,
        "batch_size": cell.budget.batch_size,
        "train_flops": sum(flops.values()),
        "train_flops_by_group": json_text(flops),
        **asdict(cell.seeds),
        "constants": json_text(cell.task.constants(world(cell.task, cell.seeds.data_seed))),
        "device": device_model(execution.device),
        "backend": fitted.backend if fitted else "none",
        "torch": torch.__version__,
        "suite_commit": suite_commit(),
        "host": socket.gethostname(),
        "seconds": fitted.seconds if fitted else 0.0,
        "tokens": fitted.tokens if fitted else 0,
        "finished_at": datetime.now(UTC),
    }
