import itertools
import math

import pytest
import torch
from torch import Tensor

from looplm.exit_rules import (
    ArgmaxStability,
    Entropy,
    ExitRule,
    Fixed,
    LearnedGate,
    LoopKL,
    Oracle,
    QExit,
    RandomDepth,
    SecondDifference,
    StateDifference,
    choose_exits,
)
from looplm.exits import exit_log_probabilities


def no_gate(states: Tensor) -> Tensor:
    raise AssertionError("the rule must not ask the gate")


def first_feature(states: Tensor) -> Tensor:
    return states[..., 0]


def from_logits(rule: ExitRule, logits_RNV: list[list[list[float]]]) -> list[int]:
    """Exits where the states are the logits themselves."""
    states_RNV = torch.tensor(logits_RNV)
    return choose_exits(rule, states_RNV, no_gate, torch.eye(states_RNV.shape[-1])).tolist()


def from_gates(rule: ExitRule, lambda_RN: list[list[float]]) -> list[int]:
    """Exits where the gate says lambda."""
    states_RN1 = torch.tensor(lambda_RN, dtype=torch.float64).logit().unsqueeze(-1)
    return choose_exits(rule, states_RN1, first_feature, torch.zeros(2, 1)).tolist()


def test_fixed_is_the_same_for_all_and_never_beyond_the_last() -> None:
    states = torch.zeros(4, 3, 2)
    for exit in range(6):
        assert choose_exits(Fixed(exit), states, no_gate, torch.eye(2)).tolist() == [min(exit, 3)] * 3


def test_q_exit_is_the_first_exit_whose_cdf_reaches_q() -> None:
    # CDF of the columns: .5 .75 .875 1 | .1 .19 .919 1 | 0.9 0.99 ...
    gates = [[0.5, 0.1, 0.9], [0.5, 0.1, 0.9], [0.5, 0.9, 0.9], [0.5, 0.5, 0.5]]
    assert from_gates(QExit(0.0), gates) == [0, 0, 0]
    assert from_gates(QExit(0.4), gates) == [0, 2, 0]
    assert from_gates(QExit(0.7), gates) == [1, 2, 0]
    assert from_gates(QExit(0.95), gates) == [3, 3, 1]
    assert from_gates(QExit(1.0), gates) == [3, 3, 3]


