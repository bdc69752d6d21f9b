"""A job as a process with all that it started: to hold it at a point, to kill parts of it, to see it end.

Each job leads a session of the operating system, by which its Java and Python workers are found: they may
outlive it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jobs.io import faults
from tests.conftest import ROOT

# What a victim is called, and which processes of a job it is.
VICTIMS = ("driver", "java", "workers", "all")
DEADLINE_S = 480.0
# Java's second compiler costs a short job more than it gives back.
QUICK_JAVA = "-XX:TieredStopAtLevel=1"


class Process(NamedTuple):
    """A process that has not ended."""

    pid: int
    parent: int
    session: int


def processes() -> list[Process]:
    """All processes that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                state, parent, _, session = (entry / "stat").read_text().rpartition(") ")[2].split()[:4]
                if state not in "ZX":
                    found.append(Process(int(entry.name), int(parent), int(session)))
    return found


def parents() -> dict[int, int]:
    """The parent of each process that has not ended."""
    return {process.pid: process.parent for process in processes()}


def below(pid: int) -> set[int]:
    """The process and its descendants."""
    of, found = parents(), {pid}
    while more := {child for child, parent in of.items() if parent in found} - found:
        found |= more
    return found


def of_session(session: int) -> set[int]:
    """The processes of a session."""
    return {process.pid for process in processes() if process.session == session}


def command_of(pid: int) -> str:
    """The command line of a process; empty where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def until(true: Callable[[], object], seconds: float, what: str, every: float = 0.1) -> None:
    """Waits until the condition holds. Fails, naming it, after that many seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        time.sleep(every)


def kill_each(pids: set[int], number: int = signal.SIGKILL) -> None:
    """Sends the signal to each process that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass
class Job:
    """A running job.

    held_in: the folder by which it is held at its fault point; output: its standard output and error.
    """

    process: subprocess.Popen[bytes]
    held_in: Path
    output: Path

    def wait_until_held(self) -> bool:
        """Whether the job reached its point; False where it ended before."""
        until(
            lambda: (self.held_in / faults.HELD).exists() or self.process.poll() is not None,
            DEADLINE_S,
            "the fault point",
            every=0.005,
        )
        return (self.held_in / faults.HELD).exists()

    def go_on(self) -> None:
        """Lets the held job go on."""
        (self.held_in / faults.GO).touch()

    def pids(self, victim: str) -> set[int]:
        """The processes of one kind (VICTIMS)."""
        own = of_session(self.process.pid)
        if victim == "driver":
            return {self.process.pid} & own
        if victim == "java":
            return {pid for pid in own if command_of(pid).partition(" ")[0].endswith("java")}
        if victim == "workers":
            return {pid for pid in own if "pyspark.daemon" in command_of(pid)}
        return own

    def kill(self, victim: str) -> None:
        """Kills the processes of one kind."""
        kill_each(self.pids(victim))

    def wait(self) -> int:
        """The exit status, once the job has ended."""
        return self.process.wait(DEADLINE_S)

    def wait_for_all(self) -> None:
        """Fails where a process of the job outlives it."""
        until(lambda: not of_session(self.process.pid), 60, "the end of every process of the job")

    def said(self) -> str:
        """What the job has printed, without what Java says of its own options."""
        lines = self.output.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(line for line in lines if not line.startswith("Picked up JAVA_TOOL_OPTIONS"))


@contextmanager
def started(
    job: str, argv: Sequence[str], folder: Path, fault: str = "", env: Mapping[str, str] | None = None
) -> Iterator[Job]:
    """The job jobs/<job>.py with the arguments, as a process with its files in the folder.

    fault: as NIGHTFOLD_FAULT has it; `pause` gets the folder. Whatever the job has started ends with the
    context.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = {"JAVA_TOOL_OPTIONS": QUICK_JAVA, "PYTHONPATH": str(ROOT)} | dict(env or {})
    if fault:
        given[faults.VARIABLE] = f"{fault}:{folder}" if fault.endswith(":pause") else fault
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", f"jobs.{job}", *argv],
            cwd=ROOT,
            env=os.environ | given,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield Job(process, folder, output)
    finally:
        kill_each(of_session(process.pid))
        process.wait()
