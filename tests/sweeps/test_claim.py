"""Claims under real processes: exactly one owner, the dead are succeeded, and an old copy finds out."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from sweeps import claim
from sweeps.claim import Claim, owner


def _try_to_claim(folder: Path, barrier: Barrier, wins: "multiprocessing.Queue[bool]") -> None:
    barrier.wait()
    held = Claim.acquire(folder)
    wins.put(held is not None)
    barrier.wait()


def test_of_many_processes_exactly_one_gets_the_cell(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    count = 6
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        barrier, wins = context.Barrier(count), context.Queue()
        processes = [context.Process(target=_try_to_claim, args=(folder, barrier, wins)) for _ in range(count)]
        for process in processes:
            process.start()
        assert sum(wins.get(timeout=20) for _ in range(count)) == 1
        for process in processes:
            process.join()


def test_a_held_cell_is_refused_and_a_released_one_given_again(tmp_path: Path) -> None:
    first = Claim.acquire(tmp_path)
    assert first is not None
    with first:
        assert Claim.acquire(tmp_path) is None
        held_by = owner(tmp_path)
        assert held_by is not None
        assert held_by["pid"] == os.getpid()
    assert owner(tmp_path) is None
    second = Claim.acquire(tmp_path)
    assert second is not None
    assert second.held()
    assert not first.held()


def test_a_killed_owner_is_succeeded_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from sweeps.claim import Claim\n"
        "assert Claim.acquire(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert Claim.acquire(tmp_path) is None
    process.kill()
    process.wait()
    process.stdout.close()
    successor = Claim.acquire(tmp_path)
    assert successor is not None
    assert successor.path.stem == "000002"


def test_a_reused_process_id_is_not_mistaken_for_the_owner(tmp_path: Path) -> None:
    held = Claim.acquire(tmp_path)
    assert held is not None
    text = json.loads(held.path.read_text())
    held.path.write_text(json.dumps(text | {"process_start": "1"}))
    assert owner(tmp_path) is None


def test_another_host_is_judged_by_its_heartbeat(tmp_path: Path) -> None:
    held = Claim.acquire(tmp_path)
    assert held is not None
    text = json.loads(held.path.read_text())
    held.path.write_text(json.dumps(text | {"host": "elsewhere"}))
    assert Claim.acquire(tmp_path) is None
    os.utime(held.path, (0, time.time() - claim.STALE_SECONDS - 1))
    assert owner(tmp_path) is None
    successor = Claim.acquire(tmp_path)
    assert successor is not None
    assert not held.held()


def test_an_open_claim_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "HEARTBEAT_SECONDS", 0.01)
    held = Claim.acquire(tmp_path)
    assert held is not None
    os.utime(held.path, (0, 0))
    with held:
        deadline = time.monotonic() + 5
        while held.path.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert held.path.stat().st_mtime > 1


def test_a_file_servers_clock_that_differs_from_ours_deceives_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Claim.acquire(tmp_path)
    assert held is not None
    text = json.loads(held.path.read_text())
    held.path.write_text(json.dumps(text | {"host": "elsewhere"}))
    ours = time.time
    for skew in (-3600.0, 3600.0):
        monkeypatch.setattr(claim, "_skews", {})
        monkeypatch.setattr(time, "time", lambda skew=skew: ours() + skew)
        assert owner(tmp_path) is not None
        assert Claim.acquire(tmp_path) is None
    os.utime(held.path, (0, ours() - claim.STALE_SECONDS - 1))
    assert owner(tmp_path) is None


def test_an_owner_learns_from_its_heart_that_it_lost_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "HEARTBEAT_SECONDS", 0.01)
    held = Claim.acquire(tmp_path)
    assert held is not None
    with held:
        time.sleep(0.05)
        assert not held.lost
        (tmp_path / "claims" / "000002.json").write_text("{}")
        deadline = time.monotonic() + 5
        while not held.lost and time.monotonic() < deadline:
            time.sleep(0.01)
        assert held.lost


def test_a_link_whose_answer_was_lost_is_still_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def repeated(source: Path, target: Path) -> None:
        link(source, target)
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", repeated)
    held = Claim.acquire(tmp_path)
    assert held is not None
    assert held.held()


def test_only_owners_that_vanished_without_getting_further_count(tmp_path: Path) -> None:
    def vanish(mark: str) -> int:
        held = Claim.acquire(tmp_path, mark)
        assert held is not None
        text = json.loads(held.path.read_text())
        held.path.write_text(json.dumps(text | {"process_start": "1"}))
        return held.deaths

    assert [vanish("step 0"), vanish("step 0"), vanish("step 0")] == [0, 1, 2]
    assert [vanish("step 9"), vanish("step 9")] == [0, 1]
    with Claim.acquire(tmp_path, "step 9") or pytest.fail("not claimed") as released:
        assert released.deaths == 2
    assert vanish("step 9") == 0
    assert [attempt["released"] for attempt in claim.attempts(tmp_path)] == [False] * 5 + [True, False]
