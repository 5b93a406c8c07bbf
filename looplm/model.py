"""LoopLM: a stack of transformer blocks run several times, with an exit after every run. No loss, no training here.

Shapes in names: B = row, S = position, D = hidden, F = feed-forward, H = head, K = size of a head, V = vocabulary,
R = exit.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from looplm.attention import AttentionName, Documents, attend, prepare
from looplm.config import ModelConfig


class LazyLogits(Sequence[Tensor]):
    """The next-token logits of R exits; `logits[t]`, (B, S, V), is computed each time it is asked for."""

    def __init__(self, states_RBSD: Tensor, head_VD: Tensor) -> None:
        self._states_RBSD = states_RBSD
        self._head_VD = head_VD

    def __len__(self) -> int:
        return len(self._states_RBSD)

    def __getitem__(self, exit: Any) -> Any:
        return F.linear(self._states_RBSD[exit], self._head_VD)


class LoopOutput(NamedTuple):
    """What every exit offers.

    Attributes:
        states: the normed states (R, B, S, D), which the head and the gate read.
        exit_logits: the gate's logits (R, B, S); the last exit's are never used.
        logits: the head's logits (B, S, V) of each exit, computed only when indexed.
    """

    states: Tensor
    exit_logits: Tensor
    logits: LazyLogits


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis, computed in the weight's precision."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return F.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.epsilon)


class Rotary(NamedTuple):
    """Cosines and signed sines of the rotary angles, one row a position, the two halves of a head side by side."""

    cos_S1K: Tensor
    sin_S1K: Tensor

    def turn(self, x_BSHK: Tensor) -> Tensor:
        """Turn each pair (x_i, x_{i + K/2}) by its position's angle."""
        first, second = x_BSHK.chunk(2, dim=-1)
        return x_BSHK * self.cos_S1K + torch.cat([second, first], dim=-1) * self.sin_S1K


@lru_cache(maxsize=32)
def rotary(positions: int, head_size: int, base: float, dtype: torch.dtype, device: torch.device) -> Rotary:
    """Rotary angles position * base^(-2i / K) of positions 0 ... `positions` - 1, computed in float64."""
    with torch.inference_mode(False):
        frequency_K = base ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
        angle_S1K = torch.outer(torch.arange(positions, dtype=torch.float64), frequency_K).unsqueeze(1)
        cos_S1K = torch.cat([angle_S1K.cos(), angle_S1K.cos()], dim=-1)
        sin_S1K = torch.cat([-angle_S1K.sin(), angle_S1K.sin()], dim=-1)
        return Rotary(cos_S1K.to(device, dtype), sin_S1K.to(device, dtype))


class Linear(nn.Module):
    """x W^T (+ b), with weights that wait for `LoopLM` to draw them."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.linear(x, self.weight, self.bias)


class Attention(nn.Module):
    """Multi-head attention with rotary positions; query, key and value projections are one matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query_key_value = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BSD: Tensor, angles: Rotary, documents: Documents | None) -> Tensor:
        """(B, S, D) -> (B, S, D); see `attend`."""
        rows, positions, hidden = x_BSD.shape
        qkv_BSHK = self.query_key_value(x_BSD).view(rows, positions, 3 * self.heads, -1)
        turned_BSHK = angles.turn(qkv_BSHK[:, :, : 2 * self.heads])
        query_BSHK, key_BSHK = turned_BSHK.chunk(2, dim=2)
        value_BSHK = qkv_BSHK[:, :, 2 * self.heads :]
        mixed_BSHK = attend(query_BSHK, key_BSHK, value_BSHK, documents)
        return self.output(mixed_BSHK.reshape(rows, positions, hidden))


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)); gate and up projections are one matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = Linear(config.hidden_size, 2 * config.feedforward_size)
        self.down = Linear(config.feedforward_size, config.hidden_size)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        gate_BSF, up_BSF = self.gate_up(x_BSD).chunk(2, dim=-1)
        return self.down(F.silu(gate_BSF) * up_BSF)


