"""What the suite knows of a cluster: one small YAML, checked key by key. `clusters/example.yaml` explains every key."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sweeps.config import construct, unknown

OURS = ("array", "comment", "dependency", "error", "open-mode", "output", "signal", "time")
"""Options of sbatch that a cluster file may not give, because the suite relies on them."""

FOLDER = Path(__file__).resolve().parent / "clusters"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How jobs are sent, and what one job has.

    Attributes:
        executor: `slurm`; `local` for processes of this machine; `debug` for this very process.
        partition: of SLURM; by default its own default.
        account: who pays.
        qos: quality of service.
        constraint: features that a node must have.
        time_minutes: time limit of a job. A job with work left checkpoints before it and queues itself again.
        gpus: GPUs of a job.
        cpus: cores of a job.
        memory_gb: memory of a job.
        options: anything else for sbatch, by its long name without dashes.
        setup: shell lines before the job begins.
        device: where cells train, `cpu` or `cuda`.
        compile: whether torch.compile is used.
        cuda_graphs: whether a step's passes are recorded once and replayed, for small models on one CUDA device.
        workers: cells that a job trains at the same time, sharing its GPU.
        devices: devices that share the training of one cell (DDP).
        throttle: jobs that run at the same time.
        least_minutes: estimated work for which another job is worth its start.
        speed: how many times faster a worker is than one core of a laptop, until rows from this cluster tell.
        signal_seconds: how long before its time limit a job is warned; SLURM may warn a minute earlier still.
        requeues: how often a job that ran out of time queues itself again.
        patience_minutes: how long a job waits for cells of its own that somebody else is training, before it ends.
        array_limit: largest job array; a lower limit of the site's own is found out.
        larger: other resources for larger cells: mappings with `from_parameters` and any of the keys above.
    """

    executor: Literal["slurm", "local", "debug"]
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_minutes: int = 240
    gpus: int = 0
    cpus: int = 1
    memory_gb: float = 4.0
    options: dict[str, Any] = field(default_factory=dict)
    setup: tuple[str, ...] = ()
    device: Literal["cpu", "cuda"] = "cpu"
    compile: Literal["auto", "on", "off"] = "auto"
    cuda_graphs: bool = False
    workers: int = 1
    devices: int = 1
    throttle: int = 64
    least_minutes: float = 10.0
    speed: float = 1.0
    signal_seconds: int = 120
    requeues: int = 100
    patience_minutes: float = 10.0
    array_limit: int = 1000
    larger: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        least = dict.fromkeys(
            ("time_minutes", "cpus", "workers", "devices", "throttle", "signal_seconds", "array_limit"), 1
        )
        for name, bound in {**least, "gpus": 0, "requeues": 0, "least_minutes": 0, "patience_minutes": 0}.items():
            if getattr(self, name) < bound:
                raise ValueError(f"cluster.{name} is {getattr(self, name)}; it must be at least {bound}")
        for name in ("memory_gb", "speed"):
            if not getattr(self, name) > 0:
                raise ValueError(f"cluster.{name} is {getattr(self, name)}; it must be above 0")
        for name, value in self.options.items():
            if name.replace("_", "-") in OURS:
                raise ValueError(f"cluster.options has {name!r}; it must not: {', '.join(OURS)} are the suite's own")
            if value is False or value is None:
                raise ValueError(f"cluster.options.{name} is {value}; to leave an option out, leave the line out")
        if self.time_minutes * 60 < 2 * (self.signal_seconds + 60):
            raise ValueError(
                f"cluster.time_minutes is {self.time_minutes}; with signal_seconds = {self.signal_seconds}, which may "
                f"come 60 s early, it must be at least {2 * (self.signal_seconds + 60) / 60:g}"
            )
        if self.device == "cuda" and self.executor == "slurm" and self.gpus < self.devices:
            raise ValueError(f"cluster.gpus is {self.gpus}; with device = cuda it must be at least {self.devices}")
        if self.cuda_graphs and (self.device, self.devices) != ("cuda", 1):
            raise ValueError(
                f"cluster.cuda_graphs is true; with device = {self.device}, devices = {self.devices} it must be false"
            )
        if self.devices > 1 and self.workers > 1:
            raise ValueError(f"cluster.workers is {self.workers}; with devices = {self.devices} it must be 1")
        for each in self.larger:
            self._with(each)
        sizes = [each["from_parameters"] for each in self.larger]
        if sizes != sorted(set(sizes)):
            raise ValueError(f"cluster.larger has from_parameters {sizes}; they must rise")

    def sized(self, parameters: int) -> "Cluster":
        """This cluster with the resources for a cell of so many parameters."""
        chosen = [each for each in self.larger if parameters >= each["from_parameters"]]
        return self._with(chosen[-1]) if chosen else dataclasses.replace(self, larger=())

    def _with(self, changes: dict[str, Any]) -> "Cluster":
        if not isinstance(changes.get("from_parameters"), int):
            raise ValueError(f"cluster.larger has {changes}; from_parameters must be a whole number")
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        merged = own | {key: value for key, value in changes.items() if key != "from_parameters"} | {"larger": ()}
        return construct(Cluster, merged, "cluster.larger")


def clusters() -> list[str]:
    """Names of the clusters in this folder, without the example."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "example")


def load(name: str) -> Cluster:
    """The cluster of a name in `slurm/clusters/`, or of the path of a YAML file.

    Raises:
        ValueError: for an unknown name (with the nearest one), a file that is not YAML, or a wrong key or value.
    """
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    if not path.exists():
        if name.endswith(".yaml"):
            raise ValueError(f"cluster file {name} does not exist")
        raise unknown("cluster", name, clusters())
    try:
        data = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{path} is not a cluster: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a mapping")
    return construct(Cluster, {str(key): value for key, value in data.items()}, "cluster")
