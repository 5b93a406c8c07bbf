"""The Triton kernel as machine code of real GPUs, which takes no GPU to compile: what the interpreter cannot show."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(not find_spec("triton"), reason="Triton is not installed")
def test_it_compiles_without_spills_and_moves_whole_vectors_of_any_vocabulary(tmp_path: Path) -> None:
    script = Path(__file__).with_name("gpu_code.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == 8
    for case in cases:
        assert (case["STACK"], case["LOCAL"]) == (0, 0), case
        assert case["REG"] <= 64, case  # 1,024 threads of a multiprocessor's 65,536 registers
        # Only what a row has one of is narrow: the target and its logit; nats, logsumexp and correct.
        assert (case["narrow loads"], case["narrow stores"]) == (2, 3), case
        assert case["loads"] > 2, case
        assert case["stores"] > 3, case
