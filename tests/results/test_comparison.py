import math

import numpy as np
import polars as pl
import pytest

from results.comparison import Side, compare
from results.schema import CELLS, MEMBERS
from results.statistics import mean_interval


@pytest.fixture
def side(cell, records):
    """A side of cells with a value each; a name ending in ! failed. Members put them in arm, replicate."""

    def build(values, places=None, **changes):
        rows = [
            cell(name.rstrip("!"), **(dict(status="failed", error="diverged") if name.endswith("!") else {}), **changes)
            for name in values
        ]
        measured = [records(name, value) for name, value in values.items() if not name.endswith("!")]
        members = places and MEMBERS.frame(
            {"question": "q", "scale": "lab", "part": "use", "point": "{}"}
            | {"arm": arm, "replicate": replicate, "cell": name}
            for name, (arm, replicate) in places.items()
        )
        return Side(CELLS.frame(rows), pl.concat([records("x").clear(), *measured]), members)

    return build


def test_equal_rows_are_identical_to_the_last_bit(side):
    found = compare(side({"a": 0.1, "b": 0.2}), side({"b": 0.2, "a": 0.1}))
    assert found.identical
    assert (found.paired, found.values, found.equal, found.unpaired) == (2, 12, 12, 0)
    assert found.shifts.is_empty()
    near = compare(side({"a": 0.1}), side({"a": np.nextafter(0.1, 1)}))
    assert not near.identical
    assert (near.values, near.equal) == (6, 0)


def test_cells_of_one_side_and_other_ends_are_named(side):
    found = compare(side({"a": 0.1, "b!": None, "c": 0.3}), side({"a": 0.1, "b": 0.2, "d": 0.4}))
    assert (found.only_a, found.only_b) == (("c",), ("d",))
    assert found.status.rows() == [("b", "failed", "done", "diverged", None)]
    assert (found.paired, found.values, found.equal, found.unpaired) == (2, 6, 6, 6)
    assert not found.identical


def test_without_places_each_cell_stands_alone(side):
    found = compare(side({"a": 0.1, "b": 0.2}), side({"a": 0.1, "b": 0.5}))
    assert set(found.shifts["arm"]) == {"b"}
    assert set(found.shifts["n"]) == {1}
    assert found.shifts["low"].null_count() == len(found.shifts)
    assert not found.shifts["beyond"].any()


def test_arms_are_compared_over_their_paired_replicates(side):
    ours, noise = [0.10, 0.20, 0.30, 0.40], [0.01, -0.01, 0.02, -0.015]
    places = {f"{arm}{r}": (arm, r) for arm in ("moved", "noisy") for r in range(4)}
    a = side({name: ours[r] for name, (_, r) in places.items()}, places)
    b = side(
        {f"new-{name}": ours[r] + noise[r] + (0.1 if arm == "moved" else 0) for name, (arm, r) in places.items()},
        {f"new-{name}": place for name, place in places.items()},
    )
    found = compare(a, b)
    assert (found.paired, found.only_a, found.only_b) == (8, (), ())
    rows = {(row["arm"], row["split"], row["loop"]): row for row in found.shifts.iter_rows(named=True)}
    assert len(rows) == 2 * 2 * 3
    moved, noisy = rows["moved", "facts", 2], rows["noisy", "facts", 2]
    interval = mean_interval(np.array(noise) + 0.1)
    assert (moved["difference"], moved["low"], moved["high"]) == pytest.approx(
        (interval.mean, interval.low, interval.high)
    )
    assert (moved["n"], moved["mean_a"], moved["beyond"]) == (4, pytest.approx(0.25), True)
    assert noisy["beyond"] is False
    assert found.shifts["arm"][0] == "moved"


def test_a_shift_that_is_the_same_everywhere_is_no_noise(side):
    places = {name: ("arm", r) for r, name in enumerate("abc")}
    found = compare(side(dict.fromkeys("abc", 0.25), places), side(dict.fromkeys("abc", 0.5), places))
    assert found.shifts["beyond"].all()
    assert set(found.shifts["low"]) == {0.25}


def test_one_side_with_places_is_enough_for_equal_ids(side):
    places = {name: ("arm", r) for r, name in enumerate("ab")}
    found = compare(side({"a": 0.1, "b": 0.2}, places), side({"a": 0.2, "b": 0.35}))
    assert set(found.shifts["n"]) == {2}
    assert found.shifts["difference"].to_list() == pytest.approx([0.125] * 6)


def test_what_was_made_otherwise_is_said(side):
    found = compare(side({"a": 0.1}), side({"a": 0.1}, device="a GPU", torch="2.14.0"))
    assert found.identical
    assert found.provenance == {"device": ("a CPU", "a GPU"), "torch": ("2.13.0", "2.14.0")}


def test_noise_is_called_noise_as_often_as_it_should(side):
    rng = np.random.default_rng(0)
    places = {f"{arm}-{r}": (str(arm), r) for arm in range(200) for r in range(4)}
    a = side(dict.fromkeys(places, 0.5), places)
    b = side({name: 0.5 + 0.1 * rng.normal() for name in places}, places)
    shifts = compare(a, b).shifts.filter(loop=1, split="facts")
    assert len(shifts) == 200
    assert 0.01 < shifts["beyond"].mean() < 0.09
    assert math.isclose(shifts["n"].mean(), 4)
