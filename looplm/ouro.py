"""Ouro's released checkpoints: their names and configuration mapped onto `LoopLM` and back, and their files read.

The public model keeps query, key and value apart, and gate and up projection; here each group is one matrix. Nothing
else differs, so per-loop logits and gates are the public code's to rounding. No network, no unpickling here.
"""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from looplm.config import ModelConfig
from looplm.model import LoopLM

_NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "rms_norm_eps",
    "rope_theta",
    "total_ut_steps",
    "vocab_size",
)
_SAME = {
    "embedding.weight": ("model.embed_tokens.weight",),
    "norm.weight": ("model.norm.weight",),
    "gate.weight": ("model.early_exit_gate.weight",),
    "gate.bias": ("model.early_exit_gate.bias",),
}
_BLOCK = {
    "before_attention.weight": ("input_layernorm.weight",),
    "attention.query_key_value.weight": tuple(f"self_attn.{name}_proj.weight" for name in "qkv"),
    "attention.output.weight": ("self_attn.o_proj.weight",),
    "after_attention.weight": ("input_layernorm_2.weight",),
    "before_feedforward.weight": ("post_attention_layernorm.weight",),
    "feedforward.gate_up.weight": ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
    "feedforward.down.weight": ("mlp.down_proj.weight",),
    "after_feedforward.weight": ("post_attention_layernorm_2.weight",),
}
_HEAD = "lm_head.weight"


def _public_names(model: ModelConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each of our parameters with the public ones that it holds, one below the other."""
    yield from _SAME.items()
    for layer in range(model.layers):
        for ours, public in _BLOCK.items():
            yield f"blocks.{layer}.{ours}", tuple(f"model.layers.{layer}.{name}" for name in public)
    if not model.tied_embeddings:
        yield "head.weight", (_HEAD,)


def model_config(config: Mapping[str, Any]) -> ModelConfig:
    """The architecture that an Ouro `config.json` describes.

    Raises:
        ValueError: naming a field that is missing, or that asks for what this model does not have: grouped-query
            attention, another activation, scaled rotary angles, a sliding window, heads of another size, biases.
    """
    missing = [field for field in _NEEDED if field not in config]
    if missing:
        raise ValueError(f"the Ouro configuration has no {', '.join(missing)}")
    architecture = ModelConfig(
        layers=config["num_hidden_layers"],
        loops=config["total_ut_steps"],
        hidden_size=config["hidden_size"],
        heads=config["num_attention_heads"],
        intermediate_size=config["intermediate_size"],
        tied_embeddings=config.get("tie_word_embeddings", False),
        rope_base=float(config["rope_theta"]),
        norm_epsilon=config["rms_norm_eps"],
        init_std=config.get("initializer_range", 0.02),
    )
    allowed = {
        "num_key_value_heads": (architecture.heads, None),
        "head_dim": (architecture.hidden_size // architecture.heads, None),
        "hidden_act": ("silu",),
        "rope_scaling": (None,),
        "use_sliding_window": (False,),
        "attention_bias": (False,),
        "mlp_bias": (False,),
    }
    for field, values in allowed.items():
        if field in config and config[field] not in values:
            raise ValueError(f"the Ouro configuration's {field} is {config[field]!r}; it must be {values[0]!r} here")
    return architecture


def load_ouro(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> LoopLM:
    """The model of a public Ouro checkpoint, in float32, on the CPU and in evaluation mode; tensors are copied.

    Args:
        state_dict: parameters by their public names. With tied embeddings `lm_head.weight` may be left out.
        config: the content of the checkpoint's `config.json`; what concerns training or generation is not looked at.

    Raises:
        ValueError: naming every key that is missing or unknown, a tensor of another shape, a head that should be tied
            and is not, or a field of `config` that this model cannot follow.
    """
    architecture = model_config(config)
    with torch.device("meta"):
        model = LoopLM(architecture, config["vocab_size"])
    names = dict(_public_names(architecture))
    expected = {name for public in names.values() for name in public}
    optional = {_HEAD} if architecture.tied_embeddings else set()
    missing, unknown = expected - state_dict.keys(), state_dict.keys() - expected - optional
    if missing or unknown:
        raise ValueError(
            "the Ouro state dict does not fit its configuration: "
            f"missing {sorted(missing) or 'nothing'}, unknown {sorted(unknown) or 'nothing'}"
        )
    weights = {}
    for ours, parameter in model.named_parameters():
        public = names[ours]
        shape = (parameter.shape[0] // len(public), *parameter.shape[1:])
        for name in public:
            if state_dict[name].shape != shape:
                raise ValueError(f"{name} has shape {tuple(state_dict[name].shape)}; its configuration needs {shape}")
        weights[ours] = torch.cat([state_dict[name].detach().cpu().float() for name in public])
    if optional & state_dict.keys() and not torch.equal(state_dict[_HEAD].cpu().float(), weights["embedding.weight"]):
        raise ValueError(f"tie_word_embeddings is True, but {_HEAD} differs from model.embed_tokens.weight")
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_().eval()


def dump_ouro(model: LoopLM) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The inverse of `load_ouro`: public state dict (copies, in the model's precision) and configuration.

    Raises:
        ValueError: if the model has exits inside an untied stack, which Ouro has not.
    """
    config = model.config
    if config.exit_every is not None:
        raise ValueError(f"model.exit_every is {config.exit_every}; it must be null in an Ouro checkpoint")
    own = model.state_dict()
    state_dict: dict[str, Tensor] = {}
    for ours, public in _public_names(config):
        parts = own[ours].chunk(len(public))
        state_dict |= {name: part.clone() for name, part in zip(public, parts, strict=True)}
    if config.tied_embeddings:
        state_dict[_HEAD] = state_dict["model.embed_tokens.weight"]
    return state_dict, {
        "model_type": "ouro",
        "vocab_size": model.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.feedforward_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "hidden_act": "silu",
        "total_ut_steps": config.loops,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "tie_word_embeddings": config.tied_embeddings,
        "initializer_range": config.init_std,
    }


def read_ouro(folder: Path) -> LoopLM:
    """The model in a downloaded Ouro folder: `config.json` beside `*.safetensors`, or else `pytorch_model*.bin`.

    `.bin` files are loaded with `weights_only=True`: a file that would run code is refused.

    Raises:
        FileNotFoundError: if there is no `config.json`.
        ValueError: if there are no weights, they hold code, a file is damaged, safetensors is not installed, or as
            `load_ouro`.
    """
    described = folder / "config.json"
    if not described.exists():
        raise FileNotFoundError(f"{folder} holds no config.json; it must be a downloaded Ouro folder")
    try:
        config = json.loads(described.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{described} is damaged: {error}") from error
    state_dict: dict[str, Tensor] = {}
    if files := sorted(folder.glob("*.safetensors")):
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ModuleNotFoundError:
            raise ValueError(
                f"{files[0]} needs the package safetensors, which is not installed: pip install -e '.[ouro]'"
            ) from None
        for file in files:
            try:
                state_dict |= load_file(file)
            except SafetensorError as error:
                raise ValueError(f"{file} is damaged: {error}") from error
    elif files := sorted(folder.glob("pytorch_model*.bin")):
        for file in files:
            try:
                state_dict |= torch.load(file, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                raise ValueError(f"{file} is refused, it holds more than weights: {error}") from error
    else:
        raise ValueError(f"{folder} holds no weights; it must hold *.safetensors or pytorch_model*.bin")
    return load_ouro(state_dict, config)
