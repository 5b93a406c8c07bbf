"""The benchmarks compare like with like, and their arithmetic is right. How fast anything is, is not tested."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench import attention, choices, loss, train
from experiments.bench.measure import Options, Row, chosen, clock, memory_rows, paired_seconds, speed_rows, time_rows
from experiments.bench.record import recorded
from experiments.cli.main import app
from looplm.accounting import training_flops
from looplm.config import ModelConfig
from looplm.lightning_module import training_loss
from looplm.model import LoopLM
from looplm.steps import step_of

QUICK = Options(repeats=2, quick=True)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    taken = {"ours": [1.0, 2.0, 4.0], "theirs": [3.0, 2.0, 16.0]}  # pairs 3, 1 and 4; medians 2 and 3
    assert list(time_rows("b", "c", taken)) == [
        Row("b", "c", "ours", "time", 2000.0, "ms", 1.0),
        Row("b", "c", "theirs", "time", 3000.0, "ms", 3.0),
    ]
    speeds = list(speed_rows("b", "c", taken, 12, "tokens/s"))
    assert [(row.median, row.unit, row.ratio) for row in speeds] == [(6.0, "tokens/s", 1.0), (4.0, "tokens/s", 3.0)]


def test_every_side_runs_once_unmeasured_and_then_in_turned_order() -> None:
    order: list[str] = []
    sides = {name: lambda name=name: order.append(name) for name in "abc"}
    taken = paired_seconds(sides, 3, "cpu")
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 3, "b": 3, "c": 3}


def test_waiting_for_others_is_not_counted_on_one_thread() -> None:
    torch.set_num_threads(1)
    assert (clock("cpu"), clock("cuda")) == (time.process_time, time.perf_counter)
    torch.set_num_threads(2)
    assert clock("cpu") is time.perf_counter


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.empty(2**18)

    def together() -> list[Tensor]:
        return [torch.empty(2**18) for _ in range(3)]

    rows = memory_rows("b", "c", {"ours": one_after_the_other, "theirs": together}, "cpu")
    assert [(row.median, row.unit, row.ratio) for row in rows] == [(1.0, "MiB", 1.0), (3.0, "MiB", 3.0)]


def test_only_chooses_cases() -> None:
    cases = loss.CASES["cpu"]
    assert chosen(cases, Options(only="bfloat16")) == [case for case in cases if case.dtype == torch.bfloat16]
    with pytest.raises(ValueError, match="--only is 'V=9'; it must be part of one of: R=4 N=2816 V=72"):
        chosen(cases, Options(only="V=9"))


def test_the_roofline_of_the_loss_is_counted_right() -> None:
    case = loss.Case(exits=2, positions=3, vocab_size=5, hidden=7, dtype=torch.bfloat16)
    assert case.flops == 3 * 2 * (2 * 3) * 5 * 7
    assert case.traffic == 2 * (2 * (2 * 3 * 7) + 2 * (5 * 7))


def test_the_products_alone_are_those_of_a_step() -> None:
    case = train.Case(ModelConfig(layers=2, loops=3, hidden_size=16), 20, 4, 6, chunk_steps=2)
    size = {"steps": 1, "rows": case.rows, "context": case.context, "trained_positions": case.rows * case.context}
    flops = training_flops(case.model, case.vocab_size, train.OBJECTIVE, **size)
    with FlopCounterMode(display=False) as counter:
        train.products_loop(case, "cpu")(0)
    assert counter.get_total_flops() == flops["attention"] + flops["feedforward"] + flops["head"]


def test_the_roofline_of_attention_is_counted_right() -> None:
    case = attention.Case(rows=2, context=6, heads=2, head_size=4, document=3)
    leaves = [torch.ones(4, 2, 3, 4, requires_grad=True) for _ in range(3)]  # documents as rows, heads before positions
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not counted
        torch.nn.functional.scaled_dot_product_attention(*leaves).sum().backward()
    assert case.flops == counter.get_total_flops()
    assert case.traffic(torch.bfloat16) == 2 * 2 * 4 * leaves[0].numel()


def test_every_way_to_attend_gives_the_same(graphs: list[torch.fx.GraphModule]) -> None:
    whole, packed = (attention.sides(case, "cpu", "32-true", compiles=True) for case in attention.QUICK)
    for works in (whole, packed):
        attention.check(works, torch.float32)
    works = whole | {"wrong": lambda: tuple(2 * tensor for tensor in whole[attention.OURS]())}
    with pytest.raises(RuntimeError, match=r"wrong is not comparable: its result differs from ours by 100.0%"):
        attention.check(works, torch.float32)


def test_a_side_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = loss.losses("cpu")
    last_exit_alone = lambda x, head, t, w: sides["all logits"](x[-1:], head, t, w[-1:])  # noqa: E731
    monkeypatch.setattr(loss, "losses", lambda device: sides | {"wrong": last_exit_alone})
    with pytest.raises(RuntimeError, match="wrong is not comparable: its loss differs from ours by"):
        list(loss.run(QUICK))


def test_the_frozen_loop_trains_the_same_model() -> None:
    case = train.Case(ModelConfig(layers=2, loops=3, hidden_size=16), 20, 4, 6, chunk_steps=2)
    batch = train.batches(case)[0]
    ours = LoopLM(case.model, case.vocab_size)
    plain = train.PlainLoopLM(case.vocab_size, 16, 2, case.model.feedforward_size, layers=2, loops=3)
    weights = {
        name.replace("gate.", "exit.") if name.startswith("gate.") else name: value.detach().clone()
        for name, value in ours.named_parameters()
    }
    for block in ("blocks.0.", "blocks.1."):
        qkv = weights.pop(f"{block}attention.query_key_value.weight").chunk(3)
        weights |= {f"{block}{name}.weight": part for name, part in zip(("query", "key", "value"), qkv, strict=True)}
        weights[f"{block}output.weight"] = weights.pop(f"{block}attention.output.weight")
        gate_up = weights.pop(f"{block}feedforward.gate_up.weight").chunk(2)
        weights |= {f"{block}{name}.weight": part for name, part in zip(("gate", "up"), gate_up, strict=True)}
        weights[f"{block}down.weight"] = weights.pop(f"{block}feedforward.down.weight")
    plain.load_state_dict(weights)

    training = train.PlainTraining(plain, train.OPTIMIZER.lr, train.OBJECTIVE.beta, autocast=False)
    optimizer = train.LoopTraining(ours, train.OBJECTIVE, train.OPTIMIZER, 1, {}).configure_optimizers()
    for _ in range(4):
        wanted = training.step(torch.from_numpy(batch.tokens_BS), torch.from_numpy(batch.targets_BS))
        value = training_loss(ours, train.OBJECTIVE, step_of(batch))
        assert value.item() == pytest.approx(wanted, rel=1e-5)
        value.backward()
        torch.nn.utils.clip_grad_norm_(ours.parameters(), train.OPTIMIZER.clip)
        for group in optimizer.param_groups:
            group["lr"] = train.OPTIMIZER.lr
        optimizer.step()
        optimizer.zero_grad()
    assert value.item() < 0.999 * training_loss(LoopLM(case.model, case.vocab_size), train.OBJECTIVE, step_of(batch))


PUBLIC_CODE = {
    "configuration_ouro.py": """
