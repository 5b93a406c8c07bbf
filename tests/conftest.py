"""Every test runs on one thread: two are slower for small models, and far slower on a busy machine.

Without a GPU, Triton's kernels run under its interpreter, which has to be said before Triton is first imported.
"""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"
