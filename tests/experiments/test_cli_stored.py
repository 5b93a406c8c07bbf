"""What the command line makes of rows that are stored or saved."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from results.collection import read_collection, write_collection
from results.store import Store

QUESTION = "capacity_vs_manipulation"
REFERENCE = str(Path(__file__).resolve().parents[2] / "results" / "reference" / "quick-cpu")


def test_tables_are_the_same_data_in_every_format(
    looplm: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {}
    for form in ("csv", "latex", "markdown"):
        assert looplm("table", QUESTION, "--from", REFERENCE, "--format", form) == 0
        shown[form] = capsys.readouterr().out
    table = pl.read_csv(io.StringIO(shown["csv"]))
    looped = table.filter(table="capacity", arm="looped").row(0, named=True)
    half = looped["last loop high"] - looped["last loop"]
    assert looped["last loop"] - looped["last loop low"] == pytest.approx(half)
    assert f"| {looped['last loop']:.3f} ±{half:.3f} |" in shown["markdown"]
    assert f"& {looped['last loop']:.3f} $\\pm${half:.3f} &" in shown["latex"]
    assert looplm("table", QUESTION, "--from", REFERENCE, "--table", "capacity") == 0
    assert capsys.readouterr().out == shown["markdown"].partition("\n**Two-hop")[0]


def test_a_report_is_of_the_question_that_was_asked(
    looplm: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames = {name: pl.read_parquet(f"{REFERENCE}/{name}.parquet") for name in ("cells", "records", "members")}
    write_collection(
        tmp_path, frames["cells"], frames["records"], frames["members"].with_columns(question=pl.lit("other"))
    )
    assert looplm("report", QUESTION, "--from", str(tmp_path)) == 2
    assert f"has no rows of question '{QUESTION}'; it holds other" in capsys.readouterr().err
    two = pl.concat([frames["members"], frames["members"].with_columns(scale=pl.lit("lab"))])
    write_collection(tmp_path, frames["cells"], frames["records"], two)
    assert looplm("report", QUESTION, "--from", str(tmp_path)) == 2
    assert "mixes the scales lab, quick; it must hold one" in capsys.readouterr().err


def test_a_saved_folder_gets_its_page_and_an_index_beside_it(
    looplm: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "reference" / "quick"
    shutil.copytree(REFERENCE, folder)
    assert looplm("report", QUESTION, "--from", str(folder)) == 0
    assert (folder / "report.html").exists()
    assert 'href="quick/report.html"' in (folder.parent / "index.html").read_text()
    assert looplm("report", QUESTION, "--from", str(folder), "--out", str(tmp_path / "out")) == 0
    assert not (tmp_path / "index.html").exists()
    assert f"--from {folder} --out {tmp_path / 'out'}" in (tmp_path / "out" / "report.html").read_text()


def test_runs_and_what_was_saved_of_them_are_compared(
    looplm: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    collection = read_collection(Path(REFERENCE))
    Store(runs).adopt(collection)
    assert looplm("compare", REFERENCE, str(runs)) == 0
    assert "identical" in capsys.readouterr().out
    moved = collection.records.with_columns(value=pl.col("value") + (pl.col("split") == "people").cast(pl.Float64))
    write_collection(tmp_path / "moved", collection.cells, moved, collection.members)
    assert looplm("compare", REFERENCE, str(tmp_path / "moved"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["identical"], found["paired"], found["unpaired"]) == (False, 27, 0)
    assert {shift["split"] for shift in found["shifts"]} == {"people"}
    assert all(shift["beyond"] and shift["difference"] == pytest.approx(1) for shift in found["shifts"])
    cut = runs / "cells" / collection.cells["cell"][0] / "rows" / "cell.parquet"
    cut.write_bytes(cut.read_bytes()[:100])
    assert looplm("compare", REFERENCE, str(runs)) == 0
    said = capsys.readouterr().out
    assert "left out" in said
    assert "26 in both, 1 only in A, 0 only in B" in said


def test_a_report_draws_the_sound_rest_and_names_what_it_left_out(
    looplm: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    runs, collection = tmp_path / "runs", read_collection(Path(REFERENCE))
    store = Store(runs)
    store.adopt(collection)
    names = collection.members.filter(part="manipulation", arm="plain")["cell"].to_list()
    cut = store.folder(names[0]) / "rows" / "records.parquet"
    cut.write_bytes(cut.read_bytes()[:100])
    (store.folder("0" * 16) / "rows").mkdir(parents=True)
    assert looplm("report", QUESTION, "--runs", str(runs)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert names[0] in said
    assert "records.parquet does not match its sum" in said
    assert "0" * 16 not in said
    assert "26 of 27 cells have rows" in said
    page = (runs / "reports" / f"{QUESTION}-quick" / "report.html").read_text()
    assert "records.parquet does not match its sum" in page
    assert (runs / "reports" / "index.html").exists()
    assert looplm("status", QUESTION, "--runs", str(runs), "--json") == 0
    (left_out,) = json.loads(capsys.readouterr().out)["left_out"]
    assert (left_out["cell"], left_out["evaluation"]) == (names[0], None)
