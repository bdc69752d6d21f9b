"""Fault points are dead until one is armed, and then only that one fails, in the way that was asked for."""

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.io import faults
from tests.conftest import ROOT

PASSES = """
from jobs.io.faults import around
with around("a.b"):
    print("inside", flush=True)
print("outside")
"""


def passed(fault: str) -> subprocess.CompletedProcess[str]:
    """A process that passes the points of `a.b` with this fault."""
    env = os.environ | {faults.VARIABLE: fault, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", PASSES], env=env, capture_output=True, text=True)


@pytest.mark.parametrize("fault", ["", "a.b", "a:kill", "a.b.begin.begin:kill", "other.end:error"])
def test_a_point_that_is_not_armed_is_dead(fault):
    assert passed(fault).stdout == "inside\noutside\n"


@pytest.mark.parametrize(("point", "said"), [("a.b.begin", ""), ("a.b.end", "inside\n")])
def test_a_killed_job_does_nothing_more(point, said):
    ended = passed(f"{point}:kill")
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, said)


@pytest.mark.parametrize(("kind", "number"), [("error", errno.EIO), ("no-space", errno.ENOSPC)])
def test_a_call_fails_as_the_operating_system_has_it(monkeypatch, kind, number):
    monkeypatch.setattr(faults, "ARMED", f"a.b.end:{kind}")
    with pytest.raises(OSError) as caught, faults.around("a.b"):
        pass
    assert (caught.value.errno, caught.value.filename) == (number, "a.b.end")


def test_a_body_that_fails_does_not_reach_its_end(monkeypatch):
    monkeypatch.setattr(faults, "ARMED", "a.b.end:error")
    with pytest.raises(KeyError), faults.around("a.b"):
        raise KeyError


def test_a_paused_job_is_held_until_it_may_go_on(monkeypatch, tmp_path):
    looks = []

    def look(_seconds: float) -> None:
        looks.append((tmp_path / faults.HELD).exists())
        if len(looks) == 3:
            (tmp_path / faults.GO).touch()

    monkeypatch.setattr(faults, "ARMED", f"p:pause:{tmp_path}")
    monkeypatch.setattr(faults.time, "sleep", look)
    faults.reach("p")
    assert looks == [True] * 3


def test_a_pause_ends_with_the_test_that_has_died(monkeypatch, tmp_path):
    monkeypatch.setattr(faults, "LONGEST_PAUSE_SECONDS", 0.0)
    with pytest.raises(TimeoutError, match=re.escape(str(tmp_path))):
        faults.pause(tmp_path)


def test_an_unknown_kind_is_refused(monkeypatch):
    monkeypatch.setattr(faults, "ARMED", "p:explode")
    with pytest.raises(ValueError, match="no kind 'explode'"):
        faults.reach("p")


def test_nothing_of_the_product_arms_a_point():
    """Only the variable does; a point that code could arm would not be dead."""
    sources = [
        path for room in ("schemas", "udfs", "jobs", "dags") for path in Path(ROOT, room).rglob("*.py")
    ]
    named = [path.name for path in sources if re.search(rf"{faults.VARIABLE}|ARMED", path.read_text())]
    assert named == ["faults.py"]
