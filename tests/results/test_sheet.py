import csv
import io
import math

import pytest

from results.sheet import Measured, Number, Sheet, to_csv, to_html, to_latex, to_markdown
from results.statistics import Interval

BITS = Interval(1 / 3, 0.2, 0.4 + 1 / 15, 0.95, 3)
ALONE = Interval(0.5, -math.inf, math.inf, 0.95, 1)
ONE = Sheet(
    "use",
    "Accuracy in %",
    ("arm", "n", "id | all"),
    (("loop_ed", 51_137, Measured(BITS, 1, 100)), ("a&b", 3, Measured(ALONE, 1, 100)), ("<floor>", None, None)),
)
TWO = Sheet("store", "Bits", ("arm", "R_max"), (("1⊗4", Number(2.966, 2)),))


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (Interval(0.5, 0.4, 0.6, 0.95, 3), "0.50 ±0.10"),
        (ALONE, "0.50"),
        (Interval(0.5, 0.1, 0.6, 0.95, 3), "0.50 (0.10 to 0.60)"),
        (Interval(math.nan, 0.0, math.inf, 0.95, 3), "undefined"),
        (Interval(0.5, 0.4, 0.6, 0.95, 2, left_out=1), "0.50 ±0.10, 1 left out"),
        (Interval(math.nan, -math.inf, math.inf, 0.95, 0, left_out=3), "undefined, 3 left out"),
    ],
)
def test_an_estimate_is_shown_with_the_interval_that_it_has(interval, shown):
    assert str(Measured(interval, 2)) == shown


def test_markdown_keeps_its_columns():
    lines = to_markdown(ONE).splitlines()
    assert lines[0] == "**Accuracy in %**"
    assert lines[2:5] == [
        "| arm | n | id \\| all |",
        "| --- | ---: | ---: |",
        "| loop_ed | 51,137 | 33.3 ±13.3 |",
    ]
    assert lines[-1] == "| <floor> |  |  |"


def test_latex_escapes_what_it_must():
    text = to_latex(ONE)
    assert r"\begin{tabular}{lrr}" in text
    assert r"loop\_ed & 51,137 & 33.3 $\pm$13.3 \\" in text
    assert r"a\&b & 3 & 50.0 \\" in text
    assert r"\caption{Accuracy in \%}" in text
    assert r"1$\otimes$4 & 2.97" in to_latex(TWO)
    assert text.count(r"\begin") == text.count(r"\end")


def test_csv_is_one_table_with_every_digit_and_both_ends():
    rows = list(csv.DictReader(io.StringIO(to_csv([ONE, TWO]))))
    assert list(rows[0]) == ["table", "arm", "n", "id | all", "id | all low", "id | all high", "R_max"]
    assert float(rows[0]["id | all"]) == pytest.approx(100 / 3, rel=1e-15)
    assert float(rows[0]["id | all low"]) == 20.0
    assert (rows[1]["id | all"], rows[1]["id | all low"], rows[1]["id | all high"]) == ("50.0", "", "")
    assert (rows[3]["table"], rows[3]["arm"], rows[3]["R_max"], rows[3]["n"]) == ("store", "1⊗4", "2.966", "")


def test_csv_has_a_column_for_the_replicates_that_were_left_out():
    rest = Measured(Interval(2.0, 1.0, 3.0, 0.95, 2, left_out=1), 1)
    sheet = Sheet("loss", "Nats", ("arm", "nats"), (("one", rest), ("two", Measured(BITS, 1))))
    rows = list(csv.DictReader(io.StringIO(to_csv([sheet]))))
    assert list(rows[0]) == ["table", "arm", "nats", "nats low", "nats high", "nats left out"]
    assert [row["nats left out"] for row in rows] == ["1", ""]


def test_html_escapes_and_marks_numbers():
    text = to_html(ONE)
    assert "<td>&lt;floor&gt;</td>" in text
    assert '<td class="number">33.3 ±13.3</td>' in text
    assert text.count("<tr>") == text.count("</tr>") == 4


def test_a_row_must_fit_its_columns():
    with pytest.raises(ValueError, match="a row of sheet 'x' has 1 entries; it must be 2"):
        Sheet("x", "t", ("a", "b"), (("only",),))
