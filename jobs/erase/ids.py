"""The file with the ids of users to erase: ids stand in no argument and in no message."""

import argparse
import re
from pathlib import Path
from typing import Final

from jobs.io.paths import require_path
from udfs.small_files import UnfitFileError, read_small

# Ids in a file: they are compared with every rejected record, and sent to every worker.
MOST_IDS: Final = 10_000
LARGEST_FILE: Final = 10 << 20
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def ids_file(path: str) -> tuple[str, ...]:
    """The ids in a file, each once. Messages name lines, never what stands there."""
    try:
        require_path(path)
        content = read_small(Path(path), LARGEST_FILE)
        lines = content.decode("utf-8-sig").split("\n")
    except UnfitFileError as error:
        raise argparse.ArgumentTypeError(f"{path} can't be read: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path} can't be read: {type(error).__name__}") from None
    ids = [line.removesuffix("\r") for line in lines]
    for number, text in enumerate(ids, start=1):
        if CONTROL.search(text):
            raise argparse.ArgumentTypeError(f"{path}, line {number}: no id has control characters")
    given = tuple(dict.fromkeys(text for text in ids if text.strip(" ")))
    if not given:
        raise argparse.ArgumentTypeError(f"{path} has no id; write one on each line")
    if len(given) > MOST_IDS:
        raise argparse.ArgumentTypeError(
            f"{path} has more than {MOST_IDS:,} ids; split it, and run one by one"
        )
    return given
