"""Several devices of one machine for one training: a process each, and who they are. Lightning's DDP does the rest.

The calling process is rank 0; the others are started afresh for one training and end with it.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import find_free_network_port

_GRACE_SECONDS = 30.0
"""How long a process that failed has to say why."""


class Ranks(ClusterEnvironment):
    """What Lightning asks about the processes of one machine; SLURM's variables are not read."""

    def __init__(self, rank: int, devices: int, port: int) -> None:
        self._rank, self._devices, self._port = rank, devices, port

    @staticmethod
    def detect() -> bool:
        """Never chosen by itself."""
        return False

    @property
    def creates_processes_externally(self) -> bool:
        """By `followers`, not by Lightning."""
        return True

    @property
    def main_address(self) -> str:
        """This machine."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Where rank 0 listens."""
        return self._port

    def world_size(self) -> int:
        """Processes in all."""
        return self._devices

    def set_world_size(self, size: int) -> None:
        """Lightning says what it was told."""
        assert size == self._devices

    def global_rank(self) -> int:
        """This process."""
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Lightning says what it was told."""
        assert rank == self._rank

    def local_rank(self) -> int:
        """There is one machine."""
        return self._rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


@contextmanager
def followers(devices: int, work: Callable[[Ranks], None]) -> Iterator[Ranks]:
    """Run `work` as ranks 1 ... `devices` - 1, each in a process of its own, while the block runs as rank 0.

    Followers ignore the signals that a scheduler or a keyboard sends to all processes of a job: rank 0 decides what
    becomes of the training. They end with it, however it ends.

    Args:
        devices: processes in all; 1 starts none.
        work: is pickled.

    Raises:
        ValueError: if `work` cannot be pickled.
        RuntimeError: with what a follower said, if one failed.
        ChildProcessError: if one died without a word; an `OSError`, because that is the machine's doing.
    """
    if devices == 1:
        yield Ranks(0, 1, port=0)
        return
    try:
        pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"execution.devices is {devices}, but what they are to do cannot be pickled: {error}"
        ) from None
    context, port = multiprocessing.get_context("spawn"), find_free_network_port()
    environment = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    processes, ears = [], []
    try:
        for rank in range(1, devices):
            ear, mouth = context.Pipe(duplex=False)
            process = context.Process(target=_follow, args=(work, Ranks(rank, devices, port), mouth))
            process.start()
            mouth.close()  # else its end would not be noticed
            processes.append(process)
            ears.append(ear)
        for ear in ears:
            if _last_word(ear) is None:
                raise ChildProcessError("a training process died before it began")
        yield Ranks(0, devices, port)
        for process in processes:
            process.join()
    except RuntimeError as error:  # what a collective raises when one of them is gone
        last_words = [_last_word(ear) for ear in wait(ears, _GRACE_SECONDS) if isinstance(ear, Connection)]
        if None in last_words:
            raise ChildProcessError("a training process died") from error
        if last_words:
            raise RuntimeError("; ".join(filter(None, last_words))) from error
        raise
    finally:
        for process in processes:
            process.kill()
            process.join()
        leave(environment)


def _last_word(ear: Connection) -> str | None:
    """What a process says next; None if it is gone without a word."""
    try:
        return ear.recv()
    except EOFError:
        return None


def leave(environment: dict[str, str | None]) -> None:
    """Take the process group down, and set the variables back that it needed."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _follow(work: Callable[[Ranks], None], ranks: Ranks, mouth: Connection) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    mouth.send("ready")
    try:
        work(ranks)
    except BaseException as error:
        line = " ".join(traceback.format_exception_only(error)[-1].split())
        mouth.send(f"the process of rank {ranks.global_rank()} failed: {line}")
        os._exit(1)  # not by way of whatever waits for its peers
    leave({})


def _end_with_rank_0() -> None:
    rank_0 = multiprocessing.parent_process()
    assert rank_0 is not None
    rank_0.join()
    os._exit(1)
