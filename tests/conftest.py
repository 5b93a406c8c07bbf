"""Every test runs on one thread: two are slower for small models, and far slower on a busy machine.

Without a GPU, Triton's kernels run under its interpreter, which has to be said before Triton is first imported. Where
pytest runs in several processes, the tests of a file stay together, and so do all that share the one SLURM.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

os.environ["OMP_NUM_THREADS"] = "1"
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs (`torch.fx.GraphModule`) that torch.compile was given so far; they run eager instead of compiled.

    torch.compile looks at .grad of whatever it is given, and hides what torch says of that, except from pytest: tests
    that use this ignore the warning "The .grad attribute of a Tensor that is not a leaf".
    """
    import torch  # slow, and only here

    found: list[Any] = []
    compile = torch.compile

    def note(graph: Any, inputs: object) -> Any:
        found.append(graph)
        return graph.forward

    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(torch, "compile", lambda function, options: compile(function, backend=note))
    return found


class _Together(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/slurm/"
        return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: Any, log: Any) -> LoadFileScheduling:
    """Which tests go to one process together."""
    return _Together(config, log)
