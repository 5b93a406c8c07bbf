"""Every test runs on one thread: two are slower for small models, and far slower on a busy machine.

Without a GPU, Triton's kernels run under its interpreter, which has to be said before Triton is first imported. Where
pytest runs in several processes, the tests of a file stay together, and so do all that share the one SLURM.
"""

import os
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

os.environ["OMP_NUM_THREADS"] = "1"
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"


class _Together(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/slurm/"
        return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: Any, log: Any) -> LoadFileScheduling:
    """Which tests go to one process together."""
    return _Together(config, log)
