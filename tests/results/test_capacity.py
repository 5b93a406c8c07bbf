import math
import re

import numpy as np
import pytest

from results.capacity import fact_bits, read_as, stored_bits

# A world small enough to write down: 16 people named by two letters of eight, a city of 16 and a job of 4.
PEOPLE, LETTERS, CITIES, JOBS = 16, 8, 16, 4
NAME_BITS, VALUE_BITS = 6.0, (4.0, 2.0)
NAMES = np.stack(divmod(np.random.default_rng(0).choice(LETTERS**2, PEOPLE, replace=False), LETTERS), axis=1)
CEILING = PEOPLE * (6 - 4) + PEOPLE * (4 + 2)


def nats_of_names(probability) -> np.ndarray:
    """Summed over both letters: -ln P(first) - ln P(second | first), from a table of joint probabilities."""
    first, second = NAMES.T
    marginal = probability.sum(axis=1)
    conditional = probability[first, second] / marginal[first]
    return -np.log(marginal[first]) - np.log(conditional)


def known_names() -> np.ndarray:
    table = np.zeros((LETTERS, LETTERS))
    table[tuple(NAMES.T)] = 1 / PEOPLE
    return nats_of_names(table)


def guessed_names() -> np.ndarray:
    return nats_of_names(np.full((LETTERS, LETTERS), LETTERS**-2))


def values(cities_left: int, jobs_left: int) -> np.ndarray:
    """Nats of a table that has narrowed each person's city and job to so many equally likely candidates."""
    return np.tile(np.log([cities_left, jobs_left]), (PEOPLE, 1))


def test_a_model_that_guesses_knows_nothing():
    bits = stored_bits(guessed_names(), values(CITIES, JOBS), PEOPLE, NAME_BITS, VALUE_BITS)
    assert bits.name == pytest.approx(0, abs=1e-9)
    assert bits.values == pytest.approx((0, 0), abs=1e-9)


def test_a_perfect_model_reaches_the_ceiling():
    bits = stored_bits(known_names(), values(1, 1), PEOPLE, NAME_BITS, VALUE_BITS)
    assert bits.ceiling == pytest.approx(CEILING)
    assert bits.total == pytest.approx(CEILING)
    assert bits.per_parameter(50) == pytest.approx(CEILING / 50)
    assert bits.ceiling_per_parameter(50) == pytest.approx(CEILING / 50)


def test_a_lookup_table_scores_the_bits_it_holds():
    # It holds the list of names, each city but for one bit, and no job.
    bits = stored_bits(known_names(), values(2, JOBS), PEOPLE, NAME_BITS, VALUE_BITS)
    assert bits.name == pytest.approx(PEOPLE * (6 - 4))
    assert bits.values == pytest.approx((PEOPLE * 3, 0), abs=1e-9)
    assert bits.total == pytest.approx(PEOPLE * 5)


def test_a_table_that_knows_some_people_scores_their_bits():
    nats = values(CITIES, JOBS)
    nats[:5] = 0
    bits = stored_bits(guessed_names(), nats, PEOPLE, NAME_BITS, VALUE_BITS)
    assert bits.values == pytest.approx((5 * 4, 5 * 2))


def test_spans_are_told_apart_by_losses_that_differ():
    names = known_names() + np.arange(PEOPLE) * 0.01
    nats = values(2, JOBS) + np.arange(PEOPLE)[:, None] * [0.001, 0.002]
    bits = stored_bits(names, nats, PEOPLE, NAME_BITS, VALUE_BITS)
    mean = (PEOPLE - 1) / 2 / math.log(2)
    assert bits.name == pytest.approx(PEOPLE * (2 - 0.01 * mean))
    assert bits.values == pytest.approx((PEOPLE * (3 - 0.001 * mean), PEOPLE * (0 - 0.002 * mean)))
    swapped = stored_bits(names, nats[:, ::-1], PEOPLE, NAME_BITS, VALUE_BITS[::-1])
    assert swapped.values == bits.values[::-1]


def test_nothing_is_clamped():
    worse = values(CITIES, JOBS) + math.log(2)
    bits = stored_bits(guessed_names(), worse, PEOPLE, NAME_BITS, VALUE_BITS)
    assert bits.values == pytest.approx((-PEOPLE, -PEOPLE))
    # One half knows a city, the other is as far below chance: nothing on average, though clamping would credit half.
    mixed = values(CITIES, JOBS)
    mixed[:8, 0] -= math.log(CITIES)
    mixed[8:, 0] += math.log(CITIES)
    assert stored_bits(guessed_names(), mixed, PEOPLE, NAME_BITS, VALUE_BITS).values[0] == pytest.approx(0, abs=1e-9)


def test_a_sample_of_people_stands_for_all():
    sample = slice(0, 4)
    bits = stored_bits(guessed_names()[sample], values(1, 1)[sample], PEOPLE, NAME_BITS, VALUE_BITS)
    assert bits.values == pytest.approx((PEOPLE * 4, PEOPLE * 2))


