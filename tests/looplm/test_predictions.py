import numpy as np
import pytest
import torch
from torch import Tensor

from looplm.config import ModelConfig
from looplm.evaluation import score
from looplm.exit_rules import Entropy, Fixed, LearnedGate, Oracle, QExit, StateDifference, choose_exits
from looplm.model import LoopLM, rotary, run_segment
from looplm.predictions import interchange, predict
from synthdata.batch import Batch, pack, pad
from synthdata.examples import UNSCORED, Examples
from synthdata.vocabulary import BOS, PAD

V = 9


def examples() -> Examples:
    """Three examples of 4, 6 and 5 tokens with 1, 3 and 2 scored ones."""
    tokens = [[BOS, 2, 3, 4, PAD, PAD], [BOS, 5, 6, 7, 8, 2], [BOS, 3, 3, 4, 4, PAD]]
    spans = [[-1, -1, -1, 0, -1, -1], [-1, -1, 0, -1, 0, 0], [-1, -1, 0, -1, 0, -1]]
    return Examples(
        np.array(tokens, dtype=np.int32),
        np.array([4, 6, 5], dtype=np.int32),
        np.array(spans) != UNSCORED,
        np.array(spans, dtype=np.int8),
        np.zeros(3, dtype=np.int32),
        np.zeros((3, 0), dtype=np.int32),
    )


@pytest.fixture(params=["padded", "packed", "two batches"])
def batches(request: pytest.FixtureRequest) -> list[Batch]:
    given = examples()
    return {
        "padded": [pad(given, 7)],
        "packed": [pack(given, 9)],
        "two batches": [pad(given.take(slice(0, 2)), 5), pad(given.take(slice(2, 3)), 5)],
    }[request.param]


class Planted(LoopLM):
    """Says what it is told: exit t at input token v has `said[t][v]` as its most probable token."""

    def __init__(self, said: list[dict[int, int]]) -> None:
        super().__init__(ModelConfig(loops=len(said), hidden_size=12, tied_embeddings=False), V)
        self.said = said
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(V, 12))

    def exit_states(
        self, tokens_BS: Tensor, documents_BS: Tensor | None = None, loops: int | None = None
    ) -> list[Tensor]:
        states = []
        for said in self.said[:loops]:
            table_VD = torch.zeros(V, 12)
            for before, token in said.items():
                table_VD[before, token] = 5.0
            states.append(table_VD[tokens_BS])
        return states


def test_exits_of_rules_and_of_the_oracle_on_a_model_that_says_what_it_is_told(batches: list[Batch]) -> None:
    """Asked after 3; 5, 7, 8; 3, 4. Targets 4; 6, 8, 2; 3, 4 (a token may be asked about twice, with other answers)."""
    model = Planted([{3: 4, 5: 6, 8: 2}, {3: 4, 5: 6, 7: 8}, {3: 4, 5: 7, 7: 8, 4: 4}])
    found = predict(model, batches, [Fixed(0), Fixed(1), Fixed(9)])
    order = np.argsort(found.document_M, kind="stable")
    assert found.document_M[order].tolist() == [0, 1, 1, 1, 2, 2]
    assert found.target_M[order].tolist() == [4, 6, 8, 2, 3, 4]
    assert found.token_RM[:, order].tolist() == [[4, 6, 0, 2, 4, 0], [4, 6, 8, 0, 4, 0], [4, 7, 8, 0, 4, 4]]
    assert found.exit_KM.tolist() == [[0] * 6, [1] * 6, [2] * 6]
    assert found.oracle_M[order].tolist() == [0, 0, 1, 0, 2, 2]
    np.testing.assert_allclose(found.agreement_RR, np.array([[6, 4, 2], [4, 6, 4], [2, 4, 6]]) / 6)

    left = found.by_document(found.exit_KM[1])
    assert (left.correct_N.tolist(), left.loops_N.tolist()) == ([True, False, False], [2.0, 2.0, 2.0])
    oracle = found.by_document(found.oracle_M)
    assert oracle.correct_N.tolist() == [True, True, False]
    assert oracle.loops_N.tolist() == pytest.approx([1.0, 4 / 3, 3.0])


def test_the_control_is_as_deep_and_blind() -> None:
    model = Planted([{3: 4}, {3: 4}])
    found = predict(model, [pad(examples(), 5)])
    exit_M = np.arange(6) % 2
    drawn = [found.control_M(exit_M, seed) for seed in range(50)]
    assert all(sorted(one) == sorted(exit_M) for one in drawn)
    assert np.array_equal(drawn[0], found.control_M(exit_M, 0))
    np.testing.assert_allclose(np.mean(drawn, axis=0), 0.5, atol=0.25)


@pytest.fixture
def model() -> LoopLM:
    return LoopLM(ModelConfig(layers=2, loops=3, hidden_size=16, init_std=0.4), V, init_seed=3)


RULES = [QExit(0.7), LearnedGate(0.5), StateDifference(5.0), Entropy(1.0)]


def test_rules_choose_as_on_states_of_their_own(model: LoopLM) -> None:
    batch = pad(examples(), 5)
    found = predict(model, [batch], RULES)
    positions_M = torch.from_numpy(np.flatnonzero(batch.scored_BS >= 0))
    with torch.no_grad():
        states_RMD = model(torch.from_numpy(batch.tokens_BS)).states.flatten(1, 2)[:, positions_M]
        for rule, exit_M in zip(RULES, found.exit_KM, strict=True):
            assert exit_M.tolist() == choose_exits(rule, states_RMD, model.exit_logits, model.head_VD).tolist()
        oracle = Oracle(torch.from_numpy(found.target_M))
        assert found.oracle_M.tolist() == choose_exits(oracle, states_RMD, model.exit_logits, model.head_VD).tolist()
    assert len(np.unique(found.exit_KM)) == 3


