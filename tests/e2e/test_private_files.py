"""What a job writes is for its user alone, and what a killed one leaves in scratch the next one sweeps."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.io.scratch import PREFIX
from tests.conftest import ROOT
from tests.jobs.ingest.days import FIRST, deliver, event


def open_to_others(folder: Path) -> list[str]:
    """What of a folder and everything below it somebody else may read, write or enter."""
    found = []
    # Unlike rglob, walk takes it that folders are removed meanwhile, as those of a running job are.
    for below, _, names in os.walk(folder):
        for path in [Path(below), *(Path(below, name) for name in names)]:
            try:
                if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                    found.append(str(path))
            except FileNotFoundError:
                continue
    return found


@pytest.fixture
def start(tmp_path):
    """Starts the ingest of a day in a shell's usual umask, with its output in a file."""
    deliver(tmp_path, FIRST, event())
    started = []

    def run():
        argv = ["--logs", tmp_path / "logs", "--warehouse", tmp_path / "w", "--date", str(FIRST)]
        env = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
        env.pop("SPARK_LOCAL_DIRS", None)
        output = (tmp_path / "output.txt").open("a")
        command = [sys.executable, "-m", "jobs.ingest_events", *argv]
        job = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output, umask=0o022)
        started.append(job)
        return job

    (tmp_path / "tmp").mkdir()
    yield run
    for job in started:
        if job.poll() is None:
            job.kill()
        job.wait()


def scratch_in(folder: Path) -> set[Path]:
    return {path for path in folder.iterdir() if path.name.startswith(PREFIX)}


def test_files_are_private_and_a_killed_job_s_scratch_is_swept(start, tmp_path):
    killed, end = start(), time.monotonic() + 240
    while not (left := scratch_in(tmp_path / "tmp")) or not list(next(iter(left)).glob("blockmgr-*")):
        assert killed.poll() is None and time.monotonic() < end, (tmp_path / "output.txt").read_text()
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert scratch_in(tmp_path / "tmp") == left
    again, seen = start(), set()
    while again.poll() is None:
        seen |= scratch_in(tmp_path / "tmp")
        assert not [path for folder in scratch_in(tmp_path / "tmp") for path in open_to_others(folder)]
        time.sleep(0.2)
    assert again.returncode == 0, (tmp_path / "output.txt").read_text()
    assert seen - left, "the job had scratch of its own"
    assert [path.name for path in (tmp_path / "tmp").iterdir() if path.name != "hsperfdata_root"] == []
    assert list((tmp_path / "w").rglob("*.parquet")) and open_to_others(tmp_path / "w") == []
