"""What is done with recordings, tried on a CPU with a recorder that runs its work again; and CUDA's own, on a GPU."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from looplm import lightning_module, loss
from looplm.checkpoint import read
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig
from looplm.cuda_graphs import RecordedGradients, Results, padded, room
from looplm.execution import Execution
from looplm.lightning_module import training_loss
from looplm.loss import IGNORED
from looplm.model import LoopLM
from looplm.steps import Step, step_of
from looplm.training import CHECKPOINT, Fitted
from synthdata.batch import Batch

ENTROPY = ObjectiveConfig(name="entropy")


class Recorder:
    """Like a CUDA graph: what was made while it was recorded is made again, in the same tensors."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0

    def __call__(self, work: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        self.recordings += 1
        results = work()
        made = [*results, *self._gradients()]

        def replay() -> None:
            self.replays += 1
            kept = [parameter.grad for parameter in self.parameters]
            for old, new in zip(made, [*work(), *self._gradients()], strict=True):
                old.copy_(new)
            for parameter, gradient in zip(self.parameters, kept, strict=True):
                parameter.grad = gradient

        return results, replay

    def of(self, parameters: list[nn.Parameter]) -> "Recorder":
        self.parameters = parameters
        return self

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]


@pytest.mark.parametrize("positions", [1, 7, 8, 9, 15, 16, 17, 100, 1023, 1024, 1025, 50_000])
def test_room_is_for_all_and_an_eighth_more_at_most(positions: int) -> None:
    assert positions <= room(positions) <= positions * 9 / 8
    assert room(room(positions)) == room(positions)


def test_few_rooms_are_needed_for_many_sizes() -> None:
    assert len({room(positions) for positions in range(4096, 8193)}) == 9


@pytest.fixture
def steps(batch_at: Callable[[int], Batch], packed_batch: Batch) -> list[Step]:
    """Steps of several shapes: a whole batch, one with fewer trained positions, and packed documents."""
    fewer = batch_at(1)
    fewer.weights_BS[:3] = 0
    return [step_of(batch) for batch in (batch_at(0), fewer, packed_batch, batch_at(2), fewer, packed_batch)]


@pytest.mark.parametrize("name", ["last", "uniform", "entropy", "geometric", "stage_two"])
def test_positions_added_change_nothing(name: Any, steps: list[Step], vocab_size: int) -> None:
    model, objective = LoopLM(ModelConfig(loops=3, hidden_size=16), vocab_size), ObjectiveConfig(name=name)
    nn.init.normal_(model.gate.weight)
    many = steps[2]._replace(
        **{field: getattr(steps[2], field)[:17] for field in ("positions_N", "targets_N", "weights_N")}
    )
    found = []
    for step in (many, padded(many)):
        model.zero_grad()
        loss = training_loss(model, objective, step)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(padded(many).targets_N) == 18
    assert padded(many).targets_N[-1] == IGNORED
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-8)


def test_replayed_gradients_are_those_of_each_step(steps: list[Step], vocab_size: int) -> None:
    model = LoopLM(ModelConfig(loops=2, hidden_size=16), vocab_size)
    parameters = list(model.parameters())

    def gradients(objective: ObjectiveConfig, step: Step) -> Results:
        loss = training_loss(model, objective, step)
        loss.backward()
        return loss.detach(), nn.utils.clip_grad_norm_(parameters, 1.0)

    recorder = Recorder().of(parameters)
    replayed = RecordedGradients(parameters, gradients, recorder)
    cases = [(objective, step) for objective in (ENTROPY, replace(ENTROPY, beta=0.2)) for step in steps]
    kept: list[Results] = []
    for objective, step in cases:
        model.zero_grad()
        wanted = gradients(objective, padded(step))
        wanted_gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
        model.zero_grad()
        kept.append(replayed(objective, step))
        torch.testing.assert_close(kept[-1], wanted, rtol=0, atol=0)
        torch.testing.assert_close([p.grad for p in parameters], wanted_gradients, rtol=0, atol=0)
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.01)  # the optimiser's place: in place
    assert (recorder.recordings, recorder.replays) == (6, len(cases))
    assert all(not torch.equal(one[0], other[0]) for one, other in pairwise(kept)), "results were overwritten"


