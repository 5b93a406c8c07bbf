"""The whole tasks that we show, of `looplm new-task` and of the README, pass every contract as they stand, here as
plug-ins of another package."""

import os
import re
import subprocess
import sys
from pathlib import Path

from experiments.cli.new_task import ROOT, TEMPLATE, write_task

README_TASK = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]


def test_the_template_and_the_task_of_the_readme_pass_the_contracts_as_plug_ins(tmp_path: Path) -> None:
    package, metadata = tmp_path / "their_package", tmp_path / "their_package-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").touch()
    write_task("larger_number", package)
    imports = TEMPLATE[TEMPLATE.index("from dataclasses") : TEMPLATE.index("@register")]
    (package / "larger.py").write_text(imports + README_TASK)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[looplm.tasks]\nlarger_number = their_package.larger_number\nlarger = their_package.larger\n"
    )

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "larger", "-rA"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    tests = ["tests/contracts/test_tasks.py"]
    done = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for contract in ("test_blocks_are_deterministic", "test_docstring_shows_an_example", "test_floors_can_be_computed"):
        assert f"{contract}" in done.stdout
    for task in ("larger_number", "larger"):
        assert f"[{task}-test]" in done.stdout


def test_the_template_is_short() -> None:
    """A whole task in under 60 lines."""
    assert len(TEMPLATE.splitlines()) < 60
    assert len(README_TASK.splitlines()) < 60
