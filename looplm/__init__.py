"""The model: loop, exits, objective, loss, training, evaluation, accounting. Knows the tasks by their `Batch` alone.

Importing this package, `looplm.config` or `looplm.accounting` does not import torch; asking this package for
`load_ouro` or `dump_ouro` does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from looplm.ouro import dump_ouro, load_ouro

__all__ = ["NUMERICS", "dump_ouro", "load_ouro"]

NUMERICS = 1
"""Part of every cell's identity. Raised whenever the same cell would train to other numbers on the same machine (a
golden-loss test fails until it is)."""


def __getattr__(name: str) -> Any:
    if name not in ("dump_ouro", "load_ouro"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from looplm import ouro

    return getattr(ouro, name)
