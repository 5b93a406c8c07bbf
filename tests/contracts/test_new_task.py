"""What `looplm new-task` writes passes every contract as it stands, here as a plug-in of another package."""

import os
import subprocess
import sys
from pathlib import Path

from experiments.cli.new_task import ROOT, TEMPLATE, write_task


def test_the_template_passes_the_contracts_as_a_plug_in(tmp_path: Path) -> None:
    package, metadata = tmp_path / "their_package", tmp_path / "their_package-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").touch()
    write_task("larger_number", package)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[looplm.tasks]\nlarger_number = their_package.larger_number\n")

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "larger_number", "-rA"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    tests = ["tests/contracts/test_tasks.py"]
    done = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for contract in ("test_blocks_are_deterministic", "test_docstring_shows_an_example", "test_floors_can_be_computed"):
        assert f"{contract}" in done.stdout
    assert "larger_number-test]" in done.stdout


def test_the_template_is_short() -> None:
    """A whole task in under 60 lines."""
    assert len(TEMPLATE.splitlines()) < 60