def test_the_constants_of_the_biographies():
    name_bits = math.log2(400 * 400 * 1000)
    value_bits = [math.log2(count) for count in (2, 12 * 28 * 200, 200, 300, 100, 263)]
    assert sum(value_bits) == pytest.approx(47.59, abs=0.005)
    for people, per_person in ((20_000, 60.56), (100_000, 58.24), (1_000_000, 54.91)):
        nats = np.full(1, math.log(people)), np.zeros((1, 6))
        bits = stored_bits(*nats, people, name_bits, value_bits)
        assert bits.total / people == pytest.approx(per_person, abs=0.005)
        assert bits.total == pytest.approx(bits.ceiling)


def test_as_many_people_as_names_can_be_measured():
    nats = np.full(100, math.log(100))
    bits = stored_bits(nats, np.zeros((100, 1)), people=100, name_bits=math.log2(100), value_bits_K=[3.0])
    assert bits.ceiling == pytest.approx(300)
    assert bits.total == pytest.approx(300)
    with pytest.raises(ValueError, match="people is 101"):
        stored_bits(nats, np.zeros((100, 1)), people=101, name_bits=math.log2(100), value_bits_K=[3.0])


def test_bits_above_the_ceiling_are_an_error_of_measurement():
    with pytest.raises(ValueError, match=r"stored bits are .*; they must be at most the ceiling 128"):
        stored_bits(known_names() - 0.1, values(1, 1), PEOPLE, NAME_BITS, VALUE_BITS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"people": 65}, r"people is 65; .* at most 2\*\*name_bits = 64"),
        ({"people": 0}, "people is 0"),
        ({"value_bits_K": (4.0,)}, r"value_nats_NK has shape \(16, 2\); it must be \(16, 1\)"),
        ({"name_nats_N": np.zeros(0)}, "name_nats_N has shape"),
        ({"value_nats_NK": values(1, 1) - 1}, "value_nats_NK holds -1.0; nats must be finite and at least 0"),
        ({"name_nats_N": np.full(PEOPLE, np.nan)}, "name_nats_N holds nan"),
    ],
)
def test_impossible_measurements_are_named(change, message):
    given = {
        "name_nats_N": guessed_names(),
        "value_nats_NK": values(1, 1),
        "people": PEOPLE,
        "name_bits": NAME_BITS,
        "value_bits_K": VALUE_BITS,
    }
    with pytest.raises(ValueError, match=message):
        stored_bits(**(given | change))


def test_bits_need_parameters():
    bits = stored_bits(guessed_names(), values(1, 1), PEOPLE, NAME_BITS, VALUE_BITS)
    with pytest.raises(ValueError, match="parameters is 0; it must be at least 1"):
        bits.per_parameter(0)


def test_fact_bits():
    assert fact_bits(np.full(250, math.log(50)), answers=50) == pytest.approx(0, abs=1e-9)
    assert fact_bits(np.zeros(250), answers=50) == pytest.approx(250 * math.log2(50))
    some = np.full(250, math.log(50))
    some[:100] = 0
    some[100:120] = math.log(25)
    assert fact_bits(some, answers=50) == pytest.approx(100 * math.log2(50) + 20)
    with pytest.raises(ValueError, match="answers is 1; it must be at least 2"):
        fact_bits(some, answers=1)


def test_bits_are_a_capacity_only_with_room_left_and_nothing_moving():
    reading = read_as(1.6, ceiling=2.0, exposures=1000, twice={"people": (1.6, 1.65), "exposures": (1.5, 1.43)})
    assert (reading.kind, reading.label, reading.reasons) == ("capacity", "capacity", ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bits": 1.7}, "85 % of the ceiling is reached"),
        ({"bits": -0.1}, "nothing is stored"),
        ({"people": (1.0, 1.05)}, r"twice the people moves it by \+5\.0 %"),
        ({"people": (2.0, 1.8)}, r"twice the people moves it by -10\.0 %"),
        ({"exposures": (0.5, 0.6)}, r"twice the exposures moves it by \+20\.0 %"),
        ({"exposures": (-0.5, 1.0)}, r"twice the exposures was measured where nothing is stored \(-0\.50"),
        ({"exposures": None}, "twice the exposures was not measured"),
        ({"people": None}, "twice the people was not measured"),
    ],
)
def test_otherwise_bits_are_named_by_their_exposures(change, reason):
    twice = {what: change.get(what, (1.0, 1.0)) for what in ("people", "exposures")}
    reading = read_as(change.get("bits", 1.0), ceiling=2.0, exposures=400, twice=twice)
    assert (reading.kind, reading.label) == ("exposures", "bits at 400 exposures")
    assert len(reading.reasons) == 1
    assert re.search(reason, reading.reasons[0])
