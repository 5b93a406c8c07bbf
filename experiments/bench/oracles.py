"""Every task once more, slowly: one training example at a time, word by word, from the definition and a world's facts.

They are what the vectorised tasks are tested and timed against, and share no code with them but the words of pools. An
oracle is made for a task and its world, and draws the words of a training example from Python's own generator.
"""

import itertools
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from synthdata import biography
from synthdata.chains import Chains
from synthdata.questions import GIVEN, KINDS, QUESTIONS
from synthdata.task import Task
from synthdata.tasks.addition import Addition
from synthdata.tasks.bio_questions import Asked, BioQuestions
from synthdata.tasks.bios import Bios, People
from synthdata.tasks.comparison import Comparison, Values
from synthdata.tasks.composition import Composition
from synthdata.tasks.hop_extrapolation import HopExtrapolation
from synthdata.tasks.mano import Mano
from synthdata.tasks.multihop import MultiHop
from synthdata.tasks.random_tokens import RandomTokens
from synthdata.tasks.records import Records
from synthdata.tasks.twohop import Facts, TwoHop
from synthdata.tasks.twohop_editing import Edits, TwoHopEditing

Words = list[str]
Oracle = Callable[[Random], Words]


def oracle(task: Task, world: Any) -> Oracle:
    """The slow generator of a task's training examples, `<bos>` first.

    Raises:
        KeyError: for a task that has none.
    """
    return _MAKERS[type(task)](task, world)


def _mixed(state: int) -> int:
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def _trainable(task: Addition | Mano, key: int) -> Callable[[Words], bool]:
    token = {symbol: place for place, symbol in enumerate(task.vocabulary.symbols)}
    places = range(1, task.max_length + 1)
    coefficients = [_mixed((key + place * 0x9E3779B97F4A7C15) % 2**64) for place in places]

    def check(words: Words) -> bool:
        total = sum(token[word] * coefficient for word, coefficient in zip(words, coefficients, strict=False))
        return (_mixed((key + total) % 2**64) >> 11) / 2**53 < task.train_fraction

    return check


def _addition(task: Addition, world: Any) -> Oracle:
    trainable = _trainable(task, int(world))

    def draw(rng: Random) -> Words:
        numbers = [rng.randrange(task.modulus) for _ in range(rng.randint(2, task.operands))]
        words = ["<bos>", *" + ".join(map(str, numbers)).split(), "=", str(sum(numbers) % task.modulus)]
        return words if trainable(words) else draw(rng)

    return draw


def _mano(task: Mano, world: Any) -> Oracle:
    trainable = _trainable(task, int(world))
    compute = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}

    def expression(rng: Random, operations: int) -> tuple[Words, int]:
        if operations == 0:
            number = rng.randrange(task.modulus)
            return [str(number)], number
        operator = rng.choice(task.operators)
        left_operations = rng.randrange(operations)
        left, left_value = expression(rng, left_operations)
        right, right_value = expression(rng, operations - 1 - left_operations)
        return [operator, *left, *right], compute[operator](left_value, right_value) % task.modulus

    def draw(rng: Random) -> Words:
        operations = rng.randint(1, task.operations)
        symbols, value = expression(rng, operations)
        words = ["<bos>", f"<len_{operations}>", *symbols, "<ans>", str(value)]
        return words if trainable(words) else draw(rng)

    return draw


def _twohop(task: TwoHop, world: Facts) -> Oracle:
    entities, relations = range(task.entities), range(task.relations)
    facts = dict(zip(itertools.product(entities, relations), world.answer_F.tolist(), strict=True))
    by_hops = [itertools.product(entities, *[relations] * hops) for hops in range(1, task.hops + 1)]
    questions = list(itertools.chain(*by_hops))
    single, seen = list(facts), [questions[q] for q in world.questions["seen"]]

    def draw(rng: Random) -> Words:
        head, *chain = rng.choice(single if rng.random() < task.fact_share else seen)
        at = head
        for relation in chain:
            at = facts[at, relation]
        return ["<bos>", f"e{head}", *(f"r{relation}" for relation in chain), f"e{at}"]

    return draw


