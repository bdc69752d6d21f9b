"""Reading a warehouse without Spark: the run records, and which versions of the tables readers see.

Addresses may be those that Spark takes. Credentials of an object store come from the environment, as the
deltalake package reads them (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from jobs.io.history import Record, in_order, record_of, standing
from jobs.io.messages import JobError
from jobs.io.scratch import scratch_folders
from schemas import pipeline_runs
from schemas.all_tables import ALL_TABLES
from schemas.pipeline_runs import PUBLISHED, STATUSES, UNDONE

# Colours, which the object stores' clients put into their errors.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What deltalake 1.6 decodes in a local path although it stands for itself.
_MISREAD: Final = re.compile(r"^/.*(%[0-9A-Fa-f]{2}|\\)", re.DOTALL)


def table_uri(warehouse: str, name: str) -> str:
    """Where a table lies, in the scheme that deltalake knows: Spark's s3a:// is its s3://.

    >>> table_uri("s3a://bucket/warehouse", "items")
    's3://bucket/warehouse/items'
    """
    return f"{re.sub('^s3a://', 's3://', warehouse)}/{name}"


def has_table(warehouse: str, name: str) -> bool:
    """Whether there is a table. Raises JobError where the warehouse can't be reached."""
    place = table_uri(warehouse, name)
    with _told(warehouse):
        return DeltaTable.is_deltatable(_stand_in(place) if _MISREAD.search(place) else place)


def open_table(warehouse: str, name: str, version: int | None = None) -> DeltaTable:
    """A version of a table, by default its current one. Raises JobError where it can't be read."""
    try:
        with _told(f"{warehouse}/{name}"):
            return _opened(table_uri(warehouse, name), version)
    except JobError:
        if version is not None and is_lost(warehouse, name, version):
            raise JobError(
                f"{warehouse}/{name} no longer has its published version {version}: newest commits are lost; "
                "run the next night, whose refusal names the days to run again"
            ) from None
        raise


def is_lost(warehouse: str, name: str, version: int) -> bool:
    """Whether the table is gone or ends before the version."""
    return not has_table(warehouse, name) or open_table(warehouse, name).version() < version


def _opened(place: str, version: int | None) -> DeltaTable:
    if not _MISREAD.search(place):
        return DeltaTable(place, version=version)
    stand_in = _stand_in(place)
    table = DeltaTable(stand_in, version=version)
    # Only now: what a commit adds is there before the commit is.
    _link_all(place, stand_in)
    return table


def _stand_in(place: str) -> str:
    """A folder with a plain path that has the table's log, and its files by `_link_all`.

    A link to the table itself would not do, since deltalake asks where it leads.
    """
    folder = mkdtemp(dir=scratch_folders()[0])
    log = Path(place, "_delta_log")
    if log.exists():
        Path(folder, log.name).symlink_to(log)
    return folder


def _link_all(place: str, folder: str) -> None:
    for entry in Path(place).iterdir():
        link = Path(folder, entry.name)
        if not link.exists():
            link.symlink_to(entry)


def run_rows(warehouse: str, statuses: tuple[str, ...] = STATUSES) -> list[dict[str, Any]]:
    """The rows of pipeline_runs with these statuses; none where nothing was ever run. Times are UTC."""
    name = pipeline_runs.TABLE.name
    if not has_table(warehouse, name):
        return []
    runs = open_table(warehouse, name)
    chosen = ", ".join(f"'{status}'" for status in statuses)
    sql = f"SELECT * FROM {name} WHERE status IN ({chosen})"  # noqa: S608 - declared names only
    with _told(f"{warehouse}/{name}"):
        found = pa.RecordBatchReader.from_stream(QueryBuilder().register(name, runs).execute(sql))
        rows: list[dict[str, Any]] = found.read_all().to_pylist()
    return rows


def publications(warehouse: str) -> list[Record]:
    """The publications in force, oldest first."""
    return standing(in_order(record_of(row) for row in run_rows(warehouse, (PUBLISHED, UNDONE))))


def published_versions(warehouse: str) -> dict[str, int]:
    """The versions that the last publication names; empty where nothing is published."""
    published = publications(warehouse)
    return published[-1].output_versions if published else {}


def newest_versions(warehouse: str) -> dict[str, int]:
    """The current version of every table that is there, but for pipeline_runs: that one has no other."""
    names = [table.name for table in ALL_TABLES if table is not pipeline_runs.TABLE]
    return {name: open_table(warehouse, name).version() for name in names if has_table(warehouse, name)}


def one_line(error: BaseException) -> str:
    """An error of deltalake or of its query engine in one line; they come in several, some with colours."""
    return " ".join(_COLOUR.sub("", str(error)).split())


@contextmanager
def _told(place: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - deltalake raises plain Exceptions of many kinds
        raise JobError(f"{place} can't be read: {one_line(error)}") from None
