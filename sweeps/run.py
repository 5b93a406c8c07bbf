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
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch
from omegaconf import OmegaConf

from looplm.accounting import non_embedding_parameters, parameters, total_parameters
from looplm.checkpoint import load_model
from looplm.execution import CompileMode, DeviceName, Execution, LoggerName, choose_backend
from looplm.model import LoopLM
from looplm.training import CHECKPOINT, Fitted, Initial, Progress, fit
from results.schema import json_text
from results.store import Store
from sweeps.cell import Cell
from sweeps.claim import Claim, attempts
from sweeps.cost import training_flops_by_group
from sweeps.evaluations import EVALUATIONS, Evaluation
from sweeps.files import write_atomically
from sweeps.measure import measure, stability
from sweeps.provenance import device_model, suite_commit
from synthdata.batch import Batch, pack, pad
from synthdata.streams import Stream, world

PROGRESS_SECONDS = 0.5

MOST_DEATHS = 3
"""Processes in a row that may vanish without getting a cell any further, before it counts as failed."""


class Outcome(StrEnum):
    """How an attempt at a cell ended."""

    DONE = "done"
    ALREADY = "already done"
    CLAIMED = "claimed by another"
    STOPPED = "stopped"
    FAILED = "failed"


def local_execution(
    store: Store,
    device: DeviceName = "cpu",
    compile: CompileMode = "auto",
    logger: LoggerName = "none",
    devices: int = 1,
    cuda_graphs: bool = False,
) -> Execution:
    """How cells of a store run: compiled code is kept beside them, for every worker and the next sitting."""
    cache = store.root / "cache" / "compile"
    return Execution(
        device=device,
        devices=devices,
        compile=compile,
        cuda_graphs=cuda_graphs,
        cache_folder=cache,
        logger=logger,
    )


