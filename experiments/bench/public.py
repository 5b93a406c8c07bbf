"""Ouro's public modelling code, taken from a folder that holds it, as a model for the plain training loop.

Every released checkpoint brings it along (`modeling_ouro.py`, `configuration_ouro.py`); none of it is kept here. It has
no training of its own: its loss pays for the expected logits, not for the paper's objective.
"""

import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from looplm.model import LoopLM
from looplm.ouro import dump_ouro

_PACKAGE = "ouro_public_code"


def _modules(folder: Path) -> list[Any]:
    """Configuration and model, as modules of one package, because they import each other by relative names."""
    for known in [name for name in sys.modules if name.partition(".")[0] == _PACKAGE]:  # of another folder
        del sys.modules[known]
    package = ModuleType(_PACKAGE)
    package.__path__ = [str(folder)]
    sys.modules[_PACKAGE] = package
    try:
        return [importlib.import_module(f"{_PACKAGE}.{name}_ouro") for name in ("configuration", "modeling")]
    except ImportError as error:
        raise ValueError(
            f"--ouro is {str(folder)!r}, whose code cannot be imported ({error}); it must be a folder with "
            "configuration_ouro.py and modeling_ouro.py, and transformers be installed in the version they need"
        ) from error


def digest(folder: Path) -> str | None:
    """SHA-256 of the model's code, which says which of its versions ran; None where there is none."""
    file = folder / "modeling_ouro.py"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


class PublicLoopLM(nn.Module):
    """The public model with the weights of one of ours."""

    def __init__(self, folder: Path, ours: LoopLM) -> None:
        """Raises ValueError: if the code cannot be imported from the folder."""
        super().__init__()
        configuration, modeling = _modules(folder)
        weights, config = dump_ouro(ours)
        causal = modeling.OuroForCausalLM(configuration.OuroConfig(**config, use_cache=False))
        causal.load_state_dict(weights)
        self.public = causal.model

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, B, S, V) and gates (R, B, S)."""
        _, states, gates = self.public(tokens)
        logits = [F.linear(state, self.public.embed_tokens.weight) for state in states]
        return torch.stack(logits), torch.stack(gates).squeeze(-1)
