"""Plans, states and results as tables in the terminal, and as plain rows for `--json`."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.markup import escape
from rich.table import Table

from experiments.pricing import Speeds, price
from experiments.questions import grid, questions
from results.collection import Problem
from results.sheet import Sheet, text
from sweeps.cell import Cell
from sweeps.cost import total_parameters, training_flops
from sweeps.grid import Plan
from sweeps.status import CellStatus, State, tally

if TYPE_CHECKING:
    from sweeps.tune import Tuned

_COLOURS = {
    State.DONE: "green",
    State.RUNNING: "cyan",
    State.QUEUED: "blue",
    State.INTERRUPTED: "yellow",
    State.FAILED: "red",
    State.UNMEASURED: "yellow",
    State.MISSING: "dim",
}


LISTED = 500
"""Rows that a plan or the states of its cells have at most in a terminal; JSON has all."""


def duration(seconds: float | None) -> str:
    """Seconds as people read them."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def sheet_table(sheet: Sheet) -> Table:
    """A sheet of a report for the terminal."""
    table = Table(title=sheet.title, title_justify="left")
    for place, (name, numeric) in enumerate(zip(sheet.columns, sheet.numeric, strict=True)):
        table.add_column(name, justify="right" if numeric else "left", no_wrap=place == 0)
    for row in sheet.rows:
        table.add_row(*map(text, row))
    return table


def question_rows() -> list[dict[str, Any]]:
    """Every question as plain data."""
    found = {name: grid(name) for name in questions()}
    return [
        {
            "question": name,
            "asks": asked.text["question"],
            "claims": {key: hypothesis["claim"] for key, hypothesis in asked.text["hypotheses"].items()},
            "cells": {scale: len(asked.expand(scale).cells) for scale in asked.text["scales"]},
        }
        for name, asked in found.items()
    ]


def question_table(rows: Sequence[dict[str, Any]]) -> Table:
    """The questions for people."""
    table = Table(title="Questions; see looplm plan QUESTION", title_justify="left", show_lines=True)
    table.add_column("question", no_wrap=True)
    for name in ("asks", "claims to be supported or refuted", "cells"):
        table.add_column(name)
    for row in rows:
        claims = "\n".join(f"{key}: {claim}" for key, claim in row["claims"].items())
        cells = "\n".join(f"{scale} {count}" for scale, count in row["cells"].items())
        table.add_row(row["question"], row["asks"], claims, cells)
    return table


