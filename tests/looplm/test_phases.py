"""A second phase: training that begins with the weights of another."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from looplm import checkpoint
from looplm.config import ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.execution import Execution
from looplm.lightning_module import training_loss
from looplm.model import LoopLM
from looplm.steps import step_of
from looplm.training import CHECKPOINT, Fitted, Initial
from synthdata.batch import Batch

Train = Callable[..., Fitted]


@pytest.fixture
def parent(train: Train, tmp_path: Path) -> Initial:
    return Initial("parent", train(folder=tmp_path / "parent").model.state_dict())


def test_a_second_phase_begins_with_the_weights_of_the_first_whatever_its_loops_and_objective(
    train: Train, parent: Initial, batch_at: Callable[[int], Batch], vocab_size: int
) -> None:
    model, objective = ModelConfig(loops=4, hidden_size=16), ObjectiveConfig(name="uniform")
    losses: list[float] = []
    train(
        model=model,
        objective=objective,
        initial=parent,
        execution=Execution(compile="off", chunk_steps=1, checkpoint_every_seconds=1e9),
        on_progress=lambda progress: losses.append(progress.loss),
    )
    begun = LoopLM(model, vocab_size)
    drawn = training_loss(begun, objective, step_of(batch_at(0))).item()
    begun.load_state_dict(parent.weights)
    expected = training_loss(begun, objective, step_of(batch_at(0))).item()
    assert losses[0] == pytest.approx(expected, rel=1e-6)
    assert abs(expected - drawn) > 0.1


def test_a_checkpoint_wins_over_the_initial_weights(train: Train, parent: Initial, tmp_path: Path) -> None:
    whole = train(initial=parent, folder=tmp_path / "whole")
    assert not train(initial=parent, should_stop=lambda: True).finished
    zeros = {name: torch.zeros_like(value) for name, value in parent.weights.items()}
    resumed = train(initial=Initial("parent", zeros))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_checkpoint_of_another_start_is_refused(train: Train, parent: Initial) -> None:
    train(initial=parent)
    with pytest.raises(ValueError, match="another configuration: initial is 'parent' there and 'other' here"):
        train(initial=Initial("other", parent.weights))
    with pytest.raises(ValueError, match="another configuration: initial is 'parent' there and None here"):
        train()


def test_without_initial_weights_a_checkpoint_says_nothing_of_them(train: Train, tmp_path: Path) -> None:
    train()
    path = tmp_path / "run" / CHECKPOINT
    stored = checkpoint.read(path)["configuration"]
    assert sorted(stored) == [
        "budget", "init_seed", "model", "numerics", "objective", "optimizer", "precision", "vocab_size",
    ]  # fmt: skip


def test_a_checkpoint_from_before_beta_had_a_schedule_is_carried_on(train: Train, tmp_path: Path) -> None:
    assert not train(should_stop=lambda: True).finished
    path = tmp_path / "run" / CHECKPOINT
    content = checkpoint.read(path)
    objective = content["configuration"]["objective"]
    content["configuration"]["objective"] = {name: objective[name] for name in ("name", "beta", "prior")}
    checkpoint.write(path, content)
    assert train().finished


def test_weights_that_do_not_fit_are_refused(train: Train, parent: Initial) -> None:
    with pytest.raises(ValueError, match=r"of 'parent' do not fit: blocks.0.after_attention.weight has shape \(16,\)"):
        train(initial=parent, model=ModelConfig(loops=2, hidden_size=32))
    with pytest.raises(ValueError, match=r"blocks.1.after_attention.weight has shape None there; it must be \(16,\)"):
        train(initial=parent, model=ModelConfig(layers=2, loops=2, hidden_size=16))


def test_the_optimiser_begins_anew(train: Train, parent: Initial) -> None:
    """Its first update is lr in every coordinate, which the moments of the first phase would not give."""
    optimizer = OptimizerConfig(lr=1e-3, weight_decay=0.0, warmup_steps=0, epsilon=1e-30)
    stopped = train(
        initial=parent,
        optimizer=optimizer,
        should_stop=lambda: True,
        execution=Execution(compile="off", chunk_steps=1),
    )
    change = stopped.model.norm.weight - parent.weights["norm.weight"]
    torch.testing.assert_close(change.abs(), torch.full_like(change, 1e-3), rtol=1e-3, atol=0)
