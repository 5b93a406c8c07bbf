"""A grid of 24 cells by the command line, end to end on a real SLURM and from two shells at once."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.questions import grid
from looplm.execution import Execution
from results.store import Store
from slurm.cluster import Cluster
from slurm.submission import submissions
from sweeps.run import run_cell

Looplm = Callable[..., "subprocess.Popen[str]"]
QUESTION = ["capacity_vs_manipulation", "--scale", "smoke"]
PARTS = ["manipulation", "capacity_people", "capacity_exposures"]


def test_a_grid_sent_from_two_shells_at_once_is_done_once(
    dev: Cluster, looplm: Looplm, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    command = ["submit", *QUESTION, "--cluster", "devcluster", *(word for part in PARTS for word in ("--part", part))]
    shells = [looplm(*command), looplm(*command)]
    said = [shell.communicate(timeout=200)[0] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0], said
    store, cells = Store(tmp_path / "runs"), grid(QUESTION[0]).expand("smoke").only(PARTS).cells
    assert len(cells) == 24
    (sent,) = submissions(store)
    assert sum("24 queued" in text or "0 cells in 0 jobs" in text for text in said) == 1
    assert sorted(cell for array in sent.arrays for pack in array.packs for cell in pack) == sorted(cells)
    watched = looplm("status", *QUESTION, "--watch")
    text, _ = watched.communicate(timeout=300)
    assert watched.returncode == 0, text
    counts = json.loads(looplm("status", *QUESTION, "--json").communicate(timeout=100)[0])["counts"]
    assert counts["done"] == 24
    rows = store.read()
    assert sorted(rows.cells["cell"]) == sorted(cells)
    commits = rows.cells["suite_commit"].unique().to_list()
    assert commits == [(sent.code / "COMMIT").read_text() or None]
    quiet = Store(tmp_path_factory.mktemp("one-by-one"))
    for cell in cells.values():
        run_cell(cell, quiet, Execution())
    assert rows.records.equals(quiet.read().records)
