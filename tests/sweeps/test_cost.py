"""What a cell costs, against the batches that its training really makes."""

import pytest

from looplm import accounting
from sweeps.cell import Cell
from sweeps.cost import training_flops_by_group
from sweeps.run import Batches


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        (["task=bios", "task.people=50", "budget.layout=pack", "budget.context=128", "budget.batch_size=3"], 341),
        (["task=mano", "budget.layout=pack", "budget.context=64", "budget.batch_size=9"], 113),
        (["task=mano", "budget.layout=pack", "budget.context=64", "budget.batch_size=1500"], 1),
        (["task=twohop", "budget.batch_size=64"], 16),
    ],
)
def test_flops_are_those_of_the_batches_that_are_trained_on(changes: list[str], steps: int) -> None:
    """Those of the first block, `steps` of them; three biographies take two rows of two, not one and a half."""
    cell = Cell.compose([*changes, f"budget.steps={steps}", "model.hidden_size=16", "seeds.order_seed=0"])
    made = [Batches(cell)(step) for step in range(steps)]
    want = accounting.training_flops(
        cell.model,
        cell.vocab_size,
        cell.objective,
        steps=1,
        rows=sum(len(batch.tokens_BS) for batch in made),
        context=cell.context,
        trained_positions=sum(int((batch.weights_BS > 0).sum()) for batch in made),
    )
    found = training_flops_by_group(cell)
    blocks = found.keys() - {"head", "gate"}
    assert {group: found[group] for group in blocks} == {group: pytest.approx(want[group]) for group in blocks}
    assert found["head"] == pytest.approx(want["head"], rel=0.03)
