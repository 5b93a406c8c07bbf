"""Bits a parameter stores after 100 and after 1,000 exposures, of records and of biographies; and by attribute."""

from experiments.evidence import MIXTURE, Evidence, ceiling
from experiments.panels import Dots, Panel
from experiments.series import arms, by_arm
from experiments.sheets import Column, arm_rows, reading
from results.sheet import Number, Sheet

SPLIT, METRIC = "people", "bits_per_parameter"
PARTS = {
    "records_1000": "Records, 1,000 exposures",
    "records_100": "Records, 100 exposures",
    "bios_1000": "Biographies, 1,000 exposures",
    "bios_100": "Biographies, 100 exposures",
}
_STORED = "stored/"


def tables(evidence: Evidence) -> list[Sheet]:
    """Bits of each kind of data after each number of exposures; then bits of each attribute, a person."""
    present = {part: title for part, title in PARTS.items() if arms(evidence, part)}
    totals = [_totals(evidence, part, title) for part, title in present.items()]
    return [*totals, *(_attributes(evidence, part, title) for part, title in present.items() if _names(evidence, part))]


def _totals(evidence: Evidence, part: str, title: str) -> Sheet:
    columns: dict[str, Column] = {
        "last loop": reading(evidence, part, SPLIT, METRIC, digits=3),
        "gate's mixture": reading(evidence, part, SPLIT, METRIC, digits=3, loop=MIXTURE),
        "R_max": lambda arm: Number(ceiling(evidence, part, arm), 2),
    }
    return arm_rows(evidence, part, f"{title}: bits a parameter", columns)


def _names(evidence: Evidence, part: str) -> list[str]:
    """Attributes that were measured in a part, in the order of their bits' rows."""
    cells = evidence.members.filter(evidence.members["part"] == part)["cell"].to_list()
    found = evidence.records.filter(
        evidence.records["cell"].is_in(cells) & evidence.records["metric"].str.starts_with(_STORED)
    )
    return sorted(found["metric"].unique().str.strip_prefix(_STORED))


def _attributes(evidence: Evidence, part: str, title: str) -> Sheet:
    columns: dict[str, Column] = {
        name: reading(evidence, part, SPLIT, _STORED + name, digits=2) for name in _names(evidence, part)
    }
    sheet = arm_rows(evidence, part, f"{title}: bits stored of each attribute, a person", columns)
    return Sheet(f"{part}-attributes", sheet.title, sheet.columns, sheet.rows)


def panels(evidence: Evidence) -> list[Panel]:
    """A panel for each kind of data and number of exposures."""
    return [
        Dots(rows=rows, values=f"{title}:\nbits a parameter", limits=(0, None))
        for part, title in PARTS.items()
        if (rows := by_arm(evidence, part, SPLIT, METRIC, ceiling=ceiling))
    ]
