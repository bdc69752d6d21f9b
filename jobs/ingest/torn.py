"""Refuses files that changed while they were read: half of what was read may be old and half new.

What tells a file from another is taken before the first look at it, and again when all of its records are
read. Nothing is stored in between.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.io.messages import JobError
from jobs.io.storage import Marks


@contextmanager
def unchanged(marks: Callable[[], Marks]) -> Iterator[None]:
    """Raises JobError where a file changes, arrives or goes inside; also in place of an error due to that.

    marks: looks at the files (jobs/io/storage.py file_marks).
    """
    before = marks()
    try:
        yield
    except Exception:
        require_same(before, marks())
        raise
    require_same(before, marks())


def require_same(before: Marks, after: Marks) -> None:
    """Raises JobError, naming the first file that is not as it was."""
    for file in sorted(before.keys() | after.keys()):
        if file not in before:
            fate = "arrived while the others were read"
        elif after.get(file) is None:
            fate = "was removed or renamed while it was read"
        elif before[file] != after[file]:
            fate = "changed while it was read"
        else:
            continue
        raise JobError(
            f"{file} {fate}; nothing was stored: run it again when nobody writes into that folder any more"
        )
