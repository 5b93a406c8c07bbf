"""Index-addressable streams: block i is a pure function of (task, version, parameters, seeds, split, i).

Every generator is a `numpy.random.Philox` whose key is a hash of those and whose counter starts at the block's index,
so that streams need no files, resume exactly, shard over ranks and never overlap because two seeds are neighbours.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from synthdata.examples import Examples, concatenate
from synthdata.task import Task, World, require

BLOCK = 1024
"""Examples per block. Part of what defines a stream: changing it changes every stream."""


def generator(identity: dict[str, Any], index: int = 0) -> np.random.Generator:
    """A generator keyed by a hash of `identity`, positioned at block `index` (each block has 2**192 draws)."""
    return _positioned(_key(identity), index)


def _key(identity: dict[str, Any]) -> npt.NDArray[np.uint64]:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), dtype="<u8")


def _positioned(key: npt.NDArray[np.uint64], index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, index]))


def _check_seed(name: str, seed: int) -> None:
    require(type(seed) is int and seed >= 0, name, seed, "an integer of at least 0")


@lru_cache(maxsize=8)
def world(task: Task, data_seed: int) -> World:
    """The world of a data seed: which facts are true. Shared by every split and every order seed.

    Raises:
        ValueError: if this seed gives a world in which something cannot be asked.
    """
    _check_seed("data_seed", data_seed)
    try:
        return task.world(generator({"task": task.world_config(), "data_seed": data_seed, "draw": "world"}))
    except ValueError as error:
        raise ValueError(f"data_seed is {data_seed}: {error}") from error


@lru_cache(maxsize=8)
def pool(task: Task, data_seed: int, split: str) -> Examples | None:
    """Every example of a finite split, or None where the task only draws."""
    task.check_split(split)
    return task.pool(world(task, data_seed), split)


@dataclass(frozen=True)
class Stream:
    """The endless stream of one split: `data_seed` decides which facts, `order_seed` which examples when."""

    task: Task
    data_seed: int
    order_seed: int
    split: str = "train"

    def __post_init__(self) -> None:
        self.task.check_split(self.split)
        _check_seed("data_seed", self.data_seed)
        _check_seed("order_seed", self.order_seed)

    def block(self, index: int) -> Examples:
        """Block `index`: `BLOCK` examples, the same bytes whenever and wherever it is asked for."""
        return _block(self, index)

    def examples(self, start: int, count: int) -> Examples:
        """Examples `start … start + count - 1`."""
        require(start >= 0, "start", start, "at least 0")
        require(count >= 1, "count", count, "at least 1")
        pieces, position, end = [], start, start + count
        while position < end:
            index, offset = divmod(position, BLOCK)
            stop = min(BLOCK, offset + end - position)
            pieces.append(self.block(index).take(slice(offset, stop)))
            position += stop - offset
        return concatenate(pieces)


def _identity(stream: Stream) -> dict[str, Any]:
    return {
        "task": stream.task.config() if stream.split == "train" else stream.task.world_config(),
        "data_seed": stream.data_seed,
        "order_seed": stream.order_seed,
        "split": stream.split,
        "block": BLOCK,
    }


@lru_cache(maxsize=64)
def _stream_key(stream: Stream) -> npt.NDArray[np.uint64]:
    return _key(_identity(stream))


@lru_cache(maxsize=16)
def _block(stream: Stream, index: int) -> Examples:
    task, facts = stream.task, world(stream.task, stream.data_seed)
    rng = _positioned(_stream_key(stream), index)
    items = task.items(facts, stream.split)
    if items is None:
        return task.draw(facts, stream.split, rng, BLOCK)
    position_N = np.arange(index * BLOCK, (index + 1) * BLOCK)
    epochs = range(position_N[0] // items, position_N[-1] // items + 1)
    order_EI = np.stack([_epoch(stream, items, epoch) for epoch in epochs])
    return task.show(facts, stream.split, rng, order_EI.ravel()[position_N - epochs[0] * items])


@lru_cache(maxsize=4)
def _epoch(stream: Stream, items: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch shows a stream's items, each once."""
    return generator({**_identity(stream), "draw": "epoch"}, epoch).permutation(items)


def fingerprint(task: Task) -> str:
    """A hash of the first training block of data seed 0 and order seed 0, shapes and types included: while a task keeps
    its version, it keeps this too."""
    examples, digest = Stream(task, 0, 0).block(0), hashlib.blake2b(digest_size=16)
    for field in dataclasses.fields(examples):
        array = getattr(examples, field.name)
        digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def evaluation_set(task: Task, data_seed: int, split: str, limit: int) -> Examples:
    """What a split is measured on: its whole pool, or `limit` examples of it, the same for every model of this world.

    A pool larger than `limit` is sampled without replacement; an endless split gives the first `limit` of its stream.
    The pool of the task's `facts_split` is never cut, because `Examples.parts_NP` points into it.
    """
    require(limit >= 1, "limit", limit, "at least 1")
    whole = pool(task, data_seed, split)
    if whole is None:
        return Stream(task, data_seed, order_seed=0, split=split).examples(0, limit)
    if len(whole) <= limit or split == task.facts_split:
        return whole
    identity = {"task": task.world_config(), "data_seed": data_seed, "draw": "evaluation", "split": split}
    chosen = generator(identity)
    return whole.take(np.sort(chosen.choice(len(whole), size=limit, replace=False)))
