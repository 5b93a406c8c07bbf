"""Reports as web pages: one file for each question, with its figure inside, and an index over a folder of them.

A page needs no network, no script and no other file. It carries a summary of itself (`Summary`), which the index reads.
"""

import base64
import html
import inspect
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.panels import MARKS
from experiments.report import Report
from results.bundle import write_durably
from results.sheet import Entry, Measured, Sheet, to_html
from results.statistics import Interval
from results.verdict import Verdict, rule_from

PAGE, INDEX = "report.html", "index.html"

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 72rem; margin: 0 auto;
  padding: 1.2rem 1rem 4rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .2rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; border-top: 1px solid #d5d5d5; padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
.where { color: #555; margin: 0; }
.verdict { border-left: 6px solid; padding: .5rem .8rem; margin: .6rem 0; background: #f7f7f7; }
.verdict p { margin: .15rem 0; }
.verdict .why { color: #444; font-size: .92rem; }
.supported { border-color: #1a7f37; } .supported b { color: #14632b; }
.refuted { border-color: #b3261e; } .refuted b { color: #b3261e; }
.undecided { border-color: #8a6d00; } .undecided b { color: #6b5500; }
figure { margin: 1.4rem 0; } figure img { display: block; width: 100%; max-width: 60rem; height: auto; }
figcaption { color: #555; font-size: .88rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
caption span { display: inline-block; position: sticky; left: 0; max-width: calc(100vw - 2.2rem); }
th, td { padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; white-space: nowrap; }
th { border-bottom: 1px solid #888; } td { border-bottom: 1px solid #e6e6e6; }
.number { text-align: right; }
pre { background: #f4f4f4; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
dt { font-weight: 600; } dd { margin: 0 0 .6rem; overflow-wrap: anywhere; }
ul.plain { list-style: none; padding: 0; } .card { margin: 2rem 0; } .card img { max-width: 22rem; width: 100%; }
a { color: #0b57a4; }
"""

_FRAME = (
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n{head}\n'
    "<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
)


@dataclass(frozen=True)
class Summary:
    """What an index says of a page."""

    question: str
    scale: str
    asks: str
    counts: str
    verdicts: dict[str, dict[str, str]]

    @classmethod
    def of(cls, report: Report) -> "Summary":
        """The summary of a report."""
        verdicts = {
            name: {
                "claim": report.hypotheses[name]["claim"],
                "outcome": verdict.outcome,
                "sentence": verdict.sentence,
            }
            for name, verdict in report.verdicts.items()
        }
        return cls(report.question, report.scale, report.grid.text["question"], report.counts, verdicts)


def write_page(report: Report, figures: Sequence[Path], folder: Path) -> Path:
    """Write `folder`/report.html with the figures, as `Report.draw` returns them, inside. Returns its path."""
    vector = [path for path in figures if path.suffix == ".svg"]
    path = folder / PAGE
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(path, page(report, vector).encode())
    return path


def page(report: Report, figures: Sequence[Path]) -> str:
    """The page of a report. `figures` are SVG files, the wide one and the narrow one, or none."""
    summary = Summary.of(report)
    outcomes = ", ".join(f"{name} {verdict['outcome']}" for name, verdict in summary.verdicts.items())
    body = [
        f'<p class="where">{html.escape(report.question)}, scale {html.escape(report.scale)}</p>',
        f"<h1>{html.escape(summary.asks)}</h1>",
        _verdicts(summary),
        _figure(report, figures),
        *map(_scrolled, report.sheets),
        "<h2>Method</h2>",
        "<p>Hypotheses, bounds and rules stand in the question's <code>grid.yaml</code>, written before any row.</p>",
        *(_method(name, report.hypotheses[name], verdict) for name, verdict in report.verdicts.items()),
        "<h2>Provenance</h2>",
        _provenance(report),
        _scrolled(report.cells()),
        "<h3>To draw this again</h3>",
        f"<pre>{html.escape(report.command)}</pre>",
    ]
    head = f'<meta name="looplm-report" content="{html.escape(json.dumps(asdict(summary)))}">'
    title = html.escape(f"{report.question}: {outcomes}")
    return _FRAME.format(head=head, title=title, style=_STYLE, body="\n".join(part for part in body if part))


def write_index(folder: Path) -> Path | None:
    """Write `folder`/index.html over every page in the folders inside. Returns its path.

    Returns None, and writes nothing, where there is an index.html that is not of this suite.
    """
    path = folder / INDEX
    if path.exists() and "looplm-index" not in _metas(path):
        return None
    write_durably(path, index(folder).encode())
    return path


def index(folder: Path) -> str:
    """The index over every page in the folders inside `folder`: what is decided first, else in alphabetical order."""
    decided: list[str] = []
    entries: list[str] = []
    for path in sorted(folder.glob(f"*/{PAGE}")):
        link = html.escape(f"{path.parent.name}/{PAGE}")
        try:
            summary = summary_of(path)
        except ValueError:
            entries.append(f'<section class="card"><p>{link} is not a whole report and is left out.</p></section>')
            continue
        picture = path.parent / "figure-narrow.svg"
        shown = f"{html.escape(path.parent.name)}/{picture.name}"
        image = f'<p><a href="{link}"><img src="{shown}" alt="the figure"></a></p>' if picture.exists() else ""
        outcomes = {verdict["outcome"] for verdict in summary.verdicts.values()}
        (entries if outcomes <= {"undecided"} else decided).append(
            f'<section class="card"><h2><a href="{link}">{html.escape(summary.asks)}</a></h2>'
            f'<p class="where">{html.escape(path.parent.name)}: {html.escape(summary.question)}, '
            f"scale {html.escape(summary.scale)}; {html.escape(summary.counts)}</p>"
            f"{_verdicts(summary)}{image}</section>"
        )
    body = "<h1>Questions and what the rows say</h1>\n" + "\n".join(
        [*decided, *entries] or ["<p>No report was found.</p>"]
    )
    head = '<meta name="looplm-index" content="1">'
    return _FRAME.format(head=head, title="looplm: questions", style=_STYLE, body=body)


def summary_of(path: Path) -> Summary:
    """The summary that a page carries. `ValueError` where the file is no whole page of this suite."""
    try:
        return Summary(**json.loads(_metas(path)["looplm-report"]))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a whole report") from error


class _Metas(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "meta" and given.get("name"):
            self.found[str(given["name"])] = given.get("content") or ""


def _metas(path: Path) -> dict[str, str]:
    """The named meta elements of a page."""
    parser = _Metas()
    parser.feed(path.read_text(errors="replace"))
    return parser.found


def _verdicts(summary: Summary) -> str:
    return "\n".join(
        f'<div class="verdict {verdict["outcome"]}" id="{html.escape(name)}">'
        f"<p><b>{MARKS[verdict['outcome']]} {html.escape(name)} {verdict['outcome']}</b> "
        f'{html.escape(verdict["claim"])}</p><p class="why">{html.escape(verdict["sentence"])}</p></div>'
        for name, verdict in summary.verdicts.items()
    )


def _figure(report: Report, figures: Sequence[Path]) -> str:
    if not figures:
        return ""
    wide, narrow = (f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in figures)
    words = html.escape("; ".join(report.headline) + ". The tables below hold the numbers.")
    return (
        f'<figure><picture><source media="(max-width: 700px)" srcset="{narrow}">'
        f'<img src="{wide}" alt="{words}"></picture><figcaption>A colour is a number of loops, a marker a number '
        "of layers; k⊗R is k layers run R times.</figcaption></figure>"
    )


def _scrolled(sheet: Sheet) -> str:
    return f'<div class="scroll">{to_html(sheet)}</div>'


def _method(name: str, hypothesis: Any, verdict: Verdict) -> str:
    rule = rule_from(hypothesis["decision"])
    says = (inspect.getdoc(type(rule)) or "").split("\n\nAttributes:")[0]
    text = OmegaConf.to_yaml(OmegaConf.create({name: hypothesis}))
    rows: list[tuple[Entry, ...]] = [_interval_row(each, found) for each, found in verdict.intervals.items()]
    looked = Sheet(name, f"{name}: what the rule looked at", ("partner", "estimate", "confidence", "n"), tuple(rows))
    return "\n".join(
        [
            f"<h3>{html.escape(name)}: {html.escape(hypothesis['claim'])}</h3>",
            *(f"<p>{_prose(paragraph)}</p>" for paragraph in says.split("\n\n")),
            f"<pre>{html.escape(text)}</pre>",
            _scrolled(looked) if rows else "",
        ]
    )


def _prose(paragraph: str) -> str:
    """A paragraph of a docstring: one line, with `names` set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(" ".join(paragraph.split())))


def _interval_row(partner: str, interval: Interval) -> tuple[Entry, ...]:
    known = None if math.isnan(interval.mean) else Measured(interval, 3)
    return partner, known, f"{100 * interval.confidence:g} %", interval.n


def _provenance(report: Report) -> str:
    found = report.provenance()
    found["failed"] = report.failures()
    found["left out"] = [f"{problem.file}: {problem.reason}" for problem in report.evidence.problems]
    items = "\n".join(
        f"<dt>{html.escape(name)}</dt>\n" + "\n".join(f"<dd>{html.escape(line)}</dd>" for line in lines or ["none"])
        for name, lines in found.items()
    )
    return f"<p>{html.escape(report.counts)}.</p>\n<dl>\n{items}\n</dl>"
