"""Cluster files: what is there can be read, and what is wrong is named."""

import re
from pathlib import Path

import pytest

from slurm.cluster import FOLDER, Cluster, clusters, load


def test_every_file_here_is_a_cluster_and_the_example_explains_every_key() -> None:
    assert {"devcluster", "local", "debug"} <= set(clusters())
    for name in [*clusters(), "example"]:
        load(name)
    text = (FOLDER / "example.yaml").read_text()
    keys = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    assert keys == set(Cluster.__dataclass_fields__)


def test_larger_cells_get_other_resources() -> None:
    cluster = load("example")
    assert [cluster.sized(n).memory_gb for n in (10**6, 10**8, 10**9)] == [32, 64, 128]
    assert [cluster.sized(n).workers for n in (10**6, 10**8)] == [4, 1]
    assert cluster.sized(10**9).partition == "gpu"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("executor: slurm\npartion: gpu", "Did you mean 'partition'"),
        ("partition: gpu", "cluster.executor is missing"),
        ("executor: pbs", "cluster.executor is 'pbs'; it must be slurm | local | debug"),
        ("executor: slurm\ncpus: 0", "cluster.cpus is 0; it must be at least 1"),
        ("executor: slurm\nmemory_gb: 0", "cluster.memory_gb is 0.0; it must be above 0"),
        ("executor: slurm\ntime_minutes: 5", "cluster.time_minutes is 5; with signal_seconds = 120"),
        ("executor: slurm\ndevice: cuda", "cluster.gpus is 0; with device = cuda it must be at least 1"),
        (
            "executor: slurm\ndevice: cuda\ngpus: 2\ndevices: 3",
            "cluster.gpus is 2; with device = cuda it must be at least 3",
        ),
        ("executor: slurm\noptions: {comment: mine}", "cluster.options has 'comment'; it must not"),
        ("executor: slurm\noptions: {requeue: false}", "cluster.options.requeue is False; to leave an option out"),
        ("executor: slurm\ndevices: 2\nworkers: 2", "cluster.workers is 2; with devices = 2 it must be 1"),
        (
            "executor: slurm\ncuda_graphs: true",
            "cluster.cuda_graphs is true; with device = cpu, devices = 1 it must be",
        ),
        ("executor: slurm\nlarger: [{memory_gb: 3}]", "from_parameters must be a whole number"),
        ("executor: slurm\nlarger: [{from_parameters: 9, memry_gb: 3}]", "Did you mean 'memory_gb'"),
        ("executor: slurm\nlarger: [{from_parameters: 9}, {from_parameters: 9}]", "they must rise"),
        ("- executor", "must hold a mapping"),
        ("executor: {", "is not a cluster"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)):
        load(str(path))


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'devcluster'"):
        load("devclster")
    with pytest.raises(ValueError, match=r"cluster file mine.yaml does not exist"):
        load("mine.yaml")
