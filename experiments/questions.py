"""Finds the questions: every folder here that holds a `grid.yaml`."""

import importlib
import os
from pathlib import Path
from types import ModuleType

from sweeps.config import unknown
from sweeps.grid import Grid

ROOT = Path(__file__).resolve().parent


def questions() -> list[str]:
    """Names of all questions, in alphabetical order."""
    return sorted(path.parent.name for path in ROOT.glob("*/grid.yaml"))


def grid(question: str) -> Grid:
    """The grid of a question; a `ValueError` suggests the nearest name."""
    if question not in questions():
        raise unknown("question", question, questions())
    return Grid.load(ROOT / question)


def figure(question: str) -> ModuleType:
    """The question's `figure` module: `tables(evidence)`, its sheets, and `panels(evidence)`, those of its figure."""
    return importlib.import_module(f"experiments.{question}.figure")


def runs_root() -> Path:
    """Where runs live: `$LOOPLM_RUNS`, or `runs/` in this checkout."""
    return Path(os.environ.get("LOOPLM_RUNS") or ROOT.parent / "runs")


def references() -> list[Path]:
    """The folders of `results/reference`, each with the rows of a question that were measured here."""
    return sorted(path for path in (ROOT.parent / "results" / "reference").iterdir() if path.is_dir())
