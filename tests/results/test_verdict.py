import numpy as np
import pytest

from results.statistics import Contrast
from results.verdict import AdvantageOverEvery, RatioWithin, rule_from

STORAGE = rule_from({"rule": "ratio_within", "low": 0.9, "high": 1.1, "minimum_replicates": 5})
USE = rule_from({"rule": "advantage_over_every", "margin": 0.1, "minimum_replicates": 8})


def contrast(ours, theirs, partner="plain"):
    return Contrast(partner, dict(enumerate(ours)), dict(enumerate(theirs)), tuple(range(len(ours))))


def ratios(mean, spread, n=8):
    theirs = np.linspace(1.0, 2.0, n)
    return contrast(theirs * mean * np.exp(spread * np.resize([-1, 1], n)), theirs)


def advantages(mean, spread, n=8, partner="plain"):
    theirs = np.linspace(0.1, 0.3, n)
    return contrast(theirs + mean + spread * np.resize([-1, 1], n), theirs, partner)


@pytest.mark.parametrize(
    ("mean", "spread", "outcome"),
    [
        (1.0, 0.02, "supported"),
        (1.05, 0.02, "supported"),
        (1.0, 0.3, "undecided"),
        (1.1, 0.02, "undecided"),
        (1.3, 0.02, "refuted"),
        (0.6, 0.02, "refuted"),
        (1.3, 0.4, "undecided"),
    ],
)
def test_ratio_within(mean, spread, outcome):
    verdict = STORAGE.decide([ratios(mean, spread)])
    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(f"{outcome}: ")
    assert "0.9-1.1" in verdict.sentence
    assert verdict.intervals["plain"].confidence == pytest.approx(0.9)


def test_ratio_within_is_supported_at_90_and_refuted_at_95_percent():
    # Between the two: the 90 % interval lies outside the bounds, the 95 % one reaches in.
    pair = ratios(1.15, 0.05, n=8)
    assert pair.ratio(0.90).outside(0.9, 1.1)
    assert not pair.ratio(0.95).outside(0.9, 1.1)
    assert STORAGE.decide([pair]).outcome == "undecided"


def test_ratio_within_must_hold_against_every_partner():
    near, far = ratios(1.0, 0.02), ratios(1.5, 0.02)
    far = Contrast("narrow", far.ours, far.theirs, far.replicates)
    assert STORAGE.decide([near, far]).outcome == "refuted"
    assert "narrow" in STORAGE.decide([near, far]).sentence


def test_a_failed_cell_leaves_a_ratio_undecided():
    pair = ratios(1.0, 0.001)
    failed = Contrast("plain", {**pair.ours, 3: None}, pair.theirs, pair.replicates)
    assert STORAGE.decide([pair]).outcome == "supported"
    assert STORAGE.decide([failed]).outcome == "undecided"


@pytest.mark.parametrize(
    ("mean", "spread", "outcome"),
    [
        (0.3, 0.05, "supported"),
        (0.11, 0.001, "supported"),
        (0.12, 0.05, "undecided"),
        (0.08, 0.1, "undecided"),
        (0.0, 0.05, "refuted"),
        (-0.3, 0.05, "refuted"),
        (0.08, 0.005, "refuted"),
    ],
)
def test_advantage_over_one_partner(mean, spread, outcome):
    verdict = USE.decide([advantages(mean, spread)])
    assert verdict.outcome == outcome
    assert "10 points" in verdict.sentence


def test_advantage_counts_over_the_best_partner():
    weak, strong = advantages(0.5, 0.02, partner="plain"), advantages(0.02, 0.01, partner="deep")
    assert USE.decide([weak]).outcome == "supported"
    verdict = USE.decide([weak, strong])
    assert verdict.outcome == "refuted"
    assert "deep +2 points" in verdict.sentence
    assert "plain" not in verdict.sentence
    unsure = advantages(0.12, 0.1, partner="long")
    assert USE.decide([weak, unsure]).outcome == "undecided"


def test_failed_cells_count_against_their_own_arm():
    pair = advantages(0.3, 0.01)
    half_failed = {replicate: None if replicate % 2 else value for replicate, value in pair.ours.items()}
    assert USE.decide([Contrast("plain", half_failed, pair.theirs, pair.replicates)]).outcome == "undecided"
    never = dict.fromkeys(pair.ours)
    assert USE.decide([Contrast("plain", never, pair.theirs, pair.replicates)]).outcome == "refuted"


