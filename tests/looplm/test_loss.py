"""Every backend of the loop-weighted cross-entropy against float64 logits."""

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from looplm.config import ModelConfig, ObjectiveConfig
from looplm.exits import exit_log_probabilities
from looplm.lightning_module import training_loss
from looplm.loss import (
    IGNORED,
    LoopLoss,
    loop_cross_entropy,
    one_pass,
)
from looplm.model import LoopLM
from looplm.steps import Step

TRITON = pytest.param(
    "triton",
    marks=pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed"),
)
GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
SHAPES = [  # exits, vocabulary, hidden, z-loss
    (1, 57, 768, 0.0),
    (4, 129, 32, 0.0),
    (8, 57, 64, 0.1),
    (4, 1000, 96, 0.01),
    (8, 128, 40, 0.0),
]
POSITIONS = 37


def problem(exits: int, vocab_size: int, hidden: int, positions: int = POSITIONS) -> dict[str, Tensor]:
    """Float64 leaves: states, head and the gate's logits; and targets, some ignored, of uneven weight, the first 0."""
    generator = torch.Generator().manual_seed(vocab_size)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    targets_N = torch.randint(vocab_size, (positions,), generator=generator)
    targets_N[[5, 11]] = IGNORED
    weights_N = torch.rand(positions, dtype=torch.float64, generator=generator) / positions
    weights_N[0] = 0
    states_RND, head_VD = draw(exits, positions, hidden), draw(vocab_size, hidden) * 2 / hidden**0.5
    states_RND[:, 5] = head_VD[0]  # so that token 0 is the most probable where the target is ignored
    return {
        "states": states_RND,
        "head": head_VD,
        "gate": draw(exits, positions),
        "targets": targets_N,
        "weights": weights_N,
    }


def solve(
    given: dict[str, Tensor], loss: Callable[..., LoopLoss], dtype: torch.dtype, device: str = "cpu"
) -> dict[str, Tensor]:
    """Every result and gradient; the gate weighs the exits, as in training."""
    exact = torch.promote_types(dtype, torch.float32)
    states, head = (given[name].to(device, dtype, copy=True).requires_grad_() for name in ("states", "head"))
    gate = given["gate"].to(device, exact, copy=True).requires_grad_()
    weights_RN = exit_log_probabilities(gate).exp() * given["weights"].to(device, exact)
    weights_RN.retain_grad()
    result = loss(states, head, given["targets"].to(device), weights_RN)
    (3 * result.loss).backward()
    gradients = {"d states": states, "d head": head, "d gate": gate, "d weights": weights_RN}
    got = result._asdict() | {name: leaf.grad for name, leaf in gradients.items()}
    assert all(got[name].dtype == exact for name in ("loss", "nats_RN", "logsumexp_RN", "d weights"))
    return {name: value.detach().double().cpu() for name, value in got.items()}


def by_the_equation(z_loss: float) -> Callable[..., LoopLoss]:
    """The loss in plain probabilities, the ignored positions left out before anything is computed."""

    def loss(states_RND: Tensor, head_VD: Tensor, targets_N: Tensor, weights_RN: Tensor) -> LoopLoss:
        logits_RNV = states_RND @ head_VD.T
        kept = targets_N != IGNORED
        partition_RN = logits_RNV.exp().sum(-1)
        chosen_RK = logits_RNV[:, kept, targets_N[kept]]
        nats_RK = -(chosen_RK.exp() / partition_RN[:, kept]).log()
        loss = (weights_RN[:, kept] * (nats_RK + z_loss * partition_RN[:, kept].log() ** 2)).sum()
        nats_RN, correct_RN = torch.zeros_like(partition_RN), torch.zeros_like(partition_RN, dtype=torch.bool)
        nats_RN[:, kept] = nats_RK.detach()
        correct_RN[:, kept] = logits_RNV.argmax(-1)[:, kept] == targets_N[kept]
        return LoopLoss(loss, nats_RN, partition_RN.log(), correct_RN)

    return loss


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        error = (got[name] - value).norm()
        assert error <= (0 if name == "correct_RN" else tolerance * value.norm()), (name, error / value.norm())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("exits", "vocab_size", "hidden", "z_loss"), SHAPES)
@pytest.mark.parametrize("backend", ["reference", "chunked", TRITON])
def test_float32_equals_the_equation_in_float64(
    backend: str, exits: int, vocab_size: int, hidden: int, z_loss: float, device: str
) -> None:
    given = problem(exits, vocab_size, hidden)
    wanted = solve(given, by_the_equation(z_loss), torch.float64)

    def ours(*arguments: Tensor) -> LoopLoss:
        return loop_cross_entropy(*arguments, z_loss=z_loss, backend=backend)

    assert_close(solve(given, ours, torch.float32, device), wanted, 2e-6)
    if backend != "triton":
        assert_close(solve(given, ours, torch.float64, device), wanted, 1e-13)


@pytest.mark.parametrize("kernel", ["torch", TRITON])
@pytest.mark.parametrize("rows", [1, 8, 1000])
def test_the_size_of_a_chunk_changes_nothing(kernel: str, rows: int) -> None:
    given = problem(exits=2, vocab_size=19, hidden=12, positions=15)
    wanted = solve(given, by_the_equation(0.1), torch.float64)
    got = solve(given, lambda *a: one_pass.loop_cross_entropy(*a, 0.1, kernel, rows), torch.float32)
    assert_close(got, wanted, 2e-6)


