"""The page of a question: whole without network or script, readable at phone width, and it says the verdict."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.evidence import Evidence
from experiments.page import INDEX, PAGE, Summary, index, summary_of, write_index, write_page
from experiments.questions import references
from experiments.report import Report, ranges
from results.collection import read_collection

QUESTION = "capacity_vs_manipulation"
REFERENCE = Path(__file__).resolve().parents[2] / "results" / "reference" / "quick-cpu"
CHROMIUM = shutil.which("chromium")
VOID = {"meta", "img", "source", "br"}
HARNESS = """<!doctype html><meta charset="utf-8"><body><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument;
  const figure = page.querySelector("figure img");
  document.body.dataset.verdict = page.querySelector("#H2").innerText;
  document.body.dataset.width = page.documentElement.scrollWidth;
  document.body.dataset.figure = [figure.complete, figure.naturalWidth, figure.naturalHeight].join(" ");
}});
</script><iframe style="border: 0" width="{width}" height="900" srcdoc="{page}"></iframe></body>"""


class Reader(HTMLParser):
    """Collects what a page would load, its ids and its words; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag != "script"
        self.loads += [str(given[name]) for name in ("src", "srcset", "data") if name in given]
        self.ids += [str(given["id"])] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def report() -> Report:
    return Report(QUESTION, Evidence.of_folder(REFERENCE, QUESTION), f"looplm report {QUESTION} --from x")


@pytest.fixture(scope="module")
def folder(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of reports that holds one."""
    root = tmp_path_factory.mktemp("reports")
    write_page(report, report.draw(root / "quick"), root / "quick")
    return root


def test_a_page_needs_nothing_else_and_says_everything(report: Report, folder: Path) -> None:
    text = (folder / "quick" / PAGE).read_text()
    page = Reader(text)
    assert len(page.loads) == 2
    assert all(load.startswith("data:image/svg+xml;base64,") for load in page.loads)
    assert not re.search(r"@import|url\(", text)
    assert page.ids == ["H1", "H2"]
    words = " ".join(" ".join(page.words).split())
    for verdict in report.verdicts.values():
        assert verdict.sentence in words
    commit, device = report.evidence.cells["suite_commit"][0], report.evidence.cells["device"][0]
    for said in (commit, device, "data 0 to 2", "twohop@1", "27 of 27 cells have rows", report.command):
        assert said in words
    for partner in ("plain", "deep_exits"):
        assert words.count(partner) > 2
    assert "minimum_replicates: 8" in words


def test_the_same_rows_give_the_same_page(report: Report, folder: Path, tmp_path: Path) -> None:
    again = write_page(report, report.draw(tmp_path), tmp_path)
    assert again.read_bytes() == (folder / "quick" / PAGE).read_bytes()


def test_failed_and_missing_cells_are_on_the_page(report: Report, evidence_of, tmp_path: Path) -> None:
    def records(member):
        return None if member.replicate == 1 else [{"split": "ood_both", "metric": "accuracy", "value": 0.5}]

    whole = evidence_of(records)
    lost = whole.members.filter(arm="deep", replicate=2)["cell"][0]
    found = Report(
        QUESTION, Evidence(whole.members, whole.cells.filter(whole.cells["cell"] != lost), whole.records), ""
    )
    text = write_page(found, (), tmp_path).read_text()
    rows = {row[1]: row for row in found.cells().rows}
    assert rows["deep"] == ("manipulation", "deep", 8, 6, 1, 1)
    assert rows["plain"] == ("manipulation", "plain", 8, 7, 1, 0)
    assert "manipulation/deep #1" in text
    assert "ValueError: diverged" in text
    assert "<figure>" not in text


def test_the_index_lists_whole_reports_and_names_the_others(report: Report, folder: Path) -> None:
    (folder / "cut").mkdir()
    (folder / "cut" / PAGE).write_text((folder / "quick" / PAGE).read_text()[:200])
    path = write_index(folder)
    assert path == folder / INDEX
    page = Reader(path.read_text())
    words = " ".join(" ".join(page.words).split())
    assert report.verdicts["H2"].sentence in words
    assert f"cut/{PAGE} is not a whole report" in words
    assert [load for load in page.loads if not (folder / load).exists()] == []
    assert write_index(folder) == path
    path.write_text("<h1>somebody's own</h1>")
    assert write_index(folder) is None
    assert path.read_text() == "<h1>somebody's own</h1>"


def test_what_is_decided_comes_first_in_the_index(report: Report, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "quick" / PAGE).read_text()
    content = html.escape(json.dumps(asdict(Summary.of(report))))
    assert content in whole
    for name, outcome in (("a", "undecided"), ("b", "supported"), ("c", "undecided"), ("d", "refuted")):
        summary = asdict(Summary.of(report))
        summary["verdicts"] = {"H2": summary["verdicts"]["H2"] | {"outcome": outcome}}
        (tmp_path / name).mkdir()
        (tmp_path / name / PAGE).write_text(whole.replace(content, html.escape(json.dumps(summary))))
    page = index(tmp_path)
    assert sorted("abcd", key=lambda name: page.index(f'href="{name}/')) == ["b", "d", "a", "c"]


def test_an_index_over_nothing_says_so(tmp_path: Path) -> None:
    assert "No report was found" in index(tmp_path)


@pytest.mark.parametrize("folder", references(), ids=lambda folder: folder.name)
def test_the_committed_page_says_what_the_committed_rows_say(folder: Path) -> None:
    (question,) = read_collection(folder).members["question"].unique()
    report = Report(question, Evidence.of_folder(folder, question), "")
    assert summary_of(folder / PAGE) == Summary.of(report)
    assert f'href="{folder.name}/{PAGE}"' in (folder.parent / INDEX).read_text()


def test_ranges_are_read_as_words() -> None:
    assert ranges([3, 0, 1, 2, 7]) == "0 to 3, 7"
    assert ranges([1000]) == "1000"


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's package chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_verdict_without_scrolling_sideways(
    report: Report, folder: Path, tmp_path: Path, width: int
) -> None:
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS.format(width=width, page=html.escape((folder / "quick" / PAGE).read_text())))
    quiet = "headless no-sandbox disable-gpu hide-scrollbars disable-quic no-first-run disable-background-networking"
    quiet += f" disable-component-update disable-sync user-data-dir={tmp_path / 'profile'} window-size=1300,1000"
    flags = [f"--{flag}" for flag in quiet.split()]
    assert CHROMIUM is not None
    command = [CHROMIUM, *flags, "--virtual-time-budget=5000", "--dump-dom", harness.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    (verdict,) = re.findall(r'data-verdict="([^"]*)"', shown)
    assert "H2 undecided" in verdict
    assert report.verdicts["H2"].sentence in html.unescape(" ".join(verdict.split()))
    assert re.findall(r'data-width="(\d+)"', shown) == [str(width)]
    (figure,) = re.findall(r'data-figure="(\w+) (\d+) (\d+)"', shown)
    complete, across, high = figure
    assert complete == "true"
    assert (int(across) > int(high)) == (width > 700)
