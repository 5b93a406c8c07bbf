import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from looplm import checkpoint
from looplm.config import BudgetConfig
from looplm.execution import find_compiler
from looplm.training import CHECKPOINT, Execution, Fitted, Progress
from synthdata.batch import PADDING, Batch, pack
from synthdata.streams import Stream
from synthdata.tasks.twohop import TwoHop

Train = Callable[..., Fitted]
TASK = TwoHop(entities=6, relations=2)


def leaves(content: Any) -> list[Any]:
    """Every value of a checkpoint's nested content, in order."""
    if isinstance(content, dict):
        return [leaf for key in sorted(content, key=str) for leaf in leaves(content[key])]
    if isinstance(content, list | tuple):
        return [leaf for item in content for leaf in leaves(item)]
    return [content]


def same_bits(one: Any, other: Any) -> bool:
    pairs = list(zip(leaves(one), leaves(other), strict=True))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs) and len(pairs) > 0


@pytest.fixture
def uninterrupted(train: Train, tmp_path: Path) -> dict[str, Any]:
    train(folder=tmp_path / "whole")
    return checkpoint.read(tmp_path / "whole" / CHECKPOINT)


@pytest.mark.parametrize(
    ("moment", "chunk_steps", "left_at"),
    [
        ("before the second checkpoint", 5, 5),
        ("while writing the second checkpoint", 5, 5),
        ("before the second checkpoint", 7, 7),
    ],
)
def test_killed_and_resumed_ends_with_the_same_bits(
    train: Train, tmp_path: Path, uninterrupted: dict[str, Any], moment: str, chunk_steps: int, left_at: int
) -> None:
    folder = tmp_path / "killed"
    script = Path(__file__).with_name("killed_training.py")
    command = [sys.executable, str(script), str(folder), moment, str(chunk_steps)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = checkpoint.read(folder / CHECKPOINT)
    assert left["global_step"] == left_at

    steps: list[int] = []
    fitted = train(
        folder=folder,
        execution=Execution(compile="off", chunk_steps=6),
        on_progress=lambda progress: steps.append(progress.step),
    )
    assert steps == [*range(left_at + 6, 20, 6), 20]
    assert (fitted.finished, fitted.step, fitted.notices) == (True, 20, ())
    resumed = checkpoint.read(folder / CHECKPOINT)
    for part in ("state_dict", "optimizer_states", "tokens", "configuration"):
        assert same_bits(resumed[part], uninterrupted[part]), part
    assert same_bits(resumed["random_state"], left["random_state"])


def test_chunks_do_not_matter(train: Train, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    train(folder=tmp_path / "other", execution=Execution(compile="off", chunk_steps=3))
    assert same_bits(checkpoint.read(tmp_path / "other" / CHECKPOINT)["state_dict"], uninterrupted["state_dict"])


def test_chunks_do_not_matter_under_autocast(train: Train, tmp_path: Path) -> None:
    """A chunk runs under one autocast, whose cache of cast weights would go stale after the first of its steps."""
    weights = []
    for chunk_steps in (1, 10):
        folder = tmp_path / str(chunk_steps)
        train(folder=folder, precision="bf16-mixed", execution=Execution(compile="off", chunk_steps=chunk_steps))
        weights.append(checkpoint.read(folder / CHECKPOINT)["state_dict"])
    assert same_bits(*weights)


def test_stopped_training_carries_on(train: Train, tmp_path: Path, uninterrupted: dict[str, Any]) -> None:
    asked = iter([False, True])
    stopped = train(should_stop=lambda: next(asked), execution=Execution(compile="off", chunk_steps=4))
    assert (stopped.finished, stopped.step) == (False, 8)
    assert stopped.tokens < uninterrupted["tokens"]
    finished = train()
    assert (finished.finished, finished.step, finished.tokens) == (True, 20, uninterrupted["tokens"])
    assert finished.seconds > stopped.seconds > 0
    assert same_bits(checkpoint.read(tmp_path / "run" / CHECKPOINT)["state_dict"], uninterrupted["state_dict"])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_compiled_training_on_batches_of_many_shapes_carries_on(train: Train, tmp_path: Path) -> None:
    """What is compiled first, and for which sizes at all, is another after the stop."""
    stream = Stream(TASK, data_seed=0, order_seed=0)
    batches = [pack(stream.examples(50 * step, 20 + 20 * step), context=32) for step in range(3)]
    assert len({batch.tokens_BS.shape for batch in batches}) == 3
    weights = []
    for stops in (False, True):
        folder = tmp_path / str(stops)
        for stop in [stops, False]:
            train(
                folder=folder,
                batch_at=lambda step: batches[step],
                budget=BudgetConfig(steps=len(batches), batch_size=20),
                execution=Execution(compile="on", chunk_steps=1, cache_folder=tmp_path / "code"),
                should_stop=lambda stop=stop: stop,
            )
        weights.append(checkpoint.read(folder / CHECKPOINT)["state_dict"])
    assert same_bits(*weights)


def test_finished_training_is_not_repeated(train: Train) -> None:
    first = train()
    again = train(on_progress=lambda progress: pytest.fail("trained again"))
    assert (again.finished, again.step, again.seconds, again.backend) == (True, 20, first.seconds, "eager")
    assert same_bits(first.model.state_dict(), again.model.state_dict())


def test_sigterm_reaches_its_own_handler(train: Train) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: received.append(signum))
    try:
        stopped = train(
            on_progress=lambda progress: os.kill(os.getpid(), signal.SIGTERM), should_stop=lambda: bool(received)
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert (stopped.finished, stopped.step) == (False, 5)


def test_a_checkpoint_from_before_a_field_came_carries_on(
    train: Train, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    path = tmp_path / "run" / CHECKPOINT
    train(should_stop=lambda: True)
    content = checkpoint.read(path)
    del content["configuration"]["budget"]["batch_unit"], content["configuration"]["objective"]["later_beta"]
    checkpoint.write(path, content)
    assert train().finished
    assert same_bits(checkpoint.read(path)["state_dict"], uninterrupted["state_dict"])


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_damaged_checkpoint_is_set_aside(
    train: Train, tmp_path: Path, damage: str, uninterrupted: dict[str, Any]
) -> None:
    path = tmp_path / "run" / CHECKPOINT
    train(should_stop=lambda: True)
    whole = path.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "emptied": b"",
        "foreign": b"PK\x03\x04 something else",
    }[damage]
    path.write_bytes(damaged)

    with pytest.raises(ValueError, match=rf"checkpoint {path} is damaged: "):
        checkpoint.load_model(path)
    fitted = train()
    (notice,) = fitted.notices
    assert str(path) in notice
    assert "checkpoint.ckpt.damaged-1" in notice
    assert "\n" not in notice
    assert path.with_name("checkpoint.ckpt.damaged-1").read_bytes() == damaged
    assert same_bits(checkpoint.read(path)["state_dict"], uninterrupted["state_dict"])

    path.write_bytes(b"again")
    assert "checkpoint.ckpt.damaged-2" in train().notices[0]
    assert path.with_name("checkpoint.ckpt.damaged-1").read_bytes() == damaged


def test_checkpoint_of_another_configuration_is_refused(train: Train) -> None:
    train()
    with pytest.raises(
        ValueError, match=r"another configuration: budget.steps is 20 there and 30 here; init_seed is 0"
    ):
        train(budget=BudgetConfig(steps=30, batch_size=16), init_seed=1)


def test_checkpoint_intervals(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write = checkpoint.write
    monkeypatch.setattr(
        checkpoint, "write", lambda path, content: (written.append(content["global_step"]), write(path, content))
    )
    train(folder=tmp_path / "often")
    train(folder=tmp_path / "rarely", execution=Execution(compile="off", chunk_steps=5, checkpoint_every_seconds=1e9))
    assert written == [5, 10, 15, 20, 20]


def test_loaded_model_is_the_trained_one(train: Train, tmp_path: Path) -> None:
    fitted = train()
    loaded = checkpoint.load_model(tmp_path / "run" / CHECKPOINT)
    assert loaded.config == fitted.model.config
    assert same_bits(loaded.state_dict(), fitted.model.state_dict())
    checkpoint.write(tmp_path / "no_model", {"state_dict": {}})
    with pytest.raises(ValueError, match="holds no model: it has no 'configuration'"):
        checkpoint.load_model(tmp_path / "no_model")
    with pytest.raises(FileNotFoundError):
        checkpoint.load_model(tmp_path / "nothing")


def test_random_state_round_trip(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "state", checkpoint.random_state())

    def draws() -> tuple[Any, ...]:
        return random.random(), random.gauss(), np.random.standard_normal(), torch.rand(()).item()  # noqa: NPY002

    first = draws()
    draws()
    checkpoint.restore_random_state(checkpoint.read(tmp_path / "state"))
    assert draws() == first


def test_progress(train: Train, batch_at: Callable[[int], Batch]) -> None:
    seen: list[Progress] = []
    fitted = train(on_progress=seen.append, execution=Execution(compile="off", chunk_steps=8))
    assert [(progress.step, progress.steps) for progress in seen] == [(8, 20), (16, 20), (20, 20)]
    assert all(progress.tokens_per_second > 0 for progress in seen)
    assert seen[0].loss > seen[-1].loss > 0
    read = sum(int((batch_at(step).documents_BS != PADDING).sum()) for step in range(20))
    assert fitted.tokens == read < 20 * 16 * 4
