"""CUDA graphs: a step's forward and backward pass, recorded once and from then on replayed by one call.

What is recorded reads the step from tensors of its own and leaves gradients in tensors of its own. The optimiser stays
outside, so that its schedule, its count of steps and its checkpoints know nothing of this.

Shapes in names: N = trained position.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from looplm.config import ObjectiveConfig
from looplm.loss import IGNORED
from looplm.steps import Step

Results = tuple[Tensor, ...]
Gradients = Callable[[ObjectiveConfig, Step], Results]
"""Leaves a step's gradients with the parameters and returns scalars, which wait for nothing and need no gradient."""
Record = Callable[[Callable[[], Results]], tuple[Results, Callable[[], None]]]

WARM_UP = 3
"""Runs before a recording: compilation, tuning and the libraries' own preparations are not to be recorded."""


def record(work: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
    """What `work` returns, and what brings these tensors, and all others that it makes, up to date by running it again.

    Whatever `work` does on the CPU is done now alone, and what it reads must stay where it is.
    """
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = work()
    return results, graph.replay


def room(positions: int) -> int:
    """Trained positions to record for: at most an eighth more, so that batches of many sizes need few recordings."""
    unit = max(1, 2 ** (positions.bit_length() - 4))
    return -(-positions // unit) * unit


def padded(step: Step) -> Step:
    """The step with `room`: the positions added have no target and no weight, and change neither loss nor gradient."""
    more = room(len(step.positions_N)) - len(step.positions_N)
    return step._replace(
        positions_N=F.pad(step.positions_N, (0, more)),
        targets_N=F.pad(step.targets_N, (0, more), value=IGNORED),
        weights_N=F.pad(step.weights_N, (0, more)),
    )


class _Recording(NamedTuple):
    step: Step
    results: Results
    gradients: list[Tensor | None]
    replay: Callable[[], None]


class RecordedGradients:
    """Gradients by replay: one recording for each objective and each set of shapes.

    Args:
        parameters: whose gradients they are. They must stay where they are.
        gradients: what is recorded.
        recorder: how.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], gradients: Gradients, recorder: Record = record) -> None:
        self._parameters = parameters
        self._gradients = gradients
        self._record = recorder
        self._recordings: dict[Hashable, _Recording] = {}

    def __call__(self, objective: ObjectiveConfig, step: Step) -> Results:
        """As `gradients` does; what it returns is the caller's to keep."""
        step = padded(step)
        key = (objective, tuple(None if tensor is None else tensor.shape for tensor in step))
        if key not in self._recordings:
            self._recordings[key] = self._recording(objective, step)
        recording = self._recordings[key]
        for own, given in zip(recording.step, step, strict=True):
            if own is not None and given is not None:
                own.copy_(given)
        recording.replay()
        for parameter, gradient in zip(self._parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return tuple(result.clone() for result in recording.results)

    def _recording(self, objective: ObjectiveConfig, step: Step) -> _Recording:
        own = step.each(torch.clone)

        def work() -> Results:
            for parameter in self._parameters:
                parameter.grad = None  # so that the backward pass makes them anew instead of adding
            return self._gradients(objective, own)

        results, replay = self._record(work)
        return _Recording(own, results, [parameter.grad for parameter in self._parameters], replay)
