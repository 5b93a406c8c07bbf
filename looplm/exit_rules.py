"""When to leave the loop: rules behind one interface, for decoding and for stored states alike. No model runs here.

A rule is asked after every exit but the last, about the tokens that are still in the loop; whoever is still in it
leaves at the last exit. `init` makes what the rule remembers of each token, `check` says who leaves and remembers on.

Shapes in names: N = token still in the loop, R = exit, D = hidden, V = vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

Memory = tuple[Tensor, ...]
"""What a rule remembers: tensors with a row for each token still in the loop."""


@dataclass(frozen=True)
class View:
    """What a rule may look at after one exit; gate and head run only if it does.

    Attributes:
        exit: the exit just reached, from 0.
        state_ND: its normed states.
        gate: gate logits of states.
        head_VD: the head matrix.
    """

    exit: int
    state_ND: Tensor
    gate: Callable[[Tensor], Tensor]
    head_VD: Tensor

    @cached_property
    def gate_N(self) -> Tensor:
        """The gate's logits."""
        return self.gate(self.state_ND)

    @cached_property
    def logits_NV(self) -> Tensor:
        """The head's logits."""
        return F.linear(self.state_ND, self.head_VD)

    @cached_property
    def log_p_NV(self) -> Tensor:
        """Log-probabilities of the next token, float32 or better."""
        return self.logits_NV.to(torch.promote_types(self.logits_NV.dtype, torch.float32)).log_softmax(-1)


class ExitRule(Protocol):
    """The interface of all rules."""

    def init(self, token_N: Tensor) -> Memory:
        """What is remembered before the first exit, of the tokens that these int64 numbers tell apart."""

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """Who leaves after this exit (bool, N), and what is remembered of everybody."""


def choose_exits(
    rule: ExitRule, states_RND: Tensor, gate: Callable[[Tensor], Tensor], head_VD: Tensor, token_N: Tensor | None = None
) -> Tensor:
    """The exit (int64, from 0) at which each token leaves, for states that are already there.

    Args:
        rule: is shown at each exit only the tokens that are still in the loop.
        states_RND: normed states of every exit.
        gate: gate logits of states, as `LoopLM.exit_logits`.
        head_VD: the head matrix.
        token_N: numbers that tell the tokens apart; by default their order.
    """
    count, device = states_RND.shape[1], states_RND.device
    inside_N = torch.arange(count, device=device)
    chosen_N = torch.full((count,), len(states_RND) - 1, device=device)
    memory = rule.init(inside_N if token_N is None else token_N)
    for exit, state_ND in enumerate(states_RND[:-1]):
        leaves_N, memory = rule.check(memory, View(exit, state_ND[inside_N], gate, head_VD))
        chosen_N[inside_N[leaves_N]] = exit
        inside_N, memory = inside_N[~leaves_N], tuple(part[~leaves_N] for part in memory)
    return chosen_N


