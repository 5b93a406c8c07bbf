from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from looplm.config import ModelConfig
from looplm.decoding import Decoder, Generated, Sharing, generate
from looplm.exit_rules import ExitRule, Fixed, LoopKL, QExit, RandomDepth
from looplm.model import LoopLM

V, LOOPS = 13, 4
SHARINGS: list[Sharing] = ["full", "last", "average", "first"]
PROMPTS = [[3, 1, 4, 1, 5, 9, 2], [6, 5], [3], [5, 8, 9, 7], [9, 3, 2, 3, 8]]


@pytest.fixture(scope="module")
def model() -> LoopLM:
    """Float64, with weights large enough that loops differ and a gate that lets tokens go at every depth."""
    config = ModelConfig(layers=2, loops=LOOPS, hidden_size=16, heads=2, init_std=0.3)
    model = LoopLM(config, V, init_seed=1).double()
    with torch.no_grad():
        model.gate.weight.mul_(4)
    return model


def reference(model: LoopLM, tokens: list[int], loops: list[int], prompt: int, sharing: Sharing) -> list[Tensor]:
    """Exit states of one sequence, position by position, from the rule: nothing is batched, masked or padded.

    Positions before `prompt` are read at full depth and see each other in full, whatever the sharing.
    """
    kept: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}
    heads, size = model.config.heads, model.config.hidden_size // model.config.heads
    frequency = model.config.rope_base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)

    def turn(x_HK: Tensor, position: int) -> Tensor:
        z = torch.complex(x_HK[:, : size // 2], x_HK[:, size // 2 :])
        z = z * torch.polar(torch.ones_like(frequency), position * frequency)
        return torch.cat([z.real, z.imag], -1)

    def found(earlier: int, position: int, loop: int, layer: int) -> tuple[Tensor, Tensor]:
        computed = loops[earlier]
        if sharing == "full" or position < prompt:
            return kept[earlier, min(loop, computed - 1), layer]
        if sharing == "average":
            keys, values = zip(*(kept[earlier, one, layer] for one in range(computed)), strict=True)
            return torch.stack(keys).mean(0), torch.stack(values).mean(0)
        return kept[earlier, 0 if sharing == "first" else computed - 1, layer]

    states = []
    for position, token in enumerate(tokens):
        x = model.embedding.weight[token]
        for loop in range(loops[position]):
            for layer, block in enumerate(model.blocks):
                qkv = block.attention.query_key_value(block.before_attention(x)).view(3, heads, size)
                kept[position, loop, layer] = turn(qkv[1], position), qkv[2]
                pairs = [found(earlier, position, loop, layer) for earlier in range(position)]
                keys, values = zip(*pairs, kept[position, loop, layer], strict=True)
                scores = torch.einsum("hk,shk->hs", turn(qkv[0], position), torch.stack(keys)) / size**0.5
                mixed = torch.einsum("hs,shk->hk", scores.softmax(-1), torch.stack(values))
                x = x + block.after_attention(block.attention.output(mixed.flatten()))
                x = x + block.after_feedforward(block.feedforward(block.before_feedforward(x)))
            x = model.norm(x)
        states.append(x)
    return states


def decode(model: LoopLM, rows: list[list[int]], prompts: list[int], rule: ExitRule, sharing: Sharing) -> list[dict]:
    """Feed given tokens through a `Decoder`; position -> (state, loops) of each row from its prompt's end on."""
    decoder = Decoder(model, len(rows), max(map(len, rows)), rule, sharing)
    width = max(prompts)
    decoder.prefill(torch.tensor([row[:size] + [0] * (width - size) for row, size in zip(rows, prompts, strict=True)]))
    found: list[dict] = [{} for _ in rows]
    for ahead in range(max(len(row) - size for row, size in zip(rows, prompts, strict=True))):
        at = [(b, prompts[b] + ahead) for b, row in enumerate(rows) if prompts[b] + ahead < len(row)]
        rows_A, positions_A = (torch.tensor(column) for column in zip(*at, strict=True))
        tokens_A = torch.tensor([rows[b][position] for b, position in at])
        states_AD, loops_A = decoder.step(rows_A, tokens_A, positions_A)
        for (b, position), state, loops in zip(at, states_AD, loops_A.tolist(), strict=True):
            found[b][position] = (state, loops)
    return found


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("rule", [QExit(0.6), LoopKL(0.2), RandomDepth((0.2, 0.3, 0.2, 0.3))], ids=str)
@torch.no_grad()
def test_cached_equals_recomputed_under_the_same_rule(model: LoopLM, rule: ExitRule, sharing: Sharing) -> None:
    draw = torch.Generator().manual_seed(0)
    lengths, prompts = [14, 9, 12, 6], [5, 1, 3, 5]
    rows = [torch.randint(V, (length,), generator=draw).tolist() for length in lengths]
    depths = set()
    for row, size, found in zip(rows, prompts, decode(model, rows, prompts, rule, sharing), strict=True):
        loops = [LOOPS] * size + [found[position][1] for position in range(size, len(row))]
        expected = reference(model, row, loops, size, sharing)
        for position in range(size, len(row)):
            torch.testing.assert_close(found[position][0], expected[position], rtol=1e-9, atol=1e-10)
        depths |= set(loops[size:])
    assert len(depths) >= 2, "the test must see tokens leave at different depths"


@torch.no_grad()
def test_at_full_depth_the_cache_changes_nothing(model: LoopLM) -> None:
    row = torch.randint(V, (12,), generator=torch.Generator().manual_seed(1)).tolist()
    expected = model(torch.tensor([row])).states[-1, 0]
    for rule in (QExit(1.0), Fixed(LOOPS - 1)):
        found = decode(model, [row], [4], rule, "full")[0]
        for position in range(4, 12):
            assert found[position][1] == LOOPS
            torch.testing.assert_close(found[position][0], expected[position], rtol=1e-9, atol=1e-10)


@torch.no_grad()
def greedy(model: LoopLM, prompt: list[int], new_tokens: int) -> list[int]:
    """Full forward passes at full depth."""
    tokens = list(prompt)
    for _ in range(new_tokens):
        output = model(torch.tensor([tokens]))
        tokens.append(int(output.logits[-1][0, -1].argmax()))
    return tokens[len(prompt) :]


def test_q_of_one_generates_what_full_forward_passes_do(model: LoopLM) -> None:
    for prompt, generated in zip(PROMPTS, generate(model, PROMPTS, 9, QExit(1.0)), strict=True):
        assert generated == Generated(greedy(model, prompt, 9), [LOOPS] * 9)


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("rule", [QExit(0.6), LoopKL(0.2)], ids=str)
def test_batched_equals_one_by_one(model: LoopLM, rule: ExitRule, sharing: Sharing) -> None:
    together = generate(model, PROMPTS, 10, rule, sharing)
    assert together == [generate(model, [prompt], 10, rule, sharing)[0] for prompt in PROMPTS]
    assert len({loops for one in together for loops in one.loops}) >= 2


def test_a_sequence_ends_with_its_stop_token_and_leaves_the_others_alone(model: LoopLM) -> None:
    free = generate(model, PROMPTS, 10, QExit(0.6))
    stop = free[0].tokens[3]
    for ended, whole in zip(generate(model, PROMPTS, 10, QExit(0.6), stop=stop), free, strict=True):
        end = whole.tokens.index(stop) + 1 if stop in whole.tokens else 10
        assert ended == Generated(whole.tokens[:end], whole.loops[:end])
    assert len(generate(model, [PROMPTS[0]], 10, QExit(0.6), stop=stop)[0].tokens) <= 4


def test_only_loops_that_are_run_are_paid(model: LoopLM) -> None:
    """Every token passes each block once a loop that it runs; prompts, but for their last token, at full depth."""
    passed = []
    hooks = [
        block.feedforward.register_forward_hook(lambda module, inputs, output: passed.append(output.shape[:2].numel()))
        for block in model.blocks
    ]
    generated = generate(model, PROMPTS, 10, QExit(0.6))
    for hook in hooks:
        hook.remove()
    prefill = len(PROMPTS) * (max(map(len, PROMPTS)) - 1) * LOOPS
    assert sum(passed) == 2 * (prefill + sum(sum(one.loops) for one in generated))
    assert sum(sum(one.loops) for one in generated) < 0.9 * LOOPS * 50


def test_one_loop_never_asks_its_rule() -> None:
    plain = LoopLM(ModelConfig(layers=2, hidden_size=16, init_std=0.3), V).double()
    generated = generate(plain, PROMPTS, 6, RandomDepth((1.0,)))
    assert [one.tokens for one in generated] == [greedy(plain, prompt, 6) for prompt in PROMPTS]
    assert all(one.loops == [1] * 6 for one in generated)


@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_shared_cache_is_as_many_times_smaller_as_there_are_loops(model: LoopLM, sharing: Sharing) -> None:
    cache = Decoder(model, 3, 10, Fixed(0), sharing)._cache
    assert cache.kv.numel() == (LOOPS if sharing == "full" else 1) * 2 * 2 * 3 * 10 * 16


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda model: generate(model, [[1], []], 3, Fixed(0)), r"a prompt is \[\]; it must have tokens"),
        (lambda model: generate(model, [[1, V]], 3, Fixed(0)), "each from 0 to 12"),
        (lambda model: generate(model, [[1]], 0, Fixed(0)), "new_tokens is 0; it must be at least 1"),
        (lambda model: Decoder(model, 1, 1, Fixed(0), "mean"), "sharing is 'mean'; it must be full | last"),
        (
            lambda model: Decoder(LoopLM(ModelConfig(layers=2, exit_every=1), V), 1, 1, Fixed(0)),
            "model.exit_every is 1; it must be null",
        ),
    ],
)
def test_what_cannot_be_decoded_is_refused(model: LoopLM, call: Callable[[LoopLM], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(model)
