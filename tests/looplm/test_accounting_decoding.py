import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from looplm.accounting import activation_bytes, decoding_flops, forward_flops, kv_bytes
from looplm.config import ModelConfig
from looplm.decoding import Decoder, generate
from looplm.exit_rules import ExitRule, Fixed, LoopKL, QExit, RandomDepth
from looplm.model import LoopLM, rotary

LOOPED = ModelConfig(layers=2, loops=4, hidden_size=32, heads=4, init_std=0.3)
RULES = [
    (QExit(0.6), "gate"),
    (QExit(1.0), "gate"),
    (LoopKL(0.3), "head"),
    (RandomDepth((0.3, 0.3, 0.2, 0.2)), None),
]


@pytest.mark.parametrize(("rule", "reads"), RULES, ids=str)
@pytest.mark.parametrize("prompt", [[4], [1, 2, 3, 4, 5, 6]], ids=len)
def test_decoding_flops_are_those_of_the_real_model(prompt: list[int], rule: ExitRule, reads: str) -> None:
    model = LoopLM(LOOPED, 31, init_seed=1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not counted
        (generated,) = generate(model, [prompt], 8, rule)
    groups = decoding_flops(LOOPED, 31, prompt=len(prompt), loops=generated.loops, reads=reads)
    assert sum(groups.values()) == counter.get_total_flops()


def test_a_batch_costs_the_sum_of_its_sequences() -> None:
    model = LoopLM(LOOPED, 31, init_seed=1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        generated = generate(model, [[1, 2, 3], [4, 5, 6], [7, 8, 9]], 8, RandomDepth((0.3, 0.3, 0.2, 0.2)))
    assert len({tuple(one.loops) for one in generated}) == 3
    each = [decoding_flops(LOOPED, 31, prompt=3, loops=one.loops, reads=None) for one in generated]
    assert sum(sum(groups.values()) for groups in each) == counter.get_total_flops()


def test_full_depth_with_a_cache_costs_a_forward_pass_less_what_causality_saves() -> None:
    cached = decoding_flops(LOOPED, 31, prompt=1, loops=[4] * 9, reads=None)
    whole = forward_flops(LOOPED, 31, rows=1, context=9, head_positions=9, head_exits=1, gate=False)
    assert cached["scores"] == whole["scores"] * 10 // 18
    assert {**cached, "scores": 0} == {**whole, "scores": 0}
    assert decoding_flops(LOOPED, 31, prompt=1, loops=[2] * 9)["attention"] == whole["attention"] // 2


def test_bytes_of_the_cache_are_those_allocated_and_those_published() -> None:
    model = LoopLM(LOOPED, 31)
    for sharing, shared in (("full", False), ("last", True), ("average", True), ("first", True)):
        kv = Decoder(model, 3, 10, Fixed(0), sharing)._cache.kv
        assert kv.nbytes == kv_bytes(LOOPED, rows=3, context=10, bytes_per_value=4, shared=shared)
    ouro = ModelConfig(layers=24, loops=4, hidden_size=2048, heads=16)
    assert kv_bytes(ouro, rows=1, context=1, bytes_per_value=2) == 768 * 2**10
    assert kv_bytes(ouro, rows=1, context=1, bytes_per_value=2, shared=True) == 192 * 2**10


@pytest.mark.parametrize(
    ("config", "trained_loops"),
    [
        (LOOPED, None),
        (LOOPED, 4),
        (LOOPED, 1),
        (LOOPED, 0),
        (ModelConfig(layers=4, hidden_size=24, heads=3, exit_every=2, intermediate_size=40), None),
        (ModelConfig(hidden_size=16, heads=1), None),
    ],
    ids=["looped", "four loops", "one loop", "no loop", "exits", "plain"],
)
def test_activation_bytes_are_those_that_autograd_keeps(config: ModelConfig, trained_loops: int | None) -> None:
    model = LoopLM(config, 31)
    tokens_BS = torch.zeros(3, 5, dtype=torch.int64)
    angles = rotary(5, config.hidden_size // config.heads, config.rope_base, torch.float32, torch.device("cpu"))
    constant = {part.untyped_storage().data_ptr() for part in [*model.parameters(), *angles]}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if saved.dtype.is_floating_point and storage.data_ptr() not in constant:
            kept[storage.data_ptr()] = storage
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        states = model.exit_states(tokens_BS, trained_loops=trained_loops)
    assert len(states) == config.exits
    expected = activation_bytes(config, rows=3, context=5, trained_loops=trained_loops)
    assert sum(storage.nbytes() for storage in kept.values()) == expected
