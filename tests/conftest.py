"""Every test runs on one thread: two are slower for small models, and far slower on a busy machine."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
