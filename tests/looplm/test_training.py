import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from looplm.checkpoint import load_model
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.evaluation import score
from looplm.execution import COMPILE_FROM_STEPS, Execution, choose_backend
from looplm.lightning_module import LoopTraining, training_loss
from looplm.model import LoopLM
from looplm.steps import step_of
from looplm.training import CHECKPOINT, Fitted
from synthdata.batch import Batch, pack, pad
from synthdata.streams import Stream, evaluation_set
from synthdata.tasks.twohop import TwoHop

Train = Callable[..., Fitted]


@pytest.fixture
def rates() -> Iterator[list[float]]:
    """The learning rate of every optimiser step taken."""
    taken: list[float] = []

    def note(optimizer: torch.optim.Optimizer, arguments: Any, keywords: Any) -> None:
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        taken.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_pre_hook(note)
    yield taken
    handle.remove()


def test_learning_rate_of_every_step_equals_the_formula_also_after_a_resume(train: Train, rates: list[float]) -> None:
    optimizer = OptimizerConfig(lr=0.01, warmup_steps=4, final_lr_fraction=0.2)
    stop = iter([False, True])
    assert not train(optimizer=optimizer, should_stop=lambda: next(stop)).finished
    assert len(rates) == 10
    assert train(optimizer=optimizer).finished

    def formula(step: int) -> float:
        if step < 4:
            return 0.01 * (step + 1) / 4
        return 0.01 * (0.2 + 0.8 * (1 + math.cos(math.pi * (step - 4) / 16)) / 2)

    assert rates == pytest.approx([formula(step) for step in range(20)], rel=1e-12)


def test_beta_is_another_one_from_the_given_share_of_the_steps_on(
    train: Train, batch_at: Callable[[int], Batch], tmp_path: Any
) -> None:
    def losses(objective: ObjectiveConfig, folder: str, **changes: Any) -> list[float]:
        seen: list[float] = []
        execution = Execution(compile="off", chunk_steps=1, checkpoint_every_seconds=0)
        train(
            objective=objective,
            folder=tmp_path / folder,
            execution=execution,
            on_progress=lambda progress: seen.append(progress.loss),
            **changes,
        )
        return seen

    scheduled = ObjectiveConfig(name="entropy", beta=0.3, later_beta=0.0, later_from=0.5)
    constant, changed = losses(ObjectiveConfig(name="entropy", beta=0.3), "constant"), losses(scheduled, "changed")
    assert changed[:10] == constant[:10]

    asked = iter([*[False] * 9, True])
    assert losses(scheduled, "stopped", should_stop=lambda: next(asked)) == changed[:10]
    model = load_model(tmp_path / "stopped" / CHECKPOINT)
    later = training_loss(model, ObjectiveConfig(name="entropy", beta=0.0), step_of(batch_at(10))).item()
    assert changed[10] == pytest.approx(later, rel=1e-6)
    assert constant[10] < changed[10] - 0.1
    assert losses(scheduled, "stopped") == changed[10:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"later_beta": 0.1},
            "objective.later_from is None; it must be given with objective.later_beta, and only then",
        ),
        ({"later_from": 0.1}, "objective.later_from is 0.1; it must be given with objective.later_beta, and only then"),
        (
            {"later_beta": 0.05, "later_from": 0.5},
            "objective.later_beta is 0.05; it must be null or not objective.beta",
        ),
        ({"later_beta": -1.0, "later_from": 0.5}, "objective.later_beta is -1.0; it must be at least 0"),
        ({"later_beta": 0.1, "later_from": 1.0}, "objective.later_from is 1.0; it must be between 0 and 1, exclusive"),
    ],
)
def test_an_impossible_schedule_of_beta_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(name="entropy", **changes)


def test_one_step_is_adamw_on_the_clipped_gradient(
    train: Train, batch_at: Callable[[int], Batch], vocab_size: int
) -> None:
    optimizer = OptimizerConfig(lr=0.01, weight_decay=0.5, clip=0.01, warmup_steps=0, epsilon=1e-6)
    model, objective = ModelConfig(loops=2, hidden_size=16), ObjectiveConfig(name="entropy")
    fitted = train(model=model, objective=objective, optimizer=optimizer, budget=BudgetConfig(steps=1, batch_size=16))

    start = LoopLM(model, vocab_size)
    training_loss(start, objective, step_of(batch_at(0))).backward()
    norm = torch.stack([parameter.grad.norm() for parameter in start.parameters()]).norm()
    assert norm > 0.01
    trained = dict(fitted.model.named_parameters())
    for name, parameter in start.named_parameters():
        gradient = parameter.grad * (0.01 / norm)
        decay = 0.0 if parameter.ndim == 1 or name == "gate.weight" else 0.5
        expected = parameter * (1 - 0.01 * decay) - 0.01 * gradient / (gradient.abs() + 1e-6)
        torch.testing.assert_close(trained[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["last", "uniform"])
def test_a_gate_that_is_not_used_is_not_trained(train: Train, vocab_size: int, name: str) -> None:
    fitted = train(objective=ObjectiveConfig(name=name))
    start = LoopLM(fitted.model.config, vocab_size)
    assert torch.equal(fitted.model.gate.weight, start.gate.weight)
    assert not torch.equal(fitted.model.norm.weight, start.norm.weight)


def test_packed_equals_padded(vocab_size: int) -> None:
    task = TwoHop(entities=6, relations=2)
    examples = Stream(task, data_seed=0, order_seed=0).examples(0, 40)
    model = LoopLM(ModelConfig(layers=2, loops=2, hidden_size=16, init_std=0.2), vocab_size)
    packed, padded = pack(examples, 11), pad(examples, task.max_length - 1)
    assert len(packed.tokens_BS) < len(padded.tokens_BS) / 2
    one, other = score(model, [packed], 1), score(model, [padded], 1)
    np.testing.assert_allclose(one.nats_RNP, other.nats_RNP, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one.mixture_nats_NP, other.mixture_nats_NP, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one.exit_RN, other.exit_RN, rtol=0, atol=1e-5)

    objective = ObjectiveConfig(name="entropy")
    losses = [training_loss(model, objective, step_of(batch)) for batch in (packed, padded)]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)


