import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from looplm.config import ModelConfig, ObjectiveConfig
from looplm.exits import exit_log_probabilities
from looplm.lightning_module import training_loss
from looplm.loss import loop_cross_entropy
from looplm.model import LoopLM
from looplm.objective import exit_terms
from looplm.steps import Step

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-80, 80))


@given(LOGITS)
def test_exit_probabilities_sum_to_one_and_the_last_takes_the_remainder(logits_RN: np.ndarray) -> None:
    p_RN = exit_log_probabilities(torch.from_numpy(logits_RN)).exp().numpy()
    lambda_RN = 1 / (1 + np.exp(-logits_RN))
    np.testing.assert_allclose(p_RN.sum(0), 1, rtol=1e-12)
    survival_N = np.ones(logits_RN.shape[1])
    for t in range(len(logits_RN) - 1):
        np.testing.assert_allclose(p_RN[t], lambda_RN[t] * survival_N, rtol=1e-9, atol=1e-300)
        survival_N = survival_N / (1 + np.exp(logits_RN[t]))
    np.testing.assert_allclose(p_RN[-1], survival_N, rtol=1e-9, atol=1e-300)


def test_exit_log_probabilities_survive_saturated_gates() -> None:
    log_p_RN = exit_log_probabilities(torch.tensor([[200.0, -200.0], [200.0, -200.0], [0.0, 0.0]]))
    torch.testing.assert_close(log_p_RN, torch.tensor([[0.0, -200.0], [-200.0, -200.0], [-400.0, 0.0]]))


def reference_objective(name: str, beta: float, prior: float, logits_RN: Tensor, nats_RN: Tensor) -> Tensor:
    """Mean over positions of the objective, from its equation, in plain probabilities."""
    exits = len(logits_RN)
    stop_RN = 1 / (1 + (-logits_RN).exp())
    p = []
    for t in range(exits):
        survived = torch.stack([1 - stop_RN[s] for s in range(t)]).prod(0) if t else torch.ones_like(stop_RN[0])
        p.append(survived * stop_RN[t] if t < exits - 1 else survived)
    p_RN = torch.stack(p)
    if name == "last":
        return nats_RN[-1].mean()
    if name == "uniform":
        return nats_RN.mean()
    expected_N = (p_RN * nats_RN).sum(0)
    if name == "entropy":
        return (expected_N + beta * (p_RN * p_RN.log()).sum(0)).mean()
    prior_R = torch.tensor(
        [prior * (1 - prior) ** t for t in range(exits - 1)] + [(1 - prior) ** (exits - 1)], dtype=torch.float64
    )
    assert prior_R.sum().item() == pytest.approx(1)
    return (expected_N + beta * (p_RN * (p_RN / prior_R[:, None]).log()).sum(0)).mean()


@pytest.mark.parametrize("name", ["last", "uniform", "entropy", "geometric"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_objective_and_gate_gradient_equal_the_equation_in_float64(name: str, beta: float) -> None:
    exits, positions, hidden, vocab_size = 4, 6, 5, 7
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    states_RND, head_VD, gate_D, bias = draw(exits, positions, hidden), draw(vocab_size, hidden), draw(hidden), draw()
    leaves = [states_RND, head_VD, gate_D, bias]
    targets_N = torch.randint(vocab_size, (positions,), generator=generator)

    nats_RN = -(states_RND @ head_VD.T).softmax(-1).log()[:, torch.arange(positions), targets_N]
    expected = reference_objective(name, beta, 0.3, states_RND @ gate_D + bias, nats_RN)
    expected_gradients = torch.autograd.grad(expected, leaves, allow_unused=True)

    config = ObjectiveConfig(name=name, beta=beta, prior=0.3)
    paid_RND = states_RND if config.pays_every_exit else states_RND[-1:]
    terms = exit_terms(config, lambda states: states @ gate_D + bias, paid_RND)
    loss = loop_cross_entropy(paid_RND, head_VD, targets_N, terms.weights_RN / positions).loss + terms.penalty_N.mean()
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)

    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert (got is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
    assert (gradients[2] is not None) == config.uses_gate


def test_loss_reports_nats_partition_and_right_answers() -> None:
    logits_V = torch.tensor([0.3, 2.0, -1.0])
    states_RND = torch.stack([logits_V, -logits_V])[:, None].expand(2, 2, 3)
    weights_RN = torch.tensor([[0.0, 2.0], [0.5, 0.0]], requires_grad=True)
    result = loop_cross_entropy(states_RND, torch.eye(3), torch.tensor([1, 2]), weights_RN)
    partition = [math.log(sum(math.exp(sign * z) for z in (0.3, 2.0, -1.0))) for sign in (1, -1)]
    nats_RN = torch.tensor([[partition[0] - 2, partition[0] + 1], [partition[1] + 2, partition[1] - 1]])
    torch.testing.assert_close(result.nats_RN, nats_RN)
    torch.testing.assert_close(result.logsumexp_RN, torch.tensor(partition)[:, None].expand(2, 2))
    assert result.correct_RN.tolist() == [[True, False], [False, True]]
    torch.testing.assert_close(result.loss, 2 * nats_RN[0, 1] + 0.5 * nats_RN[1, 0])
    result.loss.backward()
    torch.testing.assert_close(weights_RN.grad, nats_RN)


def test_loss_is_float32_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    states_RND, head_VD = torch.randn(2, 3, 8, generator=generator), torch.randn(5, 8, generator=generator)
    arguments = states_RND, head_VD, torch.tensor([0, 1, 2]), torch.ones(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = loop_cross_entropy(*arguments)
    assert torch.equal(under.nats_RN, loop_cross_entropy(*arguments).nats_RN)


def test_a_position_without_weight_changes_nothing() -> None:
    model = LoopLM(ModelConfig(loops=2, hidden_size=16), 9)
    tokens_BS = torch.arange(8).view(2, 4)
    objective = ObjectiveConfig(name="entropy")

    def loss(positions: list[int], weights: list[float]) -> Tensor:
        targets_N = torch.tensor([5 + p % 3 for p in positions])
        return training_loss(
            model, objective, Step(tokens_BS, None, torch.tensor(positions), targets_N, torch.tensor(weights))
        )

    torch.testing.assert_close(loss([1, 6], [0.25, 0.75]), loss([1, 3, 6], [0.25, 0.0, 0.75]), rtol=1e-6, atol=0)
    assert not torch.isclose(loss([1, 6], [0.25, 0.75]), loss([1, 6], [0.75, 0.25]), rtol=1e-5)
