"""The run records: every job's story in pipeline_runs, and which days are published."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from jobs.io import delta, lease
from jobs.io.history import DONE, FAILED, STARTED, Record, record_of, standing
from jobs.io.messages import JobError, one_sentence, say
from jobs.io.session import fit_to_size, letting_go
from schemas import behavior_events, pipeline_runs, text_embeddings, user_profiles
from schemas.all_tables import ALL_TABLES
from schemas.settings import CODE_VERSION, Settings
from schemas.table import Table

# Days before a night whose events it reads too, by default: the repair window and a day.
NEAR_DAYS = 8


# What was read of a warehouse's records, and at which version of their table.
_known: dict[str, tuple[int, list[Record]]] = {}
# The rows of an open composite job that are written with the next one: a commit each would be most of a small night's book-keeping.
_waiting: dict[str, list[dict[str, Any]]] = {}
# A row that says a job began is written beside the job's first reads: a session's first commit takes seconds. One at a time, in order.
_writer = ThreadPoolExecutor(1, "run records")
_unwritten: dict[str, Future[None]] = {}


@dataclass
class Run:
    """One attempt of one job, filled in while it works."""

    run_id: str
    job: str
    from_date: date
    date: date
    config_hash: str
    attempt: int = 1
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    fold_hash: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    input_versions: dict[str, int] = field(default_factory=dict)
    output_versions: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a part of the job under its name."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - began, 3)


def new_run_id(job: str, day: date) -> str:
    """A name for a run begun now; a name that must be the same after a crash is the caller's to give."""
    return f"{job}-{day}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"


@contextmanager
def recorded(
    spark: SparkSession,
    warehouse: str,
    settings: Settings,
    job: str,
    run_id: str,
    first: date,
    last: date,
    status: str = DONE,
    has_steps: bool = False,
    reads: Sequence[str] = (),
    any_schema: bool = False,
) -> Iterator[Run]:
    """Holds the warehouse, and writes `started` before the body and `status` (or `failed`, with why) after it.

    Commits inside carry the run's name. A job that `has_steps` begins the first at once: its `started` is written with that one's.
    `reads` are the folders outside the warehouse that the job reads: the session is fitted to their size and the tables'.
    """
    with lease.held(spark, warehouse, f"{job} of {_span(first, last)}"):
        attempts = [r.attempt for r in records(spark, warehouse) if (r.run_id, r.job) == (run_id, job)]
        run = Run(run_id, job, first, last, settings.config_hash(), attempt=1 + max(attempts, default=0))
        before = versions(spark, warehouse)
        run.input_versions = {
            name: version for name, version in before.items() if name != pipeline_runs.TABLE.name
        }
        is_step = warehouse in _waiting
        if not is_step:
            if not any_schema:
                refuse_other_schema(spark, warehouse)
            fit_to_size(spark, [*reads, *_tables_read(warehouse, first, last)])
        if has_steps:
            _waiting[warehouse] = []
        write_row(spark, warehouse, run, STARTED, wait=has_steps)
        note = {
            "job": job,
            "date": last,
            "run_id": run_id,
            "code_version": CODE_VERSION,
            "config_hash": run.config_hash,
        }
        try:
            with delta.noting(spark, note), letting_go(spark):
                yield run
        except BaseException as error:
            try:
                # A failure of which nobody knows what it wrote is not recorded: like one that was killed it may have written anything.
                run.output_versions = _changed(spark, warehouse, before)
                write_row(spark, warehouse, run, FAILED, one_sentence(error))
            except Exception as unwritten:  # the body's own error is the one to tell
                say(f"{job}: its failure could not be recorded: {one_sentence(unwritten)}")
            raise
        else:
            if not run.output_versions:
                run.output_versions = _changed(spark, warehouse, before)
            write_row(spark, warehouse, run, status, wait=is_step and status == DONE)
        finally:
            if has_steps:
                _waiting.pop(warehouse, None)
        spent = (datetime.now(UTC) - run.started).total_seconds()
        told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in run.counts.items() if count)
        say(f"{job} {_span(first, last)}: {told or status} ({spent:.1f} s)")


def refuse_other_schema(spark: SparkSession, warehouse: str) -> None:
    """Stops where a table was made by an older or a newer declaration than this code's."""
    for table in ALL_TABLES:
        found = delta.schema_version(spark, warehouse, table)
        if found is not None and found < table.schema_version:
            raise JobError(
                f"{table.name} has schema version {found} and this code writes {table.schema_version}; "
                "run upgrade_tables on this warehouse first"
            )
        if found is not None and found > table.schema_version:
            raise JobError(newer_schema(table, found))


