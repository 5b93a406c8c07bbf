import re

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from results.bundle import write_bundle
from results.collection import read_collection, write_collection
from results.schema import CELLS, MEMBERS
from results.store import Store


@pytest.fixture
def frames(cell, records):
    cells = CELLS.frame([cell("b"), cell("a"), cell("f", status="failed", error="diverged")])
    members = MEMBERS.frame(
        {"question": "q", "scale": "lab", "part": "use", "arm": arm, "point": "{}", "replicate": 0, "cell": name}
        for arm, name in (("looped", "a"), ("plain", "b"), ("deep", "f"), ("long", "not-yet-run"))
    )
    return cells, pl.concat([records("b"), records("a", 0.25)]), members


def test_round_trip_is_sorted_and_repeatable(tmp_path, frames):
    written = write_collection(tmp_path / "one", *frames)
    again = read_collection(tmp_path / "one")
    assert_frame_equal(again.cells, written.cells)
    assert again.cells["cell"].to_list() == ["a", "b", "f"]
    assert again.records["cell"].to_list() == ["a"] * 6 + ["b"] * 6
    assert again.members["arm"].to_list() == ["deep", "long", "looped", "plain"]
    write_collection(tmp_path / "two", *(frame.reverse() for frame in frames))
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_an_older_collection_is_replaced_and_other_files_stay(tmp_path, frames):
    (tmp_path / "README.md").write_text("kept")
    write_collection(tmp_path, *frames)
    write_collection(tmp_path, frames[0], frames[1].clear(), frames[2])
    assert read_collection(tmp_path).records.is_empty()
    assert (tmp_path / "README.md").read_text() == "kept"


def test_a_store_takes_over_what_it_does_not_have(tmp_path, frames, cell, records):
    collection = write_collection(tmp_path / "saved", *frames)
    store = Store(tmp_path / "runs")
    store.publish(cell("a"), records("a", 0.75))
    assert store.adopt(collection) == 1
    assert store.adopt(collection) == 0
    rows = store.read()
    assert rows.cells["cell"].to_list() == ["a", "b"]
    assert set(rows.records.filter(pl.col("cell") == "a")["value"]) == {0.75}
    assert_frame_equal(rows.records.filter(pl.col("cell") == "b"), collection.records.filter(pl.col("cell") == "b"))


def test_records_of_unknown_or_failed_cells_are_refused(tmp_path, frames, records):
    cells, measured, members = frames
    for stray in ("f", "nobody"):
        with pytest.raises(ValueError, match=rf"records\.cell is '{stray}'; it must be a done cell"):
            write_collection(tmp_path / "x", cells, pl.concat([measured, records(stray)]), members)
    assert not (tmp_path / "x").exists()


def test_one_arm_has_one_cell_a_replicate(tmp_path, frames):
    cells, measured, members = frames
    with pytest.raises(ValueError, match=r"members question/scale/part/arm/point/replicate .* must be unique"):
        write_collection(tmp_path, cells, measured, members.with_columns(arm=pl.lit("looped")))


def test_damage_and_absence_are_named(tmp_path, frames):
    with pytest.raises(ValueError, match=rf"collection folder {tmp_path}/none does not exist"):
        read_collection(tmp_path / "none")
    with pytest.raises(ValueError, match="SHA256SUMS cannot be read: No such file"):
        read_collection(tmp_path)
    write_collection(tmp_path, *frames)
    file = tmp_path / "members.parquet"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"members\.parquet does not match its sum"):
        read_collection(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, frames):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"collection folder {tmp_path}/file/x cannot be written: Not a directory"):
        write_collection(tmp_path / "file" / "x", *frames)


def rewritten(folder, **changes):
    """A collection as it could only come from elsewhere: its frames changed, its sums right."""
    names = ("cells", "records", "members")
    frames = {name: pl.read_parquet(folder / f"{name}.parquet") for name in names}
    write_bundle(folder, frames | {name: change(frames[name]) for name, change in changes.items()})


def repeated(frame):
    return pl.concat([frame, frame])


def two_truths(cells):
    return pl.concat([cells, cells.filter(cell="a").with_columns(seconds=pl.lit(9.0))])


def told_twice(records):
    return pl.concat([records, records.filter(cell="a").head(1).with_columns(value=pl.lit(0.9))])


def stray(records):
    return pl.concat([records, records.filter(cell="b").with_columns(cell=pl.lit("nobody"))])


def infinite(records):
    return records.with_columns(value=pl.when(pl.col("cell") == "a").then(float("inf")).otherwise("value"))


def unequal(cells):
    return cells.with_columns(parameters=pl.when(pl.col("cell") == "a").then(pl.lit(9_001)).otherwise("parameters"))


def not_json(cells):
    broken = pl.when(pl.col("cell") == "a").then(pl.lit("{")).otherwise("parameters_by_group")
    return cells.with_columns(parameters_by_group=broken)


@pytest.mark.parametrize(
    ("changes", "lost", "reason"),
    [
        ({"cells": two_truths}, "a", r"cells\.cell is 'a'; it must be unique"),
        ({"records": told_twice}, "a", "records cell/evaluation.* must be unique"),
        ({"records": infinite}, "a", r"records\.value is inf; it must be finite"),
        ({"cells": unequal}, "a", "groups that add up to 9001"),
        ({"cells": not_json}, "a", r"parameters_by_group is '\{'; it must be the text of a JSON object"),
        ({"records": stray}, "nobody", "must be a done cell of the collection"),
    ],
)
def test_the_sound_rest_of_a_collection_is_read(tmp_path, frames, changes, lost, reason):
    whole = write_collection(tmp_path, *frames)
    rewritten(tmp_path, **changes)
    found = read_collection(tmp_path)
    (problem,) = found.problems
    assert (problem.cell, problem.file) == (lost, tmp_path)
    assert re.search(reason, problem.reason)
    for frame, rest in ((whole.cells, found.cells), (whole.records, found.records)):
        assert_frame_equal(rest, frame.filter(pl.col("cell") != lost))
    assert_frame_equal(found.members, whole.members)


def test_rows_that_are_merely_repeated_count_once(tmp_path, frames):
    whole = write_collection(tmp_path, *frames)
    rewritten(tmp_path, cells=repeated, records=repeated, members=repeated)
    found = read_collection(tmp_path)
    assert found.problems == ()
    assert_frame_equal(found.cells, whole.cells)
    assert_frame_equal(found.records, whole.records)


def test_columns_of_another_schema_are_refused(tmp_path, frames):
    write_collection(tmp_path, *frames)
    rewritten(tmp_path, records=lambda records: records.drop("n"))
    with pytest.raises(ValueError, match=r"records has unknown columns \[\] and lacks \[n\]"):
        read_collection(tmp_path)
