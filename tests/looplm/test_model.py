import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from looplm.config import ModelConfig
from looplm.model import LoopLM, rotary
from synthdata.batch import PADDING, Batch

V = 11


def tokens(rows: int, positions: int) -> Tensor:
    return torch.randint(V, (rows, positions), generator=torch.Generator().manual_seed(1))


def plain_transformer(weights: dict[str, Tensor], config: ModelConfig, tokens_BS: Tensor) -> Tensor:
    """A transformer without loops, from the equations: every block once, then the final norm."""
    positions = tokens_BS.shape[1]
    head_size = config.hidden_size // config.heads
    frequency = config.rope_base ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angle = torch.outer(torch.arange(positions, dtype=torch.float64), frequency)[:, None]
    cos, sin = angle.cos().float(), angle.sin().float()

    def norm(x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x, (config.hidden_size,), weights[f"{name}.weight"], config.norm_epsilon)

    def turn(x: Tensor) -> Tensor:
        first, second = x[..., : head_size // 2], x[..., head_size // 2 :]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    h = weights["embedding.weight"][tokens_BS]
    for layer in range(config.layers):
        block = f"blocks.{layer}"
        qkv = F.linear(norm(h, f"{block}.before_attention"), weights[f"{block}.attention.query_key_value.weight"])
        query, key, value = (part.unflatten(-1, (config.heads, head_size)) for part in qkv.chunk(3, -1))
        mixed = F.scaled_dot_product_attention(
            turn(query).transpose(1, 2), turn(key).transpose(1, 2), value.transpose(1, 2), is_causal=True
        )
        attended = F.linear(mixed.transpose(1, 2).flatten(2), weights[f"{block}.attention.output.weight"])
        h = h + norm(attended, f"{block}.after_attention")
        inner = F.linear(norm(h, f"{block}.before_feedforward"), weights[f"{block}.feedforward.gate_up.weight"])
        gate, up = inner.chunk(2, -1)
        h = h + norm(
            F.linear(F.silu(gate) * up, weights[f"{block}.feedforward.down.weight"]), f"{block}.after_feedforward"
        )
    return norm(h, "norm")


@pytest.mark.parametrize("layers", [1, 3])
def test_one_loop_is_the_plain_transformer_bit_for_bit(layers: int) -> None:
    config = ModelConfig(layers=layers, hidden_size=32, heads=4)
    model = LoopLM(config, V)
    states = model(tokens(3, 7)).states
    assert states.shape == (1, 3, 7, 32)
    assert torch.equal(states[0], plain_transformer(dict(model.named_parameters()), config, tokens(3, 7)))


def test_attention_equals_softmax_of_scaled_products() -> None:
    config = ModelConfig(hidden_size=16, heads=1)
    attention = LoopLM(config, V).double().blocks[0].attention
    x = torch.randn(1, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    angles = rotary(5, 16, 10_000.0, torch.float64, torch.device("cpu"))
    query, key, value = (x[0] @ attention.query_key_value.weight.T).chunk(3, -1)
    angle = torch.outer(torch.arange(5, dtype=torch.float64), 10_000.0 ** (-torch.arange(8.0, dtype=torch.float64) / 8))
    rotation = torch.polar(torch.ones_like(angle), angle)

    def turn(z: Tensor) -> Tensor:
        turned = torch.complex(z[:, :8], z[:, 8:]) * rotation
        return torch.cat([turned.real, turned.imag], -1)

    scores = (turn(query) @ turn(key).T / math.sqrt(16)).masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    expected = scores.softmax(-1) @ value @ attention.output.weight.T
    torch.testing.assert_close(attention(x, angles, None)[0], expected, rtol=1e-6, atol=1e-12)


def test_every_loop_begins_from_the_normed_state_of_the_one_before() -> None:
    looped = LoopLM(ModelConfig(loops=3, hidden_size=16), V)
    states = looped.exit_states(tokens(2, 4))
    plain = LoopLM(ModelConfig(hidden_size=16), V)
    for before, after in pairwise(states):
        plain.embedding.weight.data = before[0]
        torch.testing.assert_close(plain(torch.arange(4)[None]).states[0, 0], after[0], rtol=0, atol=0)
    assert not torch.allclose(states[0], states[2], atol=1e-3)


def test_untied_exits_lie_after_every_group_of_layers() -> None:
    config = ModelConfig(layers=4, hidden_size=16, exit_every=2)
    model = LoopLM(config, V)
    output = model(tokens(2, 5))
    assert output.states.shape == (2, 2, 5, 16)
    assert output.exit_logits.shape == (2, 2, 5)

    tied = LoopLM(ModelConfig(layers=2, loops=2, hidden_size=16), V)
    torch.testing.assert_close(tied(tokens(2, 5)).states[0], output.states[0], rtol=0, atol=0)
    for layer in (0, 1):
        model.blocks[layer + 2].load_state_dict(model.blocks[layer].state_dict())
    assert torch.equal(tied(tokens(2, 5)).states, model(tokens(2, 5)).states)

    model.exit_states(tokens(2, 5))[0].square().mul(torch.arange(16.0)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.blocks[:2].parameters())
    assert all(parameter.grad is None for parameter in model.blocks[2:].parameters())
    model.exit_states(tokens(2, 5))[1].square().mul(torch.arange(16.0)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.blocks[2:].parameters())


@pytest.mark.parametrize("loops", [1, 3])
def test_no_gradient_from_the_future(loops: int) -> None:
    model = LoopLM(ModelConfig(layers=2, loops=loops, hidden_size=16), V)
    embedded = []
    model.embedding.register_forward_hook(
        lambda module, inputs, output: embedded.append(output.retain_grad() or output)
    )
    model(tokens(2, 6)).states[:, :, 3].square().mul(torch.arange(16.0)).sum().backward()
    gradient_BSD = embedded[0].grad
    assert (gradient_BSD[:, 4:] == 0).all()
    assert (gradient_BSD[:, :4].abs().sum(-1) > 0).all()


def test_no_gradient_across_packed_documents(packed_batch: Batch, vocab_size: int) -> None:
    model = LoopLM(ModelConfig(loops=2, hidden_size=16), vocab_size)
    embedded = []
    model.embedding.register_forward_hook(
        lambda module, inputs, output: embedded.append(output.retain_grad() or output)
    )
    documents_BS = torch.from_numpy(packed_batch.documents_BS)
    assert packed_batch.packed
    row = documents_BS[0]
    second = int(row.unique()[row.unique() != PADDING][1])
    last = int((row == second).nonzero().max())
    states = model(torch.from_numpy(packed_batch.tokens_BS), documents_BS).states
    assert states.isfinite().all()
    states[:, 0, last].square().mul(torch.arange(16.0)).sum().backward()
    gradient_SD = embedded[0].grad[0]
    inside = (row == second) & (torch.arange(len(row)) <= last)
    assert (gradient_SD[~inside] == 0).all()
    assert (gradient_SD[inside].abs().sum(-1) > 0).all()
    assert (embedded[0].grad[1:] == 0).all()


def test_initial_weights_depend_on_seed_and_name_alone() -> None:
    state = torch.get_rng_state()
    shallow = LoopLM(ModelConfig(layers=1, loops=1), V, init_seed=3).state_dict()
    deep = LoopLM(ModelConfig(layers=3, loops=2, tied_embeddings=False), V, init_seed=3).state_dict()
    other = LoopLM(ModelConfig(layers=1, loops=1), V, init_seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(deep[name], value) for name, value in shallow.items())
    assert not torch.equal(deep["blocks.0.attention.output.weight"], deep["blocks.1.attention.output.weight"])
    assert not torch.equal(shallow["embedding.weight"], other["embedding.weight"])
    drawn = torch.cat([value.flatten() for name, value in deep.items() if value.ndim == 2])
    assert drawn.std().item() == pytest.approx(0.02, rel=0.02)
    assert drawn.mean().item() == pytest.approx(0.0, abs=2e-4)
    assert all((value == 1).all() for name, value in deep.items() if "before_" in name or "after_" in name)
    assert deep["gate.bias"] == 0


def test_tied_head_is_the_embedding() -> None:
    tied = LoopLM(ModelConfig(), V)
    assert tied.head_VD is tied.embedding.weight
    untied = LoopLM(ModelConfig(tied_embeddings=False), V)
    assert untied.head_VD.shape == (V, 64)
    assert untied.head_VD is not untied.embedding.weight


def test_vocabulary_must_not_be_empty() -> None:
    with pytest.raises(ValueError, match="vocab_size is 0; it must be at least 1"):
        LoopLM(ModelConfig(), 0)
