"""The page of examples: every task and split is on it, aligned, and it is well-formed."""

from html.parser import HTMLParser

from experiments.cli.gallery import render
from synthdata.streams import Stream
from synthdata.tasks.multihop import MultiHop
from synthdata.tasks.records import Records
from synthdata.tasks.twohop import TwoHop

VOID = {"meta"}


class Page(HTMLParser):
    """Collects headings and the places of every example; fails on tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.examples: list[list[tuple[str, str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VOID:
            return
        self.open.append(tag)
        kinds = (dict(attrs).get("class") or "").split()
        if kinds[:1] == ["example"]:
            self.examples.append([])
        if kinds[:1] == ["place"] and self.examples:
            self.examples[-1].append((" ".join(kinds[1:]), "", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h3"]:
            self.headings.append(data)
        elif "div" in self.open and data.strip():
            kind, token, label = self.examples[-1].pop()
            self.examples[-1].append((kind, token, data) if self.open[-1] == "b" else (kind, data, label))


def test_every_split_has_its_examples_aligned() -> None:
    tasks = [
        TwoHop(),
        Records(people=20),
        MultiHop(entities=20, layers=4, relations=2, training_questions=9, test_questions=3),
    ]
    page = Page()
    page.feed(render(tasks, count=3))
    assert page.open == []
    splits = [(task, split) for task in tasks for split in task.splits]
    assert page.headings == [split for _, split in splits]
    assert len(page.examples) == 3 * len(splits)
    for number, (task, split) in enumerate(splits):
        examples, symbols = Stream(task, 0, 0, split).examples(0, 3), task.vocabulary.symbols
        for n in range(3):
            places = page.examples[3 * number + n]
            length = int(examples.lengths_N[n])
            assert [token for _, token, _ in places] == [symbols[t] for t in examples.tokens_NL[n, : length - 1]]
            for s, (kind, _, label) in enumerate(places):
                trained, scored = bool(examples.trained_NL[n, s + 1]), bool(examples.scored_NL[n, s + 1] >= 0)
                assert kind == " ".join(["trained"] * trained + ["scored"] * scored)
                assert label == (symbols[examples.tokens_NL[n, s + 1]] if trained or scored else "·")


def test_symbols_are_escaped() -> None:
    page = render([TwoHop()], count=1)
    assert "&lt;bos&gt;" in page
    assert "<bos>" not in page
