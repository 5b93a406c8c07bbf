import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from results.bundle import SUMS, write_bundle
from results.index import Index
from results.store import Store

HERE = Path(__file__).parent


def run(script: str, *arguments: str) -> subprocess.Popen:
    """A real process that runs `script` with `make_cell`, `make_records` and `Store` at hand."""
    start = f"import sys; sys.path.insert(0, {str(HERE)!r})\nfrom conftest import make_cell, make_records\n"
    start += "from results.store import Store\nfrom pathlib import Path\n"
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, "-c", start + textwrap.dedent(script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def values(rows) -> dict[str, list[float]]:
    return {name: sorted(set(frame["value"])) for (name,), frame in rows.records.group_by("cell")}


def test_what_is_published_is_read_again(tmp_path, cell, records):
    store = Store(tmp_path / "runs")
    assert store.status("b") is None
    assert store.publish(cell("b"), records("b"))
    assert store.publish(cell("a", suite_commit="abc"), records("a", 0.25))
    rows = store.read()
    assert rows.problems == ()
    assert rows.cells.to_dicts() == [cell("a", suite_commit="abc"), cell("b")]
    assert values(rows) == {"a": [0.25], "b": [0.5]}
    assert store.status("a") == "done"


def test_reading_before_anything_has_run_gives_empty_tables(tmp_path):
    rows = Store(tmp_path / "nowhere").read()
    assert (len(rows.cells), len(rows.records), rows.problems) == (0, 0, ())
    assert not (tmp_path / "nowhere").exists()


def test_only_the_cells_asked_for_are_returned(tmp_path, cell, records):
    store = Store(tmp_path)
    for name in "abc":
        store.publish(cell(name), records(name))
    rows = store.read(cells={"a", "c", "z"})
    assert rows.cells["cell"].to_list() == ["a", "c"]
    assert set(rows.records["cell"]) == {"a", "c"}
    assert len(store.read().cells) == 3


def test_the_second_to_publish_changes_nothing(tmp_path, cell, records):
    store = Store(tmp_path)
    assert store.publish(cell(seconds=1.0), records(value=0.1))
    assert not store.publish(cell(seconds=2.0), records(value=0.2))
    rows = store.read()
    assert rows.cells["seconds"].to_list() == [1.0]
    assert values(rows) == {"cell0": [0.1]}
    assert [path.name for path in store.folder("cell0").iterdir()] == ["rows"]


def test_a_failure_counts_until_the_cell_succeeds(tmp_path, cell, records):
    store = Store(tmp_path)
    for error in ("first", "second"):
        store.publish_failure(cell(status="failed", error=error))
    assert store.status("cell0") == "failed"
    rows = store.read()
    assert rows.cells.select("status", "error").rows() == [("failed", "second")]
    assert rows.records.is_empty()
    store.publish(cell(), records())
    store.publish_failure(cell(status="failed", error="a slower twin"))
    rows = store.read()
    assert rows.cells["status"].to_list() == ["done"]
    assert len(rows.records) == 6
    assert store.status("cell0") == "done"


def test_publishing_refuses_what_does_not_fit(tmp_path, cell, records):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="it must be done to be published"):
        store.publish(cell(status="failed", error="x"), records())
    with pytest.raises(ValueError, match="it must be failed"):
        store.publish_failure(cell())
    with pytest.raises(ValueError, match=r"records\.cell is 'other'; it must be 'cell0'"):
        store.publish(cell(), records("other"))
    with pytest.raises(ValueError, match=r"cell is '\.\./x'; it must be letters"):
        store.publish(cell("../x"), records("../x"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, cell, records):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    with pytest.raises(OSError, match=rf"results folder {store.root} cannot be written: Not a directory"):
        store.publish(cell(), records())
    with pytest.raises(OSError, match=str(store.root)):
        store.read()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def rename_cell(path: Path) -> None:
    frames = {name: pl.read_parquet(path.parent / f"{name}.parquet") for name in ("cell", "records")}
    write_bundle(path.parent, {name: frame.with_columns(cell=pl.lit("b")) for name, frame in frames.items()})


def change_schema(path: Path) -> None:
    frames = {name: pl.read_parquet(path.parent / f"{name}.parquet") for name in ("cell", "records")}
    write_bundle(path.parent, frames | {"records": frames["records"].drop("n")})


@pytest.mark.parametrize("with_index", [False, True])
@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("cell.parquet", cut, "cell.parquet does not match its sum"),
        ("records.parquet", cut, "records.parquet does not match its sum"),
        ("records.parquet", flip, "records.parquet does not match its sum"),
        ("records.parquet", Path.unlink, "records.parquet cannot be read: No such file"),
        ("cell.parquet", rename_cell, "must be .?a"),
        ("records.parquet", change_schema, r"records has unknown columns \[\] and lacks \[n\]"),
    ],
)
def test_a_damaged_cell_is_reported_and_the_others_are_read(tmp_path, cell, records, with_index, file, damage, reason):
    store = Store(tmp_path)
    for name in "ab":
        store.publish(cell(name), records(name))
    if with_index:
        store.read()
    damage(store.folder("a") / "rows" / file)
    for _ in range(2):
        rows = store.read()
        assert rows.cells["cell"].to_list() == ["b"]
        assert set(rows.records["cell"]) == {"b"}
        (problem,) = rows.problems
        assert problem.file == store.folder("a")
        assert re.search(reason, problem.reason)
        assert "\n" not in problem.reason
    assert store.read(cells={"b"}).problems == ()


