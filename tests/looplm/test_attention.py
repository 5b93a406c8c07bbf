"""Every attention kernel that can run here gives SDPA's numbers; of the others, what they are given."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from looplm.attention import AttentionName, Ragged, Rows, attend, choose_attention, multiplied, prepare, summed, why_not
from looplm.config import ModelConfig, ObjectiveConfig
from looplm.execution import Execution
from looplm.lightning_module import training_loss
from looplm.model import LoopLM
from looplm.steps import step_of
from looplm.training import Fitted
from synthdata.batch import PADDING, Batch

# Three rows: two documents and padding; one document; four documents, the first and last of one position.
DOCUMENTS_BS = torch.tensor(
    [[0, 0, 0, 1, 1, PADDING, PADDING], [2] * 7, [3, 4, 4, 5, 5, 5, 6]],
    dtype=torch.int32,
)
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def projections(dtype: torch.dtype, device: str = "cpu", size: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(*DOCUMENTS_BS.shape, 2, size, generator=generator, dtype=torch.float64) for _ in range(3))
    return [x.to(device, dtype).requires_grad_() for x in drawn]


def outcome(
    name: AttentionName, dtype: torch.dtype, device: str = "cpu", size: int = 8, kept: bool = False
) -> list[Tensor]:
    """The mixture and the gradients towards query, key and value; with `kept`, not what padding gets."""
    leaves = projections(dtype, device, size)
    mixed_BSHK = attend(*leaves, prepare(DOCUMENTS_BS.to(device), name))
    slope_BSHK = torch.randn(mixed_BSHK.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen_BS = DOCUMENTS_BS != PADDING if kept else torch.ones_like(DOCUMENTS_BS, dtype=torch.bool)
    slope_BSHK[~chosen_BS] = 0
    gradients = torch.autograd.grad((mixed_BSHK * slope_BSHK.to(device, dtype)).sum(), leaves)
    assert all(x.isfinite().all() for x in (mixed_BSHK, *gradients))
    return [x.detach().cpu()[chosen_BS] for x in (mixed_BSHK, *gradients)]


@pytest.fixture
def any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents become rows however long they are."""
    monkeypatch.setattr("looplm.attention.FEW_PAIRS", 100.0)


