"""A throw-away SLURM on this host, to try and to test what is meant for a cluster: `python -m slurm.devcluster up`.

Two virtual nodes of four pretended cores and two pretended GPUs each, from the distribution's packages, without
systemd or cgroups; with accounting, so that sacct answers, by `up --accounting`. It needs root, starts in under a
second, keeps everything in one folder, and is brought down by `down`. Only the standard library is used, so that it
runs before anything is installed.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from slurm import devaccounting
from slurm.daemons import alive, stop, wait

FOLDER = Path(os.environ.get("LOOPLM_DEVCLUSTER", "/tmp/looplm-devcluster"))
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")
NODES = ("dev1", "dev2")
ARRAY_LIMIT = 16
"""Largest array; small, so that tests meet it."""

_PORT = 17817
_ACCOUNTING_PORT = _PORT + 1 + len(NODES)
_ETC = Path("/etc/slurm")

_CONF = """\
ClusterName=looplm
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
AuthType=auth/munge
CredType=cred/munge
# A requeued job starts again only when its old credential has expired.
AuthInfo=cred_expire=5,socket={folder}/munge/socket
{accounting}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
MaxArraySize={array_limit}
# Job ids of an earlier cluster must not come again: folders named by them may still be there.
FirstJobId={first_job}
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
KillWait=4
MinJobAge=300
CompleteWait=0
InactiveLimit=0
# With 2, a node set down by hand registers again within a second and gets its job back while the old copy lives.
ReturnToService=1
SlurmctldTimeout=30
SlurmdTimeout=10
MessageTimeout=10
UnkillableStepTimeout=20
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PreemptExemptTime=0
{warning}
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 PriorityTier=5  PreemptMode=OFF
PartitionName=low  Nodes=ALL Default=NO  MaxTime=60 DefaultTime=10 PriorityTier=1  PreemptMode=REQUEUE GraceTime=8
PartitionName=high Nodes=ALL Default=NO  MaxTime=60 DefaultTime=10 PriorityTier=10 PreemptMode=OFF
"""


def why_not(accounting: bool = False) -> str | None:
    """Why the cluster, with accounting or without, cannot be brought up here, or None if it can."""
    if os.geteuid() != 0:
        return "the development cluster needs root"
    programs = ["slurmctld", "slurmd", "sbatch", "munged"]
    programs += devaccounting.PROGRAMS if accounting else []
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        packages = [*PACKAGES, *(devaccounting.PACKAGES if accounting else ())]
        return f"{' '.join(missing)} not found: apt-get install --no-install-recommends {' '.join(packages)}"
    for conf in (_ETC / "slurm.conf", _ETC / devaccounting.CONF):
        if conf.exists() and not _ours(conf):
            return f"this host already belongs to a cluster ({conf})"
    return None


def up(accounting: bool = False) -> None:
    """Bring the cluster up, with accounting or without; nothing if it is up already.

    Raises:
        RuntimeError: if it cannot be, with the reason.
    """
    if (reason := why_not(accounting)) is not None:
        raise RuntimeError(reason)
    if is_up():
        if accounting and not devaccounting.runs(FOLDER):
            raise RuntimeError("it is up without accounting; bring it down first")
        return
    for name in ("state", "spool"):
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    for name in ("state", "log", "munge", *(f"spool/{node}" for node in NODES)):
        (FOLDER / name).mkdir(parents=True, exist_ok=True)
    _start_munge()
    if accounting:
        _link(devaccounting.CONF)
        devaccounting.start(FOLDER, _ACCOUNTING_PORT)
    _configure(warn_before_preemption=True)
    subprocess.run(["slurmctld", "-c"], check=True)
    for node in NODES:
        start_node(node)
    wait(_idle, f"the nodes of the development cluster did not become idle; see {FOLDER / 'log'}")


def down() -> None:
    """Cancel every job, stop the daemons that `up` started, and leave the logs."""
    if is_up():
        _ask("scancel", "--user=root", "--full")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and _ask("squeue", "-h", "-t", "R,CG").strip():
            time.sleep(0.1)
    for node in NODES:
        stop(FOLDER / f"slurmd-{node}.pid")
    stop(FOLDER / "slurmctld.pid")
    devaccounting.stop_all(FOLDER)
    stop(FOLDER / "munge" / "pid")
    for name in ("slurm.conf", "gres.conf", devaccounting.CONF):
        if _ours(_ETC / name):
            (_ETC / name).unlink()


def is_up() -> bool:
    """Whether the controller of this cluster runs and answers."""
    return _ours(_ETC / "slurm.conf") and alive(FOLDER / "slurmctld.pid") and " is UP" in _ask("scontrol", "ping")


def start_node(node: str) -> None:
    """Start the daemon of one node."""
    subprocess.run(["slurmd", "-c", "-N", node], check=True)


def node_runs(node: str) -> bool:
    """Whether the daemon of a node runs."""
    return alive(FOLDER / f"slurmd-{node}.pid")


def kill_node(node: str) -> None:
    """Kill the daemon of one node with SIGKILL; what runs on the node lives on, as on a host that has lost touch."""
    os.kill(int((FOLDER / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)


def warn_before_preemption(warn: bool) -> None:
    """Whether a preempted job gets the signal that it asked for (`preempt_send_user_signal`), as some sites have it."""
    _configure(warn)
    _ask("scontrol", "reconfigure")


def _configure(warn_before_preemption: bool) -> None:
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={_PORT + 1 + index} CPUs=4 RealMemory=4000 "
        "Gres=gpu:2 State=UNKNOWN"
        for index, node in enumerate(NODES)
    )
    text = _CONF.format(
        host=host,
        port=_PORT,
        folder=FOLDER,
        array_limit=ARRAY_LIMIT,
        first_job=int(time.time()) % 4_000_000 * 10 + 1,
        accounting=devaccounting.lines(FOLDER, _ACCOUNTING_PORT),
        warning="SlurmctldParameters=preempt_send_user_signal" if warn_before_preemption else "",
        nodes=nodes,
    )
    draft = FOLDER / "slurm.conf.draft"
    draft.write_text(text)
    draft.replace(FOLDER / "slurm.conf")
    # A pretended GPU needs a device file of its own name; a link to /dev/null is one.
    for link in (FOLDER / "gpu0", FOLDER / "gpu1"):
        if not link.is_symlink():
            link.symlink_to("/dev/null")
    (FOLDER / "gres.conf").write_text(f"NodeName={NODES[0][:-1]}[1-2] Name=gpu File={FOLDER}/gpu[0-1]\n")
    _link("slurm.conf", "gres.conf")


def _link(*names: str) -> None:
    """Put files where every process finds them, also one whose environment was cleaned of SLURM_CONF."""
    _ETC.mkdir(exist_ok=True)
    for name in names:
        if not _ours(_ETC / name):
            (_ETC / name).unlink(missing_ok=True)
            (_ETC / name).symlink_to(FOLDER / name)


def _start_munge() -> None:
    folder = FOLDER / "munge"
    if alive(folder / "pid"):
        return
    folder.chmod(0o711)
    key = folder / "key"
    key.unlink(missing_ok=True)
    with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(os.urandom(1024))
    (folder / "socket").unlink(missing_ok=True)
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    subprocess.run(["munged", *(f"--{option}={folder / name}" for option, name in files.items())], check=True)


def _idle() -> bool:
    return _ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split() == ["idle"] * len(NODES)


def _ask(*command: str) -> str:
    """Output of a SLURM command; empty if it fails or, as with no controller, does not answer in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except subprocess.TimeoutExpired:
        return ""


def _ours(conf: Path) -> bool:
    return conf.is_symlink() and conf.readlink().parent == FOLDER


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m slurm.devcluster", description="A throw-away SLURM on this host.")
    parser.add_argument("action", choices=("up", "down", "check"), help="check says whether it could be brought up")
    parser.add_argument(
        "--accounting", action="store_true", help="with slurmdbd and its database, so that sacct answers"
    )
    chosen = parser.parse_args()
    try:
        if chosen.action == "check" and (reason := why_not(chosen.accounting)) is not None:
            raise RuntimeError(reason)
        if chosen.action == "up":
            up(chosen.accounting)
            print(_ask("sinfo"), end="")
        if chosen.action == "down":
            down()
    except RuntimeError as error:
        sys.exit(f"devcluster: {error}")


if __name__ == "__main__":
    main()