def test_damaged_rows_can_be_set_aside_and_the_cell_run_again(tmp_path, cell, records):
    store = Store(tmp_path)
    store.publish(cell(), records(value=0.1))
    cut(store.folder("cell0") / "rows" / "records.parquet")
    aside = store.set_aside("cell0")
    assert (aside / "records.parquet").exists()
    assert store.status("cell0") is None
    assert store.publish(cell(), records(value=0.2))
    rows = store.read()
    assert values(rows) == {"cell0": [0.2]}
    assert rows.problems == ()


def test_a_damaged_failure_is_reported(tmp_path, cell):
    store = Store(tmp_path)
    store.publish_failure(cell(status="failed", error="x"))
    cut(store.folder("cell0") / "failure.parquet")
    (problem,) = store.read().problems
    assert "failure.parquet is not a readable Parquet file" in problem.reason


def drop_index(index: Path) -> None:
    for file in index.iterdir():
        file.unlink()
    index.rmdir()


def stale_schema(index: Path) -> None:
    frames = {name: pl.read_parquet(index / f"{name}.parquet") for name in ("files", "cells", "records")}
    write_bundle(index, frames | {"cells": frames["cells"].drop("host")})


@pytest.mark.parametrize(
    "damage",
    [
        drop_index,
        lambda index: cut(index / "cells.parquet"),
        lambda index: flip(index / "records.parquet"),
        lambda index: (index / SUMS).write_text("nonsense"),
        lambda index: (index / SUMS).write_bytes(b"\xff\xfe"),
        stale_schema,
    ],
)
def test_a_lost_or_corrupt_index_is_rebuilt(tmp_path, cell, records, damage):
    store = Store(tmp_path)
    for name in "ab":
        store.publish(cell(name), records(name))
    truth = store.read()
    damage(tmp_path / "index")
    for _ in range(2):
        rows = store.read()
        assert_frame_equal(rows.cells, truth.cells)
        assert_frame_equal(rows.records, truth.records)
    drop_index(tmp_path / "index")


def test_the_index_is_used_and_follows_its_files(tmp_path, cell, records, monkeypatch):
    store = Store(tmp_path)
    for name in "ab":
        store.publish(cell(name), records(name, 0.1))
    store.publish_failure(cell("f", status="failed", error="x"))
    store.read()
    opened = []
    read_files = Index._read_files
    monkeypatch.setattr(
        Index, "_read_files", lambda self, name, status: opened.append(name) or read_files(self, name, status)
    )
    assert len(store.read().cells) == 3
    assert opened == []
    store.publish(cell("c"), records("c", 0.3))
    store.set_aside("a")
    store.publish_failure(cell("f", status="failed", error="yy"))
    rows = store.read()
    assert sorted(opened) == ["c", "f"]
    assert rows.cells.select("cell", "error").rows() == [("b", None), ("c", None), ("f", "yy")]
    assert values(rows) == {"b": [0.1], "c": [0.3]}


