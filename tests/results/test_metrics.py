"""Which way each metric points, and what a failed replicate counts as."""

import pytest

from results.metrics import METRICS, Metric, metric


@pytest.mark.parametrize(
    "name", ["accuracy", "accuracy_given_recall", "bits_per_parameter", "stored/major", "exits/accuracy/gate/0.5"]
)
def test_where_more_is_better_nothing_is_the_worst(name: str) -> None:
    assert metric(name) == Metric("higher", 0.0)


@pytest.mark.parametrize("name", ["nats", "nats/value", "loss_nats"])
def test_a_loss_has_no_worst_value(name: str) -> None:
    assert metric(name) == Metric("lower", None)


@pytest.mark.parametrize(
    "name", ["exits/loops/gate/0.5", "gate_entropy_nats", "agreement/kappa", "of a user", "depth/"]
)
def test_of_what_is_neither_good_nor_bad_nothing_is_assumed(name: str) -> None:
    assert metric(name) == Metric(None, None)


def test_no_name_belongs_to_two_families() -> None:
    families = [name for name in METRICS if name.endswith("/")]
    assert not [(one, other) for one in families for other in families if one != other and one.startswith(other)]
