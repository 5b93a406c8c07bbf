"""`looplm bench train`: training as the suite does it, against the same loop without Lightning and a frozen plain one.

All train the same model on the same batches, every position supervised, with the entropy objective and the same threads
and precision. Ours is timed chunk by chunk inside `fit`; the others run as many steps between two chunks. Chunks of one
step are compared after that, in a training of their own, with one of ours that has nothing beside it either.
`products alone` trains nothing: it multiplies the same matrices as often, which is the floor. With `--ouro` the public
modelling code is trained too, by the frozen loop's body, once it has come to our loss.
Compilation, the first chunk and checkpoints are not counted. Ours is the beginning of a training of ordinary length, of
whose steps few are looked into.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from experiments.bench.frozen import PlainLoopLM, PlainTraining, entropy_loss
from experiments.bench.measure import Options, Row, chosen, clock, memory_rows, roofline_rows, seconds, speed_rows
from experiments.bench.public import PublicLoopLM
from looplm.accounting import total_parameters, training_flops
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, OptimizerConfig, Precision
from looplm.cuda_graphs import RecordedGradients, Results
from looplm.execution import Execution, compile_segments, find_compiler
from looplm.lightning_module import LoopTraining, training_loss
from looplm.model import LoopLM
from looplm.steps import Step, step_of
from looplm.training import Progress, fit
from synthdata.batch import Batch

OURS, BARE, FROZEN = "looplm train (ours)", "the same without Lightning", "frozen plain eager loop"
SINGLE = "one step a call of Lightning"
FLOOR = "products alone"
PUBLIC = "public Ouro code"
ELSEWHERE = "public Ouro code, elsewhere"
TOLERANCE = 1e-4
"""Largest relative difference of the public code's loss from ours, with the same weights in float32."""
BATCHES = 4
STEPS = 10_000
"""Optimiser steps of the training that is begun."""
OBJECTIVE = ObjectiveConfig(name="entropy", beta=0.05)
OPTIMIZER = OptimizerConfig(lr=1e-3, weight_decay=0.0, warmup_steps=0, final_lr_fraction=1.0)


Loop = Callable[[int], None]
"""Trains on the batch of this number, one step."""
TrainStep = Callable[[int, Step], Tensor]
"""Trains a step of this number on its data and returns its loss."""


@dataclass(frozen=True)
class Case:
    """A model, a batch, and the optimiser steps between two looks at the clock.

    `public_speed` is for orientation: tokens per second of the Ouro paper's public modelling code, eager, with the
    entropy objective, on one core of another machine. It was not measured in this run.
    """

    model: ModelConfig
    vocab_size: int
    rows: int
    context: int
    chunk_steps: int
    precision: Precision = "32-true"
    public_speed: int | None = None

    def __str__(self) -> str:
        model = self.model
        shape = f"d={model.hidden_size} {model.layers}x{model.loops} V={self.vocab_size} {self.rows}x{self.context}"
        return shape if self.precision == "32-true" else f"{shape} {self.precision}"


def _looped(layers: int, hidden_size: int, heads: int = 2) -> ModelConfig:
    return ModelConfig(layers=layers, loops=4, hidden_size=hidden_size, heads=heads)


QUICK = [Case(ModelConfig(loops=2, hidden_size=16), 20, 4, 6, chunk_steps=2)]
CASES = {
    "cpu": [
        Case(_looped(1, 32), 72, 128, 22, chunk_steps=20, public_speed=58_000),
        Case(_looped(1, 64), 64, 512, 4, chunk_steps=20, public_speed=25_000),
        Case(_looped(2, 128), 512, 16, 128, chunk_steps=4, public_speed=5_700),
    ],
    "cuda": [
        Case(_looped(4, 128), 512, 128, 256, chunk_steps=20, precision="bf16-mixed"),
        Case(_looped(6, 256, heads=4), 50304, 16, 512, chunk_steps=20, precision="bf16-mixed"),
        Case(_looped(12, 768, heads=12), 50304, 8, 512, chunk_steps=10, precision="bf16-mixed"),
    ],
}


