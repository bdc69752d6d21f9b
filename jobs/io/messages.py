"""Messages for people: errors of one sentence, and lines of progress."""

import re

from pyspark.errors import PySparkException

# Longest message that goes into a run record, characters.
LONGEST = 500


class JobError(RuntimeError):
    """The job must stop; the message is one sentence that says what to do."""


def worker_sentence(error: PySparkException) -> str | None:
    """The message of an error that udfs/ raised in a worker (udfs/errors.py); None for any other failure."""
    found = re.findall(r"^udfs\.errors\.\w+: (.+)$", error.getMessage() or str(error), re.MULTILINE)
    return str(found[-1])[:LONGEST] if found else None


def one_sentence(error: BaseException) -> str:
    """The error in one line without a stack trace, short enough for a run record."""
    if isinstance(error, PySparkException) and (sentence := worker_sentence(error)):
        return sentence
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    text = (error.getMessage() if isinstance(error, PySparkException) else None) or str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if isinstance(error, JobError) else f"{type(error).__name__}: {first}"[:LONGEST]


def say(text: str) -> None:
    """Prints a line of progress for the terminal or the scheduler's log."""
    print(text, flush=True)


def count_list(counts: dict[str, int]) -> str:
    """The counts above zero in words.

    >>> count_list({"events_folded": 1234, "cancelled": 0, "states": 5})
    '1,234 events folded, 5 states'
    """
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items() if n)


def progress(done: int, total: int, events: int, seconds: float) -> str:
    """A progress bar over days with throughput and time left.

    >>> progress(5, 20, 1000, 2.0)
    '[#####...............] 5 of 20 days, 500 events/s, 6 s left'
    """
    filled = 20 * done // total
    bar, speed = f"[{'#' * filled}{'.' * (20 - filled)}]", events / max(seconds, 1e-3)
    return f"{bar} {done} of {total} days, {speed:,.0f} events/s, {time_left(done, total, seconds)}"


def time_left(done: int, total: int, seconds: float) -> str:
    """The time left at the speed so far; unknown before anything is done."""
    return f"{seconds / done * (total - done):,.0f} s left" if done else "time left unknown"
