"""Accounting for the development cluster: slurmdbd, and a database of its own behind it. Standard library only."""

import os
import socket
import subprocess
from pathlib import Path

from slurm.daemons import alive, stop, wait

PACKAGES = ("slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server")
PROGRAMS = ["slurmdbd", "mariadbd", "mariadb-install-db"]
CONF = "slurmdbd.conf"

_LINES = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
# slurmctld looks for munge's socket here, whatever AuthInfo says.
AccountingStoragePass={folder}/munge/socket"""

_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=looplm
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
"""


def runs(folder: Path) -> bool:
    """Whether slurmdbd runs."""
    return alive(folder / "slurmdbd.pid")


def lines(folder: Path, port: int) -> str:
    """What slurm.conf says about accounting."""
    return _LINES.format(folder=folder, port=port) if runs(folder) else "AccountingStorageType=accounting_storage/none"


def start(folder: Path, port: int) -> None:
    """Start the database, made anew where there is none, and slurmdbd; munge has to run.

    Raises:
        RuntimeError: if one of them does not start.
    """
    own, log = folder / "mysql", folder / "log" / "mysql.log"
    data, socket_file, pid_file = own / "data", own / "socket", own / "pid"
    own.mkdir(exist_ok=True)
    with log.open("a") as file:
        common = ["--no-defaults", "--user=root", f"--datadir={data}"]
        if not (data / "mysql").exists():
            install = ["mariadb-install-db", *common, "--skip-test-db", "--auth-root-authentication-method=socket"]
            subprocess.run(install, check=True, stdout=file, stderr=file)
        if not alive(pid_file):
            socket_file.unlink(missing_ok=True)
            database = ["mariadbd", *common, f"--socket={socket_file}", f"--pid-file={pid_file}", "--skip-networking"]
            subprocess.Popen(database, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    wait(socket_file.exists, f"the database did not start; see {log}")
    (folder / CONF).touch(0o600)
    (folder / CONF).write_text(_CONF.format(folder=folder, port=port))
    if not runs(folder):
        # The database's socket is not in its usual place; this variable alone says so.
        subprocess.run(["slurmdbd"], env={**os.environ, "MYSQL_UNIX_PORT": str(socket_file)}, check=True)
    wait(lambda: _listens(port), f"slurmdbd did not start; see {folder / 'log'}")


def stop_all(folder: Path) -> None:
    """Stop slurmdbd and its database; what they know stays."""
    stop(folder / "slurmdbd.pid")
    stop(folder / "mysql" / "pid")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
