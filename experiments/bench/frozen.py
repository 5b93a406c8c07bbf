"""LoopLM and its training step written plainly, and frozen: the yardstick of `looplm bench train`.

One module a matrix, a norm and a rotation spelled out, logits of every position and exit at once, AdamW as it comes.
It shares no code with `looplm`, so that what speeds `looplm` up cannot speed this up; a test holds both to the same
numbers. Not to be improved.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Norm(nn.Module):
    """RMSNorm in float32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def rotate(x_BHSK: Tensor) -> Tensor:
    """Rotary positions."""
    positions, size = x_BHSK.shape[-2:]
    frequency = 10_000.0 ** (-torch.arange(0, size, 2, device=x_BHSK.device) / size)
    angle = torch.outer(torch.arange(positions, device=x_BHSK.device), frequency)
    cos, sin = torch.cat([angle.cos()] * 2, -1), torch.cat([angle.sin()] * 2, -1)
    first, second = x_BHSK.chunk(2, -1)
    return x_BHSK * cos + torch.cat([-second, first], -1) * sin


class Block(nn.Module):
    """Attention and SwiGLU, with a norm before and after each."""

    def __init__(self, size: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(size, size, bias=False) for _ in range(4))
        self.gate, self.up = nn.Linear(size, inner, bias=False), nn.Linear(size, inner, bias=False)
        self.down = nn.Linear(inner, size, bias=False)
        self.before_attention, self.after_attention = Norm(size), Norm(size)
        self.before_feedforward, self.after_feedforward = Norm(size), Norm(size)

    def attend(self, x: Tensor) -> Tensor:
        """Causal attention over rows that are one document each."""
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for project in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(rotate(query).to(value), rotate(key).to(value), value, is_causal=True)
        return self.output(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, S, D)."""
        x = x + self.after_attention(self.attend(self.before_attention(x)))
        h = self.before_feedforward(x)
        return x + self.after_feedforward(self.down(F.silu(self.gate(h)) * self.up(h)))


class PlainLoopLM(nn.Module):
    """The blocks, run `loops` times, with the final norm inside the loop and tied embeddings."""

    def __init__(self, vocab_size: int, size: int, heads: int, inner: int, layers: int, loops: int) -> None:
        super().__init__()
        self.loops = loops
        self.embedding = nn.Embedding(vocab_size, size)
        self.blocks = nn.ModuleList(Block(size, heads, inner) for _ in range(layers))
        self.norm = Norm(size)
        self.exit = nn.Linear(size, 1)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, B, S, V) and gates (R, B, S)."""
        x, logits, gates = self.embedding(tokens), [], []
        for _ in range(self.loops):
            for block in self.blocks:
                x = block(x)
            x = self.norm(x)
            logits.append(F.linear(x, self.embedding.weight))
            gates.append(self.exit(x).squeeze(-1))
        return torch.stack(logits), torch.stack(gates)


def entropy_loss(model: nn.Module, tokens: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Mean over all positions of sum_t p_t CE_t - beta H(p)."""
    logits, gates = model(tokens)
    stay, left = torch.ones_like(gates[0], dtype=torch.float32), []
    for gate in gates[:-1].float():
        left.append(stay * torch.sigmoid(gate))
        stay = stay * (1 - torch.sigmoid(gate))
    p = torch.stack([*left, stay])
    nats = F.cross_entropy(logits.flatten(0, 2).float(), targets.expand(p.shape).flatten(), reduction="none")
    entropy = -(p * p.clamp_min(1e-12).log()).sum(0)
    return ((p * nats.view_as(p)).sum(0) - beta * entropy).mean()


class PlainTraining:
    """The loop's body: forward, backward, clip, AdamW."""

    def __init__(self, model: nn.Module, lr: float, beta: float, autocast: bool) -> None:
        self.model, self.beta, self.autocast = model, beta, autocast
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)

    def step(self, tokens: Tensor, targets: Tensor) -> float:
        """Train one step and return its loss."""
        self.optimizer.zero_grad()
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            loss = entropy_loss(self.model, tokens, targets, self.beta)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()
