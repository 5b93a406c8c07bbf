"""Tuning: the same number of trials for every arm, in a world and on a split that no report reads.

Each arm has an Optuna study in a journal file; a trial is an ordinary cell, so that an interrupted search carries on.
One process at a time leads a study: it holds a claim beside the journal, and its successor takes over what it left.
The first trials lie evenly over the range, ends included; TPE proposes those after them. A choice at the edge of the
range widens the range, and adds a third as many trials, for all arms.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
from omegaconf import OmegaConf
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from results.store import Store
from sweeps.cell import Cell, Seeds
from sweeps.claim import Claim, owner
from sweeps.config import assigned, construct
from sweeps.files import write_atomically
from sweeps.grid import Grid

WIDEN = 3.0
"""Factor by which a range grows on the side where a best value lies at its edge."""

MOST_WIDENINGS = 3

SPREAD = 4
"""Trials that lie evenly over the (logarithmic) range before TPE proposes any: few drawn at random may leave half of it
untried."""

_EDGE = 0.1
"""A best value within this share of the (logarithmic) range from an end is at the edge."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What `grid.yaml` says about tuning a part.

    Attributes:
        key: what is tuned, as a dotted key of the cell.
        low: lower end of the range at first; the range is logarithmic.
        high: upper end of the range at first.
        trials: trials of each arm before any widening.
        seed: data, order and initialisation seed of the tuning world; no replicate may use it.
        split: where the metric is read, at the last loop.
        metric: name of the metric in the records; larger is better unless `minimize`.
        minimize: whether smaller is better.
        worst: value that a diverged trial counts as.
        tolerance: scores this close to the best count as equal to it; the middle one of them is chosen, so that an arm
            that hardly reacts is not driven to an edge by noise.
        steps_share: length of a trial, as a share of the scale's own steps.
    """

    key: str
    low: float
    high: float
    trials: int
    seed: int
    split: str
    metric: str
    worst: float
    minimize: bool = False
    tolerance: float = 0.0
    steps_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"tuning.low is {self.low}; it must be above 0 and below tuning.high = {self.high}")
        if self.trials < 3:
            raise ValueError(f"tuning.trials is {self.trials}; it must be at least 3 for a best value inside the range")
        if not 0 < self.steps_share <= 1:
            raise ValueError(f"tuning.steps_share is {self.steps_share}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class Choice:
    """The outcome for one arm: the chosen value, its score, every trial, and whether it lies inside the range."""

    arm: str
    value: float
    score: float
    trials: tuple[tuple[float, float], ...]
    inside: bool


@dataclass(frozen=True)
class Tuned:
    """The outcome for one part: the final range and a choice for each arm."""

    part: str
    search: Search
    low: float
    high: float
    choices: tuple[Choice, ...]


def search_of(grid: Grid, part: str) -> Search:
    """What the grid says about tuning a part."""
    found = grid.text.get("tuning", {}).get(part)
    if found is None:
        raise ValueError(f"{grid.name}: tuning.{part} is missing; the grid does not say how to tune it")
    return construct(Search, found, f"{grid.name}: tuning.{part}")


def tune_part(
    grid: Grid,
    scale: str,
    part: str,
    store: Store,
    run: Callable[[Sequence[Cell]], object],
    arms: Sequence[str] = (),
    trials: int | None = None,
) -> Tuned:
    """Search the tuned value of every arm of a part (or of `arms` alone), running cells through `run`.

    `trials` replaces the grid's number of trials.

    Raises:
        ValueError: if a replicate of the scale uses the tuning world.
        RuntimeError: naming the study and who leads it, if that is another process.
    """
    search = search_of(grid, part)
    search = search if trials is None else dataclasses.replace(search, trials=trials)
    plan = dataclasses.replace(grid, tuning={}).expand(scale).only([part], arms)
    if search.seed in {member.cell.seeds.data_seed for member in plan.members}:
        raise ValueError(f"{grid.name}: tuning.{part}.seed is {search.seed}; a replicate of {scale} uses that world")
    chosen = dict.fromkeys(member.arm for member in plan.members)
    cells = {arm: _tuning_cell(grid, scale, part, arm, search) for arm in chosen}
    folder = store.root / "tuning"
    names = {arm: f"{grid.name}/{scale}/{part}/{arm}/{cell.id}" for arm, cell in cells.items()}
    low, high = search.low, search.high
    with _leading(folder, names.values()) as still_leads:
        studies = {arm: _study(folder, name, search) for arm, name in names.items()}

        def finish(trials: Sequence[Cell]) -> None:
            run(trials)
            still_leads()

        for widening in range(MOST_WIDENINGS + 1):
            wanted = search.trials + widening * (search.trials // 3)
            _complete(studies, cells, search, (low, high), wanted, store, finish)
            choices = [_choice(arm, study, search, low, high) for arm, study in studies.items()]
            edges = [choice.value for choice in choices if not choice.inside]
            if not edges or widening == MOST_WIDENINGS:
                return Tuned(part, search, low, high, tuple(choices))
            middle = math.sqrt(low * high)
            low = low / WIDEN if any(value < middle for value in edges) else low
            high = high * WIDEN if any(value > middle for value in edges) else high
    raise AssertionError


@contextmanager
def _leading(folder: Path, names: Collection[str]) -> Iterator[Callable[[], None]]:
    """Hold the right to ask and tell these studies; yields what raises `RuntimeError` once it is another's."""
    claims: dict[str, Claim] = {}

    def still_leads() -> None:
        for name, claim in claims.items():
            if not claim.held():
                raise RuntimeError(f"study {name} has been taken over by {_whom(owner(folder / name))}")

    with ExitStack() as held:
        for name in names:
            while (claim := Claim.acquire(folder / name)) is None:
                if (other := owner(folder / name)) is not None:
                    raise RuntimeError(
                        f"study {name} is being tuned by {_whom(other)}; once that ends, the same command carries on"
                    )
            claims[name] = held.enter_context(claim)
        yield still_leads