def one_by_one(query_MHK: Tensor, key_MHK: Tensor, value_MHK: Tensor, begins: Tensor) -> Tensor:
    """Documents end to end, each attended to by the equation."""
    mixed = []
    for begin, end in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        query_HLK, key_HLK, value_HLK = (x[begin:end].transpose(0, 1) for x in (query_MHK, key_MHK, value_MHK))
        scores_HLL = query_HLK @ key_HLK.mT / query_HLK.shape[-1] ** 0.5
        future_LL = torch.ones(end - begin, end - begin, dtype=torch.bool).triu(1)
        mixed.append((scores_HLL.masked_fill(future_LL, -torch.inf).softmax(-1) @ value_HLK).transpose(0, 1))
    return torch.cat(mixed)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the two kernels that need a GPU: functions of the same signature."""

    def ragged(q: Tensor, k: Tensor, v: Tensor, begins_q: Tensor, begins_k: Tensor, most_q: int, most_k: int) -> Tensor:
        assert begins_q.dtype == torch.int32
        assert torch.equal(begins_q, begins_k)
        assert most_q == most_k == int(begins_q.diff().max())
        return one_by_one(q, k, v, begins_q)

    def varlen_attn(*arguments: Any, window_size: tuple[int, int]) -> Tensor:
        assert window_size == (-1, 0)
        return ragged(*arguments)

    def flash_attn_varlen_func(*arguments: Any, causal: bool) -> Tensor:
        assert causal
        return ragged(*arguments)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func))


@pytest.mark.usefixtures("stand_ins", "any_length")
@pytest.mark.parametrize("name", ["rows", "varlen", "flash"])
def test_every_kernel_gives_the_numbers_of_sdpa(name: AttentionName) -> None:
    got, wanted = (outcome(each, torch.float64, kept=name == "rows") for each in (name, "sdpa"))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_sdpa_gives_the_numbers_of_the_equation() -> None:
    documents = prepare(DOCUMENTS_BS, "varlen")
    assert isinstance(documents, Ragged)
    assert documents.offsets.tolist() == [0, 3, 5, 7, 14, 15, 17, 20, 21]
    leaves = projections(torch.float64)
    expected = one_by_one(*(x.flatten(0, 1) for x in leaves), documents.offsets).view_as(leaves[0])
    torch.testing.assert_close(attend(*leaves, prepare(DOCUMENTS_BS, "sdpa")), expected, rtol=1e-12, atol=1e-13)
    whole = one_by_one(*(x.flatten(0, 1) for x in leaves), torch.tensor([0, 7, 14, 21])).view_as(leaves[0])
    torch.testing.assert_close(attend(*leaves, None), whole, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("written_out", [summed, multiplied])
def test_short_rows_written_out_give_the_numbers_of_sdpa(written_out: Callable[..., Tensor]) -> None:
    leaves = projections(torch.float64)
    outcomes = []
    for mixed in (written_out(*leaves), attend(*leaves, None)):
        outcomes.append((mixed, *torch.autograd.grad(mixed.square().sum(), leaves)))
    for got, wanted in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_gives_the_numbers_of_sdpa_forward() -> None:
    """On a CPU it has no backward pass."""
    got_BSHK = attend(*(x.detach() for x in projections(torch.float32)), prepare(DOCUMENTS_BS, "flex"))
    torch.testing.assert_close(got_BSHK.flatten(0, 1), outcome("sdpa", torch.float32)[0])


@GPU
@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("name", ["sdpa", "rows", "varlen", "flash", "flex"])
@pytest.mark.usefixtures("any_length")
def test_every_kernel_on_a_gpu_in_bfloat16(name: AttentionName, size: int) -> None:
    if (reason := why_not(name, "cuda", "bf16-mixed")) is not None:
        pytest.skip(reason)
    kept = name == "rows"
    expected = outcome("sdpa", torch.float64, size=size, kept=kept)
    for got, wanted in zip(outcome(name, torch.bfloat16, "cuda", size, kept), expected, strict=True):
        assert (got.double() - wanted).norm() < 2e-2 * wanted.norm()


def test_documents_become_rows_where_that_saves_pairs() -> None:
    def rows(*lengths: int) -> tuple[int, ...] | None:
        """The shape that two rows of 16 positions take; documents so long, then padding, are in the first."""
        documents_BS = torch.full((2, 16), PADDING, dtype=torch.int32)
        documents_BS[1] = torch.arange(16) // 8
        documents_BS[0, : sum(lengths)] = torch.tensor(
            [4 + number for number, length in enumerate(lengths) for _ in range(length)]
        )
        prepared = prepare(documents_BS, "rows")
        return tuple(prepared.source_NL.shape) if isinstance(prepared, Rows) else None

    assert rows(8, 8) == (4, 8)  # 4 x 8 x 8 pairs of 2 x 16 x 16, half of them
    assert rows(8, 1) == (4, 8)  # the padding is no row
    assert rows(8, 4, 4) is None
    assert rows(9) == (3, 9)
    assert rows(10) is None
    assert rows() == (3, 8)  # what begins with padding has one row too many


@pytest.mark.usefixtures("any_length")
def test_a_model_trains_alike_with_documents_as_rows(packed_batch: Batch, vocab_size: int) -> None:
    def gradients(name: AttentionName) -> dict[str, Tensor]:
        model = LoopLM(ModelConfig(layers=2, loops=2, hidden_size=16, init_std=0.2), vocab_size)
        model.attention = name
        training_loss(model, ObjectiveConfig(name="entropy"), step_of(packed_batch)).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}

    masked, rows = gradients("sdpa"), gradients("rows")
    for name, gradient in masked.items():
        torch.testing.assert_close(rows[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_training_uses_the_kernel_it_is_told(
    train: Callable[..., Fitted], packed_batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("looplm.model.prepare", lambda documents, name: asked.append(name) or prepare(documents, name))
    for attention in ("auto", "sdpa"):
        execution = Execution(compile="off", attention=attention, checkpoint_every_seconds=0)
        train(batch_at=lambda step: packed_batch, execution=execution, folder=tmp_path / attention)
    assert set(asked) == {"rows", "sdpa"}


def test_what_cannot_run_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    unknown: Any = "fast"
    assert choose_attention("cpu", "32-true") == "rows"
    assert why_not("rows", "cpu", "32-true") is None
    for name in ("varlen", "flash", "flex"):
        assert why_not(name, "cpu", "bf16-mixed") == "needs a CUDA device"
    with pytest.raises(ValueError, match=r"execution.attention is 'flex', which needs a CUDA device; it must be auto"):
        Execution(attention="flex").attention_kernel("32-true")
    with pytest.raises(ValueError, match=r"execution.attention is 'fast'; it must be auto \| sdpa"):
        Execution(attention=unknown)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert why_not("flash", "cuda", "bf16-mixed") == "needs flash-attn (extra [flash])"
    assert why_not("varlen", "cuda", "32-true") == "needs precision bf16-mixed"
    assert choose_attention("cuda", "bf16-mixed") == "varlen"
    assert choose_attention("cuda", "32-true") == "sdpa"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert choose_attention("cuda", "bf16-mixed") == "flash"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert choose_attention("cuda", "bf16-mixed") == "sdpa"
