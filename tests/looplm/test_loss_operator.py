"""The one-pass cross-entropy as an operator: memory, compilation, CUDA graphs; and which backend is taken."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from looplm.loss import FULL_LOGITS_BYTES, Backend, choose_backend, loop_cross_entropy, one_pass, why_no_triton

POSITIONS = 37


def given(exits: int = 2, vocab_size: int = 9, hidden: int = 8, device: str = "cpu") -> tuple[Tensor, ...]:
    """States, head, targets and weights; states and head want gradients."""
    generator = torch.Generator().manual_seed(0)
    states_RND = torch.randn(exits, POSITIONS, hidden, generator=generator)
    head_VD = torch.randn(vocab_size, hidden, generator=generator)
    targets_N = torch.randint(vocab_size, (POSITIONS,), generator=generator)
    weights_RN = torch.rand(exits, POSITIONS, generator=generator)
    return (
        states_RND.to(device).requires_grad_(),
        head_VD.to(device).requires_grad_(),
        targets_N.to(device),
        weights_RN.to(device),
    )


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that torch's CPU allocator held at once, above what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def test_no_tensor_of_all_logits_is_made_or_kept() -> None:
    exits, positions, hidden, vocab_size = 4, 1024, 16, 2000
    states = torch.randn(exits, positions, hidden, requires_grad=True)
    head = torch.randn(vocab_size, hidden, requires_grad=True)
    targets, weights = torch.arange(positions), torch.rand(exits, positions, requires_grad=True)
    all_logits = 4 * exits * positions * vocab_size
    saved: list[int] = []

    def step(backend: str) -> None:
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
            loss = loop_cross_entropy(states, head, targets, weights, backend=backend).loss
        loss.backward()
        states.grad = head.grad = weights.grad = None

    assert peak_bytes(lambda: step("reference")) > 2 * all_logits
    assert max(saved) >= all_logits
    saved.clear()
    assert peak_bytes(lambda: step("chunked")) < all_logits / 4
    assert sum(saved) <= states.nbytes + head.nbytes + 4 * targets.nbytes * exits


def test_nothing_waits_for_the_device() -> None:
    """Fake tensors have no values: whatever asks for one, as `.item()` does, fails."""
    with FakeTensorMode():
        states, head, weights = torch.empty(40, 8), torch.empty(11, 8), torch.empty(40)
        targets = torch.empty(40, dtype=torch.int64)
        results = one_pass.one_pass(states, head, targets, weights, 0.1, "torch", 16, True)
        declared = torch.ops.looplm.loop_cross_entropy(states, head, targets, weights, 0.1, "torch", 16, True)
    assert [(r.shape, r.dtype) for r in results] == [(d.shape, d.dtype) for d in declared]
    assert results[4].shape == states.shape
    assert results[5].shape == head.shape


@pytest.mark.parametrize(
    "backend",
    [
        "chunked",
        pytest.param("triton", marks=pytest.mark.skipif(not find_spec("triton"), reason="Triton is not installed")),
    ],
)
def test_compiled_it_is_one_node(backend: Backend) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    def run(*arguments: Tensor) -> Tensor:
        return loop_cross_entropy(*arguments, backend=backend).loss

    arguments = given()
    compiled = torch.compile(run, backend=note, fullgraph=True)(*arguments)
    torch.testing.assert_close(compiled, run(*arguments))
    (graph,) = graphs
    assert [str(node.target) for node in graph.graph.nodes if "looplm" in str(node.target)] == [
        "looplm.loop_cross_entropy.default"
    ]
    assert not any("softmax" in str(node.target) or "mm" in str(node.target) for node in graph.graph.nodes)


def test_the_operator_keeps_the_rules_of_operators() -> None:
    states_RND, head_VD, targets_N, weights_RN = given(exits=1)
    states_ND, weights_N = states_RND[0].detach().requires_grad_(), weights_RN[0].requires_grad_()
    torch.library.opcheck(
        torch.ops.looplm.loop_cross_entropy.default,
        (states_ND, head_VD, targets_N, weights_N, 0.1, "torch", 16, True),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["chunked", "triton"])
def test_a_cuda_graph_replays_it(backend: Backend) -> None:
    states, head, targets, weights = given(exits=4, vocab_size=129, hidden=64, device="cuda")

    def gradients() -> tuple[Tensor, ...]:
        result = loop_cross_entropy(states, head, targets, weights, backend=backend)
        return result.loss, *torch.autograd.grad(result.loss, (states, head))

    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.stream(side):
        gradients()
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph):
        captured = gradients()
    with torch.no_grad():
        states.mul_(0.5)
    graph.replay()
    for got, wanted in zip(captured, gradients(), strict=True):
        torch.testing.assert_close(got, wanted)


def test_auto_goes_by_the_device_and_the_bytes_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("looplm.loss._TRITON_INSTALLED", True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert choose_backend(1, "cpu") == choose_backend(2**60, "cpu") == "chunked"
    assert choose_backend(FULL_LOGITS_BYTES // 4, "cuda") == "reference"
    assert choose_backend(FULL_LOGITS_BYTES // 4 + 1, "cuda") == "triton"
    monkeypatch.setattr("looplm.loss._TRITON_INSTALLED", False)
    assert choose_backend(2**60, "cuda") == "chunked"


def test_auto_takes_the_backend_it_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = given()
    chunked = loop_cross_entropy(*arguments)
    assert torch.equal(chunked.logsumexp_RN, loop_cross_entropy(*arguments, backend="chunked").logsumexp_RN)
    monkeypatch.setattr("looplm.loss.choose_backend", lambda logits, device: "reference")
    full = loop_cross_entropy(*arguments)
    assert torch.equal(full.logsumexp_RN, loop_cross_entropy(*arguments, backend="reference").logsumexp_RN)
    assert not torch.equal(chunked.logsumexp_RN, full.logsumexp_RN)


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    states, head, targets, weights = torch.zeros(2, 3, 4), torch.zeros(5, 4), torch.tensor([0, 1, 2]), torch.ones(2, 3)
    unknown: Any = "fast"
    with pytest.raises(ValueError, match=r"head_VD has shape \(5, 3\); beside these states it must be \(5, 4\)"):
        loop_cross_entropy(states, head[:, :3], targets, weights)
    with pytest.raises(ValueError, match=r"targets_N has shape \(2,\); beside these states it must be \(3,\)"):
        loop_cross_entropy(states, head, targets[:2], weights)
    with pytest.raises(ValueError, match=r"weights_RN has shape \(3,\); beside these states it must be \(2, 3\)"):
        loop_cross_entropy(states, head, targets, weights[0])
    with pytest.raises(ValueError, match=r"backend is 'fast'; it must be auto \| reference \| chunked \| triton"):
        loop_cross_entropy(states, head, targets, weights, backend=unknown)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("looplm.loss._TRITON_INSTALLED", True)
    with pytest.raises(ValueError, match=r"backend is 'triton', which cannot run here \(Triton has no code for 'cpu'"):
        loop_cross_entropy(states, head, targets, weights, backend="triton")
    with pytest.raises(ValueError, match=r"cannot run here \(it computes in float32\)"):
        loop_cross_entropy(states.double(), head.double(), targets, weights, backend="triton")
    monkeypatch.setattr("looplm.loss._TRITON_INSTALLED", False)
    assert why_no_triton("cuda") == "Triton is not installed"
