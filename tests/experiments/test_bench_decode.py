"""The decoding benchmark gives its sides the same work. How fast any is, is not tested."""

import json
from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench import decode
from experiments.bench.measure import Row
from experiments.cli.main import app
from looplm.exit_rules import ExitRule, Fixed, LearnedGate, RandomDepth
from looplm.model import LoopLM


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> LoopLM:
    return decode.trained(decode.QUICK[0], "cpu")


@pytest.fixture(scope="module")
def tokens_BS() -> torch.Tensor:
    return torch.from_numpy(decode.QUICK[0].batch(0, 30).tokens_BS)


def decoded(model: LoopLM, tokens_BS: torch.Tensor, rule: ExitRule) -> decode.Decoded:
    return decode.decode(model, decode.prefilled(model, tokens_BS, rule), tokens_BS)


@torch.no_grad()
def test_full_depth_predicts_what_a_forward_pass_does(model: LoopLM, tokens_BS: torch.Tensor) -> None:
    best_BS, loops_BS = decoded(model, tokens_BS, Fixed(3))
    assert best_BS.equal(model(tokens_BS).logits[-1].argmax(-1)[:, decode.PREFILLED :])
    assert (loops_BS == 4).all()
    assert decoded(model, tokens_BS, RandomDepth((0.5, 0.5, 0.0, 0.0))).loops_BS.unique().tolist() == [1, 2]


def test_the_threshold_is_set_where_tokens_leave_after_the_wanted_loops(model: LoopLM, tokens_BS: torch.Tensor) -> None:
    with torch.no_grad():
        model.gate.weight.copy_(torch.randn(model.gate.weight.shape, generator=torch.Generator().manual_seed(0)))
    rules = [decode.gate_at(model, tokens_BS, wanted) for wanted in (1.5, 2.0, 3.0)]
    means = [decoded(model, tokens_BS, rule).loops_BS.double().mean().item() for rule in rules]
    assert means == pytest.approx([1.5, 2.0, 3.0], abs=0.2)
    assert all(isinstance(rule, LearnedGate) for rule in rules)


def test_decoding_again_does_the_same_again(model: LoopLM, tokens_BS: torch.Tensor) -> None:
    decoder = decode.prefilled(model, tokens_BS, LearnedGate(0.3))
    first, second = (decode.decode(model, decoder, tokens_BS) for _ in range(2))
    assert first.best_BS.equal(second.best_BS)
    assert first.loops_BS.equal(second.loops_BS)


@torch.no_grad()
@pytest.mark.parametrize(("rule", "reads"), [(LearnedGate(0.3), "gate"), (Fixed(1), None)], ids=str)
def test_the_work_is_what_is_multiplied(
    model: LoopLM, tokens_BS: torch.Tensor, rule: ExitRule, reads: Literal["gate"] | None
) -> None:
    decoder = decode.prefilled(model, tokens_BS, rule)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not counted
        loops_BS = decode.decode(model, decoder, tokens_BS).loops_BS
    work, _ = decode.work_and_traffic(decode.QUICK[0], loops_BS, reads)
    assert work == counter.get_total_flops()


def test_the_traffic_is_blocks_and_caches_by_hand() -> None:
    (case,), loops_BS = decode.QUICK, torch.tensor([[1, 3], [2, 1]])
    size, inner = case.model.hidden_size, case.model.feedforward_size
    blocks = (2 + 3) * (4 * size**2 + 3 * size * inner)
    cached = 2 * size * ((1 + 2) * (decode.PREFILLED + 1) + (3 + 1) * (decode.PREFILLED + 2))
    assert decode.work_and_traffic(case, loops_BS, None)[1] == 4 * (blocks + cached)


def test_it_prints_speed_accuracy_and_depth_of_every_side(capsys: pytest.CaptureFixture[str]) -> None:
    app(["bench", "decode", "--quick", "--repeats", "2", "--json"], standalone_mode=False)
    rows = [Row(**row) for row in json.loads(capsys.readouterr().out)]
    metrics = ["speed", "accuracy", "mean depth", "deviation of depth", "work", "traffic"]
    sides = (decode.OURS, decode.FULL, decode.STATIC)
    assert {(row.side, row.metric) for row in rows} == {(side, metric) for side in sides for metric in metrics}
    found = {(row.side, row.metric): row for row in rows}
    assert found[decode.OURS, "speed"].ratio == 1.0
    assert found[decode.FULL, "speed"].ratio is not None
    assert found[decode.FULL, "mean depth"].median == 4
    assert found[decode.STATIC, "mean depth"].median == 2
    assert found[decode.FULL, "deviation of depth"].median == 0
    assert found[decode.FULL, "work"].median > max(found[s, "work"].median for s in (decode.OURS, decode.STATIC))
    assert found[decode.OURS, "mean depth"].median < 4
    assert all(0 <= found[side, "accuracy"].median <= 100 for side in sides)
