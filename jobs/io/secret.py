"""Secrets come from a file or an environment variable, never from arguments, and stand in no message."""

import os
import re
import stat
from pathlib import Path
from typing import Final

from jobs.io.messages import JobError, say
from schemas.documents import LARGEST
from udfs.small_files import UnfitFileError, read_small

# What names a secret, as a property of Spark or an environment variable.
SECRET_NAMES: Final = r"(?i)secret|password|passwd|token|access[._-]?key|api[._-]?key|_key\b"
# Names like these that say only where a secret is.
PLACES: Final = r"(?i)file$|\.secrets\.|secretKeyRef"


def read_secret(file: str | None, variable: str) -> bytes:
    """A secret from a file, else from an environment variable. Raises JobError where neither has it."""
    if file is not None:
        warn_if_open(file)
        try:
            return read_small(Path(file).expanduser(), LARGEST)
        except UnfitFileError as error:
            raise JobError(f"the key file {file} can't be read: {error}") from None
        # Nobody's home is a RuntimeError.
        except (OSError, RuntimeError) as error:
            raise JobError(f"the key file {file} can't be read: {type(error).__name__}") from None
    if variable not in os.environ:
        raise JobError(f"user ids need a secret key: name its file in privacy.key_file, or set {variable}")
    return os.environ[variable].encode()


def warn_if_open(file: str) -> None:
    """Says where everybody on this machine may read a secret's file."""
    path = Path(os.path.expanduser(file))  # noqa: PTH111 - nobody's home is left to who reads the file
    if path.is_file() and path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        say(f"the key file {file} can be read by everybody on this machine: chmod 600 {file}")


def warn_if_argument(command: str) -> None:
    """Says where a secret was given as an argument, as --conf does: everybody sees those in the process list.

    command: the command line of a process.
    """
    names = sorted(set(re.findall(r"(spark\.[\w.-]+)=", command)))
    shown = [name for name in names if re.search(SECRET_NAMES, name) and not re.search(PLACES, name)]
    if shown:
        say(
            f"{shown[0]} was given as an argument, which everybody on this machine can read: put it into a "
            "file of mode 600 and name that by --properties-file"
        )
