import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.execution import Execution
from looplm.exit_rules import LearnedGate, choose_exits
from looplm.model import LoopLM
from looplm.stage_two import continue_labels, stage_two_loss
from looplm.steps import step_of
from looplm.training import Fitted, Initial
from synthdata.batch import Batch

Train = Callable[..., Fitted]


def reference(gate: list[list[float]], nats: list[list[float]], weights: list[float]) -> float:
    """Eq. 5 and 6 of Ouro, position by position, in plain floats."""
    exits, total = len(gate), 0.0
    for t in range(2, exits + 1):
        for n, weight in enumerate(weights):
            improvement = max(0.0, nats[t - 2][n] - nats[t - 1][n])
            w = 1 / (1 + math.exp(-50.0 * (improvement - 0.005)))
            stop = 1 / (1 + math.exp(-gate[t - 1][n]))
            total -= weight * (w * math.log(1 - stop) + (1 - w) * math.log(stop))
    return total / exits


def test_loss_equals_the_equations_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    gate_RN = torch.randn(4, 7, dtype=torch.float64, generator=generator).requires_grad_()
    nats_RN = (2 + 0.02 * torch.randn(4, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    weights_N = torch.rand(7, dtype=torch.float64, generator=generator)
    weights_N /= weights_N.sum()
    loss = stage_two_loss(gate_RN, nats_RN, weights_N)
    assert loss.item() == pytest.approx(reference(gate_RN.tolist(), nats_RN.tolist(), weights_N.tolist()), rel=1e-12)

    loss.backward()
    assert nats_RN.grad is None, "labels carry no gradient"
    assert gate_RN.grad is not None
    assert (gate_RN.grad[0] == 0).all(), "the first exit has no target"
    assert (gate_RN.grad[1:] != 0).all(), "every other exit has one, the unused last included"
    labels = continue_labels(nats_RN.detach())
    expected = (gate_RN.detach()[1:].sigmoid() - (1 - labels)) * weights_N / 4
    torch.testing.assert_close(gate_RN.grad[1:], expected, rtol=1e-10, atol=1e-14)


def test_labels_look_back_and_turn_at_the_margin() -> None:
    labels = continue_labels(torch.tensor([[2.0, 2.0, 2.0, 2.0], [1.0, 2.0, 3.0, 1.995]], dtype=torch.float64))
    still = 1 / (1 + math.exp(0.25))
    assert labels.shape == (1, 4)
    assert labels[0].tolist() == pytest.approx([1.0, still, still, 0.5])
    assert still == pytest.approx(0.44, abs=0.005)


@pytest.fixture
def trained(vocab_size: int) -> Initial:
    """Weights of a model whose loops have something to say: large initial ones."""
    return Initial("drawn", LoopLM(ModelConfig(hidden_size=16, init_std=0.3), vocab_size, init_seed=1).state_dict())


def second_stage(train: Train, **changes: Any) -> Fitted:
    arguments: dict[str, Any] = {
        "model": ModelConfig(loops=3, hidden_size=16),
        "objective": ObjectiveConfig(name="stage_two"),
        "optimizer": OptimizerConfig(lr=3e-2, warmup_steps=1),
    }
    return train(**arguments | changes)


def test_only_the_gate_learns_and_it_learns_to_stop_when_loops_stop_helping(
    train: Train, trained: Initial, batch_at: Callable[[int], Batch], vocab_size: int
) -> None:
    losses: list[float] = []
    fitted = second_stage(
        train,
        initial=trained,
        budget=BudgetConfig(steps=40, batch_size=16),
        execution=Execution(compile="off", chunk_steps=1, checkpoint_every_seconds=1e9),
        on_progress=lambda progress: losses.append(progress.loss),
    )
    for name, value in fitted.model.state_dict().items():
        assert torch.equal(value, trained.weights[name]) != name.startswith("gate"), name
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])

    model = LoopLM(ModelConfig(loops=3, hidden_size=16), vocab_size)
    trained.load_into(model)
    step = step_of(batch_at(0))
    output = model(step.tokens_BS)
    nats_RN = -output.logits[:].log_softmax(-1).flatten(1, 2)[:, step.positions_N].gather(
        -1, step.targets_N.expand(3, -1).unsqueeze(-1)
    ).squeeze(-1)  # fmt: skip
    gate_RN = output.exit_logits.flatten(1)[:, step.positions_N]
    expected = reference(gate_RN.tolist(), nats_RN.tolist(), step.weights_N.tolist())
    assert losses[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_stage_two_stopped_and_resumed_ends_with_the_same_bits(
    train: Train, trained: Initial, tmp_path: Path, precision: str
) -> None:
    whole = second_stage(train, initial=trained, folder=tmp_path / "whole", precision=precision)
    assert not second_stage(train, initial=trained, precision=precision, should_stop=lambda: True).finished
    resumed = second_stage(train, initial=trained, precision=precision)
    assert resumed.finished
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_a_planted_state_is_left_where_its_loss_stops_falling() -> None:
    """Two kinds of position: one helped by every loop, one by the second alone. A linear gate can tell them apart."""
    states_RND = torch.zeros(4, 2, 5)
    for t in range(4):
        states_RND[t, :, t], states_RND[t, 0, 4], states_RND[t, 1, 4] = 1.0, 1.0, -1.0
    nats_RN = torch.tensor([[4.0, 4.0], [3.0, 3.0], [2.0, 3.0], [1.0, 3.0]])
    gate = torch.nn.Linear(5, 1)
    torch.nn.init.zeros_(gate.weight)
    torch.nn.init.zeros_(gate.bias)
    adam = torch.optim.Adam(gate.parameters(), lr=0.1)
    for _ in range(300):
        adam.zero_grad()
        stage_two_loss(gate(states_RND).squeeze(-1), nats_RN, torch.tensor([0.5, 0.5])).backward()
        adam.step()
    exits = choose_exits(LearnedGate(0.5), states_RND[1:], lambda states: gate(states).squeeze(-1), torch.zeros(2, 5))
    assert exits.tolist() == [2, 1]


def test_stage_two_needs_weights_and_an_exit_to_decide_on(train: Train, trained: Initial) -> None:
    with pytest.raises(ValueError, match="'stage_two', which trains a trained model's gate: it needs `initial`"):
        second_stage(train)
    with pytest.raises(ValueError, match="'stage_two' and the model has 1 exit; it must have at least 2"):
        second_stage(train, initial=trained, model=ModelConfig(hidden_size=16))
