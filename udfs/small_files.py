"""Reads a file that must be small: a device or a pipe under its name may have no end."""

from pathlib import Path


class UnfitFileError(OSError):
    """What has the name is no file, or too large; the message says which, to follow `can't be read: `."""


def read_small(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes, whole MiB.

    Raises UnfitFileError, or OSError of another kind.
    """
    if path.exists() and not path.is_file():
        raise UnfitFileError("it is no file")
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UnfitFileError(f"it is larger than {most >> 20} MiB")
    return content
