"""What early exits cost and save: accuracy and mean depth of every rule, with its random control and the oracle."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import spearmanr

from looplm.exit_rules import (
    ArgmaxStability,
    Entropy,
    ExitRule,
    Fixed,
    LearnedGate,
    LoopKL,
    QExit,
    SecondDifference,
    StateDifference,
)
from looplm.model import LoopLM
from looplm.predictions import Left, predict
from sweeps.cell import Cell
from sweeps.measure import Row, batches, frame, levels
from synthdata.streams import evaluation_set

LIMIT = 1024
"""Most examples of a split that are measured."""

ORACLE = "oracle"


def rules(model: LoopLM) -> dict[tuple[str, str], ExitRule]:
    """Every rule that is tried, by name and setting; depth rises with the setting's place, but not always strictly."""
    size = model.config.hidden_size**0.5
    swept: dict[str, dict[str, ExitRule]] = {
        "fixed": {str(exit + 1): Fixed(exit) for exit in range(model.config.exits)},
        "q_exit": {str(q): QExit(q) for q in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
        "gate": {str(threshold): LearnedGate(threshold) for threshold in (0.1, 0.3, 0.5, 0.7, 0.9)},
        "entropy": {str(nats): Entropy(nats) for nats in (2.0, 1.0, 0.3, 0.1, 0.03, 0.01)},
        "loop_kl": {str(nats): LoopKL(nats) for nats in (1.0, 0.3, 0.1, 0.03, 0.01)},
        "state_difference": {str(share): StateDifference(share * size) for share in (1.0, 0.5, 0.3, 0.1)},
        "second_difference": {str(share): SecondDifference(share * size) for share in (1.0, 0.5, 0.3, 0.1)},
        "argmax_stability": {"2": ArgmaxStability(2), "3": ArgmaxStability(3)},
    }
    return {(name, setting): rule for name, settings in swept.items() for setting, rule in settings.items()}


def measure(cell: Cell, model: LoopLM, evaluation: str) -> pl.DataFrame:
    """Metrics by split, and within it by difficulty, of every rule at every setting.

    - `exits/accuracy/<rule>/<setting>`: examples whose every scored token is right at its own exit.
    - `exits/loops/<rule>/<setting>`: loops run, mean over scored tokens.
    - `exits/control/<rule>/<setting>`: accuracy if the same exits are handed out at random.
    - `exits/tracking/<rule>/<setting>`: Spearman's correlation of the loops run with those that the oracle runs, over
      examples; within one difficulty it asks whether a rule sees more than how long a question is. Not given where
      either is constant.

    State distances are in units of sqrt(hidden_size), the norm of a normed state of weight 1. The oracle leaves at the
    first exit that is right, and at the last where none is. With one exit every rule is the same: a place to compare.
    """
    tried = rules(model)
    rows: list[Row] = []
    for split in cell.task.splits[1:]:
        examples = evaluation_set(cell.task, cell.seeds.data_seed, split, LIMIT)
        if not len(examples):
            continue
        found = predict(model, batches(examples, cell.context), list(tried.values()))
        oracle = found.by_document(found.oracle_M)
        sides = [(*key, exit_M) for key, exit_M in zip(tried, found.exit_KM, strict=True)]
        for number, (name, setting, exit_M) in enumerate([*sides, (ORACLE, "", found.oracle_M)]):
            left, control = found.by_document(exit_M), found.by_document(found.control_M(exit_M, seed=number))
            label = f"{name}/{setting}".rstrip("/")
            for difficulty, among in levels(examples):
                for metric, value in _numbers(left, control, oracle, among):
                    rows.append(Row(None, split, difficulty, f"exits/{metric}/{label}", value, int(among.sum())))
    return frame(cell, evaluation, rows)


def _numbers(left: Left, control: Left, oracle: Left, among: npt.NDArray[np.bool_]) -> Iterator[tuple[str, float]]:
    yield "accuracy", float(left.correct_N[among].mean())
    yield "loops", float(left.loops_N[among].mean())
    yield "control", float(control.correct_N[among].mean())
    loops_N, needed_N = left.loops_N[among], oracle.loops_N[among]
    if np.ptp(loops_N) > 0 and np.ptp(needed_N) > 0:
        yield "tracking", float(spearmanr(loops_N, needed_N).statistic)