def batches(case: Case) -> list[Batch]:
    """Random tokens; every position is trained."""
    generator = np.random.default_rng(0)
    shape = (case.rows, case.context)
    tokens = generator.integers(case.vocab_size, size=(BATCHES, case.rows, case.context + 1), dtype=np.int64)
    documents = np.broadcast_to(np.arange(case.rows, dtype=np.int32)[:, None], shape)
    nothing = np.full(shape, -1, dtype=np.int8)
    ones, zeros = np.ones(shape, dtype=np.float32), np.zeros(shape, dtype=np.int32)
    return [Batch(t[:, :-1].copy(), t[:, 1:].copy(), ones, nothing, documents, zeros) for t in tokens]


def plain_loop(case: Case, device: str, model: nn.Module) -> Loop:
    """The frozen loop's body around a model that returns all logits and gates."""
    made = batches(case)
    training = PlainTraining(model.to(device), OPTIMIZER.lr, OBJECTIVE.beta, autocast=case.precision == "bf16-mixed")

    def step(number: int) -> None:
        batch = made[number % BATCHES]
        training.step(torch.from_numpy(batch.tokens_BS).to(device), torch.from_numpy(batch.targets_BS).to(device))

    return step


def frozen_loop(case: Case, device: str) -> Loop:
    """The yardstick."""
    model = case.model
    size = (model.hidden_size, model.heads, model.feedforward_size, model.layers, model.loops)
    return plain_loop(case, device, PlainLoopLM(case.vocab_size, *size))


def public_loop(case: Case, device: str, folder: Path) -> Loop:
    """The public code of a folder, with weights so large that what a gate says matters.

    Raises:
        ValueError: if it cannot be imported.
        RuntimeError: if it does not come to our loss, so that it is not to be timed.
    """
    batch, ours = batches(case)[0], LoopLM(replace(case.model, init_std=0.5), case.vocab_size)
    public = PublicLoopLM(folder, ours)
    with torch.no_grad():
        wanted = training_loss(ours, OBJECTIVE, step_of(batch))
        found = entropy_loss(
            public, torch.from_numpy(batch.tokens_BS), torch.from_numpy(batch.targets_BS), OBJECTIVE.beta
        )
    difference = ((found - wanted) / wanted).abs().item()
    if not difference <= TOLERANCE:
        raise RuntimeError(f"{PUBLIC} is not comparable: its loss differs from ours by {difference:.1%}")
    return plain_loop(case, device, public)


def bare_loop(case: Case, device: str, compiled: bool) -> Loop:
    """Ours, without Lightning around it."""
    made = batches(case)
    model = LoopLM(case.model, case.vocab_size).to(device)
    if compiled:
        compile_segments(model, None)
    train = bare_step(model, case.precision)

    def step(number: int) -> None:
        train(number, step_of(made[number % BATCHES]))

    return step


def bare_step(model: LoopLM, precision: Precision, fused: bool | None = True, recorded: bool = False) -> TrainStep:
    """What `LoopTraining` does in a step, without Lightning around it.

    Args:
        model: on its device.
        precision: of the blocks.
        fused: whether the optimiser's update is one kernel; None leaves it to torch.
        recorded: whether forward and backward pass are replayed from a CUDA graph.
    """
    optimizer = LoopTraining(model, OBJECTIVE, OPTIMIZER, 1, {}).configure_optimizers()
    parameters, device = list(model.parameters()), model.gate.weight.device
    mixed = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False)

    def gradients(objective: ObjectiveConfig, data: Step) -> Results:
        with mixed:
            loss = training_loss(model, objective, data)
        loss.backward()
        return loss.detach(), nn.utils.clip_grad_norm_(parameters, OPTIMIZER.clip)

    computed = RecordedGradients(parameters, gradients) if recorded else gradients

    def step(number: int, data: Step) -> Tensor:
        on_device = data.each(lambda tensor: tensor.to(device))
        for group in optimizer.param_groups:
            group.update(lr=OPTIMIZER.lr_at(number, 1), fused=fused)
        loss, _ = computed(OBJECTIVE, on_device)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def products_loop(case: Case, device: str) -> Loop:
    """The products of weights and activations in a step, forward and towards both; attention's own are left out."""
    model, positions = case.model, case.rows * case.context
    size, inner = model.hidden_size, model.feedforward_size
    block = [(size, 3 * size), (size, size), (size, 2 * inner), (inner, size)]
    shapes = model.loops * (model.layers * block + [(size, case.vocab_size)])
    dtype = torch.bfloat16 if case.precision == "bf16-mixed" else torch.float32
    made = {
        (given, wanted): [
            torch.ones(shape, device=device, dtype=dtype)
            for shape in ((positions, given), (given, wanted), (positions, wanted))
        ]
        for given, wanted in set(shapes)
    }

    def step(number: int) -> None:
        for shape in shapes:
            x, weight, y = made[shape]
            torch.mm(x, weight)
            torch.mm(y, weight.t())
            torch.mm(x.t(), y)

    return step


