"""A grid of 100,000 cells, beside the limits that we hold ourselves to: expanded, hashed, and asked where it stands.

    expand                  a grid with axes, partners and replicates into cells
    expand, no replicates   the same number of cells, every one of them composed by itself
    hash                    the ids of the cells
    status                  what `looplm status` looks at, when every cell is done and the index knows it
    status without index    the same when there is no index: every file is read and checked, once; its time has no limit

Each case is measured in a process of its own, without torch, whose peak memory counts whole: interpreter and libraries
with it. The rows of the cells are those of one real cell under other ids.
"""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import polars as pl

from results.collection import read_collection
from results.store import Store
from sweeps.grid import Grid, Plan
from sweeps.status import statuses

if TYPE_CHECKING:
    from experiments.bench.measure import Options, Row

OURS, LIMIT = "looplm", "limit"
LIMITS = {"processor time": 10.0, "peak memory": 2048.0}
"""Of time, what a core spends: one thread does the work, and elsewhere than on a busy machine that is all there is."""

UNITS = {"time": "s", "processor time": "s", "peak memory": "MiB"}
RECORDS_A_CELL = 18

_PARTNERS = ("plain", "longer", "deep", "deep_exits", "narrow")
_ARMS: dict[str, Any] = {
    "looped": {},
    "looped_3": {"model.loops": 3},
    "looped_last": {"objective.name": "last"},
    **{name: {"partner": name, "of": "looped"} for name in _PARTNERS},
}
_AXES = {"task.entities": [40, 50, 60, 70, 80], "model.hidden_size": [32, 64, 96, 128, 160]}
_FULL, _QUICK = (10, 50), (1, 1)
"""Learning rates and replicates."""


def grid(rates: int, replicates: int) -> Grid:
    """A grid of 200 times `rates` times `replicates` cells."""
    axes = {**_AXES, "optimizer.lr": [round(1e-3 + 1e-6 * step, 6) for step in range(rates)]}
    baseline = {"task": "twohop", "model.loops": 2, "objective.name": "entropy", "budget.steps": 100}
    text = {
        "question": "How long does it take?",
        "hypotheses": {},
        "parts": {"use": {"baseline": baseline, "arms": _ARMS}},
        "scales": {"paper": {"about": "", "replicates": replicates, "parts": {"use": {"axes": axes}}}},
    }
    return Grid("scale", text, {})


def fill(store: Store, plan: Plan) -> None:
    """Publish the rows of one real cell under the id of every cell of a plan, quickly: no file is synced."""
    reference = Path(__file__).resolve().parents[2] / "results" / "reference" / "quick-cpu"
    found = read_collection(reference)
    cell = found.cells.filter(status="done")["cell"][0]
    records = found.records.filter(pl.col("cell") == cell).head(RECORDS_A_CELL)
    templates = {"cell": _plain(found.cells.filter(cell=cell)), "records": _plain(records)}
    for name in plan.cells:
        folder = store.folder(name) / "rows"
        folder.mkdir(parents=True)
        sums = ""
        for file, template in templates.items():
            data = template.replace(cell.encode(), name.encode())
            (folder / f"{file}.parquet").write_bytes(data)
            sums += f"{hashlib.sha256(data).hexdigest()}  {file}.parquet\n"
        (folder / "SHA256SUMS").write_text(sums)


def _plain(frame: pl.DataFrame) -> bytes:
    """A Parquet file in which an id of the same length can be put in place of another."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="uncompressed")
    return buffer.getvalue()


Work = Callable[[], object]


def _expand(rates: int, replicates: int, root: Path) -> Work:
    return lambda: grid(rates, replicates).expand("paper")


def _expand_points(rates: int, replicates: int, root: Path) -> Work:
    return _expand(rates * replicates, 1, root)


def _hash(rates: int, replicates: int, root: Path) -> Work:
    plan = grid(rates, replicates).expand("paper")
    return lambda: plan.cells


def _status(rates: int, replicates: int, root: Path) -> Work:
    cells, store = grid(rates, replicates).expand("paper").cells, Store(root)
    return lambda: (statuses(cells.values(), store), store.problems(cells))


def _status_without_index(rates: int, replicates: int, root: Path) -> Work:
    shutil.rmtree(root / "index", ignore_errors=True)
    return _status(rates, replicates, root)


CASES: dict[str, Callable[[int, int, Path], Work]] = {
    "expand": _expand,
    "expand, no replicates": _expand_points,
    "hash": _hash,
    "status without index": _status_without_index,
    "status": _status,
}
"""What prepares each case and returns the work to measure. The index that `status` reads is left by the case before."""


def run(options: "Options") -> "Iterator[Row]":
    """Seconds and MiB of each case; the ratio beside a limit says how many times over it is kept.

    Raises:
        ValueError: if the device is not the CPU.
    """
    from experiments.bench.measure import Row, chosen

    if options.device != "cpu":
        raise ValueError(f"device is {options.device!r}; sweeps are planned on the cpu")
    size = _QUICK if options.quick else _FULL
    plan = grid(*size).expand("paper")
    names = chosen(CASES, options)
    with tempfile.TemporaryDirectory(prefix="looplm-scale-") as folder:
        if any(name.startswith("status") for name in names):
            fill(Store(Path(folder)), plan)
        for name in names:
            found = [_measured(name, size, Path(folder)) for _ in range(options.repeats)]
            case = f"{name}: {len(plan.cells):,} cells"
            for metric, unit in UNITS.items():
                ours = median(each[metric] for each in found)
                yield Row("scale", case, OURS, metric, ours, unit, 1.0)
                if metric in LIMITS and not (metric == "processor time" and name == "status without index"):
                    yield Row("scale", case, LIMIT, metric, LIMITS[metric], unit, LIMITS[metric] / ours)


def _measured(name: str, size: tuple[int, int], root: Path) -> dict[str, float]:
    """One case in a process of its own."""
    command = [sys.executable, "-m", __name__, name, *map(str, size), str(root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(name: str, rates: str, replicates: str, root: str) -> None:
    """Measure one case and print what it took."""
    work = CASES[name](int(rates), int(replicates), Path(root))
    began, spent = time.perf_counter(), time.process_time()
    kept = work()
    took = {"time": time.perf_counter() - began, "processor time": time.process_time() - spent}
    del kept
    print(json.dumps({**took, "peak memory": _peak_mebibytes()}))


def _peak_mebibytes() -> float:
    """Most memory that this process ever had resident, without what it inherited from the one that started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
