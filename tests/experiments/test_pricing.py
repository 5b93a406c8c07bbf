"""Prices follow from measured speeds, and only from them."""

import dataclasses
import datetime
from pathlib import Path

import pytest

from experiments.cli.tables import plan_rows, plan_table, price_lines
from experiments.pricing import Speeds, measured_speeds, price
from experiments.questions import grid, references
from looplm.execution import Execution
from results.collection import write_collection
from results.schema import CELLS, MEMBERS, RECORDS
from results.store import Store
from sweeps.cell import Cell
from sweeps.cost import training_flops
from sweeps.run import cell_row


def cell(steps: int = 100, **changes: int) -> Cell:
    sizes = [f"model.{name}={value}" for name, value in ({"hidden_size": 32, "loops": 1} | changes).items()]
    return Cell.compose(["task=addition", f"budget.steps={steps}", *sizes])


def row(cell: Cell, speed: float, device: str = "a CPU", **changes: object) -> dict[str, object]:
    made = cell_row(cell, None, Execution()) | {"device": device, "backend": "eager"}
    finished = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return made | {"seconds": training_flops(cell) / speed, "finished_at": finished} | changes


def test_hours_are_flops_over_the_measured_speed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.publish(row(cell(), speed=2e9), RECORDS.frame([]))
    (speeds,) = measured_speeds(store, [])
    planned = [cell(steps=500), cell(steps=900)]
    found = price(planned, speeds)
    assert found.hours == pytest.approx(sum(map(training_flops, planned)) / 2e9 / 3600)
    assert found.hours_left == found.hours
    assert found.beyond == pytest.approx(1.0)
    done = price(planned, speeds, frozenset({planned[0].id}))
    assert done.hours == pytest.approx(found.hours)
    assert done.hours_left == pytest.approx(training_flops(planned[1]) / 2e9 / 3600)
    assert f"1 in {tmp_path}" in done.sentence
    assert "still to run on a CPU" in done.sentence


def test_a_cell_is_priced_by_the_measured_ones_that_are_nearest_in_work(tmp_path: Path) -> None:
    small, large = cell(), cell(hidden_size=128)
    store = Store(tmp_path)
    for index in range(5):
        for each, speed in ((small, 1e9), (large, 8e9)):
            seeds = dataclasses.replace(each.seeds, init_seed=index)
            store.publish(row(dataclasses.replace(each, seeds=seeds), speed), RECORDS.frame([]))
    (speeds,) = measured_speeds(store, [])
    assert speeds.seconds(small) == pytest.approx(training_flops(small) / 1e9)
    assert speeds.seconds(large) == pytest.approx(training_flops(large) / 8e9)
    huge = cell(hidden_size=512)
    assert price([huge], speeds).beyond == pytest.approx(training_flops(huge) / training_flops(large))
    assert "times the largest measured" in price([huge], speeds).sentence


def test_devices_are_kept_apart_and_failed_or_untimed_cells_say_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    store.publish(row(cell(), 1e9), RECORDS.frame([]))
    store.publish(row(cell(steps=7), 1e9, seconds=0.0), RECORDS.frame([]))
    store.publish_failure(row(cell(steps=8), 1.0, status="failed", error="diverged"))
    reference = CELLS.frame([row(cell(), 1e9), row(cell(steps=9), 5e12, device="NVIDIA H100 80GB HBM3")])
    write_collection(tmp_path / "saved", reference, RECORDS.frame([]), MEMBERS.frame([]))
    (tmp_path / "empty").mkdir()
    gpu, cpu = measured_speeds(store, [tmp_path / "saved", tmp_path / "empty"])
    assert (gpu.is_gpu, gpu.sources) == (True, {"saved": 1})
    assert (cpu.is_gpu, cpu.sources) == (False, {str(tmp_path / "runs"): 1})
    assert "GPU-hours on NVIDIA H100" in price([cell()], gpu).sentence
    assert "core-hours on a CPU" in price([cell()], cpu).sentence


def test_what_a_cell_is_pretrained_from_is_paid_once() -> None:
    speeds = Speeds("a CPU", {"here": 1}, (1e6,), (1e9,))
    parent = cell(steps=50)
    children = [dataclasses.replace(cell(steps=steps), pretrained=parent) for steps in (10, 20)]
    total = training_flops(parent) + sum(map(training_flops, children))
    assert price(children, speeds).hours == pytest.approx(total / 1e9 / 3600)


def test_nothing_measured_gives_no_price() -> None:
    plan = grid("capacity_vs_manipulation").expand("smoke")
    data = plan_rows(plan, [])
    assert {row["seconds"] for row in data["rows"]} == {None}
    assert plan_table(data).title is not None
    (line,) = price_lines(data)
    assert "GPU-hours are not known" in line
    gpu = Speeds("NVIDIA H100", {"here": 1}, (1e9,), (1e12,))
    (priced,) = price_lines(plan_rows(plan, [gpu]))
    assert "GPU-hours on NVIDIA H100" in priced


def test_the_reference_rows_price_the_headline() -> None:
    data = plan_rows(
        grid("capacity_vs_manipulation").expand("lab"), measured_speeds(Store(Path("nowhere")), references())
    )
    assert data["prices"][0]["hours"] > 1
    assert all(row["seconds"] > 0 for row in data["rows"])
