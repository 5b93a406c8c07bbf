"""What users see when they are wrong, and what never needs torch."""

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from results.store import Store

QUESTION = "capacity_vs_manipulation"
REFERENCE = str(Path(__file__).resolve().parents[2] / "results" / "reference" / "quick-cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "capacity_vs_manipulatio"], f"Did you mean '{QUESTION}'"),
        (["plan", QUESTION, "--scale", "quik"], "Did you mean 'quick'"),
        (["plan", QUESTION, "budget.stps=3"], "Did you mean 'steps'"),
        (["plan", QUESTION, "objective.name=last"], "the grid of"),
        (["run", QUESTION, "--scale", "smoke", "--arm", "plane"], "Did you mean 'plain'"),
        (["train", "task=twohopp"], "Did you mean 'twohop'"),
        (["train", "model.loops=0"], "model.loops is 0; it must be at least 1"),
        (["train", "model.hidden_size=62"], "a multiple of 2 * model.heads = 4"),
        (["train", "budget.context=2"], "needs at least 4"),
        (["preview", "twohop", "--split", "tes"], "split 'tes' is not one of task 'twohop'"),
        (["sample", "twohop", "entities=1", "--out", "x.parquet"], "entities is 1; it must be at least 2"),
        (["tune", QUESTION, "--part", "storage"], "tuning.storage is missing"),
        (["submit", QUESTION, "--cluster", "devclster"], "Did you mean 'devcluster'"),
        (["logs", "0123"], "no cell begins so"),
        (["tune", QUESTION, "--part", "storage", "--cluster", "debug", "--workers", "2"], "--workers is 2"),
        (["report", QUESTION, "--from", "nowhere"], "collection folder nowhere does not exist"),
        (["report", QUESTION], "nothing to report: none of the 27 cells"),
        (["table", QUESTION, "--from", REFERENCE, "--table", "capacty"], "Did you mean 'capacity'"),
        (["compare", REFERENCE, "."], ". is neither a folder of runs nor a saved collection"),
    ],
)
def test_bad_input_ends_in_one_line_and_code_2(
    arguments: list[str],
    said: str,
    looplm: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LOOPLM_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    assert looplm(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("looplm: error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "x.parquet").exists()


def test_an_unwritable_runs_folder_is_named(
    looplm: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    monkeypatch.setenv("LOOPLM_RUNS", str(tmp_path / "runs"))
    assert looplm("train", "budget.steps=1") == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "runs") in error
    assert error.count("\n") == 1


def test_insisting_on_compilation_without_a_compiler_is_refused(
    looplm: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert looplm("train", "budget.steps=1", "--compile", "on", "--runs", str(tmp_path / "runs")) == 2
    assert "no C++ compiler is found" in capsys.readouterr().err


def test_cuda_graphs_without_a_gpu_are_refused(
    looplm: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert looplm("train", "budget.steps=1", "--cuda-graphs", "--runs", str(tmp_path / "runs")) == 2
    assert "execution.device is 'cpu'; with execution.cuda_graphs it must be cuda" in capsys.readouterr().err


def test_what_the_command_line_does_without_torch(tmp_path: Path) -> None:
    code = """
import sys
from experiments.cli.main import main
for arguments in (["--help"], ["plan", Q, "--scale", "smoke"], ["status", Q, "--scale", "smoke"],
                  ["report", Q, "--from", F, "--out", O], ["table", Q, "--from", F, "--format", "csv"],
                  ["compare", F, F], ["tasks"]):
    sys.argv = ["looplm", *arguments]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, arguments
    for heavy in ("torch", "lightning", "optuna"):
        assert heavy not in sys.modules, (arguments, heavy)
"""
    names = f"Q, F, O = {QUESTION!r}, {REFERENCE!r}, {str(tmp_path)!r}\n"
    done = subprocess.run([sys.executable, "-c", names + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_plan_as_data_adds_up(looplm: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert looplm("plan", QUESTION, "--scale", "lab", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    cells = {cell: row for row in plan["rows"] for cell in row["cells"]}
    assert plan["cells"] == len(cells)
    assert plan["train_flops"] == pytest.approx(sum(row["train_flops"] for row in cells.values()), rel=1e-3)
    arms = {row["arm"]: row for row in plan["rows"] if row["part"] == "manipulation"}
    assert arms["plain"]["parameters"] == arms["looped"]["parameters"] == 51_137
    assert all(abs(row["residual"]) < 0.01 for row in plan["rows"] if row["residual"] is not None)


def test_status_as_data_counts_every_cell(
    looplm: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert looplm("status", QUESTION, "--scale", "smoke", "--runs", str(tmp_path), "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["counts"]["missing"] == len(status["cells"]) == sum(status["counts"].values())


def test_of_a_plan_too_large_to_list_the_terminal_shows_what_needs_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    from experiments.cli import tables
    from experiments.questions import grid
    from sweeps.status import CellStatus, State

    plan = grid(QUESTION).expand("smoke")
    states = [State.DONE, State.MISSING, State.RUNNING, State.FAILED, State.QUEUED, State.INTERRUPTED]
    found = [CellStatus(cell, state) for cell, state in zip(plan.cells.values(), itertools.cycle(states), strict=False)]
    whole = tables.status_table(plan, found)
    assert (whole.row_count, whole.caption) == (len(found), None)
    monkeypatch.setattr(tables, "LISTED", 3)
    table = tables.status_table(plan, found)
    notable = [each.cell.id for each in found if each.state in (State.RUNNING, State.FAILED, State.INTERRUPTED)]
    assert list(table.columns[0].cells) == notable[:3]
    assert table.caption == f"{len(found) - 3} cells are not listed; --json has them all"
    rows = tables.plan_rows(plan, [])
    assert tables.plan_table(rows).row_count == 3
    assert (
        tables.plan_table(rows).caption
        == f"{len(rows['rows']) - 3} arms at other points are not listed; --json has them all"
    )


def test_damaged_rows_are_set_aside_and_measured_again(
    looplm: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.cli.console.console.width", 150)
    tiny = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.steps=2", "budget.batch_size=32"]
    arguments = ["train", *tiny, "--compile", "off", "--runs", str(tmp_path)]
    assert looplm(*arguments) == 0
    table = capsys.readouterr().out.splitlines()[-12:]
    (rows,) = tmp_path.glob("cells/*/rows/cell.parquet")
    whole = rows.read_bytes()
    rows.write_bytes(whole[: len(whole) // 2])
    assert looplm(*arguments) == 0
    again = capsys.readouterr().out
    assert "damaged rows set aside" in again
    assert again.splitlines()[-12:] == table
    shown = next(line for line in table if "bits per parameter" in line).split("│")[1:-1]
    parameters = Store(tmp_path).read([rows.parents[1].name]).cells["parameters"][0]
    assert float(shown[-1]) == pytest.approx(12 * 3 * math.log2(12) / parameters, abs=5e-4)
    (aside,) = tmp_path.glob("cells/*/rows-set-aside-*/cell.parquet")
    assert aside.read_bytes() == whole[: len(whole) // 2]


def test_a_trained_cell_shows_its_bits_beside_what_can_be_stored(
    looplm: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.cli.console.console.width", 150)
    tiny = ["task=records", "task.people=20", "model.hidden_size=16", "model.loops=2", "objective.name=entropy"]
    arguments = [*tiny, "budget.steps=2", "budget.batch_size=20", "--compile", "off", "--runs", str(tmp_path)]
    assert looplm("train", *arguments) == 0
    shown = {line.split("│")[2].strip(): line for line in capsys.readouterr().out.splitlines() if "people" in line}
    found = Store(tmp_path).read([next(tmp_path.glob("cells/*")).name])
    at = {
        row["loop"]: row["value"] for row in found.records.filter(pl.col("metric") == "bits_per_parameter").to_dicts()
    }
    stored = 20 * (18 - math.log2(20) + 48) / found.cells["parameters"][0]
    wanted = ["people", "bits per parameter", "20", *(f"{at[loop]:.3f}" for loop in (0, 1, 2)), "", f"{stored:.3f}"]
    assert [cell.strip() for cell in shown["bits per parameter"].split("│")[1:-1]] == wanted


def test_without_a_compiler_it_runs_eager_and_says_so(
    looplm: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    tiny = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.steps=2", "budget.batch_size=32"]
    assert looplm("train", *tiny, "--runs", str(tmp_path / "runs")) == 0
    assert capsys.readouterr().out.count("no C++ compiler found") == 1
