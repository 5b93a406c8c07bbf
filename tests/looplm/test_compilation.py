"""What is compiled, and how often: counted with a backend that notes its graphs instead of generating code."""

import pytest
import torch

from looplm.attention import MEDIUM, SHORT
from looplm.config import ModelConfig
from looplm.execution import compile_segments
from looplm.model import LoopLM

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

VOCAB_SIZE = 20
Graphs = list[torch.fx.GraphModule]


def trained(config: ModelConfig, rows: int = 3, positions: int = 5) -> LoopLM:
    """A model whose compiled blocks have been run and differentiated on two batches, and which matches eager."""
    model = LoopLM(config, VOCAB_SIZE)
    tokens_BS = torch.arange(rows * positions).view(rows, positions) % VOCAB_SIZE
    wanted = model.exit_states(tokens_BS)[-1]
    compile_segments(model, None)
    for _ in range(2):
        state = model.exit_states(tokens_BS)[-1]
        torch.testing.assert_close(state, wanted)
        state.sum().backward()
    return model


@pytest.mark.parametrize("loops", [1, 2, 5])
def test_a_shared_block_is_compiled_once_for_all_loops(graphs: Graphs, loops: int) -> None:
    trained(ModelConfig(layers=2, loops=loops, hidden_size=16))
    assert len(graphs) == 1


def test_the_segments_of_an_untied_stack_are_compiled_once(graphs: Graphs) -> None:
    trained(ModelConfig(layers=6, exit_every=2, hidden_size=16))
    assert len(graphs) == 1


def test_a_training_is_compiled_as_if_none_had_gone_before(graphs: Graphs) -> None:
    shapes = [(layers, rows) for layers in (1, 2, 3) for rows in (2, 3, 4)]  # torch gives up after eight
    for count, (layers, rows) in enumerate([*shapes, (4, 5)], start=1):
        trained(ModelConfig(layers=layers, hidden_size=16), rows=rows)
        assert len(graphs) == count
        given = [node.meta["example_value"] for node in graphs[-1].graph.nodes if node.op == "placeholder"]
        assert not any(isinstance(value, torch.SymInt) for value in given), "compiled for any shape"


@pytest.mark.parametrize(
    ("positions", "calls"),
    [(SHORT, None), (SHORT + 1, "bmm"), (MEDIUM, "bmm"), (MEDIUM + 1, "scaled_dot_product_attention")],
)
def test_attention_of_short_rows_is_written_out(graphs: Graphs, positions: int, calls: str | None) -> None:
    trained(ModelConfig(hidden_size=16), positions=positions)
    called = {getattr(node.target, "__name__", node.target) for node in graphs[-1].graph.nodes}
    assert called & {"bmm", "scaled_dot_product_attention"} == ({calls} if calls else set())


def test_documents_of_any_number_and_length_do_not_exhaust_the_compiler(graphs: Graphs) -> None:
    model = LoopLM(ModelConfig(loops=2, hidden_size=16), VOCAB_SIZE)
    model.attention = "rows"
    run = model.run_segment
    compile_segments(model, None)
    compiled_run = model.run_segment
    positions = 240
    for rows, length in [
        (2, 6),
        (2, 5),
        (3, 6),
        (3, 30),
        (4, 29),
        (4, 60),
        (3, 59),
        (2, 200),
        (5, 199),
        (5, 7),
        (4, 40),
    ]:
        documents_BS = torch.arange(positions).div(length, rounding_mode="floor").expand(rows, -1)
        tokens_BS = torch.arange(rows * positions).view(rows, positions) % VOCAB_SIZE
        states = {}
        for model.run_segment in (run, compiled_run):
            states[model.run_segment] = model.exit_states(tokens_BS, documents_BS)[-1]
        torch.testing.assert_close(states[compiled_run], states[run])
        states[compiled_run].sum().backward()
    assert len(graphs) < torch._dynamo.config.recompile_limit