class Block(nn.Module):
    """A transformer block with a norm before and after each of its two halves."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, epsilon = config.hidden_size, config.norm_epsilon
        self.before_attention = RMSNorm(size, epsilon)
        self.attention = Attention(config)
        self.after_attention = RMSNorm(size, epsilon)
        self.before_feedforward = RMSNorm(size, epsilon)
        self.feedforward = FeedForward(config)
        self.after_feedforward = RMSNorm(size, epsilon)

    def forward(self, x_BSD: Tensor, angles: Rotary, documents: Documents | None) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        x_BSD = x_BSD + self.after_attention(self.attention(self.before_attention(x_BSD), angles, documents))
        return x_BSD + self.after_feedforward(self.feedforward(self.before_feedforward(x_BSD)))


def run_segment(
    x_BSD: Tensor, blocks: Iterable[Block], norm: RMSNorm, angles: Rotary, documents: Documents | None
) -> Tensor:
    """What lies between two exits: some blocks, then the final norm. The unit that is compiled."""
    for block in blocks:
        x_BSD = block(x_BSD, angles, documents)
    return norm(x_BSD)


class LoopLM(nn.Module):
    """k⊗R: `layers` blocks run `loops` times, with the final norm inside the loop (Ouro, arXiv 2510.25741, Eq. 1).

    The normed state at the end of each run is an exit: head and gate read it, and the next run begins from it. With
    `exit_every` the runs are successive groups of an untied stack instead; nothing else differs.

    Weight matrices and the embedding are drawn from normal(0, init_std), each from a generator of its own, keyed by
    `init_seed` and the parameter's name: models that share a parameter share its initial value. Norms start at 1, the
    gate's bias at 0. The global random state is neither read nor changed.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, init_seed: int = 0) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"vocab_size is {vocab_size}; it must be at least 1")
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding.from_pretrained(torch.empty(vocab_size, config.hidden_size), freeze=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.gate = Linear(config.hidden_size, 1, bias=True)
        self.head = None if config.tied_embeddings else Linear(config.hidden_size, vocab_size)
        self.run_segment: Callable[..., Tensor] = run_segment
        self.attention: AttentionName = "sdpa"
        self._initialise(init_seed)

    @torch.no_grad()
    def _initialise(self, init_seed: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                digest = hashlib.blake2b(f"{init_seed}/{name}".encode(), digest_size=4).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest))
                parameter.normal_(0.0, self.config.init_std, generator=generator)

    @property
    def head_VD(self) -> Tensor:
        """The head matrix: the embedding itself where the two are tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    def exit_states(
        self,
        tokens_BS: Tensor,
        documents_BS: Tensor | None = None,
        loops: int | None = None,
        edit: Callable[[int, Tensor], Tensor] | None = None,
        trained_loops: int | None = None,
    ) -> list[Tensor]:
        """The normed state (B, S, D) of every exit, first to last.

        Args:
            tokens_BS: see `forward`.
            documents_BS: see `forward`.
            loops: times the stack runs; by default as often as the model is made for.
            edit: given an exit (from 0) and its state, returns the state that is to stand in its place.
            trained_loops: gradients flow through the last so many loops, and the earlier ones keep nothing for them; by
                default through all.

        Raises:
            ValueError: if `loops` is given for an untied stack with exits, whose runs cannot be repeated, or below 1.
        """
        config = self.config
        if loops is not None and (config.exit_every is not None or loops < 1):
            allowed = "at least 1" if config.exit_every is None else "null where model.exit_every is given"
            raise ValueError(f"loops is {loops}; it must be {allowed}")
        x_BSD = self.embedding(tokens_BS)
        head_size = config.hidden_size // config.heads
        angles = rotary(tokens_BS.shape[1], head_size, config.rope_base, x_BSD.dtype, x_BSD.device)
        documents = None if documents_BS is None else prepare(documents_BS, self.attention)
        size = config.exit_every or config.layers
        segments = [list(self.blocks[first : first + size]) for first in range(0, config.layers, size)]
        runs = segments * (loops or config.loops)
        constant = 0 if trained_loops is None else len(runs) - len(segments) * trained_loops
        states = []
        for exit, blocks in enumerate(runs):
            with torch.set_grad_enabled(torch.is_grad_enabled() and exit >= constant):
                x_BSD = self.run_segment(x_BSD, blocks, self.norm, angles, documents)
            if edit is not None:
                x_BSD = edit(exit, x_BSD)
            states.append(x_BSD)
        return states

    def exit_logits(self, states_RND: Tensor) -> Tensor:
        """The gate's logits (R, ...) of states (R, ..., D), in the weights' precision even under autocast."""
        with torch.autocast(states_RND.device.type, enabled=False):
            return self.gate(states_RND).squeeze(-1)

    def forward(self, tokens_BS: Tensor, documents_BS: Tensor | None = None) -> LoopOutput:
        """Every exit's states and gate logits.

        Args:
            tokens_BS: int64 tokens.
            documents_BS: which document each position belongs to; attention stays inside it. Without it every row is
                one document.
        """
        states_RBSD = torch.stack(self.exit_states(tokens_BS, documents_BS))
        return LoopOutput(states_RBSD, self.exit_logits(states_RBSD), LazyLogits(states_RBSD, self.head_VD))