def update_bytes(model: ModelConfig, vocab_size: int) -> int:
    """What AdamW alone moves: weights, gradients and two moments read, all but gradients written, in float32."""
    return 7 * 4 * total_parameters(model, vocab_size)


def timed(
    case: Case, options: Options, compiled: bool, loops: Mapping[str, Loop], chunk_steps: int
) -> dict[str, list[float]]:
    """Seconds a step of each side, over as many steps as a chunk of the case has; the first ones are left out."""
    made, size = batches(case), case.chunk_steps
    taken: dict[str, list[float]] = {OURS: [], **{side: [] for side in loops}}

    def steps(loop: Loop) -> None:
        for number in range(size):
            loop(number)

    now = clock(options.device)
    began = now()

    def after_chunk(progress: Progress) -> None:
        nonlocal began
        if progress.step % size:
            return
        spent = {OURS: (now() - began) / size}
        spent |= {side: seconds(partial(steps, loop), options.device) / size for side, loop in loops.items()}
        if progress.step > size:
            for side, each in spent.items():
                taken[side].append(each)
        began = now()

    with tempfile.TemporaryDirectory() as folder:
        fit(
            model=case.model,
            vocab_size=case.vocab_size,
            objective=OBJECTIVE,
            optimizer=OPTIMIZER,
            budget=BudgetConfig(steps=STEPS, batch_size=case.rows),
            precision=case.precision,
            init_seed=0,
            batch_at=lambda step: made[step % BATCHES],
            folder=Path(folder),
            execution=Execution(
                device=options.device,
                compile="on" if compiled else "off",
                chunk_steps=chunk_steps,
                checkpoint_every_seconds=1e9,
            ),
            on_progress=after_chunk,
            should_stop=lambda: len(taken[OURS]) == options.repeats,
        )
    return taken


def run(options: Options) -> Iterator[Row]:
    """Tokens per second of the three, memory of a step, and what a step asks of the machine."""
    compiled = find_compiler() is not None and not options.quick
    for case in chosen(QUICK if options.quick else CASES[options.device], options):
        name, positions = str(case), case.rows * case.context
        loops = {BARE: bare_loop(case, options.device, compiled), FROZEN: frozen_loop(case, options.device)}
        if options.ouro is not None:
            loops[PUBLIC] = public_loop(case, options.device, Path(options.ouro))
        others = loops | {FLOOR: products_loop(case, options.device)}
        timings = timed(case, options, compiled, others, case.chunk_steps)
        yield from speed_rows("train", name, timings, positions, "tokens/s")
        alone = {
            side: timed(case, options, compiled, {}, chunk_steps)[OURS]
            for side, chunk_steps in ((OURS, case.chunk_steps), (SINGLE, 1))
        }
        yield from list(speed_rows("train", name, alone, positions, "tokens/s"))[1:]
        yield from memory_rows("train", name, {side: partial(loop, 0) for side, loop in loops.items()}, options.device)
        flops = training_flops(
            case.model,
            case.vocab_size,
            OBJECTIVE,
            steps=1,
            rows=case.rows,
            context=case.context,
            trained_positions=positions,
        )
        yield from roofline_rows("train", name, sum(flops.values()), update_bytes(case.model, case.vocab_size))
        if case.public_speed is not None:
            yield Row("train", name, ELSEWHERE, "speed", case.public_speed, "tokens/s", None)
