"""Greedy decoding that saves compute: cached keys and values, and tokens that have left the loop cost nothing more.

A prompt is read at full depth, but for its last token. From that token on, each is run loop by loop until its exit rule
lets it go, and the sequences that have left drop out of the batch for the deeper loops. A deeper loop that needs a key
which an earlier token never computed reads the last one that this token did compute, in the same layer. When to leave
is decided in `exit_rules.py`.

Shapes in names: B = sequence, A = sequence still at work, S = position, C = cached position, D = hidden, H = head,
K = size of a head, V = vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from looplm.exit_rules import ExitRule, View
from looplm.model import Block, LoopLM, Rotary, rotary

Sharing = Literal["full", "last", "average", "first"]
"""What a later token finds of an earlier one: its keys and values of each loop (`full`), or in every loop those of the
last loop it ran, their mean over its loops, or those of its first loop (Ouro, arXiv 2510.25741, sec. 5.4.2)."""


class Cache:
    """Rotated keys, and values, of every layer: a slot for each loop under `full`, else one for all loops.

    While a token is at work its own keys are those of the loop it is in, whatever the sharing; `settle` leaves what
    later tokens will find. Under sharing, tokens that are read together (a prompt) see each other's loops in full.
    """

    def __init__(self, model: LoopLM, rows: int, capacity: int, sharing: Sharing) -> None:
        config = model.config
        self.sharing = sharing
        self.loops = config.loops
        slots = config.loops if sharing == "full" else 1
        head_size = config.hidden_size // config.heads
        shape = (config.layers, slots, rows, capacity, 2, config.heads, head_size)
        self.kv = model.head_VD.new_zeros(shape)
        self._kept = self.kv[:, 0, :, :0]

    def begin(self, positions: int) -> None:
        """Get ready for the loops of some tokens, `positions` a row."""
        layers, _, rows, _, *rest = self.kv.shape
        self._kept = self.kv.new_zeros(layers, rows, positions if self.sharing in ("first", "average") else 0, *rest)

    def write(self, loop: int, layer: int, rows_A: Tensor, positions_AS: Tensor, kv_AS2HK: Tensor) -> None:
        """Keys and values of tokens in the loop they are in."""
        slot = loop if self.sharing == "full" else 0
        self.kv[layer, slot, rows_A[:, None], positions_AS] = kv_AS2HK
        if self.sharing == "average" or (self.sharing == "first" and loop == 0):
            self._kept[layer, rows_A] = self._kept[layer, rows_A].lerp(kv_AS2HK, 1 / (loop + 1))

    def read(self, loop: int, layer: int, rows_A: Tensor, positions: int) -> Tensor:
        """Keys and values (A, C, 2, H, K) of the first `positions` positions, as that loop finds them."""
        kv_BN = self.kv[layer, loop if self.sharing == "full" else 0].flatten(1)
        kv_BN = kv_BN[:, : positions * self.kv[0, 0, 0, 0].numel()]
        if len(rows_A) < len(kv_BN):
            kv_BN = kv_BN.index_select(0, rows_A)  # of whole rows: several times faster than indexing five axes
        return kv_BN.unflatten(1, (positions, *self.kv.shape[4:]))

    def settle(self, rows_A: Tensor, positions_AS: Tensor, loops_A: Tensor) -> None:
        """The tokens are through, each after its own number of loops: leave what later ones will find."""
        if self.sharing in ("first", "average"):
            self.kv[:, 0, rows_A[:, None], positions_AS] = self._kept[:, rows_A]
        elif self.sharing == "full":
            for loop in range(1, self.loops):
                left_E = (loops_A <= loop).nonzero().squeeze(1)
                rows_E1, positions_ES, last_E1 = rows_A[left_E, None], positions_AS[left_E], loops_A[left_E, None] - 1
                self.kv[:, loop, rows_E1, positions_ES] = self.kv[:, last_E1, rows_E1, positions_ES]


class Step(NamedTuple):
    """What one token of each sequence at work came to.

    Attributes:
        states_AD: normed states at the exit.
        loops_A: int64, loops run, from 1.
    """

    states_AD: Tensor
    loops_A: Tensor


class Decoder:
    """Sequences being decoded together: a model, a rule, and what is cached of them.

    Args:
        model: looped or plain, on any device.
        rows: sequences B.
        capacity: most positions of a sequence.
        rule: when a token leaves the loop.
        sharing: what is cached.

    Raises:
        ValueError: for a model with exits inside an untied stack (a skipped block has no earlier keys of its own), or
            an unknown sharing.
    """

    def __init__(self, model: LoopLM, rows: int, capacity: int, rule: ExitRule, sharing: Sharing = "full") -> None:
        config = model.config
        if config.exit_every is not None:
            raise ValueError(f"model.exit_every is {config.exit_every}; it must be null to decode with a cache")
        if sharing not in get_args(Sharing):
            raise ValueError(f"sharing is {sharing!r}; it must be {' | '.join(get_args(Sharing))}")
        self._model = model
        self._rule = rule
        self._device = model.head_VD.device
        self._cache = Cache(model, rows, capacity, sharing)
        head_size = config.hidden_size // config.heads
        self._angles = rotary(capacity, head_size, config.rope_base, model.head_VD.dtype, self._device)

    @torch.no_grad()
    def prefill(self, tokens_BS: Tensor) -> None:
        """Read the first positions of every sequence at full depth.

        Where sequences differ in length they are padded to the right with any token: what is cached of padding is
        overwritten before anything looks at it.
        """
        rows, positions = tokens_BS.shape
        rows_B = torch.arange(rows, device=self._device)
        positions_BS = torch.arange(positions, device=self._device).expand(rows, -1)
        x_BSD = self._model.embedding(tokens_BS)
        self._cache.begin(positions)
        for loop in range(self._model.config.loops):
            x_BSD = self._run(loop, x_BSD, rows_B, positions_BS, positions)
        self._cache.settle(rows_B, positions_BS, torch.full_like(rows_B, self._model.config.loops))

    @torch.no_grad()
    def step(self, rows_A: Tensor, tokens_A: Tensor, positions_A: Tensor) -> Step:
        """Run one token of each of some sequences, each until it leaves.

        Args:
            rows_A: int64, which sequences, ascending.
            tokens_A: int64, their next tokens.
            positions_A: int64, where these stand; all before must be there.
        """
        loops, positions_A1 = self._model.config.loops, positions_A.unsqueeze(1)
        reach = int(positions_A.max()) + 1
        inside_A = torch.arange(len(rows_A), device=self._device)
        x_AD = self._model.embedding(tokens_A)
        states_AD, loops_A = torch.empty_like(x_AD), torch.full_like(rows_A, loops)
        memory = self._rule.init(rows_A * 2**32 + positions_A)
        self._cache.begin(1)
        for loop in range(loops):
            x_A1D = x_AD.unsqueeze(1)
            x_AD = self._run(loop, x_A1D, rows_A[inside_A], positions_A1[inside_A], reach).squeeze(1)
            if loop == loops - 1:
                break
            leaves_A, memory = self._rule.check(memory, View(loop, x_AD, self._model.exit_logits, self._model.head_VD))
            states_AD[inside_A[leaves_A]], loops_A[inside_A[leaves_A]] = x_AD[leaves_A], loop + 1
            inside_A, x_AD = inside_A[~leaves_A], x_AD[~leaves_A]
            memory = tuple(part[~leaves_A] for part in memory)
            if len(inside_A) == 0:
                break
        states_AD[inside_A] = x_AD
        self._cache.settle(rows_A, positions_A1, loops_A)
        return Step(states_AD, loops_A)

    def _run(self, loop: int, x_ASD: Tensor, rows_A: Tensor, positions_AS: Tensor, reach: int) -> Tensor:
        """One run of the stack, with the final norm; keys are those of the first `reach` positions."""
        angles = Rotary(self._angles.cos_S1K[positions_AS], self._angles.sin_S1K[positions_AS])
        seen_C = torch.arange(reach, device=self._device)
        mask_A1SC = (seen_C <= positions_AS.unsqueeze(-1)).unsqueeze(1)
        for layer, block in enumerate(self._model.blocks):
            assert isinstance(block, Block)
            query_ASHK, kv_AS2HK = _project(block, x_ASD, angles)
            self._cache.write(loop, layer, rows_A, positions_AS, kv_AS2HK)
            key_ACHK, value_ACHK = self._cache.read(loop, layer, rows_A, reach).unbind(2)
            mixed_AHSK = F.scaled_dot_product_attention(
                query_ASHK.transpose(1, 2), key_ACHK.transpose(1, 2), value_ACHK.transpose(1, 2), attn_mask=mask_A1SC
            )
            attended_ASD = block.attention.output(mixed_AHSK.transpose(1, 2).flatten(2))
            x_ASD = x_ASD + block.after_attention(attended_ASD)
            x_ASD = x_ASD + block.after_feedforward(block.feedforward(block.before_feedforward(x_ASD)))
        return self._model.norm(x_ASD)


def _project(block: Block, x_ASD: Tensor, angles: Rotary) -> tuple[Tensor, Tensor]:
    """Rotated queries (A, S, H, K); rotated keys, and values, (A, S, 2, H, K)."""
    attention = block.attention
    qkv_ASHK = attention.query_key_value(block.before_attention(x_ASD)).unflatten(-1, (3 * attention.heads, -1))
    turned_ASHK = angles.turn(qkv_ASHK[:, :, : 2 * attention.heads])
    query_ASHK, key_ASHK = turned_ASHK.chunk(2, dim=2)
    return query_ASHK, torch.stack([key_ASHK, qkv_ASHK[:, :, 2 * attention.heads :]], dim=2)


@dataclass
class Generated:
    """One sequence's continuation.

    Attributes:
        tokens: what was generated, the stop token included.
        loops: loops run for each of them, from 1.
    """

    tokens: list[int] = field(default_factory=list)
    loops: list[int] = field(default_factory=list)


@torch.inference_mode()
def generate(
    model: LoopLM,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    rule: ExitRule,
    sharing: Sharing = "full",
    stop: int | None = None,
) -> list[Generated]:
    """Continue every prompt greedily, all together; a sequence that is through leaves the batch.

    Args:
        model: on any device.
        prompts: tokens, at least one each; of any lengths.
        new_tokens: most tokens to generate for each.
        rule: when a token leaves the loop.
        sharing: what is cached of it.
        stop: the token that ends a sequence.

    Raises:
        ValueError: for a prompt that is empty or has a token outside the vocabulary, or as `Decoder`.
    """
    for prompt in prompts:
        if len(prompt) == 0 or min(prompt) < 0 or max(prompt) >= model.vocab_size:
            raise ValueError(f"a prompt is {list(prompt)}; it must have tokens, each from 0 to {model.vocab_size - 1}")
    if new_tokens < 1:
        raise ValueError(f"new_tokens is {new_tokens}; it must be at least 1")
    longest, device = max(map(len, prompts)), model.head_VD.device
    decoder = Decoder(model, len(prompts), longest - 1 + new_tokens, rule, sharing)
    if longest > 1:
        padded = [[*prompt[:-1], *[0] * (longest - len(prompt))] for prompt in prompts]
        decoder.prefill(torch.tensor(padded, device=device))
    generated = [Generated() for _ in prompts]
    rows_A = torch.arange(len(prompts), device=device)
    tokens_A = torch.tensor([prompt[-1] for prompt in prompts], device=device)
    positions_A = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
    for _ in range(new_tokens):
        states_AD, loops_A = decoder.step(rows_A, tokens_A, positions_A)
        tokens_A = F.linear(states_AD, model.head_VD).argmax(-1)
        for row, token, loops in zip(rows_A.tolist(), tokens_A.tolist(), loops_A.tolist(), strict=True):
            generated[row].tokens.append(token)
            generated[row].loops.append(loops)
        if stop is not None:
            on_A = tokens_A != stop
            rows_A, tokens_A, positions_A = rows_A[on_A], tokens_A[on_A], positions_A[on_A]
            if len(rows_A) == 0:
                break
        positions_A = positions_A + 1
    return generated