from types import SimpleNamespace

class OuroConfig(SimpleNamespace):
    pass
""",
    "modeling_ouro.py": """
from torch import nn

from looplm.ouro import load_ouro

from .configuration_ouro import OuroConfig

class OuroModel(nn.Module):
    def __init__(self, ours):
        super().__init__()
        self.ours, self.embed_tokens = ours, ours.embedding

    def forward(self, tokens):
        found = self.ours(tokens)
        return None, list(found.states), list(found.exit_logits.unsqueeze(-1))

class OuroForCausalLM(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config

    def load_state_dict(self, weights):
        self.model = OuroModel(load_ouro(weights, vars(self.config)))
""",
}
"""What the benchmark takes from Ouro's public code, in its files and by its names."""


def public_code(folder: Path, **changes: str) -> list[str]:
    """Arguments of a benchmark that trains the public code of a folder beside ours."""
    for name, text in PUBLIC_CODE.items():
        for old, new in changes.items():
            text = text.replace(old, new)
        (folder / name).write_text(text)
    return ["bench", "train", "--quick", "--repeats", "2", "--json", "--ouro", str(folder)]


def test_the_public_code_is_trained_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "train.json"
    app([*public_code(tmp_path), "--out", str(out)], standalone_mode=False)
    code = hashlib.sha256(PUBLIC_CODE["modeling_ouro.py"].encode()).hexdigest()
    assert json.loads(out.read_text())["options"]["ouro"] == code
    metrics = {row["metric"] for row in json.loads(capsys.readouterr().out) if row["side"] == train.PUBLIC}
    assert metrics == {"speed", "peak memory"}


def test_public_code_that_computes_something_else_is_not_timed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="public Ouro code is not comparable: its loss differs from ours by"):
        app(public_code(tmp_path, exit_logits="exit_logits.neg()"), standalone_mode=False)


def test_public_code_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    code = public_code(tmp_path, SimpleNamespace="PretrainedConfig")
    with pytest.raises(ValueError, match=r"whose code cannot be imported \(cannot import name 'Pretrained"):
        app(code, standalone_mode=False)
    with pytest.raises(ValueError, match="--ouro is '/nowhere', whose code cannot be imported"):
        app([*code[:-1], "/nowhere"], standalone_mode=False)
    with pytest.raises(ValueError, match="--ouro is '/nowhere'; it must be left out but for `looplm bench train`"):
        app(["bench", "loss", "--ouro", "/nowhere"], standalone_mode=False)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_every_choice_trains_the_same(graphs: list[torch.fx.GraphModule]) -> None:
    (case,) = choices.QUICK
    works = choices.sides(case, "cpu", compiles=True)
    assert set(works) > {"not compiled", "all loops compiled as one", "attention of short rows by SDPA"}
    choices.check(works)
    assert len(graphs) == 4  # a segment in float32, in bfloat16 and with SDPA; and all loops
    with pytest.raises(RuntimeError, match=r"wrong is not comparable: its losses differ from ours by 50.0%"):
        choices.check({choices.OURS: lambda: torch.full((3,), 2.0), "wrong": lambda: torch.tensor([2.0, 1.0, 2.0])})


