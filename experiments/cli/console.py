"""The one console that commands print to."""

import json
import sys
from typing import Any

from rich.console import Console

console = Console()


def print_json(value: Any) -> None:
    """Print data for programs: JSON on standard output, nothing else."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