@pytest.mark.parametrize(
    ("backend", "dtype", "device"),
    [
        ("chunked", torch.bfloat16, "cpu"),
        ("chunked", torch.float16, "cpu"),
        pytest.param("triton", torch.float16, "cpu", marks=TRITON.marks),
        pytest.param("triton", torch.bfloat16, "cuda", marks=GPU),
        pytest.param("chunked", torch.bfloat16, "cuda", marks=GPU),
    ],
)
def test_low_precision_is_close_and_its_losses_are_float32(
    backend: str, dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_pass, "product_dtype", lambda dtype, device: dtype)  # also where it is emulated
    given = problem(exits=4, vocab_size=129, hidden=64)
    for name in ("states", "head"):
        given[name] = given[name].to(dtype).double()
    wanted = solve(given, by_the_equation(0.0), torch.float64)
    got = solve(given, lambda *a: loop_cross_entropy(*a, backend=backend), dtype, device)
    rounding = torch.finfo(dtype).eps
    del wanted["correct_RN"], got["correct_RN"]  # logits that differ by less than their rounding
    assert_close(got, wanted, 2 * rounding)
    # The logits are rounded, and the losses of a position after that no more.
    assert (got["nats_RN"] != got["nats_RN"].to(dtype)).any()


def test_a_float32_head_under_low_precision_states_gets_a_float32_gradient() -> None:
    states = torch.ones(1, 300, 4, dtype=torch.bfloat16)
    head = torch.zeros(2, 4, requires_grad=True)
    weights = torch.full((1, 300), 1.0)
    loop_cross_entropy(states, head, torch.zeros(300, dtype=torch.int64), weights, backend="chunked").loss.backward()
    assert head.grad.dtype == torch.float32
    torch.testing.assert_close(head.grad, torch.tensor([[-150.0], [150.0]]).expand(2, 4), rtol=1e-3, atol=0)


def test_a_cpu_without_the_instructions_multiplies_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)

    def chosen(**capabilities: bool) -> list[torch.dtype]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
        one_pass.product_dtype.cache_clear()
        return [one_pass.product_dtype(dtype, "cpu") for dtype in dtypes]

    assert chosen(avx2=True, amx_bf16=False) == [torch.float32, torch.float32, torch.float32, torch.float64]
    assert chosen(amx_bf16=True) == [torch.bfloat16, torch.float32, torch.float32, torch.float64]
    assert one_pass.product_dtype(torch.float16, "cuda") == torch.float16
    monkeypatch.undo()
    one_pass.product_dtype.cache_clear()


@pytest.mark.parametrize("backend", ["reference", "chunked", TRITON])
def test_gradients_are_made_only_for_what_needs_them(backend: str) -> None:
    given = problem(exits=2, vocab_size=9, hidden=8)
    states, head, weights = given["states"].float(), given["head"].float(), torch.rand(2, POSITIONS)
    arguments = states, head, given["targets"], weights
    assert not loop_cross_entropy(*arguments, backend=backend).loss.requires_grad
    weights.requires_grad_()
    result = loop_cross_entropy(*arguments, backend=backend)
    assert not result.nats_RN.requires_grad
    assert not result.logsumexp_RN.requires_grad
    result.loss.backward()
    torch.testing.assert_close(weights.grad, result.nats_RN)
    head.requires_grad_()
    loop_cross_entropy(*arguments, backend=backend).loss.backward()
    assert head.grad.abs().sum() > 0
    assert states.grad is None


def test_a_second_derivative_is_refused_not_wrong() -> None:
    states = torch.randn(1, 3, 4, requires_grad=True)
    arguments = states, torch.randn(5, 4), torch.tensor([0, 1, 2]), torch.ones(1, 3)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loop_cross_entropy(*arguments, backend="chunked").loss, states, create_graph=True)
    full = loop_cross_entropy(*arguments, backend="reference")
    (gradient,) = torch.autograd.grad(full.loss, states, create_graph=True)
    assert gradient.requires_grad


@pytest.mark.parametrize("autocast", [False, True])
def test_a_model_trains_alike_with_either_backend(autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens_BS = torch.arange(24).view(4, 6) % 11
    step = Step(tokens_BS, None, torch.tensor([0, 7, 23]), torch.tensor([3, 1, 4]), torch.tensor([0.5, 0.3, 0.2]))

    def gradients() -> dict[str, Tensor]:
        model = LoopLM(ModelConfig(layers=2, loops=3, hidden_size=16, init_std=0.2), 11)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            training_loss(model, ObjectiveConfig(name="entropy"), step).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}

    chunked = gradients()
    monkeypatch.setattr("looplm.loss.choose_backend", lambda logits, device: "reference")
    full = gradients()
    assert chunked.keys() == full.keys()
    for name, gradient in full.items():
        tolerance = 2e-2 if autocast else 1e-5  # bfloat16 blocks turn rounding into steps
        assert (chunked[name] - gradient).norm() <= tolerance * gradient.norm(), name