def test_predictions_agree_with_scores_also_beyond_the_trained_loops(model: LoopLM, batches: list[Batch]) -> None:
    found, scores = predict(model, batches, loops=7), score(model, batches, 1, loops=7)
    assert found.token_RM.shape == (7, 6)
    for loop in range(7):
        left = found.by_document(np.full(6, loop))
        assert left.correct_N.tolist() == scores.correct_RN[loop].tolist()
        assert left.loops_N.tolist() == [loop + 1.0] * 3
    np.testing.assert_allclose(scores.exit_RN.sum(0), 1, rtol=1e-6)


def test_more_loops_go_on_from_where_fewer_end(model: LoopLM) -> None:
    """Scores of the first exits do not depend on how many follow, and a model made for more loops says the same."""
    longer = LoopLM(ModelConfig(layers=2, loops=16, hidden_size=16, init_std=0.4), V)
    longer.load_state_dict(model.state_dict())
    few, many, made = (
        score(model, [pad(examples(), 5)], 1),
        score(model, [pad(examples(), 5)], 1, loops=16),
        score(longer, [pad(examples(), 5)], 1),
    )
    assert np.array_equal(many.nats_RNP[:3], few.nats_RNP)
    assert np.array_equal(many.nats_RNP, made.nats_RNP)
    assert np.array_equal(many.mixture_nats_NP, made.mixture_nats_NP)
    assert np.array_equal(score(longer, [pad(examples(), 5)], 1, loops=1).nats_RNP, few.nats_RNP[:1])


def test_runs_of_an_untied_stack_cannot_be_repeated() -> None:
    untied = LoopLM(ModelConfig(layers=2, hidden_size=16, exit_every=1), V)
    with pytest.raises(ValueError, match=r"loops is 3; it must be null where model.exit_every is given"):
        score(untied, [pad(examples(), 5)], 1, loops=3)
    with pytest.raises(ValueError, match="loops is 0; it must be at least 1"):
        predict(LoopLM(ModelConfig(hidden_size=16), V), [pad(examples(), 5)], loops=0)
    with pytest.raises(ValueError, match="batches is empty"):
        predict(untied, [])


@torch.no_grad()
def test_interchange_equals_running_on_by_hand(model: LoopLM) -> None:
    base_BS, source_BS = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7]]), torch.tensor([[8, 7, 6, 5], [1, 1, 2, 3]])
    base_at, source_at = torch.tensor([1, 3]), torch.tensor([2, 3])
    for loop in (1, 2, 3):
        found_RBS = interchange(model, base_BS, source_BS, loop, base_at, source_at, loops=4)
        states, others = model.exit_states(base_BS, loops=4), model.exit_states(source_BS, loops=4)
        x_BSD = states[loop - 1].clone()
        for b in range(2):
            x_BSD[b, base_at[b]] = others[loop - 1][b, source_at[b]]
        expected = [*states[: loop - 1], x_BSD]
        angles = rotary(4, 8, model.config.rope_base, torch.float32, torch.device("cpu"))
        for _ in range(loop, 4):
            expected.append(run_segment(expected[-1], list(model.blocks), model.norm, angles, None))
        best_RBS = torch.stack(expected) @ model.head_VD.T
        assert torch.equal(found_RBS, best_RBS.argmax(-1))


@torch.no_grad()
def test_an_exchanged_state_decides_itself_and_what_follows_alone() -> None:
    """Without blocks a state stays what it is; with attention it reaches later positions and no earlier ones."""
    empty = LoopLM(ModelConfig(loops=3, hidden_size=16, init_std=0.5), V)
    for block in empty.blocks:
        block.after_attention.weight.zero_()
        block.after_feedforward.weight.zero_()
    base_BS, source_BS = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[5, 6, 7, 8]])
    own, other = (empty(tokens_BS).logits[:].argmax(-1)[:, 0] for tokens_BS in (base_BS, source_BS))
    found = interchange(empty, base_BS, source_BS, 2, torch.tensor([1]), torch.tensor([3]))[:, 0]
    assert found[0].tolist() == own[0].tolist()
    assert found[1:, [0, 2, 3]].tolist() == own[1:, [0, 2, 3]].tolist()
    assert found[1:, 1].tolist() == other[1:, 3].tolist() != own[1:, 1].tolist()

    model = LoopLM(ModelConfig(loops=3, hidden_size=16, init_std=1.0), V, init_seed=1)
    own, found = (
        interchange(model, base_BS, source, 1, torch.tensor([1]), torch.tensor([1]))[:, 0]
        for source in (base_BS, source_BS)
    )
    assert own.tolist() == model(base_BS).logits[:].argmax(-1)[:, 0].tolist(), "with itself nothing changes"
    assert found[:, 0].tolist() == own[:, 0].tolist()
    assert found[0, [2, 3]].tolist() == own[0, [2, 3]].tolist()
    assert found[1:, [2, 3]].tolist() != own[1:, [2, 3]].tolist()
    with pytest.raises(ValueError, match="loop is 4; it must be from 1 to 3"):
        interchange(model, base_BS, source_BS, 4, torch.tensor([1]), torch.tensor([1]))