def test_an_index_that_cannot_be_written_is_not_needed(tmp_path, cell, records):
    store = Store(tmp_path)
    store.publish(cell(), records())
    (tmp_path / "index").write_text("in the way")
    for _ in range(2):
        rows = store.read()
        assert (len(rows.cells), len(rows.records), rows.problems) == (1, 6, ())


RACE = """
root, mark, go = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
store = Store(Path(root))
print("ready", flush=True)
while not go.exists():
    pass
print(*(n for n in range(25) if store.publish(make_cell(f"c{n}", seconds=mark), make_records(f"c{n}", mark))))
"""


def test_two_processes_publish_each_cell_once_and_whole(tmp_path):
    go = tmp_path / "go"
    racers = [run(RACE, str(tmp_path / "runs"), mark, str(go)) for mark in ("1", "2")]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    go.touch()
    won = [{int(n) for n in racer.communicate(timeout=60)[0].split()} for racer in racers]
    assert won[0] | won[1] == set(range(25))
    assert won[0] & won[1] == set()
    rows = Store(tmp_path / "runs").read()
    assert rows.problems == ()
    seconds = dict(rows.cells.select("cell", "seconds").rows())
    assert values(rows) == {name: [mark] for name, mark in seconds.items()}
    assert {name for name, mark in seconds.items() if mark == 1.0} == {f"c{n}" for n in won[0]}


KILLED = """
import os, signal
root, last = sys.argv[1], int(sys.argv[2])
seen = 0
def hook(event, arguments):
    global seen
    if event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"} and str(arguments[0]).startswith(root):
        seen += 1
        if seen > last:
            os.kill(os.getpid(), signal.SIGKILL)
store = Store(Path(root))
sys.addaudithook(hook)
store.publish(make_cell(seconds=1.0), make_records(value=1.0))
print("published")
"""


def test_a_kill_before_any_file_operation_leaves_all_or_nothing(tmp_path, cell, records):
    outcomes = []
    for kill_at in itertools.count():
        store = Store(tmp_path / str(kill_at))
        store.root.mkdir()
        child = run(KILLED, str(store.root), str(kill_at))
        survived = child.communicate(timeout=60)[0] == "published\n"
        assert survived or child.returncode == -signal.SIGKILL
        rows = store.read()
        assert rows.problems == ()
        assert len(rows.records) == 6 * len(rows.cells)
        outcomes.append(len(rows.cells))
        assert store.publish(cell(seconds=2.0), records(value=2.0)) == (not outcomes[-1])
        rows = store.read()
        assert rows.problems == ()
        assert values(rows) == {"cell0": rows.cells["seconds"].to_list()}
        if survived:
            break
    assert outcomes == sorted(outcomes)
    assert outcomes.count(0) > 10
    assert outcomes[-1] == 1


def test_rows_are_published_only_while_the_caller_may(tmp_path, cell, records):
    store = Store(tmp_path)
    assert not store.publish(cell("a"), records("a"), confirm=lambda: False)
    assert store.status("a") is None
    assert list(store.folder("a").iterdir()) == []
    assert store.publish(cell("a"), records("a"), confirm=lambda: True)


def test_whoever_is_succeeded_between_the_question_and_the_renaming_publishes_nothing(tmp_path, cell, records):
    store = Store(tmp_path)

    def succeeded_at_once():
        store.discard_drafts("a")
        return True

    with pytest.raises(FileNotFoundError):
        store.publish(cell("a"), records("a"), succeeded_at_once)
    assert store.status("a") is None
    assert list(store.folder("a").iterdir()) == []


def test_rows_that_were_set_aside_are_no_drafts(tmp_path, cell, records):
    store = Store(tmp_path)
    store.publish(cell("a"), records("a"))
    store.add("a", "more@1", records("a").with_columns(evaluation=pl.lit("more@1")))
    aside = [store.set_aside("a", "more@1"), store.set_aside("a")]
    store.discard_drafts("a")
    assert all(path.exists() for path in aside)
