"""`looplm doctor`: what is installed here, which backends will run, and why."""

import typer


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command(rich_help_panel="Suite")(doctor)


def doctor() -> None:
    """Say what is installed, which device and backends will be used, and why."""
    import importlib.metadata
    import os
    import platform
    import shutil
    from typing import get_args

    import torch
    from rich.markup import escape
    from rich.table import Table

    from experiments.cli.console import console
    from experiments.questions import questions, runs_root
    from looplm.attention import AttentionName, choose_attention, why_not
    from looplm.execution import find_compiler
    from looplm.loss import Backend as LossBackend
    from looplm.loss import why_no_triton
    from sweeps.provenance import device_model, suite_commit

    def installed(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    table = Table("what", "here", "why it matters", title="looplm doctor", title_justify="left")
    table.add_row("python", platform.python_version(), "3.11 or later")
    for package in ("torch", "lightning", "hydra-core", "omegaconf", "numpy", "scipy", "polars", "matplotlib"):
        table.add_row(package, installed(package), "required")
    table.add_row("cores", str(len(os.sched_getaffinity(0))), "a local run starts one worker process per core")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    table.add_row("device", f"{device}: {device_model(device)}", "--device cuda needs a CUDA device")
    compiler = find_compiler()
    why = "torch.compile will use it" if compiler else "no C++ compiler ($CXX, g++, clang++): torch.compile is not used"
    table.add_row("backend", f"compile ({compiler})" if compiler else "eager", why)
    chosen = choose_attention(device, "bf16-mixed")
    for name in get_args(AttentionName):
        reason = why_not(name, device, "bf16-mixed")
        why = "keeps packed documents apart" if name == chosen else "runs where a training asks for it"
        table.add_row(f"attention {name}", "no" if reason else "yes", escape(reason or why))
    for name in get_args(LossBackend)[1:]:
        reason = why_no_triton(device) if name == "triton" else None
        table.add_row(f"loss {name}", "no" if reason else "yes", escape(reason or "chosen by the size of the logits"))
    sbatch = shutil.which("sbatch")
    table.add_row("slurm", sbatch or "no", "looplm submit --cluster; local and debug need none")
    table.add_row("commit", suite_commit() or "no git checkout", "recorded in every row")
    root = runs_root()
    where = root if root.exists() else root.parent
    writable = os.access(where, os.W_OK)
    table.add_row("runs", f"{root} ({'writable' if writable else 'NOT writable'})", "set LOOPLM_RUNS to move it")
    table.add_row("questions", " ".join(questions()), "looplm run QUESTION --scale smoke")
    console.print(table)
