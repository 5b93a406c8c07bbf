"""What users see when they are wrong, and what never needs torch."""

import io
import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from experiments.cli.main import main
from results.collection import read_collection, write_collection
from results.store import Store

QUESTION = "capacity_vs_manipulation"
REFERENCE = str(Path(__file__).resolve().parents[2] / "results" / "reference" / "quick-cpu")


def looplm(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["looplm", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


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
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LOOPLM_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    assert looplm(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("looplm: error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not (tmp_path / "x.parquet").exists()


def test_an_unwritable_runs_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "runs").write_text("a file, not a folder")
    monkeypatch.setenv("LOOPLM_RUNS", str(tmp_path / "runs"))
    assert looplm(monkeypatch, "train", "budget.steps=1") == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "runs") in error
    assert error.count("\n") == 1


def test_insisting_on_compilation_without_a_compiler_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert looplm(monkeypatch, "train", "budget.steps=1", "--compile", "on", "--runs", str(tmp_path / "runs")) == 2
    assert "no C++ compiler is found" in capsys.readouterr().err


def test_cuda_graphs_without_a_gpu_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert looplm(monkeypatch, "train", "budget.steps=1", "--cuda-graphs", "--runs", str(tmp_path / "runs")) == 2
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


def test_a_plan_as_data_adds_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert looplm(monkeypatch, "plan", QUESTION, "--scale", "lab", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    cells = {cell: row for row in plan["rows"] for cell in row["cells"]}
    assert plan["cells"] == len(cells)
    assert plan["train_flops"] == pytest.approx(sum(row["train_flops"] for row in cells.values()), rel=1e-3)
    arms = {row["arm"]: row for row in plan["rows"] if row["part"] == "manipulation"}
    assert arms["plain"]["parameters"] == arms["looped"]["parameters"] == 51_137
    assert all(abs(row["residual"]) < 0.01 for row in plan["rows"] if row["residual"] is not None)


def test_status_as_data_counts_every_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert looplm(monkeypatch, "status", QUESTION, "--scale", "smoke", "--runs", str(tmp_path), "--json") == 0
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


def test_a_sample_is_what_the_stream_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from synthdata.streams import Stream
    from synthdata.tasks.addition import Addition

    out = tmp_path / "sample.parquet"
    arguments = ["addition", "operands=3", "--split", "test", "--count", "50", "--seed", "9", "--out", str(out)]
    assert looplm(monkeypatch, "sample", *arguments) == 0
    frame = pl.read_parquet(out)
    examples = Stream(Addition(operands=3), 0, 9, "test").examples(0, 50)
    assert frame.schema == {"tokens": pl.List(pl.Int64), "answer": pl.List(pl.Int64), "difficulty": pl.Int64}
    assert frame["difficulty"].to_list() == examples.difficulty_N.tolist()
    for n, (tokens, answer) in enumerate(frame.select("tokens", "answer").iter_rows()):
        assert tokens == examples.prompt(n) + examples.answer(n)
        assert answer == examples.answer(n)


def test_the_listing_has_difficulty_and_floors_of_every_split() -> None:
    from experiments.cli.tasks import row
    from synthdata.floors import floors
    from synthdata.tasks.twohop import TwoHop

    name, source, splits, difficulty, floor, parameters = row(TwoHop())
    assert name == "twohop\nversion 1"
    assert source == TwoHop.source
    assert splits.split("\n") == ["[italic]facts[/]", "[italic]seen[/]", "id", "ood_first", "ood_second", "ood_both"]
    assert difficulty.split("\n") == ["hops: 1", "2", "2", "2", "2", "2"]
    assert "entities=50, relations=5" in parameters
    untrained = {split: max(floors(TwoHop(), 0, split, 500).values()) for split in splits.split("\n")[2:]}
    assert floor.split("\n") == ["", "", *(f"{best:.3f}" for best in untrained.values())]


@pytest.mark.parametrize("room", [60, 150])
def test_a_preview_shows_every_token_of_a_long_example(room: int) -> None:
    from io import StringIO

    from rich.console import Console

    from experiments.cli.tasks import aligned
    from synthdata.streams import pool
    from synthdata.tasks.bios import Bios

    task, console = Bios(people=5), Console(width=room, file=StringIO())
    example = pool(task, 0, "people").take(slice(0, 1))
    for table in aligned(task, example, room):
        console.print(table)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.file.getvalue().splitlines()]
    told = {name: [cell for line in lines if line[:1] == [name] for cell in line[1:]] for name in ("input", "label")}
    words = task.vocabulary.decode(example.tokens_NL[0]).split()
    assert told == {"input": words[:-1], "label": words[1:]}
    assert max(map(len, console.file.getvalue().splitlines())) <= room
    scored = [cell for line in lines if line[:1] == ["scored"] for cell in line[1:]]
    assert scored == [("name", "value")[span] if span >= 0 else "·" for span in example.scored_NL[0, 1:]]


def test_damaged_rows_are_set_aside_and_measured_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.cli.console.console.width", 150)
    tiny = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.steps=2", "budget.batch_size=32"]
    arguments = ["train", *tiny, "--compile", "off", "--runs", str(tmp_path)]
    assert looplm(monkeypatch, *arguments) == 0
    table = capsys.readouterr().out.splitlines()[-12:]
    (rows,) = tmp_path.glob("cells/*/rows/cell.parquet")
    whole = rows.read_bytes()
    rows.write_bytes(whole[: len(whole) // 2])
    assert looplm(monkeypatch, *arguments) == 0
    again = capsys.readouterr().out
    assert "damaged rows set aside" in again
    assert again.splitlines()[-12:] == table
    shown = next(line for line in table if "bits per parameter" in line).split("│")[1:-1]
    parameters = Store(tmp_path).read([rows.parents[1].name]).cells["parameters"][0]
    assert float(shown[-1]) == pytest.approx(12 * 3 * math.log2(12) / parameters, abs=5e-4)
    (aside,) = tmp_path.glob("cells/*/rows-set-aside-*/cell.parquet")
    assert aside.read_bytes() == whole[: len(whole) // 2]


def test_a_trained_cell_shows_its_bits_beside_what_can_be_stored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("experiments.cli.console.console.width", 150)
    tiny = ["task=records", "task.people=20", "model.hidden_size=16", "model.loops=2", "objective.name=entropy"]
    arguments = [*tiny, "budget.steps=2", "budget.batch_size=20", "--compile", "off", "--runs", str(tmp_path)]
    assert looplm(monkeypatch, "train", *arguments) == 0
    shown = {line.split("│")[2].strip(): line for line in capsys.readouterr().out.splitlines() if "people" in line}
    found = Store(tmp_path).read([next(tmp_path.glob("cells/*")).name])
    at = {
        row["loop"]: row["value"] for row in found.records.filter(pl.col("metric") == "bits_per_parameter").to_dicts()
    }
    stored = 20 * (18 - math.log2(20) + 48) / found.cells["parameters"][0]
    wanted = ["people", "bits per parameter", "20", *(f"{at[loop]:.3f}" for loop in (0, 1, 2)), "", f"{stored:.3f}"]
    assert [cell.strip() for cell in shown["bits per parameter"].split("│")[1:-1]] == wanted


def test_without_a_compiler_it_runs_eager_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    tiny = ["task.entities=12", "task.relations=3", "model.hidden_size=16", "budget.steps=2", "budget.batch_size=32"]
    assert looplm(monkeypatch, "train", *tiny, "--runs", str(tmp_path / "runs")) == 0
    assert capsys.readouterr().out.count("no C++ compiler found") == 1


def test_tables_are_the_same_data_in_every_format(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {}
    for form in ("csv", "latex", "markdown"):
        assert looplm(monkeypatch, "table", QUESTION, "--from", REFERENCE, "--format", form) == 0
        shown[form] = capsys.readouterr().out
    table = pl.read_csv(io.StringIO(shown["csv"]))
    looped = table.filter(table="capacity", arm="looped").row(0, named=True)
    half = looped["last loop high"] - looped["last loop"]
    assert looped["last loop"] - looped["last loop low"] == pytest.approx(half)
    assert f"| {looped['last loop']:.3f} ±{half:.3f} |" in shown["markdown"]
    assert f"& {looped['last loop']:.3f} $\\pm${half:.3f} &" in shown["latex"]
    assert looplm(monkeypatch, "table", QUESTION, "--from", REFERENCE, "--table", "capacity") == 0
    assert capsys.readouterr().out == shown["markdown"].partition("\n**Two-hop")[0]


def test_a_report_is_of_the_question_that_was_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames = {name: pl.read_parquet(f"{REFERENCE}/{name}.parquet") for name in ("cells", "records", "members")}
    write_collection(
        tmp_path, frames["cells"], frames["records"], frames["members"].with_columns(question=pl.lit("other"))
    )
    assert looplm(monkeypatch, "report", QUESTION, "--from", str(tmp_path)) == 2
    assert f"has no rows of question '{QUESTION}'; it holds other" in capsys.readouterr().err
    two = pl.concat([frames["members"], frames["members"].with_columns(scale=pl.lit("lab"))])
    write_collection(tmp_path, frames["cells"], frames["records"], two)
    assert looplm(monkeypatch, "report", QUESTION, "--from", str(tmp_path)) == 2
    assert "mixes the scales lab, quick; it must hold one" in capsys.readouterr().err


def test_a_saved_folder_gets_its_page_and_an_index_beside_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "reference" / "quick"
    shutil.copytree(REFERENCE, folder)
    assert looplm(monkeypatch, "report", QUESTION, "--from", str(folder)) == 0
    assert (folder / "report.html").exists()
    assert 'href="quick/report.html"' in (folder.parent / "index.html").read_text()
    assert looplm(monkeypatch, "report", QUESTION, "--from", str(folder), "--out", str(tmp_path / "out")) == 0
    assert not (tmp_path / "index.html").exists()
    assert f"--from {folder} --out {tmp_path / 'out'}" in (tmp_path / "out" / "report.html").read_text()


def test_runs_and_what_was_saved_of_them_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    collection = read_collection(Path(REFERENCE))
    Store(runs).adopt(collection)
    assert looplm(monkeypatch, "compare", REFERENCE, str(runs)) == 0
    assert "identical" in capsys.readouterr().out
    moved = collection.records.with_columns(value=pl.col("value") + (pl.col("split") == "people").cast(pl.Float64))
    write_collection(tmp_path / "moved", collection.cells, moved, collection.members)
    assert looplm(monkeypatch, "compare", REFERENCE, str(tmp_path / "moved"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["identical"], found["paired"], found["unpaired"]) == (False, 27, 0)
    assert {shift["split"] for shift in found["shifts"]} == {"people"}
    assert all(shift["beyond"] and shift["difference"] == pytest.approx(1) for shift in found["shifts"])
    cut = runs / "cells" / collection.cells["cell"][0] / "rows" / "cell.parquet"
    cut.write_bytes(cut.read_bytes()[:100])
    assert looplm(monkeypatch, "compare", REFERENCE, str(runs)) == 0
    said = capsys.readouterr().out
    assert "left out" in said
    assert "26 in both, 1 only in A, 0 only in B" in said


def test_a_report_draws_the_sound_rest_and_names_what_it_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs, collection = tmp_path / "runs", read_collection(Path(REFERENCE))
    store = Store(runs)
    store.adopt(collection)
    names = collection.members.filter(part="manipulation", arm="plain")["cell"].to_list()
    cut = store.folder(names[0]) / "rows" / "records.parquet"
    cut.write_bytes(cut.read_bytes()[:100])
    (store.folder("0" * 16) / "rows").mkdir(parents=True)
    assert looplm(monkeypatch, "report", QUESTION, "--runs", str(runs)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert names[0] in said
    assert "records.parquet does not match its sum" in said
    assert "0" * 16 not in said
    assert "26 of 27 cells have rows" in said
    page = (runs / "reports" / f"{QUESTION}-quick" / "report.html").read_text()
    assert "records.parquet does not match its sum" in page
    assert (runs / "reports" / "index.html").exists()
    assert looplm(monkeypatch, "status", QUESTION, "--runs", str(runs), "--json") == 0
    (left_out,) = json.loads(capsys.readouterr().out)["left_out"]
    assert (left_out["cell"], left_out["evaluation"]) == (names[0], None)
