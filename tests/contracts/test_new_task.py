"""What `looplm new-task` writes passes every contract as it stands, here as a plug-in of another package."""

import os
import subprocess
import sys
from pathlib import Path

from experiments.cli.new_task import ROOT, write_task


def test_the_template_passes_the_contracts_as_a_plug_in(tmp_path: Path) -> None:
    package, metadata = tmp_path / "their_package", tmp_path / "their_package-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").touch()
    write_task("largest_number", package)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[looplm.tasks]\nlargest_number = their_package.largest_number\n")

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "largest_number", "-rA"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    tests = ["tests/contracts/test_tasks.py"]
    done = subprocess.run([*command, *tests], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for contract in ("test_blocks_are_deterministic", "test_docstring_shows_an_example", "test_floors_can_be_computed"):
        assert f"{contract}" in done.stdout
    assert "largest_number-test]" in done.stdout


def test_the_template_is_short() -> None:
    """A whole task in well under a hundred lines, as the README promises."""
    from experiments.cli.new_task import TEMPLATE

    assert len(TEMPLATE.splitlines()) < 80
