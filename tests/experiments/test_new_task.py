"""`looplm new-task`: what it writes where, and what it refuses."""

import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import synthdata.task
import synthdata.tasks
from experiments.cli import new_task
from experiments.cli.main import app
from synthdata.streams import fingerprint
from synthdata.task import task_class, tasks


def test_among_the_suites_own_the_hash_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, hashes = tmp_path / "synthdata" / "tasks", tmp_path / "golden.json"
    folder.mkdir(parents=True)
    hashes.write_text('{"aaa@1": "0", "zzz@1": "0"}')
    monkeypatch.setattr(new_task, "ROOT", tmp_path)
    monkeypatch.setattr(new_task, "HASHES", hashes)
    monkeypatch.setattr(synthdata.tasks, "__path__", [*synthdata.tasks.__path__, str(folder)])
    monkeypatch.setattr(synthdata.task, "_REGISTRY", dict(tasks()))
    try:
        assert new_task.write_task("my_task") == folder / "my_task.py"
        task = task_class("my_task")()
        assert type(task).__name__ == "MyTask"
        assert json.loads(hashes.read_text()) == {"aaa@1": "0", "my_task@1": fingerprint(task), "zzz@1": "0"}
    finally:
        sys.modules.pop("synthdata.tasks.my_task", None)


def test_the_command_says_what_to_do_next(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new-task", "my_task", "--folder", str(tmp_path)])
    assert result.exit_code == 0
    assert (tmp_path / "my_task.py").exists()
    assert '[project.entry-points."looplm.tasks"]' in result.output
    assert 'my_task = "your_package.my_task"' in result.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Task", "name is 'My-Task'; it must be lower-case letters, digits and underscores, a letter first"),
        ("class", "name is 'class'; it must be lower-case letters"),
        ("mano", "name is 'mano'; it must be one that no task has yet: addition, "),
    ],
)
def test_bad_names_are_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        new_task.write_task(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "my_task.py").write_text("mine")
    with pytest.raises(FileExistsError):
        new_task.write_task("my_task", tmp_path)
    assert (tmp_path / "my_task.py").read_text() == "mine"
