"""What the command line shows of the tasks."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest


def test_a_sample_is_what_the_stream_gives(looplm: Callable[..., int], tmp_path: Path) -> None:
    from synthdata.streams import Stream
    from synthdata.tasks.addition import Addition

    out = tmp_path / "sample.parquet"
    arguments = ["addition", "operands=3", "--split", "test", "--count", "50", "--seed", "9", "--out", str(out)]
    assert looplm("sample", *arguments) == 0
    frame = pl.read_parquet(out)
    examples = Stream(Addition(operands=3), 0, 9, "test").examples(0, 50)
    assert frame.schema == {"tokens": pl.List(pl.Int64), "answer": pl.List(pl.Int64), "difficulty": pl.Int64}
    assert frame["difficulty"].to_list() == examples.difficulty_N.tolist()
    for n, (tokens, answer) in enumerate(frame.select("tokens", "answer").iter_rows()):
        assert tokens == examples.prompt(n) + examples.answer(n)
        assert answer == examples.answer(n)


def test_the_listing_has_difficulty_and_floors_of_every_split() -> None:
    from experiments.cli.tasks import row
    from synthdata.floors import floors
    from synthdata.tasks.twohop import TwoHop

    name, source, splits, difficulty, floor, parameters = row(TwoHop())
    assert name == "twohop\nversion 1"
    assert source == TwoHop.source
    assert splits.split("\n") == ["[italic]facts[/]", "[italic]seen[/]", "id", "ood_first", "ood_second", "ood_both"]
    assert difficulty.split("\n") == ["hops: 1", "2", "2", "2", "2", "2"]
    assert "entities=50, relations=5" in parameters
    untrained = {split: max(floors(TwoHop(), 0, split, 500).values()) for split in splits.split("\n")[2:]}
    assert floor.split("\n") == ["", "", *(f"{best:.3f}" for best in untrained.values())]


@pytest.mark.parametrize("room", [60, 150])
def test_a_preview_shows_every_token_of_a_long_example(room: int) -> None:
    from io import StringIO

    from rich.console import Console

    from experiments.cli.tasks import aligned
    from synthdata.streams import pool
    from synthdata.tasks.bios import Bios

    task, console = Bios(people=5), Console(width=room, file=StringIO())
    example = pool(task, 0, "people").take(slice(0, 1))
    for table in aligned(task, example, room):
        console.print(table)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.file.getvalue().splitlines()]
    told = {name: [cell for line in lines if line[:1] == [name] for cell in line[1:]] for name in ("input", "label")}
    words = task.vocabulary.decode(example.tokens_NL[0]).split()
    assert told == {"input": words[:-1], "label": words[1:]}
    assert max(map(len, console.file.getvalue().splitlines())) <= room
    scored = [cell for line in lines if line[:1] == ["scored"] for cell in line[1:]]
    assert scored == [("name", "value")[span] if span >= 0 else "·" for span in example.scored_NL[0, 1:]]