@pytest.mark.parametrize("n", [1, 2, 7])
def test_too_few_replicates_decide_nothing(n):
    for mean in (0.5, -0.5):
        verdict = USE.decide([advantages(mean, 0.0, n=n), advantages(mean, 0.0, n=8, partner="deep")])
        assert verdict.outcome == "undecided"
        assert verdict.sentence == f"undecided: {n} of 8 replicates against plain"
    assert STORAGE.decide([ratios(1.0, 0.0, n=4)]).outcome == "undecided"


def test_an_inadmissible_reading_decides_nothing_and_says_why():
    verdict = STORAGE.decide([ratios(1.0, 0.001)], inadmissible=["97 % of the ceiling is reached"])
    assert verdict.outcome == "undecided"
    assert verdict.sentence == "undecided: 97 % of the ceiling is reached"
    assert verdict.intervals["plain"].n == 8


def test_no_partner_decides_nothing():
    assert USE.decide([]).outcome == "undecided"


def test_false_claims_are_rare_where_the_truth_lies_on_the_bound():
    rng = np.random.default_rng(0)
    supported = {"ratio": 0, "advantage": 0}
    trials = 1000
    for _ in range(trials):
        logs = rng.normal(np.log(1.1), 0.03, 8)
        supported["ratio"] += STORAGE.decide([contrast(np.exp(logs), np.ones(8))]).outcome == "supported"
        gains = rng.normal(0.1, 0.05, 8)
        supported["advantage"] += USE.decide([contrast(gains, np.zeros(8))]).outcome == "supported"
    assert 0.03 < supported["ratio"] / trials < 0.07  # nominal 0.05
    assert 0.01 < supported["advantage"] / trials < 0.04  # nominal 0.025


@pytest.mark.parametrize(("our_share", "their_share"), [(0.11, 0.0), (0.5, 0.4), (0.9, 0.8), (1.0, 0.9)])
def test_false_support_is_rare_for_outcomes_that_are_all_or_nothing(our_share, their_share):
    rng = np.random.default_rng(0)
    supported = 0
    for _ in range(400):  # The true advantage, 0.9 times the difference of shares, is below the margin.
        ours, theirs = (np.where(rng.random(8) < share, 0.95, 0.05) for share in (our_share, their_share))
        noise = rng.normal(0, 0.02, (2, 8))
        supported += USE.decide([contrast(ours + noise[0], theirs + noise[1])]).outcome == "supported"
    assert supported / 400 < 0.05


def test_rules_are_read_from_data():
    assert RatioWithin(low=0.9, high=1.1, alpha=0.05, minimum_replicates=5) == STORAGE
    assert AdvantageOverEvery(margin=0.1, confidence=0.95, worst=0.0, minimum_replicates=8) == USE


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ({"rule": "ratio_witin"}, r"rule is 'ratio_witin'; .*Did you mean 'ratio_within'\?"),
        (None, "it is None; it must be a rule with its fields"),
        ({"rule": "ratio_within", "low": "0.9", "high": 1.1, "minimum_replicates": 5}, "low is '0.9'; it must"),
        ({}, r"rule is None; it must be ratio_within \| advantage_over_every"),
        ({"rule": "ratio_within", "hihg": 1.1}, r"ratio_within\.hihg is unknown; .*Did you mean 'high'\?"),
        ({"rule": "ratio_within", "low": 0.9, "minimum_replicates": 5}, r"ratio_within\.high is missing"),
        ({"rule": "ratio_within", "low": 1.2, "high": 1.1, "minimum_replicates": 5}, "must be 0 < low < 1 < high"),
        ({"rule": "ratio_within", "low": 0.9, "high": 1.1, "alpha": 0.6, "minimum_replicates": 5}, "alpha is 0.6"),
        ({"rule": "ratio_within", "low": 0.9, "high": 1.1, "minimum_replicates": 1}, "minimum_replicates is 1; it"),
        ({"rule": "advantage_over_every", "margin": 10, "minimum_replicates": 8}, "margin is 10; it must be a share"),
        ({"rule": "advantage_over_every", "margin": 0.1, "worst": -1, "minimum_replicates": 8}, "worst is -1"),
        (
            {"rule": "advantage_over_every", "margin": 0.1, "confidence": 95, "minimum_replicates": 8},
            "confidence is 95",
        ),
    ],
)
def test_a_wrong_rule_names_the_field(specification, message):
    with pytest.raises(ValueError, match=message):
        rule_from(specification)
