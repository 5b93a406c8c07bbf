"""Vectorised tasks against their slow oracles: the same training examples, equally often."""

import math
from collections import Counter
from random import Random

import pytest

from experiments.bench import data
from experiments.bench.oracles import oracle
from synthdata.streams import Stream, world
from synthdata.task import Task, tasks
from synthdata.tasks.addition import Addition
from synthdata.tasks.bio_questions import BioQuestions
from synthdata.tasks.bios import Bios
from synthdata.tasks.comparison import Comparison
from synthdata.tasks.composition import Composition
from synthdata.tasks.hop_extrapolation import HopExtrapolation
from synthdata.tasks.mano import Mano
from synthdata.tasks.multihop import MultiHop
from synthdata.tasks.random_tokens import RandomTokens
from synthdata.tasks.records import Records
from synthdata.tasks.twohop import TwoHop
from synthdata.tasks.twohop_editing import TwoHopEditing

LAYERED = {"entities": 12, "layers": 4, "relations": 2, "training_questions": 15, "test_questions": 5}
GRAPH = {"entities": 15, "relations": 4, "out_degree": 3, "phi": 1.0, "held_out_facts": 0.2, "test_share": 0.1}
PAIRS = {"entities": 8, "attributes": 2, "values": 3, "phi": 3.0, "held_out_entities": 0.25, "test_share": 0.2}
HOPS = {"entities": 5, "relations": 2, "trained_hops": 3, "hops": 4, "training_questions": 12, "test_questions": 3}

SMALL: list[Task] = [
    Addition(modulus=5, operands=3, train_fraction=0.6),
    Mano(modulus=3, operations=2, operators="+*", train_fraction=0.7),
    TwoHop(entities=10, relations=3, hops=3, held_out_facts=0.3),
    TwoHopEditing(entities=10, relations=3, edited_facts=4, rehearsal_share=0.7),
    MultiHop(**LAYERED),
    MultiHop(**LAYERED, chain_of_thought="written"),
    MultiHop(**LAYERED, form="compact", fact_share=0),
    Composition(**GRAPH),
    Composition(**GRAPH, chain_of_thought="written"),
    HopExtrapolation(**HOPS),
    HopExtrapolation(**HOPS, chain_of_thought="written"),
    Comparison(**PAIRS),
    Comparison(**PAIRS, chain_of_thought="written"),
    Records(people=20, name_length=2, name_symbols=6, attributes=3, diversity=4, chunk_length=2, value_symbols=2),
    RandomTokens(sequences=30, length=3, symbols=4),
    Bios(people=25, variant="simple"),
    Bios(people=25, variant="simple", pronouns="neutral"),
    BioQuestions(people=8, variant="simple"),
    BioQuestions(people=8, variant="simple", questions="comparison", hint_share=0.3, question_share=0.9),
    BioQuestions(people=8, variant="simple", question_share=0),
]


@pytest.mark.parametrize("task", SMALL, ids=lambda task: task.name)
def test_both_say_the_same_things_equally_often(task: Task) -> None:
    """With two samples of n, the sum over texts of (a - b)^2 / (a + b) has as many degrees of freedom as there are
    texts; showing things in epochs only makes it smaller."""
    count = 12_000
    examples = Stream(task, 0, 0).examples(0, count)
    pairs = zip(examples.tokens_NL, examples.lengths_N, strict=True)
    decode = task.vocabulary.decode
    ours = Counter(decode(tokens[:length]) for tokens, length in pairs)
    draw, rng = oracle(task, world(task, 0)), Random(0)
    theirs = Counter(" ".join(draw(rng)) for _ in range(count))
    assert set(ours) == set(theirs)
    distance = sum((ours[text] - theirs[text]) ** 2 / (ours[text] + theirs[text]) for text in ours)
    assert distance < len(ours) + 5 * math.sqrt(2 * len(ours))


def test_biographies_have_the_same_words_in_the_same_places() -> None:
    """Too many to compare whole: how often each word stands at each place, of the places that both fill."""
    task = Bios(people=1000)
    count, (draw, rng) = 3000, (oracle(task, world(task, 0)), Random(0))
    decode = task.vocabulary.decode
    words = [decode(tokens).split() for tokens in Stream(task, 0, 0).examples(0, count).tokens_NL]
    slow = [draw(rng) for _ in range(count)]
    assert {len(text) for text in slow} == {56}
    for place in (4, 8, 10, 30, 55):
        ours, theirs = (Counter(text[place] for text in texts) for texts in (words, slow))
        distance = sum((ours[w] - theirs[w]) ** 2 / (ours[w] + theirs[w]) for w in ours | theirs)
        assert distance < len(ours | theirs) + 5 * math.sqrt(2 * len(ours | theirs))


def test_every_task_of_the_suite_has_an_oracle_and_is_timed() -> None:
    found = data.rows(rounds=1)
    own = [name for name, cls in tasks().items() if cls.__module__.startswith("synthdata.tasks.")]
    assert [(row["case"], row["side"]) for row in found] == [(n, s) for n in own for s in ("vectorised", "oracle")]
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in found)
    assert set(data.met(found)) == set(own)


def test_targets() -> None:
    def row(case: str, median: float, ratio: float) -> dict[str, object]:
        return {"case": case, "side": "vectorised", "median": median, "ratio": ratio}

    found = [row("mano", 14e6, 90.0), row("fast", 6e6, 2.0), row("steep", 1e6, 16.0), row("slow", 4e6, 14.0)]
    assert data.met(found) == {"mano": False, "fast": True, "steep": True, "slow": False}
