"""The one console that commands print to."""

import json
import sys
from typing import Any

from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 150)
"""As wide as the terminal; in a pipe or a log, wide enough for every table."""


def print_json(value: Any) -> None:
    """Print data for programs: JSON on standard output, nothing else."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
