"""Named points at which a test makes a job fail, so that what a kill or a full disk leaves can be tried.

They lie where every job passes: around each phase, each commit and each run record, and before the exit. All
are dead unless the environment variable NIGHTFOLD_FAULT arms one, as `POINT:KIND`. Kinds:

- kill: the process ends at once, as by SIGKILL
- error: the call fails as if its answer were lost
- no-space: the call fails as on a full disk
- pause:FOLDER: the job makes the file FOLDER/held, and goes on once there is a file FOLDER/go
"""

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

VARIABLE: Final = "NIGHTFOLD_FAULT"
ARMED: Final = os.environ.get(VARIABLE, "")
HELD, GO = "held", "go"
LOOK_SECONDS: Final = 0.005
# A test that died can't let its job go on.
LONGEST_PAUSE_SECONDS: Final = 600.0


@contextmanager
def around(name: str) -> Iterator[None]:
    """The points `name.begin` and, where the body ended well, `name.end`."""
    reach(f"{name}.begin")
    yield
    reach(f"{name}.end")


def reach(point: str) -> None:
    """Fails as armed; nothing where another point is armed, or none."""
    armed, _, kind = ARMED.partition(":")
    if point == armed:
        fail(point, kind)


def fail(point: str, kind: str) -> None:
    """Fails in this way. Raises ValueError for an unknown kind."""
    name, _, folder = kind.partition(":")
    if name == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "error":
        raise OSError(errno.EIO, os.strerror(errno.EIO), point)
    elif name == "no-space":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), point)
    elif name == "pause":
        pause(Path(folder))
    else:
        raise ValueError(f"{VARIABLE} has no kind {name!r}")


def pause(folder: Path) -> None:
    """Waits until a test lets the job go on. Raises TimeoutError where none does."""
    (folder / HELD).touch()
    end = time.monotonic() + LONGEST_PAUSE_SECONDS
    while not (folder / GO).exists():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing has made {folder / GO}")
        time.sleep(LOOK_SECONDS)
