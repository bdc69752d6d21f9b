"""Folders and files as arguments name them, and one sentence where a name can't be meant."""

import argparse
import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from schemas.documents import LARGEST
from udfs.small_files import read_small

# An address that lost a slash would be a folder in the working folder.
LIKE_AN_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# File systems whose addresses may leave out the machine: Hadoop is configured with one.
WITH_A_DEFAULT: Final = {"hdfs", "viewfs"}
# Characters of a path in a message.
LONGEST_SHOWN: Final = 100


def folder_uri(text: str) -> str:
    """A folder that may not exist yet; absolute, so that executors see the same one.

    A file: address is decoded as RFC 8089 has it; anything else without :// is a path, taken literally.

    >>> folder_uri("file:/logs"), folder_uri("file://localhost/my%20logs"), folder_uri("s3a://bucket/logs/")
    ('/logs', '/my logs', 's3a://bucket/logs')
    """
    if text.lower().startswith("file:"):
        return str(local_folder(_path_of(text)))
    if "://" in text:
        return _remote(text)
    if LIKE_AN_ADDRESS.match(text):
        raise argparse.ArgumentTypeError(
            f"'{text}' has one slash where an address has two, as in s3a://bucket/folder; "
            f"if it is a folder here, write ./{text}"
        )
    return str(local_folder(text))


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{shown(address)}' is no address of a folder") from None


def _remote(address: str) -> str:
    parts = _split(address)
    is_complete = parts.netloc or (parts.scheme in WITH_A_DEFAULT and parts.path.strip("/"))
    if not (parts.scheme and is_complete):
        raise argparse.ArgumentTypeError(
            f"'{address}' is no address of a folder; write as in s3a://bucket/folder"
        )
    return address.rstrip("/")


def local_folder(text: str) -> Path:
    """A folder of this machine that may not exist yet, absolute and without links."""
    path = local_path(text).resolve()
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is a file, not a folder")
    return path


def local_path(text: str) -> Path:
    """A path of this machine with ~ resolved, which the system can look up."""
    require_path(text)
    try:
        path = Path(text).expanduser()
        # Raises where links lead in a circle.
        path.resolve().exists()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is no usable path: {error.strerror}") from None
    except (RuntimeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is no usable path: {error}") from None
    return path


def require_path(text: str) -> None:
    """Raises ArgumentTypeError for an empty path, which would be the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty: is the variable set that should hold it?")


def shown(text: str) -> str:
    """An argument as a message shows it: a path that is too long says so by its beginning."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _path_of(address: str) -> str:
    parts = _split(address)
    if parts.netloc.lower() not in ("", "localhost"):
        raise argparse.ArgumentTypeError(
            f"'{address}' names the machine {parts.netloc}; a local folder is file:///folder"
        )
    if parts.query or parts.fragment or not parts.path.startswith("/"):
        raise argparse.ArgumentTypeError(
            f"'{address}' is no address of a folder; write file:///folder, and %3F for ? and %23 for #"
        )
    return unquote(parts.path)


def existing_folder(text: str) -> str:
    """A folder; a local one must exist (others are checked when they are read)."""
    uri = folder_uri(text)
    if "://" not in uri and not Path(uri).is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {text}")
    return uri


def small_text(path: str) -> str:
    """The text of a settings or mapping file, which must be a small file of UTF-8.

    Raises ArgumentTypeError for anything else, and FileNotFoundError where there is nothing.
    """
    require_path(path)
    try:
        found = read_small(Path(path), LARGEST)
        return found.decode("utf-8-sig")
    except FileNotFoundError:
        raise
    except OSError as error:
        why = error.strerror or error
        raise argparse.ArgumentTypeError(f"{shown(path)} can't be read: {why}") from None
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        raise argparse.ArgumentTypeError(f"{path} is not UTF-8 on line {line}: save it as UTF-8") from None
