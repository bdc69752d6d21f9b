"""A job's scratch: a folder that nobody else can read, gone with the process, or swept by the next one.

Spark's blocks, spilled rows and Java's temporary files hold user ids and texts. A process that is killed
can't remove them. Each holds the operating system's lock on its folder, which ends with the process whatever
ends it, so what can be locked is left over.
"""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from jobs.io.messages import JobError

PREFIX: Final = "nightfold-scratch-"
# Bytes that Java's own libraries need there before a job has written anything.
LEAST_FREE: Final = 16 << 20


@contextmanager
def private_files() -> Iterator[None]:
    """Nobody else may read what this process, and those it starts, create inside."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@cache
def scratch_folders() -> tuple[str, ...]:
    """This process's scratch: a folder on each disk that SPARK_LOCAL_DIRS names, else in the system's.

    They stay until the process ends, since Java and libraries keep files there.
    """
    return tuple(_own_folder(place) for place in _places())


def require_space() -> None:
    """Raises JobError where scratch lies on a full disk, from which Java can't load its libraries."""
    for folder in scratch_folders():
        if shutil.disk_usage(folder).free < LEAST_FREE:
            raise JobError(
                f"{Path(folder).parent} has no space left for scratch: free some, or name another folder "
                "by TMPDIR or SPARK_LOCAL_DIRS, and run the same command again"
            )


def _places() -> list[str]:
    named = [place.strip() for place in os.environ.get("SPARK_LOCAL_DIRS", "").split(",")]
    return [place for place in named if place] or [tempfile.gettempdir()]


def _own_folder(place: str) -> str:
    """A new folder that this process has locked, once those of dead ones are swept."""
    Path(place).mkdir(parents=True, exist_ok=True)
    sweep(place)
    while True:
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
        # The lock lives as long as the file is open: as long as the process.
        if _lock(folder) is not None:
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder


def sweep(place: str) -> None:
    """Removes the scratch of dead processes of this user."""
    for folder in _left_over(place):
        held = _lock(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _left_over(place: str) -> Iterator[str]:
    with os.scandir(place) as entries:
        for entry in entries:
            is_ours = entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)
            if is_ours and entry.stat(follow_symlinks=False).st_uid == os.getuid():
                yield entry.path


def _lock(folder: str) -> int | None:
    """The open, locked folder; None where another process holds it, or has swept it before it was locked."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), os.stat(folder)):  # noqa: PTH116
            return held
    except OSError:
        pass
    os.close(held)
    return None