class OnOneDevice(TorchDispatchMode):
    """Notes the operators that are given or return tensors of another device, or that wait for one."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.found = device, list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, made)) if isinstance(leaf, Tensor)]
        if any(tensor.device.type != self.device for tensor in tensors) or "_local_scalar_dense" in str(func):
            self.found.append(str(func))
        return made


def test_a_copy_from_another_device_is_noted() -> None:
    with OnOneDevice("meta") as watch:
        torch.ones(3, device="meta").where(torch.ones(3, dtype=torch.bool, device="meta"), 0).sum()
    assert not watch.found
    with OnOneDevice("meta") as watch:
        torch.ones(3, device="meta").add_(torch.tensor([1.0]).to("meta"))
    assert watch.found[-1] == "aten._to_copy.default"


@pytest.mark.parametrize("name", ["last", "uniform", "entropy", "geometric", "stage_two"])
@pytest.mark.parametrize("backend", ["reference", "chunked"])
def test_what_is_recorded_never_turns_to_the_cpu(
    name: Any, backend: Any, steps: list[Step], vocab_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What copies from the CPU or waits cannot be recorded. `meta` stands for a GPU: it has shapes and no numbers."""
    monkeypatch.setattr(torch, "autocast", lambda device, **options: nullcontext())  # there is none for `meta`
    monkeypatch.setattr(loss, "choose_backend", lambda logits, device: backend)
    model, objective = LoopLM(ModelConfig(loops=3, hidden_size=16), vocab_size).to("meta"), ObjectiveConfig(name=name)
    for step in steps[1:3]:
        on_meta = step.each(lambda tensor: tensor.to("meta"))
        training_loss(model, objective, on_meta).backward()  # as a recording is: after a run that is not recorded
        model.zero_grad()
        with OnOneDevice("meta") as watch:
            training_loss(model, objective, on_meta).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert not watch.found


@pytest.mark.parametrize("objective", [ENTROPY, replace(ENTROPY, later_beta=0.2, later_from=0.5), ObjectiveConfig()])
def test_a_training_by_replay_ends_as_one_without(
    train: Callable[..., Fitted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: ObjectiveConfig
) -> None:
    recorders: list[Recorder] = []

    def recorded(parameters: list[nn.Parameter], gradients: Any) -> RecordedGradients:
        recorders.append(Recorder().of(parameters))
        return RecordedGradients(parameters, gradients, recorders[-1])

    monkeypatch.setattr(lightning_module, "RecordedGradients", recorded)
    monkeypatch.setattr(Execution, "__post_init__", lambda self: None)  # which wants a GPU
    execution = Execution(compile="off", chunk_steps=5, checkpoint_every_seconds=0)
    plain = train(objective=objective, folder=tmp_path / "plain", execution=execution)
    replayed = train(objective=objective, folder=tmp_path / "replayed", execution=replace(execution, cuda_graphs=True))
    assert replayed.backend == "eager in CUDA graphs"
    assert recorders[0].replays == 20 - 2  # as many as are not looked into
    assert recorders[0].recordings == (2 if objective.later_beta else 1)
    torch.testing.assert_close(replayed.model.state_dict(), plain.model.state_dict(), rtol=1e-5, atol=1e-6)
    assert [reading[:3] for reading in replayed.stability] == [reading[:3] for reading in plain.stability]
    assert read(tmp_path / "replayed" / CHECKPOINT)["global_step"] == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cpu"}, "execution.device is 'cpu'; with execution.cuda_graphs it must be cuda"),
        ({"devices": 2}, "execution.devices is 2; with execution.cuda_graphs it must be 1"),
        ({"attention": "rows"}, r"execution.attention is 'rows'; with execution.cuda_graphs it must be auto \| sdpa"),
    ],
)
def test_graphs_where_there_can_be_none_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Execution(**{"device": "cuda", "cuda_graphs": True, **changes})


def test_attention_under_graphs_waits_for_nothing() -> None:
    assert Execution(device="cuda", cuda_graphs=True).attention_kernel("bf16-mixed") == "sdpa"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("compile", ["off", "on"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_recorded_training_on_a_gpu(
    train: Callable[..., Fitted], tmp_path: Path, compile: Any, precision: Any
) -> None:
    setting = {"optimizer": OptimizerConfig(warmup_steps=5), "budget": BudgetConfig(steps=60, batch_size=16)}
    execution = Execution(device="cuda", compile=compile, chunk_steps=5, checkpoint_every_seconds=0)
    recorded = replace(execution, cuda_graphs=True)

    def run(name: str, execution: Execution, should_stop: Callable[[], bool] = lambda: False) -> Fitted:
        return train(
            **setting, precision=precision, execution=execution, folder=tmp_path / name, should_stop=should_stop
        )

    plain, replayed = run("plain", execution), run("replayed", recorded)
    exact = precision == "32-true"
    torch.testing.assert_close(
        replayed.model.state_dict(),
        plain.model.state_dict(),
        rtol=1e-3 if exact else 5e-2,
        atol=1e-4 if exact else 5e-3,
    )
    assert not run("stopped", recorded, should_stop=lambda: True).finished
    carried_on = run("stopped", recorded)
    torch.testing.assert_close(carried_on.model.state_dict(), replayed.model.state_dict(), rtol=1e-3, atol=1e-4)
