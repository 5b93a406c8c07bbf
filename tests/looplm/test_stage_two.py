import math
from collections.abc import Callable

import pytest
import torch

from looplm.config import ModelConfig, OptimizerConfig
from looplm.exit_rules import LearnedGate, choose_exits
from looplm.model import LoopLM
from looplm.stage_two import continue_labels, fit_gate, stage_two_loss
from synthdata.batch import Batch


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


def test_only_the_gate_learns_and_it_learns_to_stop_when_loops_stop_helping(
    batch_at: Callable[[int], Batch], vocab_size: int
) -> None:
    model = LoopLM(ModelConfig(loops=3, hidden_size=16), vocab_size)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = fit_gate(model, batch_at, OptimizerConfig(lr=3e-2, warmup_steps=1), steps=40)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("gate"), name
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if not name.startswith("gate"))
    assert len(losses) == 40
    assert sum(losses[-5:]) < sum(losses[:5])
    assert fit_gate(model, batch_at, OptimizerConfig(), steps=2, first_step=38)[0] < losses[0]


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


def test_one_exit_has_nothing_to_decide(batch_at: Callable[[int], Batch], vocab_size: int) -> None:
    with pytest.raises(ValueError, match="the model has 1 exit; Stage II needs at least 2"):
        fit_gate(LoopLM(ModelConfig(hidden_size=16), vocab_size), batch_at, OptimizerConfig(), steps=1)
