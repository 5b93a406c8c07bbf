"""Gradients through the last loops only, against an untied stack in which every loop has blocks of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from looplm.config import ModelConfig, ObjectiveConfig, ObjectiveName, OptimizerConfig
from looplm.lightning_module import LoopTraining, training_loss
from looplm.model import LoopLM
from looplm.steps import Step, step_of
from looplm.training import Fitted
from synthdata.batch import Batch

LOOPED = ModelConfig(layers=2, loops=3, hidden_size=16, tied_embeddings=False, init_std=0.3)
UNROLLED = ModelConfig(layers=6, exit_every=2, hidden_size=16, tied_embeddings=False, init_std=0.3)


@pytest.fixture
def step(batch_at: Callable[[int], Batch]) -> Step:
    return step_of(batch_at(0))


def unrolled(model: LoopLM) -> LoopLM:
    """The same function with blocks of their own for every loop."""
    other = LoopLM(UNROLLED, model.vocab_size)
    weights = model.state_dict()
    for name in other.state_dict():
        room, _, rest = name.partition(".")
        if room == "blocks":
            layer, _, rest = rest.partition(".")
            weights[name] = model.state_dict()[f"blocks.{int(layer) % LOOPED.layers}.{rest}"]
    other.load_state_dict(weights)
    return other


@pytest.mark.parametrize("loops", [1, 2, 3])
@pytest.mark.parametrize("name", ["last", "uniform", "entropy", "geometric"])
def test_blocks_learn_from_the_last_loops_and_head_and_gate_from_every_exit(
    step: Step, vocab_size: int, name: ObjectiveName, loops: int
) -> None:
    model = LoopLM(LOOPED, vocab_size)
    reference = unrolled(model)
    loss = training_loss(model, ObjectiveConfig(name=name, backprop_loops=loops), step)
    expected = training_loss(reference, ObjectiveConfig(name=name), step)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for layer, block in enumerate(model.blocks):
        copies = [reference.blocks[layer + LOOPED.layers * loop] for loop in range(LOOPED.loops - loops, LOOPED.loops)]
        for parameter, *same in zip(block.parameters(), *(copy.parameters() for copy in copies), strict=True):
            torch.testing.assert_close(parameter.grad, sum(one.grad for one in same), rtol=1e-4, atol=1e-6)
    assert model.head is not None
    assert reference.head is not None
    torch.testing.assert_close(model.head.weight.grad, reference.head.weight.grad)
    torch.testing.assert_close(model.gate.weight.grad, reference.gate.weight.grad)
    assert (model.embedding.weight.grad is None) == (loops < LOOPED.loops)


def test_in_bfloat16_too_the_blocks_learn(step: Step, vocab_size: int) -> None:
    gradients = []
    for enabled in (False, True):
        model = LoopLM(LOOPED, vocab_size)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = training_loss(model, ObjectiveConfig(backprop_loops=1), step)
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.blocks.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_an_embedding_that_no_gradient_reaches_stays_as_it_was(vocab_size: int) -> None:
    for loops, trained in ((1, False), (3, True)):
        objective = ObjectiveConfig(backprop_loops=loops)
        module = LoopTraining(LoopLM(LOOPED, vocab_size), objective, OptimizerConfig(), 1, {})
        assert module.model.embedding.weight.requires_grad == trained


def test_a_training_takes_it_into_account(train: Callable[..., Fitted], tmp_path: Path) -> None:
    def losses(loops: int | None) -> list[float]:
        seen: list[float] = []
        train(
            objective=ObjectiveConfig(name="last", backprop_loops=loops),
            model=ModelConfig(loops=2, hidden_size=16),
            folder=tmp_path / str(loops),
            on_progress=lambda progress: seen.append(progress.loss),
        )
        return seen

    whole = losses(None)
    assert losses(2) == whole
    assert losses(1) != whole


def test_no_loop_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"objective\.backprop_loops is 0; it must be at least 1"):
        ObjectiveConfig(backprop_loops=0)