def newer_schema(table: Table, found: int) -> str:
    return f"{table.name} has schema version {found}, but this code knows only {table.schema_version}; use the newer code"


def write_row(
    spark: SparkSession, warehouse: str, run: Run, status: str, message: str | None = None, wait: bool = False
) -> None:
    """Appends the run's row with what waits before it; with `wait` it waits itself for the next one."""
    row = {
        "run_id": run.run_id,
        "job": run.job,
        "attempt": run.attempt,
        "status": status,
        "date": run.date,
        "from_date": run.from_date,
        "started": run.started,
        "ended": None if status == STARTED else datetime.now(UTC),
        "input_versions": run.input_versions,
        "output_versions": run.output_versions,
        "counts": run.counts,
        "seconds": run.seconds,
        "code_version": CODE_VERSION,
        "fold_hash": run.fold_hash,
        "config_hash": run.config_hash,
        "message": message,
    }
    waiting = _waiting.get(warehouse, [])
    if wait:
        waiting.append(row)
        return
    finish_writing(warehouse)
    rows = [*waiting, row]
    waiting.clear()
    _unwritten[warehouse] = _writer.submit(_append, spark, warehouse, rows)
    if status != STARTED:
        finish_writing(warehouse)


def finish_writing(warehouse: str) -> None:
    """Waits until every row is in the table; raises what kept it out."""
    if warehouse in _unwritten:
        _unwritten.pop(warehouse).result()


def _append(spark: SparkSession, warehouse: str, rows: list[dict[str, Any]]) -> None:
    delta.append(
        spark,
        warehouse,
        pipeline_runs.TABLE,
        spark.createDataFrame(rows, pipeline_runs.TABLE.spark_schema()).coalesce(1),
    )
    if warehouse in _known:
        version, known = _known.pop(warehouse)
        _known[warehouse] = (version + 1, [*known, *map(record_of, rows)])


def runs_table(spark: SparkSession, warehouse: str) -> DataFrame:
    finish_writing(warehouse)
    return delta.read_table(spark, warehouse, pipeline_runs.TABLE)


def records(spark: SparkSession, warehouse: str) -> list[Record]:
    """All records, oldest first by their end, those of runs still open first. A few rows a night: small enough for the driver."""
    finish_writing(warehouse)
    version = delta.table_version(spark, warehouse, pipeline_runs.TABLE)
    if version is None:
        _known[warehouse] = (-1, [])
    elif warehouse not in _known or _known[warehouse][0] != version:
        columns = [
            "run_id",
            "job",
            "attempt",
            "status",
            "from_date",
            "date",
            "started",
            "ended",
            "input_versions",
            "output_versions",
        ]
        rows = delta.read_version(spark, warehouse, pipeline_runs.TABLE, version).select(*columns).collect()
        _known[warehouse] = (version, [record_of(row.asDict()) for row in rows])
    waiting = map(record_of, _waiting.get(warehouse, []))
    return sorted(
        [*_known[warehouse][1], *waiting],
        key=lambda r: (r.ended is not None, r.ended and r.ended.timestamp(), r.run_id),
    )


def versions(spark: SparkSession, warehouse: str) -> dict[str, int]:
    """The current version of every table there is."""
    found = {table.name: delta.table_version(spark, warehouse, table) for table in ALL_TABLES}
    return {name: version for name, version in found.items() if version is not None}


def _changed(spark: SparkSession, warehouse: str, before: Mapping[str, int]) -> dict[str, int]:
    """The tables whose version is another than before, and which one."""
    after = versions(spark, warehouse)
    return {n: v for n, v in after.items() if v != before.get(n) and n != pipeline_runs.TABLE.name}


def publications(spark: SparkSession, warehouse: str) -> list[Record]:
    """What is published, oldest publication first."""
    return standing(records(spark, warehouse))


def _tables_read(warehouse: str, first: date, last: date) -> list[str]:
    """Folders of the tables, or of their parts, that make a night large."""
    days = [first + timedelta(days=i) for i in range(-NEAR_DAYS, (last - first).days + 1)]
    events = [f"{delta.table_path(warehouse, behavior_events.TABLE)}/log_date={day}" for day in days]
    return [
        *events,
        *[delta.table_path(warehouse, table) for table in (text_embeddings.TABLE, user_profiles.TABLE)],
    ]


def _span(first: date, last: date) -> str:
    return str(last) if first == last else f"{first}..{last}"
