"""What every registered task keeps, at its default parameters, and the suite's own with those of `variants.json` too. A
new task inherits this suite by being registered."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from synthdata import streams
from synthdata.batch import pad
from synthdata.examples import NO_PART, UNSCORED, Examples
from synthdata.floors import floors
from synthdata.streams import BLOCK, Stream, evaluation_set, pool, world
from synthdata.task import Task, task_class, tasks
from synthdata.vocabulary import BOS, PAD

GOLDEN = Path(__file__).with_name("golden_tasks.json")

VARIANTS = {
    name: task_class(parameters.pop("name"))(**parameters)
    for name, parameters in json.loads(Path(__file__).with_name("variants.json").read_text()).items()
}
DEFAULTS = [cls() for cls in tasks().values()]
ALL = {task.name: task for task in DEFAULTS} | VARIANTS
SPLITS = {f"{name}-{split}": (task, split) for name, task in ALL.items() for split in task.splits}

OURS = [task for task in DEFAULTS if type(task).__module__.startswith("synthdata.tasks.")]
"""Without the tasks of plug-ins, whose hashes their own packages may keep."""

each_task = pytest.mark.parametrize("task", ALL.values(), ids=ALL)
each_split = pytest.mark.parametrize(("task", "split"), SPLITS.values(), ids=SPLITS)


def content(examples: Examples) -> bytes:
    """Every byte of the examples, shapes and types included."""
    arrays = [getattr(examples, field.name) for field in dataclasses.fields(examples)]
    return b"".join(f"{array.dtype.str}{array.shape}".encode() + array.tobytes() for array in arrays)


def some(task: Task, split: str) -> Examples:
    return Stream(task, 0, 0, split).block(0)


def questions(examples: Examples) -> set[tuple[int, ...]]:
    return set(map(tuple, examples.tokens_NL.tolist()))


@each_split
def test_blocks_are_deterministic(task: Task, split: str) -> None:
    first = content(some(task, split))
    for cached in (streams.world, streams.pool, streams._block):
        cached.cache_clear()
    assert content(some(task, split)) == first
    assert content(Stream(task, 1, 0, split).block(0)) != first
    assert content(Stream(task, 0, 1, split).block(0)) != first
    assert content(Stream(task, 0, 0, split).block(1)) != first


@each_task
def test_neighbouring_seeds_are_neither_equal_nor_shifted(task: Task) -> None:
    """Examples at the same place, or a few places on, are equal no more often than two drawn at random."""
    here_NL = some(task, "train").tokens_NL
    counts = np.unique(here_NL, axis=0, return_counts=True)[1]
    chance = float((counts / BLOCK) @ (counts / BLOCK))
    for other in (Stream(task, 0, 1), Stream(task, 1, 0)):
        there_NL = other.examples(0, BLOCK + 2).tokens_NL
        for shift in range(3):
            equal_N = (there_NL[shift : shift + BLOCK] == here_NL).all(axis=1)
            assert equal_N.mean() <= chance + 5 * np.sqrt(chance / BLOCK)


@pytest.mark.parametrize("task", OURS, ids=lambda task: task.name)
def test_bytes_change_only_with_the_version(task: Task) -> None:
    golden = json.loads(GOLDEN.read_text())
    key, found = f"{task.name}@{task.version}", streams.fingerprint(task)
    assert golden.get(key) == found, (
        f"the first training block of {key} hashes to {found}. If the task is new, or was changed on purpose (then "
        f"raise its `version`), write that into {GOLDEN.name}; else the change was not meant to touch the data."
    )


def test_golden_hashes_belong_to_registered_tasks() -> None:
    assert set(json.loads(GOLDEN.read_text())) == {f"{task.name}@{task.version}" for task in OURS}


def test_the_variants_of_a_task_change_each_of_its_parameters() -> None:
    by_task: dict[str, list[Task]] = {}
    for variant in VARIANTS.values():
        by_task.setdefault(variant.name, []).append(variant)
    for name, variants in by_task.items():
        for field in dataclasses.fields(variants[0]):
            unchanged = getattr(task_class(name)(), field.name)
            assert any(getattr(variant, field.name) != unchanged for variant in variants), f"{name}.{field.name}"


@pytest.mark.parametrize("task", DEFAULTS, ids=lambda task: task.name)
def test_docstring_shows_an_example_token_by_token(task: Task) -> None:
    """Two lines, `inputs` and `labels`, of equal length; a label is the next input, or `_` where nothing is trained."""
    shown = {line.split()[0]: line.split()[1:] for line in (type(task).__doc__ or "").splitlines() if line.split()}
    inputs, labels = shown["inputs"], shown["labels"]
    assert len(inputs) == len(labels) <= task.max_length - 1
    assert inputs[0] == "<bos>"
    task.vocabulary.encode(" ".join([*inputs, *(label for label in labels if label != "_")]))
    assert labels[-1] != "_"
    assert all(label in ("_", following) for label, following in zip(labels, inputs[1:], strict=False))


@each_task
def test_class_variables(task: Task) -> None:
    assert type(task.version) is int
    assert task.version >= 1
    assert task.source
    assert task.difficulty
    assert task.splits[0] == "train"
    assert len(task.splits) == len(set(task.splits)) >= 2
    assert set(task.trained_splits) < set(task.splits)
    assert task.facts_split is None or task.facts_split in task.splits
    assert len(task.spans) == len(set(task.spans)) >= 1


@each_split
def test_examples_are_well_formed(task: Task, split: str) -> None:
    examples = some(task, split)
    count, width = examples.tokens_NL.shape
    inside_NL = np.arange(width) < examples.lengths_N[:, None]
    assert len(examples) == count == BLOCK
    assert 2 <= examples.lengths_N.min() <= examples.lengths_N.max() <= task.max_length
    assert (examples.tokens_NL[:, 0] == BOS).all()
    assert (examples.tokens_NL[:, 1:][inside_NL[:, 1:]] > BOS).all()
    assert (examples.tokens_NL[~inside_NL] == PAD).all()
    assert examples.tokens_NL.max() < len(task.vocabulary)
    for mask_NL in (examples.trained_NL, examples.scored_NL != UNSCORED):
        assert mask_NL.shape == (count, width)
        assert not mask_NL[:, 0].any()
        assert not mask_NL[~inside_NL].any()
        assert mask_NL.any(axis=1).all()
    for span in range(len(task.spans)):
        assert (examples.scored_NL == span).any(axis=1).all()
    assert examples.scored_NL.max() == len(task.spans) - 1
    assert examples.difficulty_N.min() >= 1
    dtypes = [getattr(examples, field.name).dtype for field in dataclasses.fields(examples)]
    assert dtypes == [np.int32, np.int32, np.bool_, np.int8, np.int32, np.int32]


@each_task
def test_longest_example_is_reached(task: Task) -> None:
    assert max(some(task, split).lengths_N.max() for split in task.splits) == task.max_length
    batch = pad(some(task, "train"), task.max_length - 1)
    assert batch.tokens_BS.shape == (BLOCK, task.max_length - 1)


@each_task
def test_an_evaluated_split_shares_no_example_with_training_unless_it_says_so(task: Task) -> None:
    trained = questions(Stream(task, 0, 0).examples(0, 8 * BLOCK))
    for split in task.splits[1:]:
        evaluated = questions(evaluation_set(task, 0, split, 4 * BLOCK))
        if split not in task.trained_splits:
            assert not evaluated & trained


@each_split
def test_pools_hold_what_is_drawn(task: Task, split: str) -> None:
    whole = pool(task, 0, split)
    if whole is not None:
        assert len(whole) == len(questions(whole)) >= 1
        assert questions(some(task, split)) <= questions(whole)


@each_split
def test_parts_point_into_the_pool_of_facts(task: Task, split: str) -> None:
    parts_NP = some(task, split).parts_NP
    if task.facts_split is None:
        assert parts_NP.shape[1] == 0
    else:
        facts = pool(task, 0, task.facts_split)
        assert parts_NP.shape[1] >= 1
        assert parts_NP.min() >= NO_PART
        assert parts_NP.max() < len(facts)
        assert (parts_NP[:, 0] != NO_PART).all()
        assert facts.parts_NP[:, 0].tolist() == list(range(len(facts)))


@each_task
def test_configuration_survives_json(task: Task) -> None:
    stored = json.loads(json.dumps(task.config()))
    name, version = stored.pop("name"), stored.pop("version")
    assert version == task.version
    assert task_class(name)(**stored) == task
    assert task_class(name)(**stored).config() == task.config()


@each_task
def test_frozen_and_hashable(task: Task) -> None:
    assert hash(task) == hash(dataclasses.replace(task))
    first = dataclasses.fields(task)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(task, first, getattr(task, first))


@each_split
def test_text_and_tokens_are_inverse(task: Task, split: str) -> None:
    vocabulary = task.vocabulary
    assert vocabulary == dataclasses.replace(task).vocabulary
    for tokens in some(task, split).tokens_NL[:20].tolist():
        assert vocabulary.encode(vocabulary.decode(tokens)) == tokens


@each_task
def test_constants_are_finite_numbers(task: Task) -> None:
    constants = task.constants(world(task, 0))
    assert all(type(name) is str and np.isfinite(value) for name, value in constants.items())
    assert json.loads(json.dumps(dict(constants))) == constants


@each_split
def test_floors_can_be_computed(task: Task, split: str) -> None:
    found = floors(task, 0, split, 200)
    assert list(found) == ["constant", "ngram", "row_matching", "copy"]
    assert all(0 <= floor <= 1 for floor in found.values())


@each_split
def test_an_unknown_split_is_refused(task: Task, split: str) -> None:
    with pytest.raises(ValueError, match=f"split '{split}x' is not one of task '{task.name}': train, "):
        Stream(task, 0, 0, split + "x")
