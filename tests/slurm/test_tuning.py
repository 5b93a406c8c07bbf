"""One study and several processes that would lead it: one does, another is told who, and a successor carries on."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from results.store import Store
from slurm.cancel import cancel
from slurm.queue import look
from slurm.submission import places, submissions

Looplm = Callable[..., "subprocess.Popen[str]"]
TUNE = ["capacity_vs_manipulation", "--scale", "smoke", "--part", "manipulation", "--arm", "plain", "--trials", "3"]


def test_a_study_is_led_by_one_process_and_its_successor_takes_over(
    looplm: Looplm, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    store, out = Store(tmp_path / "runs"), tmp_path / "tuning.yaml"
    command = ["tune", *TUNE, "--out", str(out), "--cluster"]
    first = looplm(*command, "local")
    (sent,) = wait_for(lambda: submissions(store), "the first trial is sent")
    first.send_signal(signal.SIGSTOP)
    refused, text = looplm(*command, "debug"), f"process {first.pid} on {socket.gethostname()}"
    said, _ = refused.communicate(timeout=200)
    assert refused.returncode == 2, said
    assert re.search(
        rf"error: study capacity_vs_manipulation/smoke/manipulation/plain/\w+ is being tuned by {re.escape(text)};",
        said,
    )
    first.send_signal(signal.SIGKILL)
    first.communicate()
    successor = looplm(*command, "debug")
    said, _ = successor.communicate(timeout=400)
    tuned = OmegaConf.to_container(OmegaConf.load(out))
    assert isinstance(tuned, dict)
    trials = tuned["smoke"]["manipulation"]["trials"]["plain"]
    cells = store.read().cells
    assert len(trials) == len(cells) >= 3, said
    assert sorted(value for value, _ in trials) == sorted(
        json.loads(text)["optimizer"]["lr"] for text in cells["config"]
    )
    wait_for(lambda: not look([sent]).jobs, "the first job is over")
    assert cancel(set(places(submissions(store))), store) == []
