"""Scratch is private and goes with its process; what a killed one left is swept, a living one's never."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.io import scratch
from jobs.io.messages import JobError
from jobs.io.scratch import LEAST_FREE, PREFIX, private_files, require_space, sweep
from tests.conftest import ROOT

# Prints its scratch, writes a file that names a user into it, and waits for a line.
HOLDER = """
import os, sys
from pathlib import Path
from jobs.io.scratch import scratch_folders
for folder in scratch_folders():
    Path(folder, "spilled").write_text("anneliese")
print(*scratch_folders(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process with scratch in a folder; returns it with its scratch folders."""
    started = []

    def run(place=tmp_path, **more):
        env = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
        env.pop("SPARK_LOCAL_DIRS", None)
        command = [sys.executable, "-c", HOLDER]
        pipe = subprocess.PIPE
        job = subprocess.Popen(command, env=env | more, stdin=pipe, stdout=pipe, text=True)
        started.append(job)
        assert job.stdout is not None
        return job, [Path(folder) for folder in job.stdout.readline().split()]

    yield run
    for job in started:
        if job.poll() is None:
            job.kill()
        job.communicate()


def scratch_in(place):
    return sorted(path for path in place.iterdir() if path.name.startswith(PREFIX))


def test_scratch_is_for_its_user_alone_and_gone_at_the_end(start, tmp_path):
    job, (folder,) = start()
    assert folder.parent == tmp_path and stat.S_IMODE(folder.stat().st_mode) == 0o700
    job.communicate("\n", timeout=60)
    assert job.returncode == 0 and scratch_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_process_left_is_swept_by_the_next_and_a_living_one_s_is_not(start, tmp_path, number):
    living, (kept,) = start()
    killed, (left,) = start()
    killed.send_signal(number)
    killed.wait(60)
    assert scratch_in(tmp_path) == sorted([kept, left])
    _, (own,) = start()
    assert scratch_in(tmp_path) == sorted([kept, own])
    assert living.poll() is None and (kept / "spilled").read_text(encoding="utf-8") == "anneliese"


def test_every_disk_of_spark_gets_a_folder_of_its_own(start, tmp_path):
    disks = [tmp_path / "one", tmp_path / "two"]
    _, folders = start(SPARK_LOCAL_DIRS=", ".join(map(str, disks)))
    assert [folder.parent for folder in folders] == disks


def test_only_own_folders_are_swept(tmp_path, monkeypatch):
    others = ["spark-1", "blockmgr-1", "nightfold", f"x{PREFIX}1"]
    for name in [*others, f"{PREFIX}dead"]:
        (tmp_path / name).mkdir()
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "spark-1")
    kept = sorted([*others, f"{PREFIX}file", f"{PREFIX}link"])
    monkeypatch.setattr(os, "getuid", lambda: -1)
    sweep(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, f"{PREFIX}dead"])
    monkeypatch.undo()
    sweep(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == kept


def test_many_that_start_at_once_keep_their_own(start, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = [folder for _, (folder,) in pool.map(lambda _: start(), range(12))]
    assert len(set(folders)) == 12 and scratch_in(tmp_path) == sorted(folders)
    assert all((folder / "spilled").is_file() for folder in folders)


def test_a_full_disk_is_told_before_java_starts(monkeypatch):
    monkeypatch.setattr(scratch, "scratch_folders", lambda: ("/disk/own",))
    for free, is_full in ((LEAST_FREE, False), (LEAST_FREE - 1, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        told = pytest.raises(JobError, match=r"^/disk has no space left for scratch: free some, or name")
        with told if is_full else nullcontext():
            require_space()


def test_files_made_inside_are_private_and_others_as_before(tmp_path):
    before = os.umask(0o022)
    try:
        with private_files():
            (tmp_path / "inside").mkdir()
            (tmp_path / "inside" / "file").touch()
        (tmp_path / "outside").touch()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("inside", "inside/file", "outside")]
    assert modes == [0o700, 0o600, 0o644]