def plan_rows(plan: Plan, speeds: Sequence[Speeds], done: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A plan as plain data: one row per arm and axis point, and the totals over distinct cells.

    `seconds` is the time a cell takes on the first device of `speeds`, null where none was measured; `prices` has every
    device. `done` are the cells that need not be trained any more.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for member in plan.members:
        key, cell = (member.part, member.arm, member.point), member.cell
        match = plan.matches.get((member.part, member.arm))
        if key not in rows:
            rows[key] = {
                "part": member.part,
                "arm": member.arm,
                "point": member.point,
                "model": cell.name,
                "task": cell.task.name,
                "cells": [],
                "parameters": total_parameters(cell),
                "steps": cell.budget.steps,
                "train_flops": training_flops(cell),
                "seconds": speeds[0].seconds(cell) if speeds else None,
                "matches": match and match.quantity,
                "residual": match and match.residual,
            }
        rows[key]["cells"].append(cell.id)
    cells = list(plan.cells.values())
    prices = [price(cells, each, done) for each in speeds]
    return {
        "question": plan.question,
        "scale": plan.scale,
        "rows": list(rows.values()),
        "cells": len(plan.cells),
        "train_flops": sum(map(training_flops, cells)),
        "prices": [
            {
                "device": each.speeds.device,
                "gpu": each.speeds.is_gpu,
                "hours": each.hours,
                "hours_left": each.hours_left,
                "beyond_measured": each.beyond,
                "sources": each.speeds.sources,
                "sentence": each.sentence,
            }
            for each in prices
        ],
    }


def plan_table(data: Mapping[str, Any]) -> Table:
    """The `plan_rows` for people."""
    where = f"; times on {data['prices'][0]['device']}" if data["prices"] else ""
    table = Table(
        title=f"{data['question']} at scale {data['scale']}: {data['cells']} cells, "
        f"{data['train_flops']:.2e} training FLOPs{where}",
        title_justify="left",
    )
    for name in ("part", "arm", "model", "axes"):
        table.add_column(name)
    for name in ("cells", "parameters", "steps", "FLOPs a cell", "time a cell"):
        table.add_column(name, justify="right")
    table.add_column("matched")
    table.caption = _unlisted(len(data["rows"]) - LISTED, "arms at other points")
    for row in data["rows"][:LISTED]:
        matched = "" if row["matches"] is None else f"{row['matches']} {row['residual']:+.2%}"
        table.add_row(
            row["part"],
            row["arm"],
            row["model"],
            "" if row["point"] == "{}" else row["point"],
            str(len(row["cells"])),
            f"{row['parameters']:,}",
            f"{row['steps']:,}",
            f"{row['train_flops']:.2e}",
            duration(row["seconds"]),
            matched,
        )
    return table


def price_lines(data: Mapping[str, Any]) -> list[str]:
    """The prices of `plan_rows`, a line for each device, and what is not known."""
    lines = [each["sentence"] for each in data["prices"]]
    if not any(each["gpu"] for each in data["prices"]):
        lines.append(
            "No cell was measured on a GPU, so GPU-hours are not known: train one of these there, and plan again."
        )
    return lines


def _unlisted(count: int, what: str) -> str | None:
    """What a table says below it of rows that it has not."""
    return f"{count:,} {what} are not listed; --json has them all" if count > 0 else None


def _places(plan: Plan) -> dict[str, str]:
    """Where each cell first stands in the plan."""
    places: dict[str, str] = {}
    for member in plan.members:
        places.setdefault(member.cell.id, f"{member.part}/{member.arm} #{member.replicate}")
    return places


def status_rows(plan: Plan, found: Sequence[CellStatus], problems: Sequence[Problem] = ()) -> dict[str, Any]:
    """States as plain data, with the published rows that cannot be used."""
    places = _places(plan)
    return {
        "question": plan.question,
        "scale": plan.scale,
        "counts": {state.value: count for state, count in tally(found).items()},
        "cells": [
            {
                "cell": status.cell.id,
                "place": places[status.cell.id],
                "state": status.state.value,
                "progress": status.progress,
                "job": status.job,
                "error": status.error,
            }
            for status in found
        ],
        "left_out": [
            {"cell": each.cell, "file": str(each.file), "evaluation": each.evaluation, "reason": each.reason}
            for each in problems
        ],
    }


def status_table(plan: Plan, found: Sequence[CellStatus]) -> Table:
    """States for people. Of a plan too large to list, only what is neither done nor still to come."""
    counts = ", ".join(f"{count} {state}" for state, count in tally(found).items() if count)
    table = Table("cell", "place", "model", "state", title=f"{plan.question} at scale {plan.scale}: {counts}")
    table.title_justify = "left"
    table.add_column("step", justify="right")
    table.add_column("left", justify="right")
    if with_jobs := any(status.job is not None for status in found):
        table.add_column("job")
    table.add_column("error")
    shown = found
    if len(found) > LISTED:
        shown = [each for each in found if each.state not in (State.DONE, State.QUEUED, State.MISSING)][:LISTED]
    table.caption = _unlisted(len(found) - len(shown), "cells")
    places = _places(plan)
    for status in shown:
        colour = _COLOURS[status.state]
        step = f"{status.progress['step']}/{status.progress['steps']}" if status.progress else ""
        table.add_row(
            status.cell.id,
            places[status.cell.id],
            status.cell.name,
            f"[{colour}]{status.state}[/]",
            step,
            duration(status.seconds_left) if status.state is State.RUNNING else "",
            *([escape(status.job or "")] if with_jobs else []),
            escape(status.error or ""),
        )
    return table


_MEASURES = {
    "accuracy": "{:.1%}",
    "accuracy_given_recall": "{:.1%}",
    "bits_per_parameter": "{:.3f}",
}
"""What a cell's table shows of it, and how a value is written."""


def cell_table(cell: Cell, cells: pl.DataFrame, records: pl.DataFrame) -> Table:
    """What was measured on one cell, by split and loop: accuracies beside the floor of the split, bits beside R_max."""
    found = records.filter(pl.col("difficulty").is_null(), pl.col("metric").is_in([*_MEASURES, "floor/best"]))
    values = {
        (row["split"], row["metric"], row["loop"]): row
        for row in found.iter_rows(named=True)
        if row["value"] is not None
    }
    loops = sorted({loop for _, metric, loop in values if metric in _MEASURES and loop is not None})
    constants = json.loads(cells["constants"][0])
    ceiling_bits = constants.get("ceiling_bits", constants.get("fact_bits"))
    table = Table("split", "measure", title=f"{cell.task.name}  {cell.name}", title_justify="left")
    for name in ("n", *("mixture" if loop == 0 else f"loop {loop}" for loop in loops), "floor", "R_max"):
        table.add_column(name, justify="right")
    for split, metric in dict.fromkeys((split, metric) for split, metric, _ in values if metric in _MEASURES):
        write = _MEASURES[metric].format
        here = [values.get((split, metric, loop)) for loop in loops]
        floor = values.get((split, "floor/best", None)) if metric == "accuracy" else None
        bounded = metric == "bits_per_parameter" and ceiling_bits is not None
        table.add_row(
            split,
            metric.replace("_", " "),
            str(max(row["n"] for row in here if row)),
            *(write(row["value"]) if row else "" for row in here),
            write(floor["value"]) if floor else "",
            write(ceiling_bits / cells["parameters"][0]) if bounded else "",
        )
    if any(metric == "accuracy_given_recall" for _, metric, _ in values):
        table.caption = "given recall: of questions whose facts that loop recalls; n is the most of any loop"
    return table


def tuned_table(tuned: "Tuned") -> Table:
    """What a search chose for each arm, beside every value it tried."""
    search = tuned.search
    table = Table(
        "arm",
        search.key,
        f"{search.metric} on {search.split}",
        "inside",
        "tried",
        title=f"{tuned.part}: {search.key} in [{tuned.low:g}, {tuned.high:g}]",
        title_justify="left",
    )
    for choice in tuned.choices:
        tried = ", ".join(f"{value:.2g}: {score:.3f}" for value, score in choice.trials)
        inside = "yes" if choice.inside else "[yellow]no[/]"
        table.add_row(choice.arm, f"{choice.value:.3g}", f"{choice.score:.3f}", inside, tried)
    return table
