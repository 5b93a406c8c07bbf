"""Every command of the README runs, at scale smoke, from an empty runs folder, in the README's order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTRA = {"tune": ["--trials", "3", "--arm", "plain", "--out", "tuning.yaml"]}
"""Added to keep a command short and the checkout untouched; what it does stays the same."""


def _commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("looplm ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def _at_smoke(command: list[str], folder: Path) -> list[str]:
    text = " ".join([*command, *EXTRA.get(command[0], [])])
    text = re.sub(r"--scale \w+", "--scale smoke", text)
    text = text.replace("/tmp/", f"{folder}/").replace("results/reference", f"{ROOT}/results/reference")
    return shlex.split(text)


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from experiments.cli.main import main; main()", *arguments],
        cwd=folder,
        env={
            "LOOPLM_RUNS": str(folder / "runs"),
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_the_readme_names_every_command(folder: Path) -> None:
    from typer.core import TyperGroup
    from typer.main import get_command

    from experiments.cli.main import app

    group = get_command(app)
    assert isinstance(group, TyperGroup)
    assert {command[0] for command in _commands()} == set(group.commands)


@pytest.mark.parametrize("command", _commands(), ids=lambda command: " ".join(command))
def test_a_command_of_the_readme_runs(command: list[str], folder: Path) -> None:
    done = _run(_at_smoke(command, folder), folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Warning" not in done.stderr


def test_the_readme_is_short_and_links_to_what_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / link).exists(), link
