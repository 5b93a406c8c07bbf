"""`looplm bench decode`: decoding that leaves the loop by a trained gate, against full depth and against a fixed exit.

A model learns records, Stage II trains its gate, and the gate's threshold is set where tokens leave after two loops of
four on average. Then all sides are fed the same records token by token, so that they do the same work but for the
loops they skip, and can be asked for the same answers. Training and prefill are not timed.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.bench.measure import Options, Row, chosen, paired_seconds, roofline_rows, speed_rows
from looplm.accounting import decoding_flops, parameters
from looplm.config import BudgetConfig, ModelConfig, ObjectiveConfig, ObjectiveName, OptimizerConfig
from looplm.decoding import Decoder
from looplm.execution import DeviceName, Execution
from looplm.exit_rules import ExitRule, Fixed, LearnedGate, choose_exits
from looplm.model import LoopLM
from looplm.training import Initial, fit
from synthdata.batch import Batch, pad
from synthdata.streams import Stream
from synthdata.tasks.records import Records

OURS, FULL, STATIC = "exits by the gate (ours)", "full depth", "two loops for every token"
MEAN_LOOPS = 2
PREFILLED = 3
"""Positions read at once: the beginning of a record and its name but for the last token."""


@dataclass(frozen=True)
class Case:
    """A model, the people it learns, its training, and how many records are decoded together."""

    model: ModelConfig
    people: int
    batch_size: int
    steps: int
    gate_steps: int
    rows: int

    def __str__(self) -> str:
        model = self.model
        return f"d={model.hidden_size} {model.layers}x{model.loops} {self.rows} rows"

    @property
    def stream(self) -> Stream:
        """Records of the people, each in a fresh order of attributes."""
        return Stream(Records(people=self.people), data_seed=0, order_seed=0)

    def batch(self, first: int, count: int) -> Batch:
        """Some records."""
        return pad(self.stream.examples(first, count), self.stream.task.max_length - 1)


QUICK = [Case(ModelConfig(loops=4, hidden_size=16), people=8, batch_size=16, steps=40, gate_steps=4, rows=6)]
CASES = [Case(ModelConfig(layers=2, loops=4, hidden_size=256, heads=4), 60, 64, 120, 40, rows=512)]


def trained(case: Case, device: DeviceName) -> LoopLM:
    """A model of the case, trained by the entropy objective, and its gate by Stage II."""

    def phase(
        objective: ObjectiveName, optimizer: OptimizerConfig, first: int, steps: int, initial: Initial | None
    ) -> LoopLM:
        """So many steps from batch `first` on."""
        with tempfile.TemporaryDirectory() as folder:
            return fit(
                model=case.model,
                vocab_size=len(case.stream.task.vocabulary),
                objective=ObjectiveConfig(name=objective),
                optimizer=optimizer,
                budget=BudgetConfig(steps=steps, batch_size=case.batch_size),
                precision="32-true",
                init_seed=0,
                batch_at=lambda step: case.batch((first + step) * case.batch_size, case.batch_size),
                folder=Path(folder),
                execution=Execution(device=device, compile="off", checkpoint_every_seconds=1e9),
                on_progress=lambda progress: None,
                should_stop=lambda: False,
                initial=initial,
            ).model

    model = phase("entropy", OptimizerConfig(lr=1e-3, warmup_steps=20), 0, case.steps, None)
    stage_one = Initial("Stage I", model.state_dict())
    return phase("stage_two", OptimizerConfig(lr=1e-2, warmup_steps=5), case.steps, case.gate_steps, stage_one)


@torch.no_grad()
def gate_at(model: LoopLM, tokens_BS: Tensor, mean_loops: float) -> LearnedGate:
    """The gate whose threshold lets these tokens go after `mean_loops` on average, as nearly as bisection finds it."""
    states_RND = torch.stack([state_BSD[:, PREFILLED:].flatten(0, 1) for state_BSD in model.exit_states(tokens_BS)])
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        exit_N = choose_exits(LearnedGate(middle), states_RND, model.exit_logits, model.head_VD)
        low, high = (middle, high) if exit_N.double().mean().item() + 1 < mean_loops else (low, middle)
    return LearnedGate(low)


class Decoded(NamedTuple):
    """Most probable next tokens (B, S) from the last token of the name on, and the loops behind each."""

    best_BS: Tensor
    loops_BS: Tensor


def prefilled(model: LoopLM, tokens_BS: Tensor, rule: ExitRule) -> Decoder:
    """A decoder that has read the beginning of some records."""
    rows, positions = tokens_BS.shape
    decoder = Decoder(model, rows, positions, rule)
    decoder.prefill(tokens_BS[:, :PREFILLED])
    return decoder


@torch.inference_mode()
def decode(model: LoopLM, decoder: Decoder, tokens_BS: Tensor) -> Decoded:
    """Read the rest of the records token by token; done again, it does the same again."""
    rows, positions = tokens_BS.shape
    rows_B = torch.arange(rows, device=tokens_BS.device)
    best, loops = [], []
    for position in range(PREFILLED, positions):
        states_BD, loops_B = decoder.step(rows_B, tokens_BS[:, position], torch.full_like(rows_B, position))
        best.append(F.linear(states_BD, model.head_VD).argmax(-1))
        loops.append(loops_B)
    return Decoded(torch.stack(best, dim=1), torch.stack(loops, dim=1))


def work_and_traffic(case: Case, loops_BS: Tensor, reads: Literal["gate"] | None) -> tuple[int, int]:
    """FLOPs of `decode` for so many loops of each token, and the bytes it reads at least, in float32.

    They are those of the blocks, for each loop that some row runs, and of cached keys and values, for each row's own.
    """
    vocab_size = len(case.stream.task.vocabulary)

    def flops(loops: list[int]) -> int:
        """Of one record, what was read before it included."""
        found = decoding_flops(case.model, vocab_size, prompt=PREFILLED + 1, loops=loops, reads=reads)
        return sum(found.values())

    work = sum(flops(loops) - flops([]) for loops in loops_BS.tolist())
    groups = parameters(case.model, vocab_size)
    blocks = (groups["attention"] + groups["feedforward"]) * int(loops_BS.amax(0).sum())
    reached_S = PREFILLED + 1 + torch.arange(loops_BS.shape[1], device=loops_BS.device)
    cached = 2 * case.model.hidden_size * case.model.layers * int((loops_BS * reached_S).sum())
    return work, 4 * (blocks + cached)


def run(options: Options) -> Iterator[Row]:
    """Tokens per second of each side, the share of attribute tokens each gets right, and when the gate let go."""
    for case in chosen(QUICK if options.quick else CASES, options):
        model = trained(case, options.device)
        fresh = case.batch((case.steps + case.gate_steps) * case.batch_size, 2 * case.rows)
        tokens_BS = torch.from_numpy(fresh.tokens_BS).to(options.device)
        rule = gate_at(model, tokens_BS[case.rows :], MEAN_LOOPS)
        read_BS = tokens_BS[: case.rows]
        rules: dict[str, ExitRule] = {OURS: rule, FULL: Fixed(case.model.loops - 1), STATIC: Fixed(MEAN_LOOPS - 1)}
        decoders = {side: prefilled(model, read_BS, rule) for side, rule in rules.items()}
        sides = {side: partial(decode, model, decoder, read_BS) for side, decoder in decoders.items()}
        taken = paired_seconds(sides, options.repeats, options.device)
        tokens = read_BS[:, PREFILLED:].numel()
        yield from speed_rows("decode", str(case), taken, tokens, "tokens/s")
        asked_BS = torch.from_numpy(fresh.scored_BS[: case.rows, PREFILLED:] >= 0).to(options.device)
        targets_BS = torch.from_numpy(fresh.targets_BS[: case.rows, PREFILLED:]).to(options.device)
        for side, work in sides.items():
            best_BS, loops_BS = work()
            right = (best_BS == targets_BS)[asked_BS].double().mean().item()
            yield Row("decode", str(case), side, "accuracy", 100 * right, "%", None)
            loops = loops_BS.double()
            yield Row("decode", str(case), side, "mean depth", loops.mean().item(), "loops", None)
            yield Row("decode", str(case), side, "deviation of depth", loops.std().item(), "loops", None)
            reads: Literal["gate"] | None = "gate" if side == OURS else None
            yield from roofline_rows("decode", str(case), *work_and_traffic(case, loops_BS, reads), side)
