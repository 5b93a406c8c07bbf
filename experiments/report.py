"""`Report`: everything that is said of a question from stored rows: verdicts, tables, figure, and where it came from.

How it is shown is said in `page.py` (HTML) and in `cli/report.py` (the terminal).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from experiments.evidence import Evidence, judge
from experiments.panels import draw_figure, headline
from experiments.questions import figure, grid
from results.sheet import Entry, Sheet
from results.verdict import Verdict
from sweeps.grid import Grid


@dataclass(frozen=True)
class Report:
    """A question answered as far as its rows go.

    Attributes:
        question: its name.
        evidence: the rows; at least one cell has ended.
        command: what draws this report again.
    """

    question: str
    evidence: Evidence
    command: str

    def __post_init__(self) -> None:
        if self.evidence.cells.is_empty():
            planned = self.evidence.members["cell"].n_unique()
            raise ValueError(
                f"nothing to report: none of the {planned} cells of {self.question!r} has run; see looplm run"
            )

    @property
    def scale(self) -> str:
        """The scale that the rows were planned at."""
        return str(self.evidence.members["scale"][0])

    @cached_property
    def grid(self) -> Grid:
        """The question's grid, with the hypotheses and how the arms were tuned."""
        return grid(self.question)

    @property
    def hypotheses(self) -> Mapping[str, Any]:
        """The hypotheses by name, as the grid file has them."""
        return dict(self.grid.text["hypotheses"])

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """The answer to each hypothesis."""
        return {name: judge(hypothesis, self.evidence) for name, hypothesis in self.hypotheses.items()}

    @cached_property
    def headline(self) -> list[str]:
        """A line for each verdict."""
        return headline(self.hypotheses, self.verdicts)

    @cached_property
    def sheets(self) -> list[Sheet]:
        """The question's tables."""
        return list(figure(self.question).tables(self.evidence))

    @property
    def counts(self) -> str:
        """How many of the planned cells have rows, in a sentence."""
        planned, ended = self.evidence.members["cell"].n_unique(), len(self.evidence.cells)
        failed = int((self.evidence.cells["status"] == "failed").sum())
        return f"{ended} of {planned} cells have rows, {failed} of them failed"

    def draw(self, folder: Path) -> tuple[Path, ...]:
        """Draw `figure` for a page's width and `figure-narrow` for one column, each as PNG and SVG."""
        panels = figure(self.question).panels(self.evidence)
        wide = draw_figure(panels, self.headline, folder / "figure")
        return wide + draw_figure(panels, self.headline, folder / "figure-narrow", across=1)

    def cells(self) -> Sheet:
        """What became of the planned cells of each arm."""
        ended = self.evidence.members.join(self.evidence.cells.select("cell", "status"), on="cell", how="left")
        counts = Counter(ended.select("part", "arm", "status").iter_rows())
        rows: list[tuple[Entry, ...]] = []
        for part, arm in dict.fromkeys(ended.select("part", "arm").iter_rows()):
            done, failed, missing = (counts[part, arm, status] for status in ("done", "failed", None))
            rows.append((part, arm, done + failed + missing, done, failed, missing))
        title = "Cells of each arm: a failed one counts against its arm, a missing one has not run or was left out"
        return Sheet("cells", title, ("part", "arm", "planned", "done", "failed", "missing"), tuple(rows))

    def failures(self) -> list[str]:
        """A line for each failed cell: where it stands, and the last line of its error."""
        failed = self.evidence.cells.filter(pl.col("status") == "failed").select("cell", "error")
        placed = self.evidence.members.unique("cell", maintain_order=True).join(failed, on="cell")
        return [
            f"{part}/{arm} #{replicate} ({cell}): {error}"
            for part, arm, replicate, cell, error in placed.select(
                "part", "arm", "replicate", "cell", "error"
            ).iter_rows()
        ]

    def provenance(self) -> dict[str, list[str]]:
        """Where the rows came from: a list of lines for each heading."""
        cells, records = self.evidence.cells, self.evidence.records
        evaluations = sorted(records["evaluation"].unique())
        hours = timedelta(seconds=round(cells["seconds"].sum()))
        finished = cells["finished_at"].sort().dt.strftime("%Y-%m-%d %H:%M")
        return {
            "commit": [
                f"{commit or 'outside a checkout'} ({n} cells)" for commit, n in _counted(cells, "suite_commit")
            ],
            "versions": [
                f"torch {', '.join(sorted(cells['torch'].unique()))}",
                f"tasks {', '.join(sorted(cells['task'].unique()))}; evaluations {', '.join(evaluations)}",
            ],
            "device": [
                f"{device}, {backend}, {precision} ({n} cells)"
                for device, backend, precision, n in _counted(cells, "device", "backend", "precision")
            ],
            "seeds": [
                f"{name.removesuffix('_seed')} {ranges(cells[name].unique().to_list())}"
                for name in ("data_seed", "order_seed", "init_seed")
            ],
            "tuning": self._tuning(),
            "training": [
                f"{cells['train_flops'].sum():.2e} FLOPs, {hours} (h:min:s) over all cells; "
                f"finished {finished[0]} to {finished[-1]} UTC"
            ],
        }

    def _tuning(self) -> list[str]:
        """How each part was tuned at this scale."""
        lines: dict[str, list[str]] = {}
        plain = []
        for part in dict.fromkeys(self.evidence.members["part"]):
            found = self.grid.tuned(self.scale, part)
            if not found:
                plain.append(part)
                continue
            search = found["search"]
            tried: dict[tuple[int, float, float], list[str]] = {}
            for arm, (low, high) in found["ranges"].items():
                tried.setdefault((len(found["trials"][arm]), low, high), []).append(arm)
            how = f"{search['key']} by {search['metric']} on {search['split']} in world {search['seed']}, " + "; ".join(
                f"{trials} trials between {low:g} and {high:g} for each of {', '.join(arms)}"
                for (trials, low, high), arms in tried.items()
            )
            lines.setdefault(how, []).append(part)
        return [f"{', '.join(parts)}: {how}" for how, parts in lines.items()] + (
            [f"{', '.join(plain)}: settings of the grid, not tuned at this scale"] if plain else []
        )


def ranges(numbers: list[int]) -> str:
    """Whole numbers in a few words: 0 to 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _counted(cells: pl.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """Each combination of the columns with how often it occurs, the most frequent first."""
    return cells.group_by(columns).len().sort(["len", *columns], descending=[True, *[False] * len(columns)]).rows()
