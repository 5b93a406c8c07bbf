"""`looplm`: one command for the three people who use the suite.

What a user got wrong ends in one line and exit code 2; a cell that failed in exit code 1; Ctrl-C in 130. Set
`LOOPLM_TRACEBACK=1` to see where an error came from.
"""

import os
import sys

import typer

from experiments.cli import bench, cluster, compare, doctor, generate, new_task, report, sweeps, tasks

app = typer.Typer(
    name="looplm",
    help="Does looping a transformer let it store more knowledge, or use better the knowledge it has?\n\n"
    "Start with [bold]looplm run capacity_vs_manipulation --scale smoke[/bold]: a few steps of everything. "
    "[bold]--scale quick[/bold] answers on a laptop, [bold]--scale lab[/bold] overnight.\n\n"
    "Configurations are changed with key=value in Hydra's grammar, as in "
    "[bold]looplm train task=twohop model.loops=4[/bold]. "
    "Everything trained is kept under runs/ (or $LOOPLM_RUNS) and never trained twice.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for module in (tasks, new_task, sweeps, cluster, generate, report, compare, bench, doctor):
    module.add_to(app)


def main() -> None:
    """Run the command line; never shows a stack trace for what a user can put right."""
    try:
        app()
    except (ValueError, OSError, RuntimeError) as error:
        if os.environ.get("LOOPLM_TRACEBACK"):
            raise
        print(f"looplm: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("looplm: stopped; the same command carries on from the last checkpoints", file=sys.stderr)
        sys.exit(130)
