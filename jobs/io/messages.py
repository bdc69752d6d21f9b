"""What a person reads: errors of one sentence, and lines of progress."""

import re

from pyspark.errors import PySparkException


class JobError(RuntimeError):
    """The job must not go on; the message is one sentence that says what to do."""


def worker_sentence(error: PySparkException) -> str | None:
    """What the code of udfs/ said as it stopped a worker, out of Spark's account of it; None where it was something else."""
    found = re.findall(r"^udfs\.errors\.\w+: (.+)$", error.getMessage() or str(error), re.MULTILINE)
    return str(found[-1])[:500] if found else None


def one_sentence(error: BaseException) -> str:
    """What went wrong in one line without the stack, fit for a run record."""
    if isinstance(error, PySparkException) and (told := worker_sentence(error)):
        return told
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = (error.getMessage() if isinstance(error, PySparkException) else None) or str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}"[:500] if not isinstance(error, JobError) else first


def say(text: str) -> None:
    """A line of progress for the person at the terminal or the scheduler's log."""
    print(text, flush=True)


def progress(done: int, days: int, events: int, seconds: float) -> str:
    """A bar with days, events a second and the time left, from what was done in the seconds."""
    filled = 20 * done // days
    bar, speed = f"[{'#' * filled}{'.' * (20 - filled)}]", events / max(seconds, 1e-3)
    return f"{bar} {done} of {days} days, {speed:,.0f} events/s, {time_left(done, days, seconds)}"


def time_left(done: int, whole: int, seconds: float) -> str:
    """How long the rest takes at the speed so far; unknown while nothing is done."""
    return f"{seconds / done * (whole - done):,.0f} s left" if done else "time left unknown"