def _whom(claimed: dict[str, Any] | None) -> str:
    return "another" if claimed is None else f"process {claimed['pid']} on {claimed['host']}"


def write_choices(path: Path, scale: str, tuned: Tuned) -> None:
    """Put the outcome into a `tuning.yaml`, in place of what it said of the same arms of this part at this scale.

    Raises:
        ValueError: if the file has other arms of the part that were tuned by another search.
    """
    written = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
    assert isinstance(written, dict)
    search = tuned.search
    part = written.setdefault(scale, {}).setdefault(tuned.part, {})
    by = {key: getattr(search, key) for key in ("key", "split", "metric", "seed", "steps_share", "tolerance")}
    others = sorted(part.get("choices", {}).keys() - {choice.arm for choice in tuned.choices})
    if others and part["search"] != by:
        raise ValueError(
            f"{path}: {scale}.{tuned.part}.search is {part['search']}; it must be {by}, by which the arms to be added "
            f"were tuned: tune {', '.join(others)} too, or write another file (nothing tried is lost)"
        )
    part["search"] = by
    for choice in tuned.choices:
        part.setdefault("choices", {})[choice.arm] = {search.key: choice.value}
        part.setdefault("ranges", {})[choice.arm] = [tuned.low, tuned.high]
        part.setdefault("trials", {})[choice.arm] = [list(trial) for trial in choice.trials]
    head = "# Written by `looplm tune`: per arm the chosen value, the range and every trial as [value, score].\n"
    write_atomically(path, head + OmegaConf.to_yaml(written))


def _tuning_cell(grid: Grid, scale: str, part: str, arm: str, search: Search) -> Cell:
    """An arm's cell in the tuning world, shortened; a partner's own number of steps shortens alike."""
    (member, *_) = dataclasses.replace(grid, tuning={}).expand(scale).only([part], [arm]).members
    steps = max(1, round(search.steps_share * member.cell.budget.steps))
    seeds = Seeds(data_seed=search.seed, order_seed=search.seed, init_seed=search.seed)
    budget = dataclasses.replace(member.cell.budget, steps=steps)
    return dataclasses.replace(member.cell.at_seeds(lambda _: seeds), budget=budget, evaluations=())


