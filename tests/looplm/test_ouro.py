"""Released weights. `golden_ouro.json` holds what the public modelling code computes on small drawn models.

It was written by LoopedLMs/ouro_rl `modeling_ouro.py` at commit 531187b under transformers 4.54.1, in float32 with
eager attention: `logits` through `exit_at_step`, `gate_logits` from the inner model. Weights are those of `drawn`.
"""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import looplm
from looplm.config import ModelConfig
from looplm.model import LoopLM
from looplm.ouro import dump_ouro, load_ouro, model_config, read_ouro

GOLDEN: list[dict[str, Any]] = json.loads(Path(__file__).with_name("golden_ouro.json").read_text())


def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Uniform weights from the name alone: within 0.5 of 1 for norms, else within 0.25 of 0."""
    key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    raw = np.random.Philox(key=key).random_raw(math.prod(shape))
    unit = (raw >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5
    return torch.from_numpy((1 + unit if "norm" in name else 0.5 * unit).reshape(shape)).float()


def public_weights(config: dict[str, Any]) -> dict[str, Tensor]:
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    shapes |= {"model.early_exit_gate.weight": (1, hidden), "model.early_exit_gate.bias": (1,)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        shapes |= {f"{at}.self_attn.{name}_proj.weight": (hidden, hidden) for name in "qkvo"}
        shapes |= {f"{at}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": (hidden, inner)}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{at}.{norm}.weight": (hidden,), f"{at}.{norm}_2.weight": (hidden,)}
    weights = {name: drawn(name, shape) for name, shape in shapes.items()}
    tied = config["tie_word_embeddings"]
    weights["lm_head.weight"] = (
        weights["model.embed_tokens.weight"] if tied else drawn("lm_head.weight", (vocab, hidden))
    )
    return weights


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: f"{golden['config']['hidden_size']} wide")
def test_logits_and_gates_of_every_loop_are_those_of_the_public_code(golden: dict[str, Any]) -> None:
    """In float64, so that the only rounding between the two is that of the float32 golden values, on any CPU."""
    model = load_ouro(public_weights(golden["config"]), golden["config"]).double()
    output = model(torch.tensor(golden["tokens"]))
    assert len(output.logits) == golden["config"]["total_ut_steps"]
    logits_RBSV = torch.stack([output.logits[t] for t in range(len(output.logits))])
    logits, gate_logits = (torch.tensor(golden[name], dtype=torch.float64) for name in ("logits", "gate_logits"))
    torch.testing.assert_close(logits_RBSV, logits, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(output.exit_logits, gate_logits, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: f"{golden['config']['hidden_size']} wide")
def test_dumping_is_the_inverse_of_loading(golden: dict[str, Any]) -> None:
    weights = public_weights(golden["config"])
    dumped, config = dump_ouro(load_ouro(weights, golden["config"]))
    assert golden["config"].items() <= config.items()
    assert dumped.keys() == weights.keys()
    assert all(torch.equal(dumped[name], weight) for name, weight in weights.items())


def test_a_model_of_ours_survives_the_round_trip() -> None:
    model = LoopLM(ModelConfig(layers=2, loops=3, hidden_size=16), 11, init_seed=5)
    again = looplm.load_ouro(*looplm.dump_ouro(model))
    assert again.config == ModelConfig(layers=2, loops=3, hidden_size=16, intermediate_size=32)
    for (name, ours), (other, theirs) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs)
        assert theirs.requires_grad
        assert theirs.data_ptr() != ours.data_ptr()


def test_a_tied_head_may_be_left_out_but_not_differ() -> None:
    config = GOLDEN[1]["config"]
    weights = public_weights(config)
    assert config["tie_word_embeddings"]
    del weights["lm_head.weight"]
    assert load_ouro(weights, config).head is None
    with pytest.raises(ValueError, match=r"tie_word_embeddings is True, but lm_head\.weight differs"):
        load_ouro(weights | {"lm_head.weight": weights["model.embed_tokens.weight"] + 1}, config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1; it must be 2 here"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; it must be 'silu'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling is"),
        ({"use_sliding_window": True}, "use_sliding_window is True"),
        ({"head_dim": 16}, "head_dim is 16; it must be 8"),
        ({"total_ut_steps": 0}, "model.loops is 0"),
    ],
)
def test_what_this_model_is_not_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model_config(GOLDEN[0]["config"] | change)


def test_a_state_dict_that_does_not_fit_is_refused_with_every_name() -> None:
    config = GOLDEN[0]["config"]
    weights = public_weights(config)
    with pytest.raises(ValueError, match="has no rope_theta, vocab_size"):
        load_ouro(weights, {key: value for key, value in config.items() if key not in ("vocab_size", "rope_theta")})
    gate = weights.pop("model.early_exit_gate.bias")
    with pytest.raises(ValueError, match=r"missing \['model.early_exit_gate.bias'\], unknown \['gate.b', 'gate.c'\]"):
        load_ouro(weights | {"gate.b": gate, "gate.c": gate}, config)
    grouped = {"model.layers.1.self_attn.k_proj.weight": torch.zeros(8, 16), "model.early_exit_gate.bias": gate}
    with pytest.raises(ValueError, match=r"layers\.1\.self_attn\.k_proj\.weight has shape \(8, 16\); .* \(16, 16\)"):
        load_ouro(weights | grouped, config)


def test_exits_inside_an_untied_stack_cannot_be_dumped() -> None:
    with pytest.raises(ValueError, match=r"model\.exit_every is 1; it must be null"):
        dump_ouro(LoopLM(ModelConfig(layers=2, exit_every=1), 5))


def split(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    names = sorted(weights)
    return {name: weights[name] for name in names[::2]}, {name: weights[name] for name in names[1::2]}


def test_a_folder_of_safetensors_is_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    config = GOLDEN[0]["config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    for number, part in enumerate(split(public_weights(config))):
        halved = {name: weight.bfloat16() for name, weight in part.items()}
        safetensors.save_file(halved, tmp_path / f"model-{number}.safetensors")
    for name, parameter in read_ouro(tmp_path).named_parameters():
        wanted = dict(load_ouro(public_weights(config), config).named_parameters())[name]
        assert torch.equal(parameter, wanted.bfloat16().float())


class Trap:
    """Makes a file when unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


def test_pickled_weights_are_read_and_pickled_code_is_not_run(tmp_path: Path) -> None:
    config = GOLDEN[0]["config"]
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        read_ouro(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds no weights"):
        read_ouro(tmp_path)
    first, second = split(public_weights(config))
    torch.save(first, tmp_path / "pytorch_model-1.bin")
    torch.save(second, tmp_path / "pytorch_model-2.bin")
    wanted = load_ouro(public_weights(config), config).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in read_ouro(tmp_path).state_dict().items())
    torch.save({**second, "trap": Trap(tmp_path / "sprung")}, tmp_path / "pytorch_model-2.bin")
    with pytest.raises(ValueError, match=r"pytorch_model-2\.bin is refused, it holds more than weights"):
        read_ouro(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_only_asking_for_it_imports_torch() -> None:
    code = "import sys, looplm; before = 'torch' in sys.modules; looplm.load_ouro; sys.exit(before)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
    with pytest.raises(AttributeError, match="has no attribute 'load_uoro'"):
        looplm.load_uoro  # noqa: B018
