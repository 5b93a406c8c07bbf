"""The model: loop, exits, objective, loss, training, evaluation, accounting. Knows the tasks by their `Batch` alone.

Importing this package, `looplm.config` or `looplm.accounting` does not import torch.
"""

NUMERICS = 1
"""Part of every cell's identity. Raised whenever the same cell would train to other numbers on the same machine (a
golden-loss test fails until it is)."""
