"""Several devices for one training: together they see what one would see, and end together."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from looplm import checkpoint
from looplm.config import ModelConfig, ObjectiveConfig
from looplm.execution import Execution
from looplm.lightning_module import training_loss
from looplm.model import LoopLM
from looplm.stability import Reading
from looplm.steps import StepData, step_of
from looplm.training import CHECKPOINT, Fitted
from synthdata.batch import Batch

Train = Callable[..., Fitted]
SCRIPT = Path(__file__).with_name("two_devices.py")


def run(folder: Path, what: str) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """What the script printed, step by step, and how it ended."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(SCRIPT), str(folder), what]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    return [json.loads(line) for line in ended.stdout.splitlines()], ended


@pytest.mark.parametrize("devices", [2, 3])
def test_shares_of_a_batch_are_the_batch(batch_at: Callable[[int], Batch], packed_batch: Batch, devices: int) -> None:
    for batch in (batch_at(0), packed_batch):
        whole, shares = step_of(batch), [step_of(batch, device, devices) for device in range(devices)]
        context = batch.tokens_BS.shape[1]
        seen = []
        for device, share in enumerate(shares):
            for name in ("tokens_BS", "documents_BS"):
                part, all_of_it = getattr(share, name), getattr(whole, name)
                assert (part is None) == (all_of_it is None)
                if part is not None:
                    assert torch.equal(part, all_of_it[device::devices])
            row_N, place_N = share.positions_N // context, share.positions_N % context
            position_N = (row_N * devices + device) * context + place_N
            seen += zip(position_N.tolist(), share.targets_N.tolist(), share.weights_N.tolist(), strict=True)
        expected = zip(whole.positions_N.tolist(), whole.targets_N.tolist(), whole.weights_N.tolist(), strict=True)
        assert sorted(seen) == list(expected)


def test_the_losses_of_the_shares_add_up(packed_batch: Batch, vocab_size: int) -> None:
    model, objective = LoopLM(ModelConfig(loops=2, hidden_size=16), vocab_size), ObjectiveConfig(name="entropy")
    whole = training_loss(model, objective, step_of(packed_batch))
    shares = [training_loss(model, objective, step_of(packed_batch, device, 3)) for device in range(3)]
    torch.testing.assert_close(torch.stack(shares).sum(), whole, rtol=1e-6, atol=0)


def test_every_device_reads_on_from_the_same_step(batch_at: Callable[[int], Batch]) -> None:
    data = StepData(batch_at, steps=5, chunk_steps=2, device=1, devices=2)
    data.load_state_dict({"steps_done": 2})
    chunks = list(data.train_dataloader())
    assert [len(chunk.steps) for chunk in chunks] == [2, 1]
    assert np.array_equal(chunks[0].steps[0].tokens_BS, batch_at(2).tokens_BS[1::2])


def test_two_devices_train_as_one_also_stopped_killed_and_resumed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import two_devices

    seen: list[float] = []
    monkeypatch.setattr(two_devices, "print", lambda line, flush: seen.append(json.loads(line)["loss"]), raising=False)
    one = two_devices.train(tmp_path / "one", devices=1)
    assert len(seen) == 20

    before, killed = run(tmp_path / "two", "stopped, then killed")
    assert killed.returncode == -9, killed.stderr
    after, resumed = run(tmp_path / "two", "resumed")
    assert resumed.returncode == 0, resumed.stderr
    assert [line["step"] for line in before] == list(range(1, 13))
    assert [line["step"] for line in after] == list(range(12, 21)), "the checkpoint of step 12 was not yet written"
    losses = {line["step"]: line["loss"] for line in [*before, *after]}
    assert list(losses.values()) == pytest.approx(seen, rel=1e-5)

    content = checkpoint.read(tmp_path / "two" / CHECKPOINT)
    assert content["backend"] == "eager on 2 devices"
    assert content["tokens"] == one.tokens
    for name, value in checkpoint.model_of(content).state_dict().items():
        torch.testing.assert_close(value, one.model.state_dict()[name], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip([Reading(*values) for values in content["stability"]], one.stability, strict=True):
        assert ours._replace(value=0.0) == theirs._replace(value=0.0)
        assert ours.value == pytest.approx(theirs.value, rel=1e-3)

    (orphan,) = {pid for line in before[6:] for pid in line["others"]}
    until = time.monotonic() + 60
    while os.path.exists(f"/proc/{orphan}") and time.monotonic() < until:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{orphan}"), "the second process outlived the first"


def test_the_end_of_one_process_is_the_end_of_the_training(tmp_path: Path) -> None:
    """Dying is the machine's doing, an `OSError`; an exception is told. Another training may follow in this process."""
    lines, ended = run(tmp_path, "mishaps")
    assert ended.returncode == 0, ended.stderr
    assert [line.get("step") for line in lines] == [1, None] * 2, "a batch is made two steps ahead"
    assert lines[1] == {"dies": "ChildProcessError: a training process died"}
    assert lines[3] == {"fails": "RuntimeError: the process of rank 1 failed: KeyError: 'no step 3 here'"}
    for mishap in ("dies", "fails"):
        assert checkpoint.read(tmp_path / mishap / CHECKPOINT)["global_step"] == 1


def test_devices_that_are_not_there_or_have_nothing_to_do_are_refused(
    train: Train, batch_at: Callable[[int], Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"execution\.devices is 0; it must be at least 1"):
        Execution(devices=0)
    with pytest.raises(ValueError, match=r"execution\.devices is 17; a batch has 16 rows, and it is at most that"):
        step_of(batch_at(0), 0, 17)
    with pytest.raises(ValueError, match=r"execution\.devices is 2, but what they are to do cannot be pickled"):
        train(execution=Execution(compile="off", devices=2))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"execution\.devices is 2; torch finds 1 CUDA devices here"):
        Execution(device="cuda", devices=2).torch_device()


def test_another_number_of_devices_is_said(train: Train, tmp_path: Path) -> None:
    train(should_stop=lambda: True)
    path = tmp_path / "run" / CHECKPOINT
    checkpoint.write(path, checkpoint.read(path) | {"backend": "eager on 2 devices"})
    (notice,) = train().notices
    assert notice == "begun with backend eager on 2 devices, carried on with eager: bits may differ"
