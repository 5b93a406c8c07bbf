import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

IMPORT_ALL = """
import pkgutil, sys, importlib
import results
names = [module.name for module in pkgutil.walk_packages(results.__path__, "results.")]
for name in names:
    importlib.import_module(name)
assert {"results.schema", "results.store", "results.verdict", "results.style"} <= set(names), names
heavy = {"torch", "lightning", "matplotlib.pyplot"} & set(sys.modules)
rooms = {"synthdata", "looplm", "sweeps", "experiments"} & set(sys.modules)
print(sorted(heavy | rooms))
"""


def test_no_module_of_results_imports_torch_pyplot_or_another_room():
    found = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert found.stdout == "[]\n"
