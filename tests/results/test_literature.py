import re
from pathlib import Path

import pytest

from results.literature import published

FOLDER = Path(__file__).parents[2] / "results" / "published"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.csv")))
def test_every_published_table_is_read_and_says_where_it_is_from(name):
    frame = published(name)
    assert len(frame) > 1
    assert frame.null_count().sum_horizontal().item() == 0
    (line,) = (line for line in (FOLDER / "README.md").read_text().splitlines() if f"`{name}.csv`" in line)
    assert re.search(r"arXiv \d{4}\.\d{5}|Ouro, (figure|table)", line)


def test_an_unknown_table_is_named():
    with pytest.raises(ValueError, match=r"published table is 'ouro'; it must be .*ouro_mano"):
        published("ouro")
