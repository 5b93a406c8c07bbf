"""A page of examples of every task, one HTML file without scripts: inputs, what must be predicted, what is scored."""

from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from inspect import getdoc

from synthdata.examples import UNSCORED, Examples
from synthdata.streams import Stream
from synthdata.task import Task

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
pre { white-space: pre; background: #f6f6f6; padding: .8rem; overflow-x: auto; }
.example { display: flex; flex-wrap: wrap; gap: 2px; margin: .6rem 0; font: 13px ui-monospace, monospace; }
.place { display: inline-block; border: 1px solid #ddd; border-radius: 3px; padding: 1px 5px; text-align: center; }
.place b { display: block; font-weight: normal; border-top: 1px dotted #bbb; color: #bbb; }
.trained b { color: #1a7f37; }
.scored { background: #fff3c4; }
.scored b { font-weight: bold; }
small { color: #666; }
"""


def render(tasks: Iterable[Task], count: int = 2) -> str:
    """The page: of each task its description, parameters, and `count` examples of every split.

    Above each line is the input, below it what must be predicted there: green where that is trained, on yellow where it
    is scored (the span is shown when the pointer rests on it), and a dot where nothing is.
    """
    chosen = list(tasks)
    index = " · ".join(f'<a href="#{escape(task.name)}">{escape(task.name)}</a>' for task in chosen)
    legend = (
        "Above the line is the input, below it what must be predicted: "
        '<span class="place trained"><b>trained</b></span> '
        '<span class="place scored trained"><b>trained and scored</b></span>'
    )
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Tasks</title>\n'
        f"<style>{_STYLE}</style>\n<h1>Tasks</h1>\n<p>{index}</p>\n<p>{legend}</p>\n"
        + "\n".join(_section(task, count) for task in chosen)
        + "\n</html>\n"
    )


def _section(task: Task, count: int) -> str:
    parameters = ", ".join(f"{name}={value}" for name, value in asdict(task).items())
    parts = [
        f'<h2 id="{escape(task.name)}">{escape(task.name)} <small>version {task.version}</small></h2>',
        f"<p><small>{escape(task.source)}</small></p>",
        f"<pre>{escape(getdoc(type(task)) or '')}</pre>",
        f"<p><small>{escape(parameters)}; vocabulary of {len(task.vocabulary)}</small></p>",
    ]
    for split in task.splits:
        examples = Stream(task, 0, 0, split).examples(0, count)
        parts.append(f"<h3>{escape(split)}</h3>")
        parts += [_example(task, examples, n) for n in range(count)]
    return "\n".join(parts)


def _example(task: Task, examples: Examples, n: int) -> str:
    symbols, places = task.vocabulary.symbols, []
    for s in range(int(examples.lengths_N[n]) - 1):
        trained, span = examples.trained_NL[n, s + 1], int(examples.scored_NL[n, s + 1])
        scored = span != UNSCORED
        kind = " ".join(["place", *(["trained"] if trained else []), *(["scored"] if scored else [])])
        title = f' title="{escape(task.spans[span])}"' if scored else ""
        label = escape(symbols[examples.tokens_NL[n, s + 1]]) if trained or scored else "·"
        token = escape(symbols[examples.tokens_NL[n, s]])
        places.append(f'<span class="{kind}"{title}>{token}<b>{label}</b></span>')
    return f'<div class="example">{"".join(places)}</div>'