def test_bf16_mixed_differs_but_is_close(train: Train, tmp_path: Any) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        seen: list[float] = []
        fitted = train(folder=tmp_path / precision, precision=precision, on_progress=lambda p: seen.append(p.loss))  # noqa: B023
        assert all(parameter.dtype == torch.float32 for parameter in fitted.model.parameters())
        losses[precision] = seen
    assert losses["32-true"] != losses["bf16-mixed"]
    assert losses["32-true"] == pytest.approx(losses["bf16-mixed"], rel=5e-3)


def test_divergence_names_the_step(train: Train, tmp_path: Any) -> None:
    huge = OptimizerConfig(lr=1e38, warmup_steps=0)
    with pytest.raises(FloatingPointError, match="training diverged at step 1: loss nan"):
        train(optimizer=huge)
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_a_batch_that_trains_nothing_is_refused(batch_at: Callable[[int], Batch]) -> None:
    batch = batch_at(0)
    batch.weights_BS[:] = 0
    with pytest.raises(ValueError, match="weights_BS is 0 everywhere"):
        step_of(batch)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, r"execution.device is 'tpu'; it must be cpu \| cuda"),
        ({"compile": "yes"}, r"execution.compile is 'yes'; it must be auto \| on \| off"),
        ({"chunk_steps": 0}, "execution.chunk_steps is 0; it must be at least 1"),
        ({"checkpoint_every_seconds": -1.0}, "execution.checkpoint_every_seconds is -1.0; it must be at least 0"),
    ],
)
def test_impossible_execution_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Execution(**changes)


@pytest.mark.parametrize("size", [0, 10**11])
@pytest.mark.parametrize("field", ["batch_size", "context"])
def test_a_batch_that_no_machine_holds_is_refused(field: str, size: int) -> None:
    with pytest.raises(ValueError, match=rf"budget\.{field} is {size}; it must be at least 1 and at most 1,000,000"):
        BudgetConfig(**{field: size})


def test_absent_device_and_unknown_precision_are_refused(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"execution.device is 'cuda'; torch finds no CUDA device"):
        train(execution=Execution(device="cuda"))
    with pytest.raises(ValueError, match=r"precision is '16-mixed'; it must be 32-true \| bf16-mixed"):
        train(precision="16-mixed")


def test_without_a_compiler_auto_runs_eager_and_says_so(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    fitted = train(execution=Execution(compile="auto"))
    assert fitted.backend == "eager"
    (notice,) = fitted.notices
    assert notice.startswith("no C++ compiler found")
    with pytest.raises(ValueError, match=r"execution.compile is 'on' but no C\+\+ compiler is found"):
        train(execution=Execution(compile="on"), folder=tmp_path / "other")


def test_auto_compiles_long_trainings_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    compiler = tmp_path / "my-compiler"
    compiler.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert choose_backend(Execution(), COMPILE_FROM_STEPS) == ("compile", None)
    assert choose_backend(Execution(), COMPILE_FROM_STEPS - 1) == ("eager", None)
    assert choose_backend(Execution(compile="on"), 1) == ("compile", None)
    assert choose_backend(Execution(compile="off"), COMPILE_FROM_STEPS) == ("eager", None)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert choose_backend(Execution(), COMPILE_FROM_STEPS).name == "eager"


def test_slurm_variables_are_not_read(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"JOB_ID": "7", "JOB_NAME": "sweep", "NTASKS": "4", "PROCID": "3", "LOCALID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert train().finished


def test_global_random_state_is_left_alone(train: Train) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_decay_groups_hold_every_parameter_once(vocab_size: int) -> None:
    model = LoopLM(ModelConfig(tied_embeddings=False), vocab_size)
    module = LoopTraining(model, ObjectiveConfig(), OptimizerConfig(weight_decay=0.3), 1, {})
    decayed, free = module.configure_optimizers().param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sorted(names[id(p)] for p in free["params"]) == sorted(
        name
        for name in names.values()
        if "before" in name or "after" in name or "gate." in name or name == "norm.weight"
    )
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_a_small_model_learns_two_hop_composition_in_its_second_loop(train: Train) -> None:
    task = TwoHop(entities=20, relations=8, train_fraction=0.9, held_out_facts=0.0)
    stream = Stream(task, data_seed=0, order_seed=0)
    fitted = train(
        model=ModelConfig(loops=2, hidden_size=32),
        vocab_size=len(task.vocabulary),
        optimizer=OptimizerConfig(lr=1e-2, warmup_steps=50),
        budget=BudgetConfig(steps=1000, batch_size=128),
        batch_at=lambda step: pad(stream.examples(128 * step, 128), task.max_length - 1),
        execution=Execution(compile="off", chunk_steps=100),
    )

    def accuracy_by_loop(split: str) -> list[float]:
        examples = evaluation_set(task, 0, split, limit=2000)
        return score(fitted.model, [pad(examples, task.max_length - 1)], 1).correct_RN.mean(1).tolist()

    assert accuracy_by_loop("facts")[1] > 0.9
    assert accuracy_by_loop("seen")[1] > 0.95
    first, second = accuracy_by_loop("id")
    assert second > 0.8
    assert first < 0.4
