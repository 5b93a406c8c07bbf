"""What a job does before submitit may read its pickle."""

import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm import start


@pytest.fixture
def pickle(tmp_path: Path) -> Path:
    path = tmp_path / "7_submitted.pkl"
    path.write_bytes(b"new")
    path.chmod(0o644)
    tmp_path.chmod(0o755)
    return path


def test_a_pickle_that_others_could_have_written_is_not_read(pickle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start.check_owner(pickle)
    for path, mode, usual in ((pickle, 0o664, 0o644), (pickle, 0o666, 0o644), (pickle.parent, 0o775, 0o755)):
        path.chmod(mode)
        with pytest.raises(PermissionError, match="can be written by others"):
            start.check_owner(pickle)
        path.chmod(usual)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="belongs to user"):
        start.check_owner(pickle)


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What a start of local job 7 hands over to, without going there."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "7")
    monkeypatch.setenv("SUBMITIT_FOLDER", "")
    monkeypatch.setattr(sys, "argv", ["start", "-u", "-m", "submitit.core._submit", str(tmp_path)])
    found: list[str] = []
    monkeypatch.setattr(runpy, "run_module", lambda name, **options: found.append(name))
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_strangers_pickle_never_reaches_submitit(pickle: Path, handed_over: list[str]) -> None:
    arguments = sys.argv
    start.main()
    assert handed_over == ["submitit.core._submit"]
    pickle.chmod(0o666)
    sys.argv = arguments
    with pytest.raises(PermissionError):
        start.main()
    assert len(handed_over) == 1


def test_a_warning_that_comes_before_submitit_listens_kills_nobody(pickle: Path, handed_over: list[str]) -> None:
    start.main()
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.raise_signal(number)
    assert len(handed_over) == 1


def test_a_pickle_that_submitit_moves_into_place_only_after_sending_is_waited_for(
    pickle: Path, handed_over: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    late = pickle.rename(tmp_path / "sent.pkl")
    timer = threading.Timer(0.5, late.rename, [pickle])
    timer.start()
    arguments = sys.argv
    start.main()
    timer.join()
    assert handed_over == ["submitit.core._submit"]
    pickle.unlink()
    monkeypatch.setattr(start, "PICKLE_SECONDS", 0.3)
    sys.argv = arguments
    with pytest.raises(FileNotFoundError, match=r"7_submitted.pkl did not appear within 0.3 s"):
        start.main()


def test_what_a_killed_start_left_half_written_is_put_right(pickle: Path, tmp_path: Path) -> None:
    result, beside = tmp_path / "7_0_result.pkl", tmp_path / "7_submitted.pkl.save_tmp"
    beside.write_bytes(b"half")
    (tmp_path / "7_0_result.pkl.save_tmp").write_bytes(b"half")
    start.tidy(pickle, result)
    assert pickle.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [pickle.name]
    pickle.rename(beside)  # killed after the old pickle was removed, before the new one had its name
    start.tidy(pickle, result)
    assert pickle.read_bytes() == b"new"
    assert not beside.exists()