def _twohop_editing(task: TwoHopEditing, world: Edits) -> Oracle:
    facts = list(itertools.product(range(task.entities), range(task.relations)))
    old, new = world.before.answer_F.tolist(), world.after.answer_F.tolist()
    edited = [f for f in range(len(facts)) if old[f] != new[f]]
    others = [f for f in range(len(facts)) if old[f] == new[f]]

    def draw(rng: Random) -> Words:
        fact = rng.choice(others if rng.random() < task.rehearsal_share else edited)
        entity, relation = facts[fact]
        return ["<bos>", f"e{entity}", f"r{relation}", f"e{new[fact]}"]

    return draw


def _told_chains(world: Chains) -> tuple[dict[tuple[int, int], int], dict[str, list[tuple[int, ...]]]]:
    """Facts as (entity, relation) -> entity, and the questions of each split as (entity, relation, …)."""
    relation, answer = world.relation_F.tolist(), world.answer_F.tolist()
    facts = {(f // world.slots, relation[f]): answer[f] for f in range(len(answer))}
    questions = {
        split: [
            (path[0] // world.slots, *(relation[f] for f in path if f >= 0)) for path in world.fact_QH[index].tolist()
        ]
        for split, index in world.questions.items()
    }
    return facts, questions


def _multihop(task: MultiHop, world: Chains) -> Oracle:
    facts, questions = _told_chains(world)

    def draw(rng: Random) -> Words:
        head, *chain = rng.choice(questions["facts" if rng.random() < task.fact_share else "seen"])
        return _asked(facts, head, chain, task.chain_of_thought == "written", task.form == "sentence")

    return draw


def _epochs_of_chains(task: Composition | HopExtrapolation, world: Chains) -> Oracle:
    facts, questions = _told_chains(world)
    both = questions["facts"] + questions["seen"]

    def draw(rng: Random) -> Words:
        head, *chain = rng.choice(both)
        return _asked(facts, head, chain, task.chain_of_thought == "written", sentence=False)

    return draw


def _asked(facts: dict[tuple[int, int], int], head: int, chain: Sequence[int], written: bool, sentence: bool) -> Words:
    at, reached = head, []
    for relation in chain:
        at = facts[at, relation]
        reached.append(f"e{at}")
    answer = reached if written else reached[-1:]
    if not sentence:
        return ["<bos>", f"e{head}", *(f"r{relation}" for relation in chain), *answer]
    phrase = " of ".join(f"the r{relation}" for relation in reversed(chain)) + f" of e{head}"
    text = f"<bos> {phrase} is" if len(chain) == 1 else f"<bos> who is {phrase} ? answer:"
    return [*text.split(), *answer]


def _comparison(task: Comparison, world: Values) -> Oracle:
    values = world.value_EA.tolist()
    facts = list(itertools.product(range(task.entities), range(task.attributes)))
    seen = world.questions["seen"].tolist()

    def draw(rng: Random) -> Words:
        item = rng.randrange(len(facts) + len(seen))
        if item < len(facts):
            entity, attribute = facts[item]
            return ["<bos>", f"e{entity}", f"a{attribute}", f"v{values[entity][attribute]}"]
        pair, other = divmod(seen[item - len(facts)], task.entities)
        attribute, one = divmod(pair, task.entities)
        left, right = values[one][attribute], values[other][attribute]
        sign = "<" if left < right else ">" if left > right else "="
        said = [f"v{left}", f"v{right}"] if task.chain_of_thought == "written" else []
        return ["<bos>", f"a{attribute}", f"e{one}", f"e{other}", *said, f"a{attribute}{sign}"]

    return draw


def _records(task: Records, world: Any) -> Oracle:
    names, values = world.name_NL.tolist(), world.value_NKM.tolist()

    def draw(rng: Random) -> Words:
        person = rng.randrange(task.people)
        words = ["<bos>", *(f"s{symbol}" for symbol in names[person])]
        for attribute in rng.sample(range(task.attributes), task.attributes):
            words += [f"a{attribute}", *(f"s{symbol}" for symbol in values[person][attribute])]
        return words

    return draw


def _random_tokens(task: RandomTokens, world: Any) -> Oracle:
    sequences = world.tolist()

    def draw(rng: Random) -> Words:
        return ["<bos>", *(f"s{symbol}" for symbol in rng.choice(sequences))]

    return draw


def _names(people: People) -> list[str]:
    pools = (biography.FIRST_NAMES, biography.MIDDLE_NAMES, biography.LAST_NAMES)
    return [" ".join(pool[place] for pool, place in zip(pools, name, strict=True)) for name in people.name_N3.tolist()]


def _values(people: People) -> list[list[str]]:
    return [
        [" ".join(values[v]) for values, v in zip(biography.VALUES, row, strict=True)]
        for row in people.value_NA.tolist()
    ]


def _bios(task: Bios | BioQuestions, world: People) -> Oracle:
    names, values, pronouns = _names(world), _values(world), world.pronoun_N.tolist()
    orders, templates = world.order_NA.tolist(), world.template_NA.tolist()
    attributes = range(len(biography.ATTRIBUTES))

    def draw(rng: Random) -> Words:
        person = rng.randrange(task.people)
        pronoun = biography.NEUTRAL_PRONOUN if task.pronouns == "neutral" else biography.PRONOUNS[pronouns[person]]
        order, wording = orders[person], templates[person]
        if task.variant == "multi":
            order = rng.sample(attributes, len(attributes))
            wording = [rng.randrange(len(biography.TEMPLATES[attribute])) for attribute in order]
        text, subject = "<bos>", names[person]
        for attribute, template in zip(order, wording, strict=True):
            sentence = " ".join(biography.TEMPLATES[attribute][template])
            text += f" {subject} {sentence.format(values[person][attribute])}"
            subject = pronoun
        return text.split()

    return draw


def _bio_questions(task: BioQuestions, world: Asked) -> Oracle:
    biographies = _bios(task, world.people)
    names, values, luck = _names(world.people), _values(world.people), world.luck_N.tolist()
    asked = world.trained.person_P.tolist()
    major = biography.ATTRIBUTES.index("major")
    months = list(dict.fromkeys(month for month, _, _ in biography.VALUES[0]))
    columns = [[biography.ATTRIBUTES.index(attribute) for attribute in given] for given in GIVEN]
    told = [[[row[column] for column in given] for row in values] for given in columns]
    forms = {kind: [question for question in QUESTIONS if question.kind == kind] for kind in KINDS}
    kinds = KINDS if task.questions == "all" else (task.questions,)

    def yes(condition: bool) -> str:
        return "yes" if condition else "no"

    def draw(rng: Random) -> Words:
        if rng.random() >= task.question_share:
            return biographies(rng)
        kind = rng.choice(kinds)
        form = rng.choice(forms[kind])
        person = rng.choice(asked)
        while form.given is not None and told[form.given].count(told[form.given][person]) > 1:
            person = rng.choice(asked)
        other = rng.choice(asked)
        while other == person:
            other = rng.choice(asked)
        month, day, year = values[person][0].split()
        its_month = values[other][0].split()[0]
        number, its_number = (1 + months.index(name) for name in (month, its_month))
        slots = dict(zip(biography.ATTRIBUTES, values[person], strict=True))
        slots |= {"name": names[person], "first": names[person].split()[0], "other": names[other]}
        slots |= {"month": month, "other_month": its_month, "other_major": values[other][major]}
        slots |= {"day": day, "year": year, "even": yes(number % 2 == 0)}
        slots |= {f"month_{modulus}": str(number % modulus) for modulus in (6, 12)}
        slots |= {f"luck_{modulus}": str(luck[person] % modulus) for modulus in (5, 20, 100)}
        slots |= {"later": yes(number > its_number), "months": str(number - its_number)}
        slots |= {"luckier": yes(luck[person] > luck[other]), "luck": str(luck[person] - luck[other])}
        text = form.hinted if form.hint is not None and rng.random() < task.hint_share else form.plain
        return ["<bos>", *text.format(**slots).split()]

    return draw


_MAKERS: dict[type[Task], Callable[[Any, Any], Oracle]] = {
    Addition: _addition,
    BioQuestions: _bio_questions,
    Bios: _bios,
    Comparison: _comparison,
    Composition: _epochs_of_chains,
    HopExtrapolation: _epochs_of_chains,
    Mano: _mano,
    MultiHop: _multihop,
    RandomTokens: _random_tokens,
    Records: _records,
    TwoHop: _twohop,
    TwoHopEditing: _twohop_editing,
}
