"""Losses of fixed tiny trainings. After raising NUMERICS, run this file as a script to write them anew."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from looplm import NUMERICS
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.training import Execution, fit
from synthdata.batch import Batch

GOLDEN = Path(__file__).with_name("golden_losses.json")
MODELS = {
    "looped, entropy": (ModelConfig(layers=2, loops=2, hidden_size=16), ObjectiveConfig(name="entropy", beta=0.1)),
    "looped, geometric": (ModelConfig(loops=3, hidden_size=16), ObjectiveConfig(name="geometric", prior=0.3)),
    "looped, uniform": (ModelConfig(loops=2, hidden_size=16), ObjectiveConfig(name="uniform")),
    "plain": (ModelConfig(layers=2, hidden_size=16, tied_embeddings=False), ObjectiveConfig()),
    "untied exits": (ModelConfig(layers=2, hidden_size=16, exit_every=1), ObjectiveConfig(name="entropy")),
}


def batch_at(step: int) -> Batch:
    """Two documents a row, the second shorter; no task is involved, so that tasks may change without this test."""
    row, position = np.indices((6, 8))
    tokens = (3 * row + 5 * position + 7 * step + row * position) % 11
    targets = (tokens + row + position) % 11
    documents = np.where(position < 5, 2 * row, np.where(position < 7, 2 * row + 1, -1))
    weights = np.where(documents >= 0, 1.0 + (position % 3), 0.0)
    scored = np.full((6, 8), -1)
    return Batch(
        tokens.astype(np.int64),
        targets.astype(np.int64),
        weights.astype(np.float32),
        scored.astype(np.int8),
        documents.astype(np.int32),
        np.zeros((6, 8), dtype=np.int32),
    )


def losses(name: str, folder: Path) -> list[float]:
    model, objective = MODELS[name]
    seen: list[float] = []
    fit(
        model=model,
        vocab_size=11,
        objective=objective,
        optimizer=OptimizerConfig(lr=0.01, warmup_steps=3),
        budget=BudgetConfig(steps=8),
        precision="32-true",
        init_seed=5,
        batch_at=batch_at,
        folder=folder,
        execution=Execution(compile="off", chunk_steps=1),
        on_progress=lambda progress: seen.append(progress.loss),
        should_stop=lambda: False,
    )
    return [float(f"{loss:.7g}") for loss in seen]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", MODELS)
def test_losses_are_golden(name: str, golden: dict[str, Any], tmp_path: Path) -> None:
    hint = f"numbers changed: raise looplm.NUMERICS (now {NUMERICS}) and run {Path(__file__).name} as a script"
    assert golden["numerics"] == NUMERICS, hint
    assert losses(name, tmp_path) == pytest.approx(golden["losses"][name], rel=1e-5), hint


def test_every_model_has_golden_losses(golden: dict[str, Any]) -> None:
    assert {name: len(values) for name, values in golden["losses"].items()} == dict.fromkeys(MODELS, 8)


if __name__ == "__main__":
    if json.loads(GOLDEN.read_text())["numerics"] == NUMERICS:
        sys.exit(f"looplm.NUMERICS is still {NUMERICS}; raise it, or every stored result claims these numbers")
    with tempfile.TemporaryDirectory() as folder:
        found = {name: losses(name, Path(folder) / str(i)) for i, name in enumerate(MODELS)}
    GOLDEN.write_text(json.dumps({"numerics": NUMERICS, "losses": found}, indent=2) + "\n")
