"""`looplm new-task`: one Python file that is a whole task, passes every contract as it stands, and is to be edited."""

import json
import keyword
import re
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[2]
HASHES = ROOT / "tests" / "contracts" / "golden_tasks.json"

TEMPLATE = '''"""{title}: say here in one sentence what the task asks of a model."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthdata.examples import UNSCORED, Examples
from synthdata.layout import write
from synthdata.partition import draw_key, draw_side
from synthdata.task import Task, register, require
from synthdata.vocabulary import BOS, SPECIALS, Vocabulary, numbered


@register
@dataclass(frozen=True, kw_only=True)
class {class_name}(Task):
    """The larger of two numbers; only the answer is trained.

        inputs   <bos>  n3  n7
        labels   _      _   n7

    A keyed hash of the question, drawn with the world, decides whether it is trained (four in five are) or tested.

    Attributes:
        numbers: how many there are.
    """

    name: ClassVar[str] = "{name}"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "our own"
    difficulty: ClassVar[str] = "always 1"
    splits = ("train", "test")
    max_length = 4

    numbers: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        require(10 <= self.numbers <= 10_000, "numbers", self.numbers, "between 10 and 10,000")

    @property
    def vocabulary(self) -> Vocabulary:
        """The numbers."""
        return Vocabulary(tuple(numbered("n", self.numbers)))

    def world(self, rng: np.random.Generator) -> np.uint64:
        """The key that divides the questions."""
        return draw_key(rng)

    def draw(self, world: np.uint64, split: str, rng: np.random.Generator, count: int) -> Examples:
        """Independent questions of one side."""

        def ask(n: int) -> Examples:
            number_N2 = len(SPECIALS) + rng.integers(self.numbers, size=(n, 2))
            token_N4 = np.column_stack([np.full(n, BOS), number_N2, number_N2.max(axis=1)])
            return write(token_N4, np.tile([UNSCORED] * 3 + [0], (n, 1)), 4, "answer", np.ones(n))

        return draw_side(ask, world, 0.8, split == "train", count)
'''


def add_to(app: typer.Typer) -> None:
    """Register this module's command."""
    app.command(rich_help_panel="Data")(new_task)


def new_task(
    name: Annotated[str, typer.Argument(help="Name of the task: lower-case letters, digits and underscores.")],
    folder: Annotated[
        Path | None, typer.Option(help="Folder of your own package to write to; by default the suite's own tasks.")
    ] = None,
) -> None:
    """Write one Python file that is a whole task and passes every contract as it stands; then make it yours."""
    from experiments.cli.console import console

    path = write_task(name, folder)
    console.print(f"{path} is a task, {name!r}, that finds the larger of two numbers. Make it yours, then:")
    if folder is None:
        console.print(f"  looplm preview {name}", f"  pytest tests/contracts -k {name}", sep="\n")
        console.print(
            f"The contract on bytes names the hash to put into {HASHES.relative_to(ROOT)} when you change it."
        )
    else:
        console.print("name its module in your package's pyproject.toml, so that every command finds it:")
        console.print(f'  [project.entry-points."looplm.tasks"]\n  {name} = "your_package.{name}"', markup=False)


def write_task(name: str, folder: Path | None = None) -> Path:
    """Write the file of a new task; among the suite's own (`folder` None) its hash is recorded too.

    Raises:
        ValueError: if the name is malformed or taken.
        FileExistsError: if the file is there already.
    """
    from synthdata.streams import fingerprint
    from synthdata.task import task_class, tasks

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ValueError(f"name is {name!r}; it must be lower-case letters, digits and underscores, a letter first")
    if name in tasks():
        raise ValueError(f"name is {name!r}; it must be one that no task has yet: {', '.join(tasks())}")
    path = (folder or ROOT / "synthdata" / "tasks") / f"{name}.py"
    title = name.replace("_", " ").capitalize()
    class_name = "".join(part.capitalize() for part in name.split("_"))
    with path.open("x") as file:
        file.write(TEMPLATE.format(name=name, title=title, class_name=class_name))
    if folder is None:
        task = task_class(name)()
        hashes = json.loads(HASHES.read_text()) | {f"{task.name}@{task.version}": fingerprint(task)}
        HASHES.write_text(json.dumps(dict(sorted(hashes.items())), indent=2) + "\n")
    return path