@dataclass(frozen=True)
class Batches:
    """The batch of each optimiser step: a pure function of the cell and the step, in whichever process it is asked."""

    cell: Cell

    @cached_property
    def _stream(self) -> Stream:
        return Stream(self.cell.task, self.cell.seeds.data_seed, self.cell.seeds.order_seed)

    def __call__(self, step: int) -> Batch:
        """The batch of optimiser step `step`, from 0."""
        lay_out = pad if self.cell.budget.layout == "pad" else pack
        size = self.cell.batch_size
        return lay_out(self._stream.examples(step * size, size), self.cell.context)


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

    What it is pretrained from comes first, unless it is trained already. A cell that is done, or that somebody else
    runs, is left alone; a failed one too, unless `retry_failed`. What is wrong with the cell itself (it diverges, it
    raises, every process that tries it vanishes) is published as a failure and returned as `Outcome.FAILED`; what is
    wrong with the machine (`OSError`: disk full, folder not writable) is raised and ends nothing.

    Raises:
        ValueError: if this machine lacks the device or the compiler that `execution` insists on, or the cell's data
            seed gives a world in which something cannot be asked.
    """
    cell = cell.canonical()
    execution.torch_device()
    choose_backend(execution, cell.budget.steps)
    attempt = _Attempt(store, execution, on_progress, should_stop, notify, retry_failed)
    return attempt.run(cell)


@dataclass(frozen=True)
class _Attempt:
    """What stays the same while a cell, and before it what it is pretrained from, is run."""

    store: Store
    execution: Execution
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    notify: Callable[[str], None]
    retry_failed: bool

    def run(self, cell: Cell, for_its_weights: bool = False) -> Outcome:
        """Bring a cell to its end; `for_its_weights` also where its rows are there and its checkpoint is not."""
        if self._ended(cell, for_its_weights):
            return Outcome.ALREADY
        training_flops_by_group(cell)  # draws the world and a block, so that a row can be made whatever happens
        if cell.pretrained is not None:
            outcome = self.run(cell.pretrained, for_its_weights=True)
            if outcome in (Outcome.CLAIMED, Outcome.STOPPED):
                return outcome
        folder = self.store.folder(cell.id)
        folder.mkdir(parents=True, exist_ok=True)
        claim = Claim.acquire(folder, self._mark(cell))
        if claim is None:
            return Outcome.CLAIMED
        with claim:
            self._discard_drafts(cell)
            if self._ended(cell, for_its_weights):
                return Outcome.ALREADY
            if claim.deaths >= MOST_DEATHS:
                return self._give_up(cell, claim)
            write_atomically(folder / "config.yaml", f"# {cell.name}\n" + OmegaConf.to_yaml(cell.config()))
            return self._train_and_measure(cell, claim)

    def _ended(self, cell: Cell, for_its_weights: bool) -> bool:
        """Whether nothing is left to do."""
        status = self.store.status(cell.id)
        if status != "done":
            return status == "failed" and not self.retry_failed
        wanted = self._to_measure(cell)
        if not self.retry_failed:
            wanted = [each for each in wanted if self.store.measuring_error(cell.id, each.id) is None]
        return not wanted and not (for_its_weights and not (self.store.folder(cell.id) / CHECKPOINT).exists())

    def _mark(self, cell: Cell) -> str:
        """How far a cell has come, in words that change when it gets further."""
        checkpoint = self.store.folder(cell.id) / CHECKPOINT
        when = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        return f"{self.store.status(cell.id)}, checkpoint of {when}, {len(self._to_measure(cell))} evaluations to come"

    def _discard_drafts(self, cell: Cell) -> None:
        """Remove what earlier owners left half-written; one that lives on can then no longer put it into place."""
        self.store.discard_drafts(cell.id)
        folder = self.store.folder(cell.id)
        for draft in (*folder.glob(f"{CHECKPOINT}.*.tmp"), *folder.glob(".*.draft")):
            draft.unlink(missing_ok=True)

    def _give_up(self, cell: Cell, claim: Claim) -> Outcome:
        last = attempts(self.store.folder(cell.id))[-2]
        where = last["host"] if last["job"] is None else f"{last['host']}, job {last['job']}"
        self._fail(
            cell, f"its process vanished {claim.deaths} times in a row before it got any further, last on {where}"
        )
        return Outcome.FAILED

    def _fail(self, cell: Cell, error: str) -> None:
        """Publish why a cell failed; of one that has rows, why what is still to be measured of it failed."""
        if self.store.status(cell.id) != "done":
            self.store.publish_failure(cell_row(cell, None, self.execution) | {"status": "failed", "error": error})
            return
        for evaluation in self._to_measure(cell):
            self.store.add_failure(cell.id, evaluation.id, error)

    def _to_measure(self, cell: Cell) -> list[Evaluation]:
        """Evaluations that are not published yet."""
        wanted = [EVALUATIONS[name] for name in cell.evaluations]
        return [each for each in wanted if not self.store.measured(cell.id, each.id)]

    def _train_and_measure(self, cell: Cell, claim: Claim) -> Outcome:
        folder = self.store.folder(cell.id)
        try:
            if cell.pretrained is not None and self.store.status(cell.pretrained.id) != "done":
                raise RuntimeError(f"the cell it is pretrained from failed: {self.store.error(cell.pretrained.id)}")
            fitted = self._fit(cell, folder, lambda: claim.lost or self.should_stop())
            for notice in fitted.notices:
                self.notify(notice)
            if not fitted.finished:
                return Outcome.CLAIMED if claim.lost else Outcome.STOPPED
            if self.store.status(cell.id) != "done":
                row = cell_row(cell, fitted, self.execution)
                records = pl.concat([measure(cell, fitted.model), stability(cell, fitted.stability)])
                if not self.store.publish(row, records, claim.held):
                    return Outcome.CLAIMED
            elif not claim.held():
                return Outcome.CLAIMED
        except OSError:
            raise
        except Exception as error:
            write_atomically(folder / "traceback.txt", traceback.format_exc())
            if claim.held():
                self._fail(cell, _last_line(error))
            return Outcome.FAILED
        (folder / "progress.json").unlink(missing_ok=True)
        return self._evaluate(cell, fitted.model, claim)

    def _evaluate(self, cell: Cell, model: LoopLM, claim: Claim) -> Outcome:
        """Measure what is still to be measured. One that raises is a failure of its own and stops no other."""
        failed = False
        for evaluation in self._to_measure(cell):
            try:
                records = evaluation.measure(cell, model)
            except OSError:
                raise
            except Exception as error:
                failed = True
                write_atomically(self.store.folder(cell.id) / "traceback.txt", traceback.format_exc())
                if claim.held():
                    self.store.add_failure(cell.id, evaluation.id, _last_line(error))
            else:
                if not self.store.add(cell.id, evaluation.id, records, claim.held):
                    return Outcome.CLAIMED
        return Outcome.FAILED if failed else Outcome.DONE

    def _fit(self, cell: Cell, folder: Path, should_stop: Callable[[], bool]) -> Fitted:
        return fit(
            model=cell.model,
            vocab_size=cell.vocab_size,
            objective=cell.objective,
            optimizer=cell.optimizer,
            budget=cell.budget,
            precision=cell.precision,
            init_seed=cell.seeds.init_seed,
            batch_at=Batches(cell),
            folder=folder,
            execution=self.execution,
            on_progress=_Reporter(folder / "progress.json", self.on_progress),
            should_stop=should_stop,
            initial=None if cell.pretrained is None else self._weights(cell.pretrained),
        )

    def _weights(self, cell: Cell) -> Initial:
        """What a trained cell hands on."""
        return Initial(cell.id, load_model(self.store.folder(cell.id) / CHECKPOINT).state_dict())


def _last_line(error: Exception) -> str:
    return " ".join(traceback.format_exception_only(error)[-1].split())


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
        "batch_size": cell.batch_size,
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
