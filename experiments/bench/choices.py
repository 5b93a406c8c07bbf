"""`looplm bench choices`: what each choice of the trainer is worth, by a step that goes without it.

Every side trains the same model on the same batches of a task, those of the headline question, and is ours but for one
choice. It must come to the same losses before it is timed. Batches are ready beforehand, but on one side, which shows
how much that could save a training, where each is made when it is due. What Lightning costs is in `looplm bench train`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from unittest import mock

import torch
from torch import Tensor

from experiments.bench.measure import Options, Row, chosen, paired_seconds, roofline_rows, speed_rows
from experiments.bench.train import OBJECTIVE, TrainStep, bare_step, update_bytes
from looplm import attention
from looplm.accounting import training_flops
from looplm.config import ModelConfig, Precision
from looplm.execution import compile_segments, compiled, find_compiler
from looplm.model import LoopLM, Rotary, rotary
from looplm.steps import Step, step_of
from synthdata.batch import Batch, pad
from synthdata.streams import Stream
from synthdata.task import Task
from synthdata.tasks.records import Records
from synthdata.tasks.twohop import TwoHop

OURS = "ours"
STEPS = 8
"""Steps between two looks at the clock, and batches made."""
TOLERANCE = 0.01
"""Largest relative difference of a side's losses from ours in its first steps; bfloat16 rounds to 0.4 %."""


@dataclass(frozen=True)
class Case:
    """A cell of a question: task, model and rows of a batch."""

    task: Task
    model: ModelConfig
    rows: int

    def __str__(self) -> str:
        model, context = self.model, self.task.max_length - 1
        return f"{self.task.name} d={model.hidden_size} {model.layers}x{model.loops} {self.rows}x{context}"

    @cached_property
    def _stream(self) -> Stream:
        return Stream(self.task, data_seed=0, order_seed=0)

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        return pad(self._stream.examples(step * self.rows, self.rows), self.task.max_length - 1)


QUICK = [Case(TwoHop(entities=6, relations=2), ModelConfig(loops=2, hidden_size=16), 8)]
CASES = [
    Case(TwoHop(entities=50, relations=5, held_out_facts=0.2), ModelConfig(loops=4, hidden_size=64), 512),
    Case(Records(people=1000), ModelConfig(loops=4, hidden_size=32), 128),
]


def everywhere(step: Step) -> Step:
    """The step with the head at every position; those that train nothing have no weight."""
    places = step.tokens_BS.numel()
    targets_M = torch.zeros(places, dtype=torch.int64).scatter(0, step.positions_N, step.targets_N)
    weights_M = torch.zeros(places).scatter(0, step.positions_N, step.weights_N)
    return step._replace(positions_N=torch.arange(places), targets_N=targets_M, weights_N=weights_M)


def compile_all_loops(model: LoopLM) -> None:
    """Compile what lies between the embedding and the last exit as one, instead of what lies between two exits."""
    config, run, blocks = model.config, model.run_segment, list(model.blocks)

    def loops(x_BSD: Tensor, angles: Rotary) -> list[Tensor]:
        states = []
        for _ in range(config.loops):
            x_BSD = run(x_BSD, blocks, model.norm, angles, None)
            states.append(x_BSD)
        return states

    compiled_loops = compiled(loops)

    def exit_states(tokens_BS: Tensor, documents_BS: None, trained_loops: int) -> list[Tensor]:
        x_BSD = model.embedding(tokens_BS)
        size = config.hidden_size // config.heads
        return compiled_loops(x_BSD, rotary(tokens_BS.shape[1], size, config.rope_base, x_BSD.dtype, x_BSD.device))

    vars(model)["exit_states"] = exit_states


Training = Callable[[], Tensor]
"""Trains `STEPS` steps and returns their losses."""


def sides(case: Case, device: str, compiles: bool) -> dict[str, Training]:
    """Every side; ours comes first. Where nothing compiles, what has to do with it is left out."""
    ready = [step_of(case.batch(number)) for number in range(STEPS)]
    whole = [everywhere(step) for step in ready]
    precision: Precision = "bf16-mixed" if device == "cuda" else "32-true"
    other: Precision = "32-true" if device == "cuda" else "bf16-mixed"

    def model(compiles: bool = compiles) -> LoopLM:
        made = LoopLM(case.model, len(case.task.vocabulary)).to(device)
        if compiles:
            compile_segments(made, None)
        return made

    def train(step: TrainStep, data: Iterable[Step]) -> Tensor:
        return torch.stack([step(number, each) for number, each in enumerate(data)])

    def make_and_train(step: TrainStep) -> Tensor:
        return train(step, (step_of(case.batch(number)) for number in range(STEPS)))

    def train_by_sdpa(step: TrainStep) -> Tensor:
        with mock.patch.multiple(attention, SHORT=0, MEDIUM=0):
            return train(step, ready)

    found: dict[str, Training] = {
        OURS: partial(train, bare_step(model(), precision), ready),
        "each batch made when it is due": partial(make_and_train, bare_step(model(), precision)),
        "head at every position": partial(train, bare_step(model(), precision), whole),
        "update not fused": partial(train, bare_step(model(), precision, fused=None), ready),
        f"precision {other}": partial(train, bare_step(model(), other), ready),
    }
    if compiles:
        at_once = model(compiles=False)
        compile_all_loops(at_once)
        found["not compiled"] = partial(train, bare_step(model(compiles=False), precision), ready)
        found["all loops compiled as one"] = partial(train, bare_step(at_once, precision), ready)
        if device == "cpu" and case.task.max_length - 1 <= attention.MEDIUM:
            found["attention of short rows by SDPA"] = partial(train_by_sdpa, bare_step(model(), precision))
    if device == "cuda":
        found["replayed from a CUDA graph"] = partial(train, bare_step(model(), precision, recorded=True), ready)
    return found


def check(works: Mapping[str, Training]) -> None:
    """Let every side train its first steps.

    Raises:
        RuntimeError: naming a side whose losses are not ours, so that it is not to be timed.
    """
    losses = {side: work() for side, work in works.items()}
    for side, found in losses.items():
        difference = (found / losses[OURS] - 1).abs().max().item()
        if not difference <= TOLERANCE:
            raise RuntimeError(f"{side} is not comparable: its losses differ from ours by {difference:.1%}")


def run(options: Options) -> Iterator[Row]:
    """Tokens per second of each side, and what a step asks of the machine."""
    for case in chosen(QUICK if options.quick else CASES, options):
        works = sides(case, options.device, find_compiler() is not None and not options.quick)
        check(works)
        taken = paired_seconds(works, options.repeats, options.device)
        context, vocab_size = case.task.max_length - 1, len(case.task.vocabulary)
        yield from speed_rows("choices", str(case), taken, STEPS * case.rows * context, "tokens/s")
        trained = int((case.batch(0).weights_BS != 0).sum())
        size = {"steps": 1, "rows": case.rows, "context": context, "trained_positions": trained}
        flops = training_flops(case.model, vocab_size, OBJECTIVE, **size)
        yield from roofline_rows("choices", str(case), sum(flops.values()), update_bytes(case.model, vocab_size))
