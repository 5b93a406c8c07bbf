"""Tuning on planted scores: the optimum is found, an edge widens the range for all arms, a failure is the worst."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from looplm.execution import Execution
from results.schema import RECORDS
from results.store import Store
from sweeps.cell import Cell
from sweeps.grid import Grid
from sweeps.run import cell_row
from sweeps.tune import tune_part, write_choices

SEARCH = {
    "key": "optimizer.lr",
    "low": 1e-3,
    "high": 1e-1,
    "trials": 8,
    "seed": 1000,
    "split": "id",
    "metric": "accuracy",
    "worst": 0.0,
    "steps_share": 0.5,
}
TEXT: dict[str, Any] = {
    "question": "Does it?",
    "hypotheses": {},
    "parts": {
        "use": {
            "baseline": {"task": "twohop", "model.loops": 2, "budget.steps": 100},
            "arms": {"looped": {}, "plain": {"partner": "plain", "of": "looped"}},
        }
    },
    "tuning": {"use": SEARCH},
    "scales": {"smoke": {"replicates": 2, "parts": {"use": {}}}},
}
Score = Callable[[Cell], float | None]


def grid(**search: Any) -> Grid:
    text = copy.deepcopy(TEXT)
    text["tuning"]["use"] |= search
    return Grid("question", text, {})


class Planted:
    """Publishes for every cell the score that a function plants; None is a failed cell, NaN one without a value."""

    def __init__(self, store: Store, score: Score) -> None:
        self.store, self.score, self.ran = store, score, list[Cell]()

    def __call__(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self.ran.append(cell)
            row, value = cell_row(cell, None, Execution()), self.score(cell)
            if value is None:
                self.store.publish_failure(row | {"status": "failed", "error": "diverged"})
                continue
            place = {"cell": cell.id, "evaluation": "answers@1", "step": 50, "loop": cell.model.exits, "split": "id"}
            found = {"value": None, "n": 0} if math.isnan(value) else {"value": value, "n": 1}
            self.store.publish(row, RECORDS.frame([place | found | {"difficulty": None, "metric": "accuracy"}]))


def peak(at: float) -> Score:
    return lambda cell: math.exp(-(math.log(cell.optimizer.lr / at) ** 2))


def test_a_planted_optimum_is_found_with_equal_trials_in_a_world_of_its_own(tmp_path: Path) -> None:
    planted = Planted(Store(tmp_path), peak(1e-2))
    tuned = tune_part(grid(), "smoke", "use", planted.store, planted)
    for choice in tuned.choices:
        assert choice.inside
        assert 4e-3 < choice.value < 2.5e-2
        assert len(choice.trials) == 8
        assert {value for value, _ in choice.trials} >= set(np.geomspace(1e-3, 1e-1, 4)), "the whole range is tried"
        assert choice.score == max(score for _, score in choice.trials)
    assert (tuned.low, tuned.high) == (1e-3, 1e-1)
    assert {cell.seeds.data_seed for cell in planted.ran} == {1000}
    assert {cell.budget.steps for cell in planted.ran} == {50}


def test_an_optimum_at_an_edge_widens_the_range_for_all_arms(tmp_path: Path) -> None:
    def score(cell: Cell) -> float | None:
        return peak(3e-1 if cell.model.loops == 1 else 1e-2)(cell)

    planted = Planted(Store(tmp_path), score)
    tuned = tune_part(grid(), "smoke", "use", planted.store, planted)
    assert tuned.high >= 3e-1
    assert tuned.low == 1e-3
    looped, plain = tuned.choices
    assert len(looped.trials) == len(plain.trials) > 8
    assert plain.inside
    assert plain.value > 0.1
    assert looped.value < 3e-2


@pytest.mark.parametrize("lost", [None, math.nan])
def test_a_trial_that_diverged_or_has_no_value_counts_as_the_worst(lost: float | None, tmp_path: Path) -> None:
    planted = Planted(Store(tmp_path), lambda cell: lost if cell.optimizer.lr > 1e-2 else peak(5e-3)(cell))
    tuned = tune_part(grid(), "smoke", "use", planted.store, planted)
    for choice in tuned.choices:
        assert choice.value <= 1e-2
        assert any(score == 0.0 for value, score in choice.trials if value > 1e-2)


def test_among_equals_the_middle_is_chosen(tmp_path: Path) -> None:
    planted = Planted(Store(tmp_path), lambda cell: float(2e-3 < cell.optimizer.lr < 5e-2))
    for choice in tune_part(grid(), "smoke", "use", planted.store, planted).choices:
        best = [value for value, score in choice.trials if score == 1.0]
        assert min(best) <= choice.value <= max(best)
        assert len(best) < 3 or min(best) < choice.value < max(best)


def test_an_arm_that_hardly_reacts_is_not_driven_to_an_edge(tmp_path: Path) -> None:
    planted = Planted(Store(tmp_path), lambda cell: 0.5 + 0.01 * cell.optimizer.lr)
    tuned = tune_part(grid(tolerance=0.02), "smoke", "use", planted.store, planted)
    assert (tuned.low, tuned.high) == (1e-3, 1e-1)
    for choice in tuned.choices:
        values = [value for value, _ in choice.trials]
        assert choice.inside
        assert choice.value == values[len(values) // 2]


def test_an_interrupted_search_carries_on_with_its_unfinished_trials(tmp_path: Path) -> None:
    planted = Planted(Store(tmp_path), peak(1e-2))

    def interrupted(cells: Sequence[Cell]) -> None:
        if len(planted.ran) >= 6:
            raise KeyboardInterrupt
        planted(cells)

    with pytest.raises(KeyboardInterrupt):
        tune_part(grid(), "smoke", "use", planted.store, interrupted)
    tuned = tune_part(grid(), "smoke", "use", planted.store, planted)
    assert [len(choice.trials) for choice in tuned.choices] == [8, 8]
    quiet = Planted(Store(tmp_path / "quiet"), peak(1e-2))
    assert tune_part(grid(), "smoke", "use", quiet.store, quiet) == tuned
    assert len({cell.id for cell in planted.ran}) == len(planted.ran) == 16


def test_choices_are_written_and_read_by_the_grid(tmp_path: Path) -> None:
    planted = Planted(Store(tmp_path / "runs"), peak(1e-2))
    tuned = tune_part(grid(), "smoke", "use", planted.store, planted)
    path = tmp_path / "tuning.yaml"
    write_choices(path, "smoke", tuned)
    from omegaconf import OmegaConf

    tuning = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(tuning, dict)
    rates = {m.arm: m.cell.optimizer.lr for m in Grid("question", TEXT, tuning).expand("smoke").members}
    assert rates == {choice.arm: choice.value for choice in tuned.choices}
    assert len(tuning["smoke"]["use"]["trials"]["plain"]) == 8


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"seed": 1}, "a replicate of smoke uses that world"),
        ({"trials": 2}, "tuning.trials is 2"),
        ({"low": 1.0}, "tuning.low is 1.0"),
        ({"lwo": 1.0}, "Did you mean 'low'"),
        ({"steps_share": 0.0}, "tuning.steps_share is 0.0"),
    ],
)
def test_a_wrong_search_is_refused(tmp_path: Path, search: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tune_part(grid(**search), "smoke", "use", Store(tmp_path), lambda cells: None)


def test_a_study_that_another_process_leads_is_left_to_it(tmp_path: Path) -> None:
    planted = Planted(Store(tmp_path), peak(1e-2))

    def until_another_took_over(cells: Sequence[Cell]) -> None:
        planted(cells)
        for claims in list((tmp_path / "tuning").rglob("claims")):
            (claims / "000002.json").write_text(json.dumps({"host": "elsewhere", "pid": 7}))

    study, another = r"study question/smoke/use/looped/\w+", "process 7 on elsewhere"
    with pytest.raises(RuntimeError, match=f"{study} has been taken over by {another}"):
        tune_part(grid(), "smoke", "use", planted.store, until_another_took_over)
    assert len(planted.ran) == 2
    with pytest.raises(RuntimeError, match=f"{study} is being tuned by {another}"):
        tune_part(grid(), "smoke", "use", planted.store, planted)
    assert len(planted.ran) == 2


def test_arms_of_one_part_are_never_of_two_searches(tmp_path: Path) -> None:
    planted, path = Planted(Store(tmp_path / "runs"), peak(1e-2)), tmp_path / "tuning.yaml"
    write_choices(path, "smoke", tune_part(grid(), "smoke", "use", planted.store, planted, ["plain"]))
    write_choices(path, "smoke", tune_part(grid(), "smoke", "use", planted.store, planted, ["looped"]))
    before = path.read_text()
    other = tune_part(grid(tolerance=0.5), "smoke", "use", planted.store, planted, ["looped"])
    with pytest.raises(
        ValueError, match=r"smoke\.use\.search is .*'tolerance': 0\.0.*tune plain too, or write another"
    ):
        write_choices(path, "smoke", other)
    assert path.read_text() == before
