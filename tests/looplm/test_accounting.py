import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from looplm.accounting import (
    evaluation_flops,
    non_embedding_parameters,
    parameters,
    total_parameters,
    training_flops,
)
from looplm.config import ModelConfig, ObjectiveConfig, ObjectiveName, OptimizerConfig
from looplm.lightning_module import LoopTraining, training_loss
from looplm.model import LoopLM
from looplm.steps import Step

MODELS = [
    ModelConfig(),
    ModelConfig(layers=2, loops=3, hidden_size=32, heads=4),
    ModelConfig(layers=4, hidden_size=24, exit_every=2, tied_embeddings=False, intermediate_size=40),
]


@pytest.mark.parametrize("config", MODELS)
def test_parameter_groups_are_those_of_the_real_model(config: ModelConfig) -> None:
    counted = dict.fromkeys(parameters(config, 57), 0)
    for name, parameter in LoopLM(config, 57).named_parameters():
        part = name.split(".")
        counted[
            part[2] if part[0] == "blocks" and part[2] in counted else part[0] if part[0] in counted else "norms"
        ] += parameter.numel()
    assert parameters(config, 57) == counted
    assert total_parameters(config, 57) == sum(counted.values())
    assert non_embedding_parameters(config, 57) == total_parameters(config, 57) - counted["embedding"] - counted["head"]


@pytest.mark.parametrize(
    ("config", "vocab_size", "total"),
    [
        (ModelConfig(layers=1, hidden_size=64), 57, 51_137),
        (ModelConfig(layers=1, loops=4, hidden_size=64), 57, 51_137),
        (ModelConfig(layers=2, hidden_size=64), 57, 98_497),
        (ModelConfig(layers=1, hidden_size=32), 71, 14_241),
    ],
)
def test_known_totals(config: ModelConfig, vocab_size: int, total: int) -> None:
    assert total_parameters(config, vocab_size) == total


@pytest.mark.parametrize(
    ("config", "backprop_loops"), [*((model, None) for model in MODELS), (MODELS[1], 1), (MODELS[1], 2), (MODELS[2], 1)]
)
@pytest.mark.parametrize("name", ["last", "uniform", "entropy", "geometric", "stage_two"])
def test_training_flops_are_those_of_the_real_model(
    config: ModelConfig, name: ObjectiveName, backprop_loops: int | None
) -> None:
    rows, context, vocab_size = 6, 5, 31
    objective = ObjectiveConfig(name=name, backprop_loops=backprop_loops)
    model = LoopTraining(LoopLM(config, vocab_size), objective, OptimizerConfig(), 1, {}).model
    positions_N = torch.tensor([3, 4, 11, 29])
    step = Step(
        torch.randint(vocab_size, (rows, context)), None, positions_N, torch.tensor([1, 2, 3, 4]), torch.ones(4)
    )
    groups = training_flops(
        config, vocab_size, objective, steps=1, rows=rows, context=context, trained_positions=len(positions_N)
    )
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not counted
        training_loss(model, objective, step).backward()
    assert sum(groups.values()) == counter.get_total_flops()


def test_loops_and_exits_cost_what_they_run() -> None:
    def flops(objective: str, steps: int = 10, **model: int) -> dict[str, int]:
        return training_flops(
            ModelConfig(**model),
            57,
            ObjectiveConfig(name=objective),
            steps=steps,
            rows=8,
            context=4,
            trained_positions=8,
        )

    assert flops("uniform", loops=4) == {group: 4 * count for group, count in flops("uniform").items()}
    assert flops("last", loops=4)["head"] == flops("last")["head"]
    assert flops("last", loops=4)["attention"] == 4 * flops("last")["attention"]
    assert flops("entropy", loops=4) == flops("entropy", layers=4, exit_every=1)
    assert flops("entropy", steps=30) == {group: 3 * count for group, count in flops("entropy").items()}
    assert evaluation_flops(ModelConfig(loops=4), 57, rows=8, context=4, scored_positions=8) == {
        group: count // 30 for group, count in flops("entropy", loops=4).items()
    }


def test_truncated_backpropagation_saves_two_thirds_of_the_blocks_in_the_first_loops() -> None:
    def flops(backprop_loops: int | None) -> dict[str, int]:
        objective = ObjectiveConfig(name="uniform", backprop_loops=backprop_loops)
        model = ModelConfig(loops=4)
        return training_flops(model, 57, objective, steps=3, rows=8, context=4, trained_positions=8)

    assert flops(4) == flops(9) == flops(None)
    for group, every in flops(None).items():
        assert 6 * flops(1)[group] == (3 if group in ("attention", "scores", "feedforward") else 6) * every


def test_configuration_and_accounting_need_no_torch() -> None:
    code = (
        "import sys, looplm.config, looplm.accounting; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
