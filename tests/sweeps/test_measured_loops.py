"""Evaluations of exits, depth and faithfulness: against answers they must agree with, and against planted models."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch

from looplm.model import LoopLM
from sweeps.cell import Cell
from sweeps.evaluations import EVALUATIONS, faithfulness
from sweeps.measure import measure
from synthdata.streams import pool

HOPS = [
    "task=hop_extrapolation",
    "task.entities=8",
    "task.relations=3",
    "task.trained_hops=2",
    "task.hops=3",
    "task.training_questions=40",
    "task.test_questions=16",
]
MULTIHOP = [
    "task=multihop",
    "task.entities=20",
    "task.relations=3",
    "task.hops=2",
    "task.form=compact",
    "task.training_questions=20",
    "task.test_questions=16",
]
SMALL = ["model.hidden_size=16", "model.loops=3", "objective.name=entropy", "budget.steps=1"]


@pytest.fixture(scope="module")
def cell() -> Cell:
    return Cell.compose([*HOPS, *SMALL])


@pytest.fixture(scope="module")
def model(cell: Cell) -> LoopLM:
    """Drawn wide, so that exits differ."""
    found = LoopLM(cell.model, cell.vocab_size, init_seed=1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(6.0 if parameter.ndim == 2 else 1.0)
    return found


@pytest.fixture(scope="module")
def answers(cell: Cell, model: LoopLM) -> pl.DataFrame:
    return measure(cell, model).filter(pl.col("metric") == "accuracy").select("split", "difficulty", "loop", "value")


def test_a_fixed_exit_is_as_right_as_its_loop(cell: Cell, model: LoopLM, answers: pl.DataFrame) -> None:
    rows = EVALUATIONS["exit_rules"].measure(cell, model)
    assert rows["loop"].null_count() == len(rows)
    for loop in (1, 2, 3):
        fixed = rows.filter(pl.col("metric") == f"exits/accuracy/fixed/{loop}").select("split", "difficulty", "value")
        expected = answers.filter(pl.col("loop") == loop).select("split", "difficulty", "value")
        assert fixed.sort("split", "difficulty").equals(expected.sort("split", "difficulty"))
        depth = rows.filter(pl.col("metric") == f"exits/loops/fixed/{loop}")["value"]
        assert set(depth) == {float(loop)}
        control = rows.filter(pl.col("metric") == f"exits/control/fixed/{loop}").select("split", "difficulty", "value")
        assert control.equals(fixed)


def test_no_rule_beats_the_oracle_and_every_one_is_asked(cell: Cell, model: LoopLM) -> None:
    rows = EVALUATIONS["exit_rules"].measure(cell, model).filter(pl.col("difficulty").is_null())
    accuracy = rows.filter(pl.col("metric").str.starts_with("exits/accuracy/"))
    rules = set(accuracy["metric"].str.split("/").list.get(2))
    assert rules == {
        *("fixed", "q_exit", "gate", "entropy", "loop_kl", "state_difference", "second_difference"),
        *("argmax_stability", "oracle"),
    }
    for _, group in accuracy.group_by("split"):
        oracle = group.filter(pl.col("metric") == "exits/accuracy/oracle")["value"].item()
        assert group["value"].max() == oracle
    tracking = rows.filter(pl.col("metric") == "exits/tracking/oracle")
    assert tracking["value"].to_list() == pytest.approx([1.0] * len(tracking))
    assert len(tracking) > 0
    assert rows.filter(pl.col("metric") == "exits/tracking/fixed/1").is_empty()


def test_the_trained_depth_reads_what_was_measured(cell: Cell, model: LoopLM, answers: pl.DataFrame) -> None:
    rows = EVALUATIONS["depth"].measure(cell, model)
    assert set(rows["loop"]) == set(range(1, 17))
    columns = ["split", "difficulty", "loop", "value"]
    trained = rows.filter(pl.col("loop") <= 3).select(columns).sort(columns[:3])
    assert trained.equals(answers.filter(pl.col("loop") > 0).select(columns).sort(columns[:3]))


def test_an_untied_stack_has_its_own_exits_alone() -> None:
    untied = Cell.compose([*HOPS, "model.hidden_size=16", "model.layers=2", "model.exit_every=1", "budget.steps=1"])
    rows = EVALUATIONS["depth"].measure(untied, LoopLM(untied.model, untied.vocab_size))
    assert set(rows["loop"]) == {1, 2}


@pytest.fixture
def asked() -> Cell:
    return Cell.compose([*MULTIHOP, *SMALL])


def planted(cell: Cell, monkeypatch: pytest.MonkeyPatch, bridge_of: Callable[..., torch.Tensor]) -> pl.DataFrame:
    """What is measured of a model that is always right, and after an exchange goes on from the bridge it is given."""
    facts = pool(cell.task, 0, "facts")
    assert facts is not None
    told = {tuple(facts.prompt(n)[1:]): facts.answer(n)[-1] for n in range(len(facts))}

    def bridge(tokens: torch.Tensor) -> torch.Tensor:
        return torch.tensor([told[int(row[1]), int(row[2])] for row in tokens])

    def answer(bridges: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return torch.tensor([told[int(b), int(row[3])] for b, row in zip(bridges, tokens, strict=True)])

    def said(model: LoopLM, token_NS: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(token_NS)
        bridges = tokens[:, 4] if tokens.shape[1] > 4 else bridge(tokens)
        right = answer(bridges, tokens).numpy()
        return np.stack([np.zeros_like(right), right])

    def exchange(model: LoopLM, base: torch.Tensor, source: torch.Tensor, *rest: object) -> torch.Tensor:
        return answer(bridge_of(bridge(base), bridge(source)), base).reshape(1, -1, 1)

    monkeypatch.setattr(faithfulness, "_said", said)
    monkeypatch.setattr(faithfulness, "interchange", exchange)
    return EVALUATIONS["faithfulness"].measure(cell, LoopLM(cell.model, cell.vocab_size))


@pytest.mark.parametrize(("source_wins", "moved"), [(True, 1.0), (False, 0.0)])
def test_answers_follow_an_exchanged_bridge_or_do_not(
    asked: Cell, monkeypatch: pytest.MonkeyPatch, source_wins: bool, moved: float
) -> None:
    rows = planted(asked, monkeypatch, lambda base, source: source if source_wins else base)
    value = dict(rows.filter(pl.col("n") > 0).select("metric", "value").iter_rows())
    assert value["interchange/moved/relation"] == moved
    assert value["interchange/stayed/relation"] == 1.0 - moved
    assert value["interchange/control/relation"] == 1.0
    assert value["interchange/moved/question"] == moved
    assert value["agreement/share"] == value["agreement/kappa"] == 0.0


def test_a_written_bridge_is_exchanged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = Cell.compose([*MULTIHOP, *SMALL, "task.chain_of_thought=written"])
    rows = planted(spoken, monkeypatch, lambda base, source: base)
    assert rows["metric"].to_list() == ["interchange/moved/written"]
    assert rows["value"].item() == 1.0
    assert rows["n"].item() > 0


def test_other_questions_are_refused() -> None:
    for task, said in (["task=addition"], "composes no facts"), (HOPS, "no questions of the form"):
        wrong = Cell.compose([*task, "model.hidden_size=16", "budget.steps=1"])
        with pytest.raises(ValueError, match=said):
            EVALUATIONS["faithfulness"].measure(wrong, LoopLM(wrong.model, wrong.vocab_size))