def _require(condition: bool, field: str, value: Any, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{field} is {value!r}; it must be {allowed}")


def _nobody(view: View) -> Tensor:
    """Nobody leaves."""
    return torch.zeros(len(view.state_ND), dtype=torch.bool, device=view.state_ND.device)


class _BlankStart:
    """For rules that remember nothing before the first exit."""

    def init(self, token_N: Tensor) -> Memory:
        """Nothing."""
        return ()


@dataclass(frozen=True)
class Fixed(_BlankStart):
    """Everybody leaves after exit `exit` (from 0); the last one if there are fewer."""

    exit: int

    def __post_init__(self) -> None:
        _require(self.exit >= 0, "exit", self.exit, "at least 0")

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """The same for all."""
        return torch.full((len(view.state_ND),), view.exit >= self.exit, device=view.state_ND.device), memory


@dataclass(frozen=True)
class QExit:
    """The first exit at which CDF(t) = 1 - prod_{s<=t} (1 - lambda_s) reaches `q` (Ouro, arXiv 2510.25741, sec. 3.2).

    In log space, so that q = 1 means the last exit however sure the gate is: sums of rounded probabilities reach 1.
    """

    q: float

    def __post_init__(self) -> None:
        _require(0 <= self.q <= 1, "q", self.q, "between 0 and 1")

    def init(self, token_N: Tensor) -> Memory:
        """Log of the probability to have stayed."""
        return (torch.zeros(len(token_N), dtype=torch.float64, device=token_N.device),)

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """log prod (1 - lambda) <= log(1 - q)."""
        stay_N = memory[0] + F.logsigmoid(-view.gate_N.double())
        return stay_N <= (math.log1p(-self.q) if self.q < 1 else -math.inf), (stay_N,)


@dataclass(frozen=True)
class LearnedGate(_BlankStart):
    """The first exit whose own lambda_t = sigmoid(gate) reaches `threshold`, whatever the gate said before.

    Reads the gate as Stage II trains it: a decision at each exit, not a share of an exit distribution.
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        _require(0 <= self.threshold <= 1, "threshold", self.threshold, "between 0 and 1")

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """lambda >= threshold."""
        return view.gate_N.sigmoid() >= self.threshold, memory


@dataclass(frozen=True)
class Entropy(_BlankStart):
    """The first exit at which the entropy of the next token is below `nats`."""

    nats: float

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """-sum p log p < nats."""
        return -(view.log_p_NV.exp() * view.log_p_NV).sum(-1) < self.nats, memory


@dataclass(frozen=True)
class LoopKL(_BlankStart):
    """The first exit, from the second on, at which KL(p_t || p_{t-1}) of the next token is below `nats`."""

    nats: float

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """Remembers p_{t-1}."""
        now_NV = view.log_p_NV
        if not memory:
            return _nobody(view), (now_NV,)
        return (now_NV.exp() * (now_NV - memory[0])).sum(-1) < self.nats, (now_NV,)


@dataclass(frozen=True)
class StateDifference(_BlankStart):
    """The first exit, from the second on, at which ||h_t - h_{t-1}|| is below `distance` (Ouro, sec. 5.4.1)."""

    distance: float

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """Remembers h_{t-1}."""
        if not memory:
            return _nobody(view), (view.state_ND,)
        return (view.state_ND - memory[0]).norm(dim=-1) < self.distance, (view.state_ND,)


@dataclass(frozen=True)
class SecondDifference(_BlankStart):
    """The first exit, from the third on, at which ||h_t - 2 h_{t-1} + h_{t-2}|| is below `distance`."""

    distance: float

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """Remembers h_{t-1} and the step that led there."""
        if not memory:
            return _nobody(view), (view.state_ND,)
        step_ND = view.state_ND - memory[0]
        if len(memory) == 1:
            return _nobody(view), (view.state_ND, step_ND)
        return (step_ND - memory[1]).norm(dim=-1) < self.distance, (view.state_ND, step_ND)


@dataclass(frozen=True)
class ArgmaxStability:
    """The first exit at which the most probable token has been the same at `exits` exits in a row."""

    exits: int = 2

    def __post_init__(self) -> None:
        _require(self.exits >= 2, "exits", self.exits, "at least 2")

    def init(self, token_N: Tensor) -> Memory:
        """No token, seen 0 times in a row."""
        return torch.full_like(token_N, -1), torch.zeros_like(token_N)

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """Counts agreements in a row."""
        best_N = view.logits_NV.argmax(-1)
        run_N = torch.where(best_N == memory[0], memory[1] + 1, 1)
        return run_N >= self.exits, (best_N, run_N)


@dataclass(frozen=True)
class RandomDepth:
    """The control: exit t (from 0) with probability `probabilities[t]`, whatever the token.

    A token's exit is a function of `seed` and its number alone, so that it does not depend on the batch.
    """

    probabilities: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        total = math.fsum(self.probabilities)
        _require(min(self.probabilities, default=-1.0) >= 0, "probabilities", self.probabilities, "at least 0 each")
        _require(abs(total - 1) < 1e-6, "the sum of probabilities", total, "1")

    def init(self, token_N: Tensor) -> Memory:
        """The exit of each."""
        bounds = torch.tensor(self.probabilities, dtype=torch.float64, device=token_N.device).cumsum(0)
        drawn_N = torch.searchsorted(bounds, uniform(self.seed, token_N), right=True)
        return (drawn_N.clamp(max=len(self.probabilities) - 1),)

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """Whether its exit is reached."""
        return memory[0] <= view.exit, memory


@dataclass(frozen=True, eq=False)
class Oracle:
    """The first exit whose most probable token is the target; the last where none is. Bounds what a rule can reach.

    Attributes:
        target_N: the token that follows each of the tokens that `init` is given, in that order.
    """

    target_N: Tensor

    def init(self, token_N: Tensor) -> Memory:
        """The targets."""
        if len(token_N) != len(self.target_N):
            raise ValueError(f"target_N holds {len(self.target_N)} targets; it must hold {len(token_N)}, one a token")
        return (self.target_N,)

    def check(self, memory: Memory, view: View) -> tuple[Tensor, Memory]:
        """Whether this exit is right."""
        return view.logits_NV.argmax(-1) == memory[0], memory


def uniform(seed: int, token_N: Tensor) -> Tensor:
    """Float64 numbers in [0, 1), each a hash of the seed and a token's number (SplitMix64's finaliser, twice)."""
    mixed_N = _mix(_mix(token_N.cpu().to(torch.int64)) + seed)
    return (_shifted(mixed_N, 11).double() / 2**53).to(token_N.device)


def _shifted(x_N: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's is arithmetic."""
    return (x_N >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x_N: Tensor) -> Tensor:
    x_N = x_N + (0x9E3779B97F4A7C15 - 2**64)
    x_N = (x_N ^ _shifted(x_N, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x_N = (x_N ^ _shifted(x_N, 27)) * (0x94D049BB133111EB - 2**64)
    return x_N ^ _shifted(x_N, 31)