@pytest.mark.parametrize(
    ("bench", "sides"),
    [
        ("loss", {"chunked (ours)", "all logits", "torch linear_cross_entropy", loss.FLOOR, "roofline"}),
        ("attention", {attention.OURS, "sdpa", "summed", "multiplied", "rows", "roofline"}),
        ("data", {"vectorised", "oracle", "roofline"}),
        (
            "choices",
            {
                choices.OURS,
                "each batch made when it is due",
                "head at every position",
                "update not fused",
                "precision bf16-mixed",
                "roofline",
            },
        ),
        ("scale", {"looplm", "limit"}),
        ("train", {train.OURS, train.BARE, train.FROZEN, train.FLOOR, train.SINGLE, "roofline"}),
    ],
)
def test_a_benchmark_prints_rows_as_json(bench: str, sides: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    app(["bench", bench, "--quick", "--repeats", "2", "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert all(list(row) == ["bench", "case", "side", "metric", "median", "unit", "ratio"] for row in rows)
    assert {row["side"] for row in rows} == sides
    assert all(row["median"] > 0 and row["bench"] == bench for row in rows)
    ours = rows[0]["side"]
    assert {row["ratio"] for row in rows if row["side"] == ours} == {1.0}
    assert {row["ratio"] is None for row in rows if row["side"] == "roofline"} <= {True}


def test_rows_are_kept_with_what_decides_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "loss.json"
    app(["bench", "loss", "--quick", "--repeats", "2", "--json", "--out", str(path)], standalone_mode=False)
    kept = json.loads(path.read_text())
    assert kept["rows"] == json.loads(capsys.readouterr().out)
    assert kept["options"] == {"device": "cpu", "repeats": 2, "quick": True, "only": "", "ouro": None, "threads": 1}
    assert kept["packages"]["torch"] == torch.__version__
    assert kept["begun"] <= kept["finished"]
    assert kept["clock"] == "process_time"
    assert len(kept["load"]) == 2
    assert all(kept[name] for name in ("bench", "device", "instructions", "cores", "system", "python"))


def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    row = Row("b", "c", "ours", "time", 1.0, "ms", 1.0)

    def interrupted() -> Iterator[Row]:
        assert path.exists()  # a file that cannot be written is noticed before anything is measured
        yield row
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(recorded("b", QUICK, interrupted(), path))
    kept = json.loads(path.read_text())
    assert kept["rows"] == [asdict(row)]
    assert kept["finished"] is None


BENCH = Path(__file__).resolve().parents[2] / "results" / "reference" / "bench"


def kept_ratios(name: str) -> dict[tuple[str, str, str], float]:
    """Ratios by case, side and metric, of a reference result."""
    kept = json.loads((BENCH / f"{name}.json").read_text())
    assert kept["finished"] is not None
    return {(row["case"], row["side"], row["metric"]): row["ratio"] for row in kept["rows"]}


def table_line(name: str, ratios: Iterable[float | None]) -> str:
    """A line of a table in their README."""
    return f"| {name} | {' | '.join('' if ratio is None else f'{ratio:.2f} ×' for ratio in ratios)} |"


def test_the_tables_of_reference_results_are_those_of_their_files() -> None:
    lines = (BENCH / "README.md").read_text().splitlines()
    found = kept_ratios("cpu-loss")
    shown = ("all logits", "all logits, compiled", "torch linear_cross_entropy", "chunked, compiled")
    for case in loss.CASES["cpu"]:
        sizes = f"{case.positions}, {case.vocab_size}, {case.hidden}, {str(case.dtype).removeprefix('torch.')}"
        times = [found[str(case), side, "time"] for side in shown]
        assert table_line(sizes, [*times, found[str(case), "all logits", "peak memory"]]) in lines
    found = kept_ratios("cpu-train")
    for model in train.CASES["cpu"]:
        sides = (train.FROZEN, train.PUBLIC, train.BARE, train.SINGLE, train.FLOOR)
        assert table_line(str(model), [found[str(model), side, "speed"] for side in sides]) in lines
    found = kept_ratios("cpu-choices")
    for side in {side for _, side, metric in found if metric == "speed"} - {choices.OURS}:
        assert table_line(side, [found.get((str(case), side, "speed")) for case in choices.CASES]) in lines
    found = kept_ratios("cpu-attention")
    for rows in attention.CASES["cpu"]:
        sides = ("sdpa", "summed", "multiplied") if rows.document is None else ("sdpa", "rows")
        name = str(rows.document or rows.context)
        assert table_line(name, [found[str(rows), side, "time"] for side in sides]) in lines