@pytest.mark.parametrize("q", [0.05, 0.3, 0.5, 0.8, 0.99])
def test_q_exit_agrees_with_the_exit_distribution(q: float) -> None:
    logits_RN = 2 * torch.randn(5, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cdf_RN = exit_log_probabilities(logits_RN).exp().cumsum(0)
    expected = (cdf_RN >= q).int().argmax(0)
    chosen = choose_exits(QExit(q), logits_RN.unsqueeze(-1), first_feature, torch.zeros(2, 1, dtype=torch.float64))
    assert torch.equal(chosen, expected)
    assert len(chosen.unique()) > 2


def test_q_of_one_is_full_depth_even_where_rounded_probabilities_reach_one() -> None:
    states = torch.full((4, 1, 1), 100.0)
    assert states.double().sigmoid()[0].item() == 1.0
    assert choose_exits(QExit(1.0), states, first_feature, torch.zeros(2, 1)).tolist() == [3]
    assert choose_exits(QExit(1 - 1e-12), states, first_feature, torch.zeros(2, 1)).tolist() == [0]


def test_learned_gate_looks_at_each_lambda_alone() -> None:
    gates = [[0.4, 0.6, 0.1], [0.4, 0.1, 0.1], [0.4, 0.1, 0.7], [0.9, 0.9, 0.9]]
    assert from_gates(LearnedGate(0.5), gates) == [3, 0, 2]
    assert from_gates(LearnedGate(0.3), gates) == [0, 0, 2]


def test_entropy_threshold() -> None:
    sure, even = [50.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    logits = [[even, sure, even], [even, even, even], [sure, sure, even], [even, sure, even]]
    assert from_logits(Entropy(0.1), logits) == [2, 0, 3]
    assert from_logits(Entropy(math.log(3) + 1e-4), logits) == [0, 0, 0]
    assert from_logits(Entropy(math.log(3) - 1e-4), logits) == [2, 0, 3]


def test_loop_kl_is_of_the_new_distribution_from_the_one_before() -> None:
    p, q = [0.9, 0.1], [0.5, 0.5]
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    back = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert kl < back
    at = [[math.log(x) for x in one] for one in (q, p, q, q, q)]
    logits = [[at[0], at[1]], [at[1], at[0]], [at[2], at[2]], [at[3], at[3]], [at[4], at[4]]]
    assert from_logits(LoopKL(kl + 1e-4), logits) == [1, 2]
    assert from_logits(LoopKL(kl - 1e-4), logits) == [3, 2]
    assert from_logits(LoopKL(back + 1e-4), logits) == [1, 1]
    assert from_logits(LoopKL(0.0), logits) == [4, 4]


def test_differences_of_states() -> None:
    # distances between exits: 4 3 2 1 | 1 4 4 4; second differences: 1 1 1 | 3 0 0
    states = torch.diag_embed(torch.tensor([[0.0, 0], [4, 1], [7, 5], [9, 9], [10, 13]]))

    def exits(rule: ExitRule) -> list[int]:
        return choose_exits(rule, states, no_gate, torch.eye(2)).tolist()

    assert exits(StateDifference(2.5)) == [3, 1]
    assert exits(StateDifference(4.5)) == [1, 1]
    assert exits(StateDifference(1.0)) == [4, 4]
    assert exits(SecondDifference(0.5)) == [4, 3]
    assert exits(SecondDifference(1.5)) == [2, 3]
    assert exits(SecondDifference(9.0)) == [2, 2]


def test_argmax_stability_counts_exits_in_a_row() -> None:
    def one_hot(*tokens: int) -> list[list[float]]:
        return [[float(v == token) for v in range(3)] for token in tokens]

    logits = [one_hot(0, 0, 0), one_hot(1, 0, 1), one_hot(1, 1, 2), one_hot(1, 1, 0), one_hot(0, 0, 0)]
    assert from_logits(ArgmaxStability(2), logits) == [2, 1, 4]
    assert from_logits(ArgmaxStability(3), logits) == [3, 4, 4]


def test_oracle_is_the_first_right_exit_and_follows_its_tokens() -> None:
    best_RN = torch.tensor([[0, 1, 0, 2], [1, 1, 0, 2], [2, 2, 0, 1], [1, 2, 0, 2]])
    logits_RNV = torch.nn.functional.one_hot(best_RN, 3).float()
    target_N = torch.tensor([2, 2, 1, 2])
    assert choose_exits(Oracle(target_N), logits_RNV, no_gate, torch.eye(3)).tolist() == [2, 2, 3, 0]
    with pytest.raises(ValueError, match="target_N holds 4 targets; it must hold 2"):
        choose_exits(Oracle(target_N), logits_RNV[:, :2], no_gate, torch.eye(3))


def test_random_depth_follows_its_distribution_and_the_token_alone() -> None:
    probabilities = (0.0, 0.2, 0.5, 0.3)
    count = 20_000
    states = torch.zeros(4, count, 1)
    exits = choose_exits(RandomDepth(probabilities, seed=3), states, no_gate, torch.zeros(2, 1))
    share = torch.bincount(exits, minlength=4) / count
    assert share[0] == 0
    torch.testing.assert_close(share, torch.tensor(probabilities), rtol=0, atol=4 * math.sqrt(0.25 / count))

    def some(seed: int, *tokens: int) -> list[int]:
        rule, chosen = RandomDepth(probabilities, seed), torch.tensor(tokens)
        return choose_exits(rule, states[:, : len(tokens)], no_gate, torch.zeros(2, 1), chosen).tolist()

    assert some(3, 7, 100, 5) == exits[[7, 100, 5]].tolist()
    assert some(3, *range(50)) != some(4, *range(50))
    neighbours = (exits[:-1] == exits[1:]).float().mean().item()
    assert neighbours == pytest.approx(sum(p * p for p in probabilities), abs=0.02)


def test_a_rule_never_sees_a_token_that_has_left() -> None:
    seen = []

    def gate(states: Tensor) -> Tensor:
        seen.append(states[:, 0].tolist())
        return states[:, 0]

    states = torch.tensor([[9.0, -9, -9], [-9, 9, -9], [-9, -9, -9], [0, 0, 0]]).unsqueeze(-1)
    assert choose_exits(LearnedGate(), states, gate, torch.zeros(2, 1)).tolist() == [0, 1, 3]
    assert seen == [[9, -9, -9], [9, -9], [-9]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Fixed(-1), "exit is -1; it must be at least 0"),
        (lambda: QExit(1.1), "q is 1.1; it must be between 0 and 1"),
        (lambda: LearnedGate(-0.1), "threshold is -0.1"),
        (lambda: ArgmaxStability(1), "exits is 1; it must be at least 2"),
        (lambda: RandomDepth((0.5, 0.4)), "the sum of probabilities is 0.9; it must be 1"),
        (lambda: RandomDepth((1.5, -0.5)), "probabilities is .* at least 0 each"),
    ],
)
def test_impossible_rules_are_refused(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=said):
        make()


def test_rules_are_values() -> None:
    rules = [Fixed(1), QExit(0.5), LearnedGate(), Entropy(1.0), LoopKL(1.0), StateDifference(1.0), ArgmaxStability()]
    assert all(first != second for first, second in itertools.combinations(rules, 2))
    assert all(isinstance(hash(rule), int) for rule in rules)
