"""What is read during training, that reading changes nothing, and when a training counts as diverged."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from looplm import checkpoint, stability
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.execution import Execution
from looplm.lightning_module import training_loss
from looplm.model import LoopLM
from looplm.stability import LossWatch, is_sampled
from looplm.steps import step_of
from looplm.training import CHECKPOINT, Fitted, Initial
from synthdata.batch import Batch

Train = Callable[..., Fitted]


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (10, 1), (11, 2), (200, 20), (320, 32), (333, 32), (1000, 32)])
def test_sampled_steps_are_few_spread_and_hold_the_last(steps: int, count: int) -> None:
    sampled = [step for step in range(steps) if is_sampled(step, steps)]
    assert len(sampled) == count
    assert sampled[-1] == steps - 1
    gaps = [after - before for before, after in zip([-1, *sampled], sampled, strict=False)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_reading_changes_no_bit(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    read = train(folder=tmp_path / "read", precision=precision)
    monkeypatch.setattr(stability, "SAMPLES", 0)
    blind = train(folder=tmp_path / "blind", precision=precision)
    assert (blind.stability, {reading.step for reading in read.stability}) == ((), {9, 19})
    one, other = (checkpoint.read(tmp_path / name / CHECKPOINT) for name in ("read", "blind"))
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    for number, state in one["optimizer_states"][0]["state"].items():
        assert torch.equal(state["exp_avg"], other["optimizer_states"][0]["state"][number]["exp_avg"])


def test_readings_are_those_of_the_equations(
    train: Train, batch_at: Callable[[int], Batch], vocab_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, objective = ModelConfig(loops=3, hidden_size=16), ObjectiveConfig(name="entropy")
    fitted = train(model=config, budget=BudgetConfig(steps=1, batch_size=16))
    step, model = step_of(batch_at(0)), LoopLM(config, vocab_size)
    kept: list[torch.Tensor] = []
    exit_states = model.exit_states
    monkeypatch.setattr(model, "exit_states", lambda *at, **named: kept.extend(exit_states(*at, **named)) or kept)
    loss = training_loss(model, objective, step)
    gradients = torch.autograd.grad(loss, [*kept, *model.parameters()])
    states_RND = torch.stack([state_BSD.flatten(0, 1)[step.positions_N] for state_BSD in kept])
    stop_RN = model.exit_logits(states_RND).sigmoid()
    p_RN = torch.stack([stop_RN[0], (1 - stop_RN[0]) * stop_RN[1], (1 - stop_RN[0]) * (1 - stop_RN[1])])
    n = len(step.positions_N)

    expected: dict[tuple[str, int | None], torch.Tensor] = {
        ("gate_entropy_nats", None): -(p_RN * p_RN.log()).sum(0).mean(),
        ("loss_nats", None): loss,
        ("gradient_norm", None): torch.cat([gradient.flatten() for gradient in gradients[3:]]).norm(),
    }
    for t in range(3):
        expected["state_norm", t + 1] = states_RND[t].norm(dim=-1).mean()
        expected["state_gradient_norm", t + 1] = gradients[t].norm()
    for t in range(1, 3):
        expected["update_norm", t + 1] = (states_RND[t] - states_RND[t - 1]).norm(dim=-1).mean()
    found = {(reading.metric, reading.loop): reading.value for reading in fitted.stability}
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-4)
    assert {(reading.step, reading.n) for reading in fitted.stability} == {(0, n)}


def test_readings_survive_a_resume_and_do_not_depend_on_chunks(train: Train, tmp_path: Path) -> None:
    whole = train(folder=tmp_path / "whole", execution=Execution(compile="off", chunk_steps=20))
    asked = iter([False, True])
    stopped = train(should_stop=lambda: next(asked))
    assert {reading.step for reading in stopped.stability} == {9}
    assert {reading.step for reading in whole.stability} == {9, 19}
    assert train().stability == whole.stability == train().stability


def test_what_is_not_trained_is_not_read(train: Train, tmp_path: Path) -> None:
    plain = train(objective=ObjectiveConfig(name="last"))
    assert "gate_entropy_nats" not in {reading.metric for reading in plain.stability}
    frozen = train(
        folder=tmp_path / "gate",
        objective=ObjectiveConfig(name="stage_two"),
        initial=Initial("plain", plain.model.state_dict()),
    )
    gradients = [reading.value for reading in frozen.stability if reading.metric == "state_gradient_norm"]
    assert set(gradients) == {0.0}


def test_the_last_healthy_checkpoint_is_kept(train: Train, tmp_path: Path, batch_at: Callable[[int], Batch]) -> None:
    def poisoned(step: int) -> Batch:
        batch = batch_at(step)
        if step == 12:
            batch.weights_BS[0, 0] = math.nan
        return batch

    with pytest.raises(FloatingPointError, match="training diverged at step 12: loss nan"):
        train(batch_at=poisoned)
    kept = checkpoint.read(tmp_path / "run" / CHECKPOINT)
    assert kept["global_step"] == 10
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


def test_weights_that_are_not_finite_are_never_written(train: Train, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"diverged before step 1: embedding\.weight is not finite"):
        train(
            optimizer=OptimizerConfig(lr=3.4e38, weight_decay=10.0, warmup_steps=0),
            execution=Execution(compile="off", chunk_steps=1, checkpoint_every_seconds=0),
        )
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_a_loss_that_stays_too_high_ends_the_training(train: Train, tmp_path: Path, vocab_size: int) -> None:
    seen: list[float] = []
    arguments: dict[str, Any] = {
        "optimizer": OptimizerConfig(lr=100.0, weight_decay=0.0, warmup_steps=0),
        "budget": BudgetConfig(steps=200, batch_size=16),
        "execution": Execution(compile="off", chunk_steps=10, checkpoint_every_seconds=0),
        "on_progress": lambda progress: seen.append(progress.loss),
    }
    message = r"training diverged at step 100: loss \S+, above 4.61 for 100 steps in a row"
    with pytest.raises(FloatingPointError, match=message) as whole:
        train(**arguments)
    assert len(seen) == 10
    assert min(seen) > 2 * math.log(vocab_size) == pytest.approx(4.61, abs=0.005)
    assert checkpoint.read(tmp_path / "run" / CHECKPOINT)["global_step"] == 100

    asked = iter([*[False] * 5, True])
    assert not train(**arguments, folder=tmp_path / "stopped", should_stop=lambda: next(asked)).finished
    with pytest.raises(FloatingPointError) as halved:
        train(**arguments, folder=tmp_path / "stopped")
    assert str(halved.value) == str(whole.value), "a stop in between does not begin the count anew"


def test_spikes_large_penalties_and_chance_are_no_divergence() -> None:
    watch = LossWatch(vocab_size=8)
    for step in range(1000):
        watch.see(step, 100.0 if step % 100 else math.log(8), 1.0)
    watch = LossWatch(vocab_size=8)
    for step in range(1000):
        watch.see(step, 50.0, 1.0)
    watch = LossWatch(vocab_size=8)
    for step in range(100):
        watch.see(step, 50.0 if step else 0.1, 1.0)
    with pytest.raises(FloatingPointError, match=r"at step 100: loss 50, above 4.16 for 100 steps in a row"):
        watch.see(100, 50.0, 1.0)
