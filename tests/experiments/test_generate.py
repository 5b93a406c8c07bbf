"""`looplm generate`: what it says of a trained cell and of a downloaded Ouro folder."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from looplm.config import ModelConfig
from looplm.decoding import generate
from looplm.exit_rules import QExit
from looplm.model import LoopLM
from looplm.ouro import dump_ouro, read_ouro

CELL = [
    "task=addition",
    "task.operands=2",
    "model.hidden_size=16",
    "model.loops=3",
    "objective.name=entropy",
    "budget.steps=2",
    "budget.batch_size=8",
]


@pytest.fixture
def looplm(
    looplm: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Run the command line; exit code and all output."""
    monkeypatch.setenv("LOOPLM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("experiments.cli.console.console.width", 200)

    def run(*arguments: str) -> tuple[int, str]:
        code = looplm(*arguments)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def ouro(tmp_path: Path) -> Path:
    folder = tmp_path / "ouro"
    folder.mkdir()
    state_dict, config = dump_ouro(LoopLM(ModelConfig(layers=2, loops=3, hidden_size=16, init_std=0.5), 12))
    torch.save(state_dict, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_trained_cell_continues_examples_and_prompts(looplm: Callable[..., tuple[int, str]]) -> None:
    code, said = looplm("generate", *CELL)
    assert code == 2
    assert "is not trained" in said
    assert looplm("train", *CELL, "--compile", "off")[0] == 0

    code, said = looplm("generate", *CELL, "--count", "2", "--split", "test")
    assert code == 0
    rows = [line.split("│")[1:-1] for line in said.splitlines() if line.startswith("│")]
    assert len(rows) == 2
    for prompt, generated, loops, answer in rows:
        assert len(generated.split()) == len(loops.split()) == max(len(row[3].split()) for row in rows)
        assert set(loops.split()) == {"3"}
        assert prompt.split()[0] == "<bos>"
        assert answer.strip()

    prompt = rows[0][0].strip()
    code, said = looplm("generate", *CELL, "--prompt", prompt, "--q", "0", "--tokens", "5")
    assert code == 0
    assert "1 1 1 1 1" in said
    assert "answer" not in said
    assert looplm("generate", *CELL, "--prompt", "nonsense")[0] == 2


def test_an_ouro_folder_speaks_in_numbers_without_a_tokenizer(
    looplm: Callable[..., tuple[int, str]], ouro: Path
) -> None:
    expected = generate(read_ouro(ouro), [[3, 1, 4]], 6, QExit(0.5), "last")[0]
    code, said = looplm(
        "generate", "--ouro", str(ouro), "--prompt", "3 1 4", "--tokens", "6", "--q", "0.5", "--keys", "last"
    )
    assert code == 0
    assert " ".join(map(str, expected.tokens)) in said
    assert " ".join(map(str, expected.loops)) in said
    assert "must be token numbers" in looplm("generate", "--ouro", str(ouro), "--prompt", "three")[1]
    assert "needs a --prompt" in looplm("generate", "--ouro", str(ouro))[1]
    assert "must be token numbers" in looplm("generate", "--ouro", str(ouro), "--prompt", "")[1]
    assert "nowhere holds no config.json" in looplm("generate", "--ouro", str(ouro / "nowhere"), "--prompt", "1")[1]


def add_tokenizer(folder: Path, words: int, unknown: str | None = None) -> None:
    tokenizer = Tokenizer(WordLevel({f"w{i}": i for i in range(words)}, unk_token=unknown))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(["w0"])
    tokenizer.save(str(folder / "tokenizer.json"))


def test_an_ouro_folder_with_a_tokenizer_talks(looplm: Callable[..., tuple[int, str]], ouro: Path) -> None:
    add_tokenizer(ouro, 12)
    expected = generate(read_ouro(ouro), [[3, 1, 0, 4]], 8, QExit(1.0))[0]
    code, said = looplm("generate", "--ouro", str(ouro), "--prompt", "w3 w1 w0 w4", "--tokens", "8")
    assert code == 0
    assert "w3 w1 w0 w4" in said
    assert " ".join(f"w{token}" for token in expected.tokens) in said


def test_an_unknown_word_is_refused_or_shown_as_what_the_tokenizer_makes_of_it(
    looplm: Callable[..., tuple[int, str]], ouro: Path
) -> None:
    add_tokenizer(ouro, 12)
    code, said = looplm("generate", "--ouro", str(ouro), "--prompt", "w3 hello")
    assert code == 2
    assert "--prompt is 'w3 hello'" in said
    add_tokenizer(ouro, 12, unknown="w5")
    assert "w3 w5 " in looplm("generate", "--ouro", str(ouro), "--prompt", "w3 hello")[1]
    assert "finds no token in it" in looplm("generate", "--ouro", str(ouro), "--prompt", " ")[1]


def test_a_tokenizer_of_another_model_is_refused(looplm: Callable[..., tuple[int, str]], ouro: Path) -> None:
    add_tokenizer(ouro, 13)
    code, said = looplm("generate", "--ouro", str(ouro), "--prompt", "w3")
    assert code == 2
    assert "knows 13 tokens; they must be at most the model's 12" in said


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_of_an_ouro_folder_is_named_in_one_line(
    looplm: Callable[..., tuple[int, str]], ouro: Path, name: str
) -> None:
    (ouro / name).write_text("{")
    code, said = looplm("generate", "--ouro", str(ouro), "--prompt", "1")
    assert code == 2
    assert f"{ouro / name} is damaged" in said
    assert len(said.splitlines()) == 1


def test_what_would_be_ignored_is_refused(looplm: Callable[..., tuple[int, str]], ouro: Path) -> None:
    code, said = looplm("generate", "--ouro", str(ouro), "--prompt", "1", "task=addition")
    assert code == 2
    assert "must be left out with --ouro" in said
    for option in (["--count", "2"], ["--split", "test"]):
        code, said = looplm("generate", *CELL, "--prompt", "1", *option)
        assert code == 2
        assert "must be left out with a --prompt" in said


def test_a_missing_tokenizers_package_is_named(
    looplm: Callable[..., tuple[int, str]], ouro: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    (ouro / "tokenizer.json").write_text("{}")
    code, said = looplm("generate", "--ouro", str(ouro), "--prompt", "3 1", "--tokens", "2")
    assert code == 0
    assert "needs the package tokenizers" in said
