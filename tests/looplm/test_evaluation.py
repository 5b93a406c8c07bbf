from typing import Any

import numpy as np
import pytest
import torch

from looplm import evaluation
from looplm.config import ModelConfig
from looplm.evaluation import score
from looplm.model import LoopLM
from synthdata.batch import Batch, pack, pad
from synthdata.examples import UNSCORED, Examples
from synthdata.vocabulary import BOS, PAD

V = 9


def examples() -> Examples:
    """Three examples of 4, 6 and 5 tokens; spans 0 and 1 interleave, and not every token is scored."""
    tokens = [[BOS, 2, 3, 4, PAD, PAD], [BOS, 5, 6, 7, 8, 2], [BOS, 3, 3, 4, 4, PAD]]
    spans = [[-1, -1, 0, 1, -1, -1], [-1, 0, 1, -1, 1, 0], [-1, -1, 1, 1, 0, -1]]
    return Examples(
        np.array(tokens, dtype=np.int32),
        np.array([4, 6, 5], dtype=np.int32),
        np.array(spans) != UNSCORED,
        np.array(spans, dtype=np.int8),
        np.zeros(3, dtype=np.int32),
        np.zeros((3, 0), dtype=np.int32),
    )


class Planted(LoopLM):
    """States that are chosen: exit t at input token v is row [t, v] of a table, and the head is the identity."""

    def __init__(self, table_RVV: torch.Tensor, gate_RVN: torch.Tensor) -> None:
        super().__init__(ModelConfig(loops=len(table_RVV), hidden_size=12, tied_embeddings=False), V)
        self.table_RVD = torch.cat([table_RVV, gate_RVN, torch.zeros(*gate_RVN.shape[:2], 2)], -1)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(V, 12))
            self.gate.weight.copy_(torch.eye(1, 12).roll(V, 1))

    def exit_states(
        self, tokens_BS: torch.Tensor, documents_BS: torch.Tensor | None = None, loops: int | None = None
    ) -> list[torch.Tensor]:
        return [table_VD[tokens_BS] for table_VD in self.table_RVD[:loops]]


@pytest.fixture
def planted() -> Planted:
    generator = torch.Generator().manual_seed(0)
    return Planted(3 * torch.randn(3, V, V, generator=generator), torch.randn(3, V, 1, generator=generator))


def reference(model: Planted) -> dict[str, Any]:
    """The same quantities, token by token, in float64 probabilities."""
    logits_RVV = model.table_RVD[..., :V].double().numpy()
    lambda_RV = 1 / (1 + np.exp(-model.table_RVD[..., V].double().numpy()))
    p_RV = np.stack([lambda_RV[0], (1 - lambda_RV[0]) * lambda_RV[1], (1 - lambda_RV[0]) * (1 - lambda_RV[1])])
    softmax_RVV = np.exp(logits_RVV) / np.exp(logits_RVV).sum(-1, keepdims=True)
    mixture_VV = (p_RV[..., None] * softmax_RVV).sum(0)
    given = examples()
    nats_RNP, mixture_NP, exit_RN = np.zeros((3, 3, 2)), np.zeros((3, 2)), np.zeros((3, 3))
    correct_RN, mixture_correct_N = np.ones((3, 3), bool), np.ones(3, bool)
    for n in range(3):
        scored = [i for i in range(6) if given.scored_NL[n, i] != UNSCORED]
        for i in scored:
            span, before, token = given.scored_NL[n, i], given.tokens_NL[n, i - 1], given.tokens_NL[n, i]
            nats_RNP[:, n, span] -= np.log(softmax_RVV[:, before, token])
            mixture_NP[n, span] -= np.log(mixture_VV[before, token])
            correct_RN[:, n] &= softmax_RVV[:, before].argmax(-1) == token
            mixture_correct_N[n] &= mixture_VV[before].argmax() == token
            exit_RN[:, n] += p_RV[:, before] / len(scored)
    return {
        "nats": nats_RNP,
        "mixture": mixture_NP,
        "right": correct_RN,
        "mixture_right": mixture_correct_N,
        "exit": exit_RN,
    }


@pytest.mark.parametrize("layout", ["pad", "pack", "two batches", "small chunks"])
def test_spans_and_mixture_equal_a_float64_reference(
    planted: Planted, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = examples()
    batches = {
        "pad": [pad(given, 7)],
        "pack": [pack(given, 9)],
        "two batches": [pad(given.take(slice(0, 2)), 5), pad(given.take(slice(2, 3)), 5)],
        "small chunks": [pad(given, 7)],
    }[layout]
    if layout == "small chunks":
        monkeypatch.setattr(evaluation, "CHUNK_LOGITS", 3 * V * 2)
    got, wanted = score(planted, iter(batches), 2), reference(planted)
    assert got.nats_RNP.dtype == np.float64
    np.testing.assert_allclose(got.nats_RNP, wanted["nats"], rtol=1e-5)
    np.testing.assert_allclose(got.mixture_nats_NP, wanted["mixture"], rtol=1e-5)
    np.testing.assert_allclose(got.exit_RN, wanted["exit"], rtol=1e-5)
    np.testing.assert_allclose(got.exit_RN.sum(0), 1, rtol=1e-6)
    assert len(np.unique(got.nats_RNP.round(3))) == got.nats_RNP.size


def test_an_answer_is_right_when_every_scored_token_is() -> None:
    given = examples()
    table_RVV = torch.zeros(3, V, V)
    table_RVV[0, 2, 3] = table_RVV[0, 3, 4] = 5.0  # exit 1 knows example 0 alone
    table_RVV[1] = table_RVV[0]
    table_RVV[1, 3, 3], table_RVV[1, 4, 4] = 6.0, 5.0  # exit 2 says 3 after 3: wrong in 0, right and wrong in 2
    table_RVV[2, 2, 3], table_RVV[2, 3, 4] = 5.0, -5.0
    gate_RV1 = torch.full((3, V, 1), 9.0)  # nearly everything leaves at exit 1
    got = score(Planted(table_RVV, gate_RV1), [pad(given, 5)], 2)
    assert got.correct_RN.tolist() == [[True, False, False], [False, False, False], [False, False, False]]
    assert got.mixture_correct_N.tolist() == [True, False, False]


def test_model_and_gradients_are_left_alone() -> None:
    model = LoopLM(ModelConfig(loops=2, hidden_size=16), V).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(model, [pad(examples(), 5)], 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    model(torch.zeros(1, 5, dtype=torch.int64)).states.sum().backward()


def unscored(batch: Batch) -> Batch:
    batch.scored_BS[1] = UNSCORED
    return batch


def test_bad_batches_are_refused(planted: Planted) -> None:
    with pytest.raises(ValueError, match="batches is empty"):
        score(planted, [], 2)
    with pytest.raises(ValueError, match="scored_BS names span 1; with spans = 1 it must be below that"):
        score(planted, [pad(examples(), 5)], 1)
    with pytest.raises(ValueError, match="document 1 of a batch has no scored position"):
        score(planted, [unscored(pad(examples(), 5))], 2)