def _study(folder: Path, name: str, search: Search) -> optuna.Study:
    optuna.logging.set_verbosity(logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        study_name=name,
        load_if_exists=True,
        direction="minimize" if search.minimize else "maximize",
    )


def _complete(
    studies: dict[str, optuna.Study],
    arms: dict[str, Cell],
    search: Search,
    bounds: tuple[float, float],
    trials: int,
    store: Store,
    run: Callable[[Sequence[Cell]], object],
) -> None:
    """Bring every study to `trials` finished trials; those an earlier sitting left unfinished come first."""
    space = {search.key: optuna.distributions.FloatDistribution(*bounds, log=True)}
    while True:
        asked: list[tuple[optuna.Study, int, Cell]] = []
        for arm, study in studies.items():
            found = study.get_trials(deepcopy=False)
            if sum(trial.state == TrialState.COMPLETE for trial in found) >= trials:
                continue
            left = [trial for trial in found if trial.state == TrialState.RUNNING]
            number, value = (left[0].number, left[0].params[search.key]) if left else _ask(study, space, search)
            asked.append((study, number, Cell.from_config(assigned(arms[arm].config(), {search.key: value}))))
        if not asked:
            return
        run([cell for _, _, cell in asked])
        for study, number, cell in asked:
            study.tell(number, _score(cell, search, store))


def _ask(study: optuna.Study, space: dict[str, Any], search: Search) -> tuple[int, float]:
    """The next trial: a function of those before it, not of how often the search was interrupted."""
    number, spread = len(study.get_trials(deepcopy=False)), min(search.trials, SPREAD)
    if number < spread:
        study.enqueue_trial({search.key: float(np.geomspace(search.low, search.high, spread)[number])})
    seed = np.random.SeedSequence([search.seed, number]).generate_state(1)
    study.sampler = optuna.samplers.TPESampler(seed=int(seed[0]), n_startup_trials=spread, multivariate=False)
    trial = study.ask(space)
    return trial.number, float(trial.params[search.key])


def _score(cell: Cell, search: Search, store: Store) -> float:
    """The metric at the last loop; a failed (diverged) cell scores `worst`, as does one where nothing had a value."""
    rows = store.read([cell.id])
    if rows.cells.is_empty():
        raise RuntimeError(f"tuning: cell {cell.id} has no rows; it was stopped, and the same command carries on")
    if rows.cells["status"].item() == "failed":
        return search.worst
    found = rows.records.filter(
        pl.col("split") == search.split,
        pl.col("metric") == search.metric,
        pl.col("loop") == cell.model.exits,
        pl.col("difficulty").is_null(),
    )
    if len(found) != 1:
        raise ValueError(f"tuning.metric is {search.metric!r} on split {search.split!r}; the cell has no such record")
    value = found["value"].item()
    return search.worst if value is None else float(value)


def _choice(arm: str, study: optuna.Study, search: Search, low: float, high: float) -> Choice:
    """The best trial, or the middle one of those that are as good within the tolerance."""

    def value(trial: FrozenTrial) -> float:
        return float(trial.params[search.key])

    finished = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
    scores = [float(t.value) for t in finished if t.value is not None]
    best = min(scores) if search.minimize else max(scores)
    equals = sorted((t for t in finished if t.value is not None and abs(t.value - best) <= search.tolerance), key=value)
    chosen = value(equals[len(equals) // 2])
    place = math.log(chosen / low) / math.log(high / low)
    tried = tuple(sorted((value(t), float(t.value)) for t in finished if t.value is not None))
    return Choice(arm, chosen, best, tried, _EDGE <= place <= 1 - _EDGE)
