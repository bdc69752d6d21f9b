"""Brings what was written to the disk before readers are told of it, so that a power loss can't take it back.

Local folders only: nothing that Hadoop or Delta writes there is synced, so a publication could outlive the
files that it names. Other storage answers a write once it is kept.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from jobs.io.storage import is_local

# Disks merge syncs that wait together.
SYNCS_AT_ONCE = 8


def sync_tables(warehouse: str, versions: Mapping[str, int], since: Mapping[str, int]) -> None:
    """Syncs the commits of each table after its version in `since` up to the one in `versions`.

    With the data files that they added, and every folder on the way.
    """
    if not is_local(warehouse):
        return
    root = Path(warehouse)
    files = {
        file
        for name, version in versions.items()
        for number in range(since.get(name, -1) + 1, version + 1)
        for file in commit_files(root / name, number)
    }
    folders = {folder for file in files for folder in file.parents if folder.is_relative_to(root)}
    with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
        list(pool.map(sync, files))
        # Names after contents: a name that is there has its content.
        list(pool.map(sync, sorted(folders, key=lambda folder: -len(folder.parts))))


def commit_files(table: Path, version: int) -> Iterator[Path]:
    """The files of a commit, with those that hold checksums: a torn checksum makes its file unreadable."""
    log = table / "_delta_log"
    commit = log / f"{version:020}.json"
    if not commit.exists():  # cleaned up, or lost, which the start of each job looks for
        return
    yield from (entry for entry in log.iterdir() if entry.name.lstrip(".").startswith(f"{version:020}"))
    yield from (log / name for name in ("_last_checkpoint", "._last_checkpoint.crc"))
    for added in added_files(commit.read_text(encoding="utf-8").splitlines()):
        yield table / added
        yield (table / added).with_name(f".{Path(added).name}.crc")


def added_files(lines: Iterable[str]) -> Iterator[str]:
    """The data files that a commit's lines add, by their paths below the table.

    >>> list(added_files(['{"commitInfo":{}}', '{"add":{"path":"log_date=2025-03-03/a%20b.parquet"}}']))
    ['log_date=2025-03-03/a b.parquet']
    """
    return (unquote(json.loads(line)["add"]["path"]) for line in lines if line.startswith('{"add"'))


def sync(path: Path) -> None:
    """Brings a file or a folder's names to the disk, where there is one."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
