"""Secrets come from a file or an environment variable, never from arguments, and stand in no message."""

import os
from pathlib import Path

from jobs.io.messages import JobError


def read_secret(file: str | None, variable: str) -> bytes:
    """A secret from a file, else from an environment variable. Raises JobError where neither has it."""
    if file is not None:
        try:
            return Path(file).expanduser().read_bytes()
        except OSError as error:
            raise JobError(f"the key file {file} can't be read: {type(error).__name__}") from None
    if variable not in os.environ:
        raise JobError(f"user ids need a secret key: name its file in privacy.key_file, or set {variable}")
    return os.environ[variable].encode()
